"""stm's levels and locks: a conflict is found where the level promises it, and a lock has one holder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.servers import Server

from petcd.cli.benchmark import paths
from petcd.cli.benchmark.channels import Channel, Dialer, Identity
from petcd.cli.benchmark.locks import LOCKERS, ClientLock
from petcd.cli.benchmark.stm import Transaction
from petcd.client.endpoints import parse
from petcd.pb.etcdserverpb import kv as pb


@asynccontextmanager
async def opened(server: Server) -> AsyncIterator[Channel]:
    channel = Channel([parse(server.endpoint)], Dialer(None, 2.0), Identity())
    try:
        await channel.open()
        yield channel
    finally:
        await channel.close()


async def put(channel: Channel, key: bytes, value: bytes) -> None:
    await channel.unary(paths.PUT, pb.PutRequest(key=key, value=value).encode())


async def value(channel: Channel, key: bytes) -> bytes:
    answer = pb.RangeResponse.decode(await channel.unary(paths.RANGE, pb.RangeRequest(key=key).encode()))
    return answer.kvs[0].value if answer.kvs else b""


@pytest.mark.parametrize(
    ("level", "read", "written"),
    [("c", False, False), ("r", True, False), ("s", True, False), ("ss", True, True)],
)
def test_which_conflicts_a_level_finds(server: Server, level: str, read: bool, written: bool) -> None:
    """``read``: one of a key that was read; ``written``: one of a key that is only written."""
    key, other = f"stm/{level}/read".encode(), f"stm/{level}/written".encode()

    async def main() -> None:
        async with opened(server) as channel:
            for touched, conflict in ((key, read), (other, written)):
                transaction = Transaction(channel, level)
                transaction.begin()
                await transaction.get(key)
                await put(channel, touched, b"from elsewhere")
                assert await transaction.commit({other: b"mine"}) == (not conflict)
                assert (await value(channel, other) == b"mine") == (not conflict)
                if conflict:
                    # With what the failed commit has read, the next attempt passes.
                    transaction.begin()
                    await transaction.get(key)
                    assert await transaction.commit({other: b"mine"})
                    assert await value(channel, other) == b"mine"

    asyncio.run(main())


def test_a_transaction_of_nothing_passes(server: Server) -> None:
    async def main() -> None:
        async with opened(server) as channel:
            for level in ("c", "r", "s", "ss"):
                transaction = Transaction(channel, level)
                transaction.begin()
                assert await transaction.commit({})

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["lock-client", "lock-rpc"])
def test_a_lock_has_one_holder(server: Server, kind: str) -> None:
    if kind == "lock-rpc" and server.kind == "petcd":
        pytest.skip("petcd has no lock service yet")

    async def main() -> None:
        async with opened(server) as channel:
            lockers = [LOCKERS[kind](channel) for _ in range(5)]
            holders: list[int] = []
            order: list[int] = []

            async def work(number: int) -> None:
                for _ in range(4):
                    await lockers[number].lock()
                    holders.append(number)
                    assert holders == [number]
                    await put(channel, b"held", b"")
                    assert holders == [number]
                    holders.remove(number)
                    order.append(number)
                    await lockers[number].unlock()

            for locker in lockers:
                await locker.open()
            await asyncio.gather(*[work(number) for number in range(5)])
            assert sorted(order) == sorted([0, 1, 2, 3, 4] * 4)
            for locker in lockers:
                await locker.close()

    asyncio.run(main())


def test_a_lock_can_be_taken_after_an_attempt_that_was_broken_off(server: Server) -> None:
    """The key of the attempt still stands, and keeps its place."""

    async def main() -> None:
        async with opened(server) as channel:
            one, two = ClientLock(channel), ClientLock(channel)
            await one.open()
            await two.open()
            await one.lock()
            attempt = asyncio.ensure_future(two.lock())
            while not await exists(channel, two.key):
                continue  # each look is a round trip
            attempt.cancel()
            await asyncio.gather(attempt, return_exceptions=True)
            await one.unlock()
            async with asyncio.timeout(5):
                await two.lock()
            await two.unlock()
            await one.close()
            await two.close()
            assert not await exists(channel, two.key)

    asyncio.run(main())


async def exists(channel: Channel, key: bytes) -> bool:
    request = pb.RangeRequest(key=key, count_only=True)
    return bool(pb.RangeResponse.decode(await channel.unary(paths.RANGE, request.encode())).count)
