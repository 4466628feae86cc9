"""Servers for the client's tests: Go etcd, and ours as soon as it serves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from tests.servers import HAS_GO_ETCD, Kind, Server, serving

SERVES = find_spec("petcd.embed") is not None

KINDS: list[Kind] = ["go", "petcd"]
CHOSEN = os.environ.get("PETCD_TEST_SERVER", "")
"""``go`` or ``petcd`` restricts the run to that server."""


def _params() -> list[object]:
    absent = {
        "go": pytest.mark.skipif(
            not HAS_GO_ETCD, reason="Go etcd is not installed (Debian: etcd-server; .ci/run installs it)"
        ),
        "petcd": pytest.mark.skipif(not SERVES, reason="this checkout has no server yet"),
    }
    kinds = [CHOSEN] if CHOSEN else KINDS
    return [
        pytest.param(kind, marks=[absent[kind], *([pytest.mark.go] if kind == "go" else [])])
        for kind in kinds
    ]


@pytest.fixture(params=_params(), scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that the tests of a module share; they use keys of their own."""
    with serving(request.param) as running:
        yield running


@pytest.fixture(params=_params())
def own_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server for one test, which may stop and restart it."""
    with serving(request.param) as running:
        yield running
