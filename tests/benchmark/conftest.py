"""Servers that the tests of a module share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.servers import Server, needs_go_etcd, serving


@pytest.fixture(
    params=[pytest.param("go", marks=[pytest.mark.go, needs_go_etcd]), "petcd"],
    scope="module",
)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serving(request.param) as running:
        yield running


@pytest.fixture(scope="module")
def petcd() -> Iterator[Server]:
    with serving("petcd") as running:
        yield running
