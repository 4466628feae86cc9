"""docs/client-sync.md names everything that is public."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from petcd.client import sync
from petcd.client.sync import recipes

PAGE = (Path(__file__).parents[2] / "docs" / "client-sync.md").read_text("utf-8")
CODE = " ".join(re.findall(r"`[^`\n]+`", PAGE))
"""What stands in code spans; a word of prose does not count."""
RECIPES = (recipes.Lock, recipes.Semaphore, recipes.ReadWriteLock, recipes.Election)


def named(name: str) -> bool:
    return re.search(rf"\b{name}\b", CODE) is not None


@pytest.mark.parametrize("cls", [*(getattr(sync, name) for name in sync.__all__), *RECIPES])
def test_the_page_names_it_and_what_it_has(cls: type) -> None:
    assert named(cls.__name__)
    assert [name for name in dir(cls) if not name.startswith("_") and not named(name)] == []


@pytest.mark.parametrize("cls", [sync.Client, *RECIPES])
def test_the_page_names_every_argument(cls: type) -> None:
    arguments = list(inspect.signature(cls).parameters)
    assert [name for name in arguments if not named(name)] == []


def test_a_name_that_is_not_there_would_be_missed() -> None:
    assert not named("no_such_name")
