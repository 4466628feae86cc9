"""Queues against a real server: order, claims, and what becomes of a dead taker's items."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import pytest
from tests.client.recipes.helpers import lease_of, run, wait_keys
from tests.servers import Server

from petcd.client import AlarmType, Client, Comparison, LeaseLost, Put, TransportFailure, TxnResult
from petcd.client.kv import Operation
from petcd.client.recipes import PriorityQueue, Queue, _session
from petcd.errors import Code


def test_first_in_first_out(server: Server) -> None:
    async def main() -> None:
        async with (
            Client(server.endpoint) as one,
            Client(server.endpoint) as two,
            Queue(one, "queue/order") as queue,
            Queue(two, "queue/order") as other,
        ):
            for number in range(40):
                await (queue, other)[number % 2].put(str(number))
            assert await queue.size() == 40
            async with queue.take() as first:
                assert first.text == "0"
                async with other.take() as second:
                    assert second.value == b"1"
                    assert await queue.size() == 40
            assert [int(await other.get()) for _ in range(38)] == list(range(2, 40))
            assert await queue.size() == 0

    run(main)


def test_priorities(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client, PriorityQueue(client, "queue/priority") as queue:
            for value, priority in [("c", 65535), ("b", 10), ("a", 9), ("b, later", 10)]:
                await queue.put(value, priority)
            await queue.put("now")
            assert [await queue.get() for _ in range(5)] == [b"now", b"a", b"b", b"b, later", b"c"]
            for priority in (-1, 65536):
                with pytest.raises(ValueError, match="from 0 to 65535"):
                    await queue.put("", priority)

    run(main)


def test_every_item_goes_to_one_taker(server: Server) -> None:
    async def main() -> None:
        taken: list[bytes] = []

        async def work(client: Client) -> None:
            async with Queue(client, "queue/many") as queue:
                async for value in queue:
                    if value == b"end":
                        return
                    taken.append(value)

        async with Client(server.endpoint) as one, Client(server.endpoint) as two:
            workers = [asyncio.create_task(work(client)) for client in (one, two, one)]
            async with Queue(one, "queue/many") as queue, Queue(two, "queue/many") as other:
                both = (queue, other)
                await asyncio.gather(*(both[number % 2].put(b"%d" % number) for number in range(60)))
                for _ in workers:
                    await queue.put("end")
                await asyncio.gather(*workers)
            assert sorted(taken, key=int) == [b"%d" % number for number in range(60)]
            assert not await one.get("queue/many/", prefix=True)

    run(main)


def test_a_taker_waits_for_an_item(server: Server) -> None:
    async def main() -> None:
        async with (
            Client(server.endpoint) as client,
            Queue(client, "queue/wait") as queue,
            Queue(client, "queue/wait") as producer,
        ):
            waiting = asyncio.create_task(queue.get())
            await client.get("queue/wait")
            await producer.put("there")
            assert await waiting == b"there"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1), queue.take():
                    pass
            await producer.put("again")
            assert await queue.get() == b"again"

    run(main)


def test_an_item_whose_work_fails_is_free_again(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client, Queue(client, "queue/fails") as queue:
            await queue.put("first")
            await queue.put("second")

            async def fail() -> None:
                async with queue.take() as item:
                    assert item.value == b"first"
                    raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await fail()
            async with queue.take() as item:
                assert item.value == b"first"
                waiting = asyncio.create_task(queue.get())
                assert await waiting == b"second"
                waiting = asyncio.create_task(queue.get())
                await client.get("queue/fails")
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
            assert await queue.size() == 0

    run(main)


def test_a_dead_takers_item_goes_to_the_next_one(server: Server) -> None:
    async def main() -> None:
        async with (
            Client(server.endpoint) as client,
            Queue(client, "queue/dead", ttl=60) as queue,
            Queue(client, "queue/dead") as other,
        ):
            await queue.put("work")

            async def stall() -> None:
                async with queue.take() as item:
                    assert await client.txn(when=[item.held], then=[Put("queue/data", "first")])
                    taking = asyncio.create_task(take())
                    await client.leases.revoke(item.lease)
                    await item.lost.wait()
                    await taken.wait()
                    assert not await client.txn(when=[item.held], then=[Put("queue/data", "late")])
                    done.append(taking)

            async def take() -> None:
                async with other.take() as item:
                    assert item.text == "work"
                    taken.set()
                    await finish.wait()

            done: list[asyncio.Task[None]] = []
            taken, finish = asyncio.Event(), asyncio.Event()
            with pytest.raises(LeaseLost):
                await stall()
            assert await queue.size() == 1
            finish.set()
            await asyncio.gather(*done)
            assert await queue.size() == 0

    run(main)


def test_a_put_whose_lease_is_gone_says_so(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client, Queue(client, "queue/lost", ttl=60) as queue:
            await queue.put("in")
            (mark,) = await wait_keys(client, "queue/lost/producers/", 1)
            await client.leases.revoke(lease_of(mark))
            with pytest.raises(LeaseLost):
                await queue.put("nobody knows")
            await queue.put("in as well")
            assert await queue.get() == b"in"
            assert await queue.get() == b"in as well"

    run(main)


class Cut(Client):
    """Transactions wait for an answer that does not come while it is cut off."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint)
        self.waiting = asyncio.Event()
        self.connected = asyncio.Event()
        self.connected.set()

    async def txn(
        self,
        when: Sequence[Comparison] = (),
        then: Sequence[Operation] = (),
        otherwise: Sequence[Operation] = (),
    ) -> TxnResult:
        if not self.connected.is_set():
            self.waiting.set()
            raise TransportFailure(Code.UNAVAILABLE, "no member answers", sent=False)
        return await super().txn(when, then, otherwise)


@pytest.mark.parametrize("fails", [False, True])
def test_leaving_an_item_ends_with_its_lease(
    server: Server, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_session, "_LAST_ATTEMPT_SECONDS", 0.1)

    async def main() -> None:
        async with (
            Cut(server.endpoint) as client,
            Client(server.endpoint) as other,
            Queue(client, f"queue/cut-{fails}", ttl=3) as queue,
        ):
            await queue.put("work")

            async def leave() -> None:
                async with queue.take() as item:
                    lease.append(item.lease)
                    client.connected.clear()
                    if fails:
                        raise ZeroDivisionError

            lease: list[int] = []
            leaving = asyncio.create_task(leave())
            await client.waiting.wait()
            assert not leaving.done()
            await other.leases.revoke(lease[0])
            with pytest.raises(ZeroDivisionError if fails else LeaseLost):
                await leaving
            client.connected.set()
            assert await queue.get() == b"work"

    run(main)


def test_an_item_whose_work_fails_is_free_again_in_a_full_store(own_server: Server) -> None:
    async def main() -> None:
        async with (
            Client(own_server.endpoint) as client,
            Queue(client, "queue/full", ttl=60) as queue,
        ):
            await queue.put("work")
            member = (await client.maintenance.status()).member_id

            async def fail() -> None:
                async with queue.take():
                    await client.maintenance.arm(member, AlarmType.NOSPACE)
                    raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await fail()
            assert not await client.get("queue/full/claims/", prefix=True)
            await client.maintenance.disarm()
            assert await queue.get() == b"work"

    run(main)


def test_an_item_that_was_deleted_by_hand_can_be_given_back(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client, Queue(client, "queue/deleted") as queue:
            await queue.put("work")
            with contextlib.suppress(ZeroDivisionError):
                async with queue.take() as item:
                    await client.delete(item.key)
                    raise ZeroDivisionError
            assert not await client.get("queue/deleted/claims/", prefix=True)

    run(main)


def test_a_put_across_a_change_of_the_lease(server: Server) -> None:
    class Slow(Client):
        """The answer to the next put of an item waits."""

        slow = False

        async def txn(
            self,
            when: Sequence[Comparison] = (),
            then: Sequence[Operation] = (),
            otherwise: Sequence[Operation] = (),
        ) -> TxnResult:
            result = await super().txn(when, then, otherwise)
            if self.slow and then and isinstance(then[0], Put):
                self.slow = False
                done.set()
                await answer.wait()
            return result

    done, answer = asyncio.Event(), asyncio.Event()

    async def main() -> None:
        async with Slow(server.endpoint) as client, Queue(client, "queue/across", ttl=60) as queue:
            await queue.put("one")
            client.slow = True
            putting = asyncio.create_task(queue.put("two"))
            await done.wait()

            async def lose() -> None:
                async with queue.take() as item:
                    await client.leases.revoke(item.lease)

            with pytest.raises(LeaseLost):
                await lose()
            assert await queue.get() == b"one"
            answer.set()
            await putting
            await queue.put("three")
            assert [await queue.get() for _ in range(2)] == [b"two", b"three"]

    run(main)


def test_more_taken_items_than_a_page(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client, Queue(client, "queue/pages") as queue:
            for number in range(36):
                await queue.put(str(number))
            release = asyncio.Event()
            taken: asyncio.Queue[int] = asyncio.Queue()

            async def hold() -> None:
                async with queue.take() as item:
                    taken.put_nowait(int(item.value))
                    await release.wait()

            tasks = []
            for number in range(36):
                tasks.append(asyncio.create_task(hold()))
                assert await taken.get() == number
            release.set()
            await asyncio.gather(*tasks)
            assert await queue.size() == 0

    run(main)
