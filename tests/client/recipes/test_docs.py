"""docs/recipes.md names everything that is public, and its programs run."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.client.recipes.helpers import run
from tests.servers import Server

import petcd.client
from petcd.client import Client, recipes

PAGE = (Path(__file__).parents[3] / "docs" / "recipes.md").read_text("utf-8")
CODE = " ".join(re.findall(r"`[^`\n]+`", PAGE))
"""What stands in code spans; a word of prose does not count."""
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def named(name: str) -> bool:
    return re.search(rf"\b{name}\b", CODE) is not None


@pytest.mark.parametrize("name", recipes.__all__)
def test_the_page_names_it_and_what_it_has(name: str) -> None:
    assert named(name)
    value = getattr(recipes, name)
    inherited = {
        each for base in value.__mro__[1:-1] if base.__module__.startswith("petcd.") for each in vars(base)
    }
    own = {*vars(value), *inherited, *inspect.get_annotations(value)}
    assert [each for each in sorted(own) if not each.startswith("_") and not named(each)] == []
    if not is_dataclass(value) and name not in ("ReadLock", "WriteLock", "Attempt", "ConfigurationError"):
        (call,) = re.findall(rf"`{name}\((client[^`]*)\)`", PAGE)
        wanted = list(inspect.signature(value).parameters)
        assert [each for each in call.split(", ") if each != "*"] == wanted


def test_a_name_that_is_not_there_would_be_missed() -> None:
    assert not named("no_such_name")


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda text: text.split("\n")[0].rpartition(" ")[2])
def test_the_programs_run(server: Server, program: str) -> None:
    names: dict[str, Any] = {"Put": petcd.client.Put, "Lock": recipes.Lock, "__name__": "page"}
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(program, "docs/recipes.md", "exec", flags=flags, dont_inherit=True)

    async def main() -> None:
        async with Client(server.endpoint) as client:
            names["client"] = client
            await eval(code, names)

    run(main)
