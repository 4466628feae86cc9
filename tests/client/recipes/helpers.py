"""What tests of recipes wait for: keys in the store, and lines of etcdctl."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from tests.servers import GO_ETCDCTL, Server, clean_environment

from petcd.client import Client

SECONDS = 60.0
"""Nothing here takes so long, even on a machine that is busy; a test that waits in vain ends."""


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """A test's coroutine, within its time."""

    async def bounded() -> None:
        async with asyncio.timeout(SECONDS):
            await main()

    asyncio.run(bounded())


async def wait_keys(client: Client, prefix: str, count: int) -> list[bytes]:
    """The keys below a prefix, oldest first, as soon as there are ``count``."""
    while True:
        found = await client.get(prefix, prefix=True, sort_by="create")
        if len(found) == count:
            return [kv.key for kv in found]
        async with client.watch(prefix, prefix=True, start_revision=found.revision + 1) as watch:
            async for _ in watch:
                break


def lease_of(key: bytes) -> int:
    return int(key.rpartition(b"/")[2], 16)


@contextlib.asynccontextmanager
async def etcdctl(server: Server, *args: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Debian's etcdctl, running; interrupted and awaited on leaving."""
    process = await asyncio.create_subprocess_exec(
        GO_ETCDCTL,
        f"--endpoints={server.endpoint}",
        *args,
        stdout=asyncio.subprocess.PIPE,
        env=clean_environment({"ETCDCTL_API": "3"}),
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await process.wait()


async def line(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    return (await process.stdout.readline()).rstrip(b"\n")
