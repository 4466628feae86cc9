"""Whose a client is: forks, one loop after another, two loops at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest
from tests.servers import Server

from petcd.client import Client, TransportFailure

FORKING = """
import asyncio, os, sys, traceback
from petcd.client import Client, LeaseLost, TransportFailure

client = Client(sys.argv[1])

async def child(lease, watch):
    # The parent's connection, watch and lease are not ours; ours work.
    mine = (await client.put("fork/child", "1")).revision
    assert client._pool._current.active_count == 0
    try:
        lease.check()
        raise AssertionError("the child does not keep the parent's lease")
    except LeaseLost:
        pass
    try:
        async for event in watch:
            assert event.revision < mine  # what had come before the fork
        raise AssertionError("the parent's watch ended in the child without a word")
    except TransportFailure as failure:
        assert "gone" in failure.text
    async with client.watch("fork/", prefix=True, start_revision=1) as own:
        async for event in own:
            if event.key == b"fork/child":
                break
    await client.close()

async def close_only(lease, watch):
    await client.close()

def fork(lease, watch, run):
    if (process := os.fork()) == 0:
        status = 1
        try:
            asyncio.run(run(lease, watch))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

async def main():
    async with client.lease(2) as lease, client.watch("fork/", prefix=True) as watch:
        await client.put("fork/leased", "1", lease=lease)
        connection = client._pool._current
        for n in range(2):
            assert fork(lease, watch, child) == 0
            assert fork(lease, watch, close_only) == 0
            await client.put("fork/parent", str(n))
        assert client._pool._current is connection
        seen = []
        async with asyncio.timeout(10):
            async for event in watch:
                seen.append(event.key.decode())
                if len(seen) == 5:
                    break
        assert seen == ["fork/leased"] + ["fork/child", "fork/parent"] * 2, seen
        before = lease.expires_at
        while lease.expires_at == before:
            lease.check()
            await asyncio.sleep(0.01)
    await client.close()

asyncio.run(main())
print("well")
"""


def test_parent_and_child_go_on_after_a_fork(server: Server) -> None:
    command = [sys.executable, "-W", "error", "-c", FORKING, server.endpoint]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.stdout, result.stderr) == ("well\n", "")


def test_one_loop_after_another(server: Server) -> None:
    client = Client(server.endpoint)

    async def first() -> None:
        await client.put("loop", "1")
        watch = client.watch("loop")
        await watch.__aenter__()

    async def second() -> None:
        assert (await client.get("loop")).value == b"1"
        async with client.watch("loop", start_revision=1) as watch:
            assert (await anext(aiter(watch))).key == b"loop"
        await client.close()

    asyncio.run(first())
    asyncio.run(second())


def test_a_watch_of_a_loop_that_is_gone_says_so(server: Server) -> None:
    client = Client(server.endpoint)
    watch = client.watch("gone")

    async def first() -> None:
        await watch.__aenter__()

    async def second() -> None:
        await client.get("gone")
        with pytest.raises(TransportFailure, match="gone"):
            await anext(aiter(watch))
        await client.close()

    asyncio.run(first())
    asyncio.run(second())


def test_two_loops_at_once_are_refused(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            await client.put("two", "1")
            refusals: list[str] = []

            def elsewhere() -> None:
                for use in (lambda: client.get("two"), lambda: client.watch("two").__aenter__()):

                    async def attempt(use: object = use) -> None:
                        await use()  # type: ignore[operator]

                    try:
                        asyncio.run(attempt())
                    except RuntimeError as error:
                        refusals.append(str(error))

            thread = threading.Thread(target=elsewhere)
            thread.start()
            await asyncio.to_thread(thread.join)
            assert len(refusals) == 2
            assert all("belongs to another event loop" in text for text in refusals)
            assert (await client.get("two")).value == b"1"

    asyncio.run(main())
