"""A member inside this program: started, used through the client, stopped, and started again on its data.

    python examples/embedded_member.py

It listens on a free port of the loopback interface and keeps its data in a temporary directory.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from petcd.client import Client
from petcd.embed import Etcd
from petcd.seams.real import real_world
from petcd.server.config import Config
from petcd.server.url import parse_urls


@asynccontextmanager
async def member(data_dir: str) -> AsyncIterator[str]:
    """A running member; its endpoint."""
    config = Config(
        name="embedded",
        data_dir=data_dir,
        listen_client_urls=parse_urls("http://127.0.0.1:0"),
        listen_peer_urls=(),  # there will be no others
    )
    etcd = await Etcd.start(config, real_world(asyncio.get_running_loop()))
    try:
        address = etcd.listeners[0].address
        yield f"{address.host}:{address.port}"
    finally:
        await etcd.stop()


async def main() -> None:
    with tempfile.TemporaryDirectory() as data_dir:
        async with (
            member(data_dir) as endpoint,
            Client(endpoint) as client,
            client.watch("colour") as watch,
        ):
            await client.put("colour", "green")
            await client.put("colour", "blue")
            async for event in watch:
                print("seen:", event.value.decode())
                if event.value == b"blue":
                    break

        async with member(data_dir) as endpoint, Client(endpoint) as client:
            result = await client.get("colour")
            assert result.first is not None
            print(f"after a restart: {result.first.text}, version {result.first.version}")


if __name__ == "__main__":
    asyncio.run(main())
