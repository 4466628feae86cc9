"""Whoever is cancelled while giving something back leaves nothing that others wait for in vain."""

from __future__ import annotations

import asyncio

from tests.client.recipes.helpers import run
from tests.servers import Server

from petcd.client import Client
from petcd.client.recipes import Lock


def test_a_cancelled_release_leaves_no_lease_that_is_renewed(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client, Client(server.endpoint) as other:
            lock = Lock(client, "cancelled/release", ttl=2)
            await lock.acquire()
            releasing = asyncio.create_task(lock.release())
            await asyncio.sleep(0)
            releasing.cancel()
            await asyncio.gather(releasing, return_exceptions=True)
            assert releasing.cancelled()
            async with asyncio.timeout(20), Lock(other, "cancelled/release"):
                pass

    run(main)
