"""Every write's answer is lost once, and copies of writes arrive late: recipes do everything exactly once.

That is what a member that dies between carrying out a write and answering does to a client, here without
killing any.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.client.recipes.helpers import run
from tests.servers import Server

from petcd.client import Client, Comparison, Delete, Get, LeaseLost, Put, TransportFailure, Txn, TxnResult
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
