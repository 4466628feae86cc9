"""One running server for a module of end-to-end tests.

``PETCD_E2E_KIND=go`` runs the same tests against Go etcd, which shows that they ask for nothing of our own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import cast

import pytest
from tests.rpc import Rpc
from tests.servers import Kind, Server, serving

KIND = cast("Kind", os.environ.get("PETCD_E2E_KIND", "petcd"))


@pytest.fixture(scope="session")
def kind() -> Kind:
    return KIND


@pytest.fixture(scope="module")
def server(kind: Kind) -> Iterator[Server]:
    with serving(kind) as running:
        yield running


@pytest.fixture
def rpc(server: Server) -> Iterator[Rpc]:
    with Rpc(server.endpoint) as channel:
        yield channel
