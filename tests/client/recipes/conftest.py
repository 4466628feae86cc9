"""One server of each kind for all tests of recipes: each test puts its keys below a name of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.client.conftest import _params
from tests.servers import Server, serving


@pytest.fixture(params=_params(), scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serving(request.param) as running:
        yield running
