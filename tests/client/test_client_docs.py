"""docs/client.md names everything that is public."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import petcd.client

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text("utf-8")
CODE = " ".join(re.findall(r"`[^`\n]+`", PAGE))
"""What stands in code spans; a word of prose does not count."""


def public(cls: type) -> set[str]:
    """Methods, properties and fields that a class declares itself."""
    return {name for name in [*vars(cls), *inspect.get_annotations(cls)] if not name.startswith("_")}


def named(name: str) -> bool:
    return re.search(rf"\b{name}\b", CODE) is not None


@pytest.mark.parametrize("name", petcd.client.__all__)
def test_the_page_names_it_and_what_it_has(name: str) -> None:
    assert named(name)
    value = getattr(petcd.client, name)
    if inspect.isclass(value):
        assert [each for each in sorted(public(value)) if not named(each)] == []


@pytest.mark.parametrize("cls", [petcd.client.Client, petcd.client.Tls])
def test_the_page_names_every_argument(cls: type) -> None:
    arguments = [name for name in inspect.signature(cls).parameters if name != "self"]
    assert [name for name in arguments if not named(name)] == []


@pytest.mark.parametrize("name", sorted(public(petcd.client.Keyspace) - {"prefix"}))
def test_the_page_names_every_argument_of_a_call(name: str) -> None:
    spans = re.findall(rf"`(?:client\.)?{name}\(([^`]*)\)", PAGE)
    arguments = list(inspect.signature(getattr(petcd.client.Keyspace, name)).parameters)[1:]
    assert any(all(re.search(rf"\b{each}\b", span) for each in arguments) for span in spans)


def test_a_name_that_is_not_there_would_be_missed() -> None:
    assert not named("no_such_name")
    assert public(petcd.client.Tls) == {"ca", "cert", "key", "server_name", "insecure", "context"}
