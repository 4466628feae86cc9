"""Queues: what one program puts in, one other takes out, the oldest first or by priority.

    async with Queue(client, "mail") as queue:
        await queue.put("hello")
        async with queue.take() as item:      # removed when the block ends, back in the queue when it fails
            send(item.value)

An item is one key below ``name/items/``. Its name begins with the revision the store had when the put began,
so of two items of which one was put after the other had been, the earlier comes out first. Who takes an item
claims it by a key below ``name/claims/``, which hangs on a lease: the item is free again if its taker dies.

``put`` is carried out once, whatever members do: with the item it changes a key of the producer, below
``name/producers/``, and a late copy of the same put no longer finds that key as it was.

Not promised: that an item is worked on only once. A taker that stalls for longer than its lease lives does
not know that the item was given to another one. ``item.held`` in a transaction, or work that may be done
twice, is the answer."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final, Self

from petcd.client import Event, Get, KeyValue, LeaseLost, Put, compare
from petcd.client.recipes._claims import Claims, Item, Membership
from petcd.client.recipes._session import TTL, Name, as_bytes, folder, guard, look_again, persist
from petcd.errors import LeaseNotFound

if TYPE_CHECKING:
    from petcd.client import Keyspace

_PAGE: Final = 16
"""Items read at once while looking for one that nobody has claimed."""
PRIORITY_MAX: Final = 65535


class Queue:
    """A queue, first in, first out. Leaving it gives its lease back, and what was taken and not finished."""

    def __init__(self, client: Keyspace, name: Name, *, ttl: int = TTL) -> None:
        """``ttl``: seconds after which what a dead taker had is free again."""
        self._client = client
        self._prefix = folder(name)
        self._items = self._prefix + b"items/"
        self._claims_below = self._prefix + b"claims/"
        self._claims = Claims(client, self._items, self._claims_below)
        self._ttl = ttl
        self._session: Membership | None = None
        self._opening = asyncio.Lock()
        self._putting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the lease back. The queue can be used again."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _open(self) -> Membership:
        """The lease in use, or a new one where there is none or it is lost."""
        async with self._opening:
            if self._session is None or self._session.lost.is_set():
                await self.close()
                session = Membership(self._client, self._ttl)
                await session.open()
                self._session = session
            return self._session

    async def _lost(self, session: Membership) -> LeaseLost:
        """Forget a lease that the servers do not know any more; what to raise."""
        if self._session is session:
            await self.close()
        return LeaseLost(session.id)

    # --- putting --------------------------------------------------------------------------------------

    async def put(self, value: bytes | str) -> None:
        """Put an item in. Raises: LeaseLost when it may or may not be in."""
        await self._put(b"", as_bytes(value))

    async def _put(self, order: bytes, value: bytes) -> None:
        async with self._putting:
            session = await self._open()
            now = await persist(lambda: self._client.get(self._prefix, count_only=True))
            name = b"%s%016x-%016x" % (order, now.revision, random.getrandbits(64))
            mark = self._prefix + b"producers/%x" % session.id
            puts, own = [Put(self._items + name, value), Put(mark, name, lease=session.id)], Get(mark)
            while True:
                unchanged = compare(mark).version == session.puts
                try:
                    done = await persist(lambda: self._client.txn([unchanged], puts, [own]))  # noqa: B023
                except LeaseNotFound:
                    raise await self._lost(session) from None
                if done:
                    session.puts += 1
                    return
                found = done[own].first
                if found is None:
                    raise await self._lost(session)
                session.puts = found.version
                if found.value == name:
                    return  # an earlier sending of it had been carried out
                # What moved the count is a put that was cancelled here and carried out there.

    # --- taking ---------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def take(self) -> AsyncIterator[Item]:
        """Wait for an item and keep it while the block runs; it is removed when the block ends.

        It is free for others again when the block raises, or when this program dies (after ``ttl``).
        Raises: LeaseLost on leaving, when the item has become another's meanwhile, or may have.
        """
        async with self._one() as (session, item):
            watching = asyncio.ensure_future(
                guard(self._client, session, item.claim, item.token, item.token, item.lost)
            )
            try:
                yield item
            finally:
                watching.cancel()
            try:
                finished = await session.within(self._claims.finish(item))
            except asyncio.CancelledError:
                await session.tidy(self._claims.finish(item))  # the work is done
                raise
            if not finished:
                raise LeaseLost(item.lease)

    async def get(self) -> bytes:
        """Wait for an item and remove it; its value. It is gone if this program dies at that moment, or is
        cancelled in it.

        Raises: LeaseLost when an item was removed and nobody can tell any more by whom.
        """
        while True:
            async with self._one() as (_, item):
                if await self._claims.finish(item):
                    return item.value

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._values()

    async def _values(self) -> AsyncIterator[bytes]:
        while True:
            yield await self.get()

    async def size(self) -> int:
        """How many items are in, those that are taken and not finished included."""
        query = self._client.get
        return (await persist(lambda: query(self._items, prefix=True, count_only=True))).count

    @contextlib.asynccontextmanager
    async def _one(self) -> AsyncIterator[tuple[Membership, Item]]:
        """Wait for an item; it is given back when the block raises."""
        session, item = await self._claim()
        try:
            yield session, item
        except BaseException:
            await session.tidy(self._claims.give_back(item))
            raise
        finally:
            session.marks.discard(item.mark)

    async def _claim(self) -> tuple[Membership, Item]:
        while True:
            session = await self._open()
            revision, free = await self._free_items(session)
            for kv in free:
                try:
                    item = await self._claims.claim(session, kv)
                except LeaseNotFound:
                    await self._lost(session)
                    break
                if item is not None:
                    return session, item
            if not free:
                await look_again(self._client, self._prefix, revision, prefix=True, matters=self._matters)

    def _matters(self, event: Event) -> bool:
        """Whether there may be a free item now."""
        return event.key.startswith(self._claims_below if event.deleted else self._items)

    async def _free_items(self, session: Membership) -> tuple[int, list[KeyValue]]:
        """The revision, and the first items that nobody has claimed."""
        first, revision = self._items, 0
        end = self._items[:-1] + b"0"  # "0" follows "/"
        while True:
            items = Get(first, end, limit=_PAGE)
            claims = Get(self._claims_below, prefix=True)
            seen = await persist(lambda: self._client.txn(then=[items, claims]))  # noqa: B023
            revision = revision or seen.revision
            if await self._claims.remove_relicts(session, seen[claims]):
                continue
            page = seen[items].kvs
            taken = {kv.key.removeprefix(self._claims_below) for kv in seen[claims]}
            free = [kv for kv in page if kv.key.removeprefix(self._items) not in taken]
            if free or len(page) < _PAGE:
                return revision, free
            first = page[-1].key + b"\0"


class PriorityQueue(Queue):
    """A queue out of which the smallest priority comes first, and the oldest of equal ones."""

    async def put(self, value: bytes | str, priority: int = 0) -> None:
        """Put an item in; ``priority`` from 0 to 65535. Raises: LeaseLost when it may or may not be in."""
        if not 0 <= priority <= PRIORITY_MAX:
            raise ValueError(f"a priority is a number from 0 to {PRIORITY_MAX}")
        await self._put(b"%05d-" % priority, as_bytes(value))
