"""Claims of a queue whose fate is unknown: cancelled, without an answer, or arriving late."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest
from tests.client.recipes.helpers import lease_of, run, wait_keys
from tests.servers import Server

from petcd.client import Client, Comparison, Delete, LeaseLost, Put, TransportFailure, TxnResult
from petcd.client.kv import Operation
from petcd.client.recipes import Queue
from petcd.errors import Code

Send = Callable[[], Awaitable[TxnResult]]
Hook = Callable[[Sequence[Operation], Send], Awaitable[TxnResult]]


class Hooked(Client):
    """Its next transaction that writes a key below ``claims/`` goes through a hook, when there is one."""

    hook: Hook | None = None

    async def txn(
        self,
        when: Sequence[Comparison] = (),
        then: Sequence[Operation] = (),
        otherwise: Sequence[Operation] = (),
    ) -> TxnResult:
        def send() -> Awaitable[TxnResult]:
            return Client.txn(self, when, then, otherwise)

        hook = self.hook
        if hook is None or not any(
            isinstance(operation, (Put, Delete)) and b"/claims/" in bytes(operation.key)  # type: ignore[arg-type]
            for operation in then
        ):
            return await send()
        self.hook = None
        return await hook(then, send)


def no_answer() -> TransportFailure:
    return TransportFailure(Code.UNAVAILABLE, "the answer is lost", sent=True)


async def cancelled_at_its_claim(client: Hooked, work: Awaitable[object], *, carried_out: bool) -> None:
    """Cancel ``work`` while it waits for the answer to its next transaction about a claim."""
    reached = asyncio.Event()

    async def never_answered(_: Sequence[Operation], send: Send) -> TxnResult:
        if carried_out:
            await send()
        reached.set()
        await asyncio.Event().wait()
        raise AssertionError

    client.hook = never_answered
    task = asyncio.ensure_future(work)
    await reached.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


@contextlib.asynccontextmanager
async def two_takers(server: Server, name: str) -> AsyncIterator[tuple[Hooked, Queue, Queue]]:
    """A client with a hook, its queue, whose lease does not end by itself, and the same queue of another."""
    async with (
        Hooked(server.endpoint) as client,
        Client(server.endpoint) as two,
        Queue(client, name, ttl=60) as queue,
        Queue(two, name) as other,
    ):
        yield client, queue, other


async def take_and_leave(queue: Queue) -> None:
    async with queue.take():
        pass


@pytest.mark.parametrize("how", ["get", "take"])
def test_a_cancelled_taker_leaves_no_claim(server: Server, how: str) -> None:
    async def main() -> None:
        name = f"claims/cancelled-{how}"
        async with two_takers(server, name) as (client, queue, other):
            await queue.put("work")
            work = queue.get if how == "get" else lambda: take_and_leave(queue)
            await cancelled_at_its_claim(client, work(), carried_out=True)
            assert not await client.get(f"{name}/claims/", prefix=True)
            assert await other.get() == b"work"

    run(main)


@pytest.mark.parametrize("how", ["get", "take"])
def test_a_taker_cancelled_while_it_removes_an_item_leaves_no_claim(server: Server, how: str) -> None:
    async def main() -> None:
        name = f"claims/finishing-{how}"
        async with two_takers(server, name) as (client, queue, other):
            await queue.put("work")

            async def claim_then_hang(_: Sequence[Operation], send: Send) -> TxnResult:
                result = await send()
                claimed.set_result(None)
                await resume.wait()
                return result

            claimed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            resume = asyncio.Event()
            client.hook = claim_then_hang
            work = asyncio.ensure_future(queue.get() if how == "get" else take_and_leave(queue))
            await claimed

            async def finish() -> object:
                resume.set()
                return await work

            await cancelled_at_its_claim(client, finish(), carried_out=False)
            assert not await client.get(f"{name}/claims/", prefix=True)
            if how == "get":
                assert await other.get() == b"work"
            # The block of ``take`` had ended, so its item is removed all the same.
            assert await other.size() == 0

    run(main)


def test_a_claim_that_arrives_after_its_taker_was_cancelled_is_refused(server: Server) -> None:
    async def main() -> None:
        async with Hooked(server.endpoint) as client, Queue(client, "claims/late", ttl=60) as queue:
            await queue.put("work")
            late: list[Send] = []

            async def delayed(_: Sequence[Operation], send: Send) -> TxnResult:
                late.append(send)
                raise asyncio.CancelledError

            client.hook = delayed
            with contextlib.suppress(asyncio.CancelledError):
                await queue.get()
            assert not await late[0]()
            assert await queue.get() == b"work"

    run(main)


def test_a_claim_that_arrives_after_another_takers_end_is_refused(server: Server) -> None:
    async def main() -> None:
        async with (
            Hooked(server.endpoint) as client,
            Client(server.endpoint) as two,
            Queue(client, "claims/second", ttl=60) as queue,
            Queue(two, "claims/second", ttl=60) as other,
        ):
            await queue.put("work")
            late: list[Send] = []
            leases: list[int] = []

            async def delayed(_: Sequence[Operation], send: Send) -> TxnResult:
                late.append(send)
                leases.append((await taking.__aenter__()).lease)
                raise no_answer()

            taking = other.take()
            client.hook = delayed
            waiting = asyncio.create_task(queue.get())
            # The claim is withdrawn, which modifies the item, and then its taker waits for the next one.
            async with client.watch("claims/second/items/", prefix=True, start_revision=1) as watch:
                async for event in watch:
                    if event.kv.version == 2:
                        break
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await two.leases.revoke(leases[0])
            assert not await late[0]()
            with pytest.raises(LeaseLost):
                await taking.__aexit__(None, None, None)
            assert await queue.get() == b"work"

    run(main)


def test_a_claim_of_ours_that_nobody_works_on_is_taken_away(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client, Queue(client, "claims/relict", ttl=60) as queue:
            await queue.put("one")
            await queue.put("two")
            keys = await wait_keys(client, "claims/relict/items/", 2)
            (producer,) = await wait_keys(client, "claims/relict/producers/", 1)
            for key in keys:
                await client.put(key.replace(b"/items/", b"/claims/"), "late", lease=lease_of(producer))
            assert await queue.get() == b"one"
            async with queue.take() as item:
                assert item.value == b"two"
                waiting = asyncio.create_task(queue.get())
                await queue.put("three")
                assert await waiting == b"three"
                # It is not our own work that is taken for a relict.
                assert (await client.get(item.claim)).first is not None
                assert not item.lost.is_set()

    run(main)


def test_a_finished_item_was_another_takers(server: Server) -> None:
    """The lease ends, another taker finishes the item: the first one's end is told from a late copy of it."""

    async def main() -> None:
        async with (
            Hooked(server.endpoint) as client,
            Client(server.endpoint) as two,
            Queue(client, "claims/twice", ttl=60) as queue,
            Queue(client, "claims/twice", ttl=60) as next_queue,
            Queue(two, "claims/twice") as other,
        ):

            async def lose() -> None:
                async with queue.take() as item:
                    await two.leases.revoke(item.lease)
                    assert await other.get() == b"work"

            await other.put("work")
            with pytest.raises(LeaseLost):
                await lose()

            async def claim_and_lose(_: Sequence[Operation], send: Send) -> TxnResult:
                result = await send()
                (claim,) = await two.get("claims/twice/claims/", prefix=True)
                await two.leases.revoke(claim.lease)
                assert await other.get() == b"again"
                await other.put("next")
                return result

            await other.put("again")
            client.hook = claim_and_lose
            assert await next_queue.get() == b"next"

    run(main)


def test_an_item_that_was_finished_without_an_answer_is_ours(server: Server) -> None:
    async def main() -> None:
        async with (
            Hooked(server.endpoint) as client,
            Queue(client, "claims/ours") as producer,
            Queue(client, "claims/ours", ttl=60) as queue,
        ):

            async def finish_and_lose(_: Sequence[Operation], send: Send) -> TxnResult:
                assert await send()
                await client.leases.revoke(lease)
                raise no_answer()

            await producer.put("work")
            async with queue.take() as item:
                lease = item.lease
                client.hook = finish_and_lose
            assert await queue.size() == 0

            async def finish_and_compact(_: Sequence[Operation], send: Send) -> TxnResult:
                await send()
                await client.compact((await client.put("claims/other", "")).revision)
                raise no_answer()

            await producer.put("work")

            async def forget() -> None:
                async with queue.take():
                    client.hook = finish_and_compact

            with pytest.raises(LeaseLost):
                await forget()

    run(main)
