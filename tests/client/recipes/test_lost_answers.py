"""Every write's answer is lost once, and copies of writes arrive late: recipes do everything exactly once.

That is what a member that dies between carrying out a write and answering does to a client, here without
killing any.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import pytest
from tests.client.recipes.helpers import run
from tests.servers import Server

from petcd.client import (
    Client,
    Comparison,
    Delete,
    Get,
    LeaseLost,
    Put,
    PutResult,
    TransportFailure,
    Txn,
    TxnResult,
)
from petcd.client.recipes import (
    Attempt,
    Barrier,
    DoubleBarrier,
    Election,
    Lock,
    PriorityQueue,
    Queue,
    Semaphore,
    Stm,
)
from petcd.errors import Code, LeaseNotFound

T = TypeVar("T")
Operations = Sequence[Get | Put | Delete | Txn]


class Forgetful(Client):
    """Carries every writing transaction out, loses the first answer, and can send all of them once more."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint)
        self.sent: list[tuple[Sequence[Comparison], Operations, Operations]] = []
        self._lose = True

    async def txn(
        self, when: Sequence[Comparison] = (), then: Operations = (), otherwise: Operations = ()
    ) -> TxnResult:
        result = await super().txn(when, then, otherwise)
        if all(isinstance(operation, Get) for operation in then):
            return result
        self._lose = not self._lose
        if not self._lose:
            self.sent.append((when, then, otherwise))
            raise TransportFailure(Code.UNAVAILABLE, "the answer is lost", sent=True)
        return result

    async def send_all_again(self) -> None:
        """What was sent arrives once more."""
        for when, then, otherwise in self.sent:
            try:
                assert not await super().txn(when, then, otherwise)
            except LeaseNotFound:
                continue


class Delayed(Client):
    """Carries every write out and loses the first answer; then copies of all earlier writes arrive."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint)
        self._copies: list[Callable[[], Awaitable[object]]] = []
        self._lose = True

    async def _write(self, write: Callable[[], Awaitable[T]]) -> T:
        result = await write()
        earlier = list(self._copies)
        self._copies.append(write)
        self._lose = not self._lose
        if not self._lose:
            for copy in earlier:
                await copy()
            raise TransportFailure(Code.UNAVAILABLE, "the answer is lost", sent=True)
        return result

    async def put(self, *args: Any, **kwargs: Any) -> PutResult:
        return await self._write(functools.partial(super().put, *args, **kwargs))

    async def txn(
        self, when: Sequence[Comparison] = (), then: Operations = (), otherwise: Operations = ()
    ) -> TxnResult:
        send = functools.partial(super().txn, when, then, otherwise)
        return await (send() if all(isinstance(operation, Get) for operation in then) else self._write(send))


class Stuck(Client):
    """Carries a transaction out and never comes back with the answer, while it is told so."""

    stuck = False

    async def txn(
        self, when: Sequence[Comparison] = (), then: Operations = (), otherwise: Operations = ()
    ) -> TxnResult:
        result = await super().txn(when, then, otherwise)
        if self.stuck and any(isinstance(operation, Put) for operation in then):
            self.done.set()
            await asyncio.Event().wait()
        return result

    async def cancelled_when_done(self, work: Coroutine[Any, Any, Any]) -> None:
        """Cancel ``work`` as soon as its transaction has been carried out."""
        self.stuck, self.done = True, asyncio.Event()
        task = asyncio.create_task(work)
        await self.done.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        self.stuck = False


def test_what_is_held_is_held_once_and_given_back(server: Server) -> None:
    async def main() -> None:
        async with Forgetful(server.endpoint) as client:
            holders = [
                Lock(client, "late/lock"),
                Semaphore(client, "late/semaphore", 2),
                Election(client, "late/election", "me"),
                Barrier(client, "late/barrier"),
            ]
            for holder in holders:
                async with holder:
                    assert len(await client.get("late/", prefix=True)) == 1
                    holder.check()
            assert len(client.sent) >= len(holders)
            await client.send_all_again()
            assert not [kv.key for kv in await client.get("late/", prefix=True)]

    run(main)


def test_the_last_proclamation_stays_the_last(server: Server) -> None:
    async def main() -> None:
        async with Forgetful(server.endpoint) as client, Election(client, "late/proclaim", "one") as leader:
            await leader.proclaim("two")
            await leader.proclaim("three")
            assert len(client.sent) == 3
            await client.send_all_again()
            seen = await leader.leader()
            assert seen is not None and seen.text == "three"
            await leader.proclaim("four")

    run(main)


def test_rounds_of_a_double_barrier(server: Server) -> None:
    async def main() -> None:
        async with Forgetful(server.endpoint) as one, Forgetful(server.endpoint) as two:

            async def party(client: Forgetful) -> list[int]:
                barrier, rounds = DoubleBarrier(client, "late/double", parties=2), []
                for _ in range(3):
                    async with barrier:
                        rounds.append(barrier.round)
                return rounds

            first, second = await asyncio.gather(party(one), party(two))
            assert first == second and len(set(first)) == 3
            await one.send_all_again()
            await two.send_all_again()
            assert not await one.get("late/double/", prefix=True)

    run(main)


@pytest.mark.parametrize("kind", [Queue, PriorityQueue])
def test_items_are_put_and_taken_once(server: Server, kind: type[Queue]) -> None:
    async def main() -> None:
        name = f"late/{kind.__name__}"
        async with Forgetful(server.endpoint) as client, Client(server.endpoint) as other:
            async with kind(client, name) as queue, kind(other, name) as consumer:
                for number in range(6):
                    await queue.put(str(number))
                await client.send_all_again()
                assert await queue.size() == 6
                assert [await queue.get() for _ in range(3)] == [b"0", b"1", b"2"]

                async def fail() -> None:
                    async with queue.take() as item:
                        assert item.value == b"3"
                        raise LeaseLost(0)

                with pytest.raises(LeaseLost):
                    await fail()
                await client.send_all_again()
                assert await queue.size() == 3
                # Nothing that arrived late has claimed or removed what is free.
                assert [await consumer.get() for _ in range(3)] == [b"3", b"4", b"5"]
                await client.send_all_again()
                assert await queue.size() == 0
            await client.send_all_again()
            assert not await client.get(f"{name}/", prefix=True)

    run(main)


def test_transactions_are_carried_out_once(server: Server) -> None:
    async def main() -> None:
        async with Forgetful(server.endpoint) as client, Client(server.endpoint) as other:

            async def increment(tx: Attempt) -> int:
                number = int(await tx.get("late/counter") or 0) + 1
                tx.put("late/counter", str(number))
                return number

            async def blind(tx: Attempt) -> None:
                tx.put("late/blind", str(tx.revision))

            await other.delete("late/counter")
            async with Stm(client, "late/mine") as mine, Stm(other, "late/yours") as yours:
                for number in range(1, 12, 2):
                    assert await mine.run(increment) == number
                    assert await yours.run(increment) == number + 1
                await mine.run(blind)
                await other.put("late/blind", "theirs")
                await client.send_all_again()
                assert (await other.get("late/counter")).value == b"12"
                assert (await other.get("late/blind")).value == b"theirs"
            await client.send_all_again()
            assert (await other.get("late/counter")).value == b"12"

    run(main)


def test_a_late_copy_does_not_hide_a_commit(server: Server) -> None:
    async def main() -> None:
        async with Delayed(server.endpoint) as client, Stm(client, "delayed/marks") as stm:
            await client.delete("delayed/counter")

            async def increment(tx: Attempt) -> None:
                tx.put("delayed/counter", str(int(await tx.get("delayed/counter") or 0) + 1))

            for number in range(1, 4):
                await stm.run(increment)
                assert (await client.get("delayed/counter")).value == b"%d" % number

    run(main)


def test_what_was_cancelled_does_not_stand_in_the_way(server: Server) -> None:
    async def main() -> None:
        async with Stuck(server.endpoint) as client, Client(server.endpoint) as other:
            await client.cancelled_when_done(Lock(client, "stuck/lock").acquire())
            async with Lock(other, "stuck/lock"):
                pass

            async with Election(client, "stuck/election", "one") as leader:
                await client.cancelled_when_done(leader.proclaim("two"))
                await leader.proclaim("three")
                seen = await Election(other, "stuck/election").leader()
                assert seen is not None and seen.text == "three"

            async with Queue(client, "stuck/queue") as queue, Queue(other, "stuck/queue") as consumer:
                await queue.put("one")
                await client.cancelled_when_done(queue.put("two"))
                await queue.put("three")
                assert [await consumer.get() for _ in range(3)] == [b"one", b"two", b"three"]

            async def add(tx: Attempt) -> None:
                tx.put("stuck/sum", (await tx.get("stuck/sum") or b"") + b"+")

            async with Stm(client, "stuck/marks") as stm:
                await stm.run(add)
                await client.cancelled_when_done(stm.run(add))
                await stm.run(add)
                assert (await other.get("stuck/sum")).value == b"+++"

    run(main)
