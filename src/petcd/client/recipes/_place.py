"""A place in a line: one key on one lease, ordered by the revision at which it was created.

The keys are those of Go's concurrency package, ``name/<lease in hex>``, so both kinds of program queue in one
line. Whoever waits watches the youngest key older than its own: one release wakes one waiter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from petcd.client import Comparison, Get, KeyValue, LeaseLost, Put, compare
from petcd.client.recipes._session import TTL, Name, Session, folder, guard, look_again, persist, unless
from petcd.errors import LeaseNotFound

if TYPE_CHECKING:
    from petcd.client import Keyspace

T = TypeVar("T")


class Place:
    """A key below ``prefix``, there for as long as its lease."""

    def __init__(self, client: Keyspace, prefix: bytes, value: bytes, ttl: int) -> None:
        self._client = client
        self._prefix = prefix
        self._value = value
        self._session = Session(client, ttl)
        self._guard: asyncio.Task[None] | None = None
        self.key = b""
        self.token = 0
        """The revision that created the key: it grows from each taker to the next."""
        self.lost = asyncio.Event()
        """Set when the lease is gone or may be, and when somebody has deleted the key."""

    @property
    def lease(self) -> int:
        return self._session.id

    @property
    def held(self) -> Comparison:
        """True in a transaction while the key is still this place's."""
        return compare(self.key).create_revision == self.token

    def check(self) -> None:
        """Raises LeaseLost when the place is gone."""
        if self.lost.is_set():
            raise LeaseLost(self.lease)

    async def take(self, *when: Comparison) -> bool:
        """Create the key, if ``when`` holds; whether it was. Raises LeaseLost."""
        await self._session.open()
        self.key = self._prefix + b"%x" % self.lease
        conditions = [compare(self.key).create_revision == 0, *when]
        put, own = Put(self.key, self._value, lease=self.lease), Get(self.key)
        try:
            done = await unless(
                self._session.lost,
                self.lease,
                persist(lambda: self._client.txn(conditions, [put], [own])),
            )
        except LeaseNotFound:
            raise LeaseLost(self.lease) from None
        if done:
            self.token = done.revision
        else:
            # An earlier sending of it may have been carried out after all.
            there = done[own].first
            if there is None:
                return False
            self.token = there.create_revision
        self._guard = asyncio.ensure_future(
            guard(self._client, self._session, self.key, self.token, done.revision, self.lost)
        )
        return True

    async def unless_lost(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``. Raises LeaseLost, and cancels it, when the place is lost first."""
        return await unless(self.lost, self.lease, work)

    async def older(self, prefix: bytes, limit: int = 1) -> tuple[int, tuple[KeyValue, ...]]:
        """The revision, and the youngest ``limit`` pairs below ``prefix`` that are older than this place.

        Raises: LeaseLost when the place itself is not there any more.
        """
        query = Get(
            prefix,
            prefix=True,
            sort_by="create",
            order="descend",
            limit=limit,
            max_create_revision=self.token - 1,
        )
        own = Get(self.key)
        result = await persist(lambda: self._client.txn(then=[query, own]))
        there = result[own].first
        if there is None or there.create_revision != self.token:
            raise LeaseLost(self.lease)
        return result.revision, result[query].kvs

    async def wait_first(self, prefix: bytes) -> None:
        """Wait until no key below ``prefix`` is older. Raises LeaseLost."""
        while True:
            revision, older = await self.older(prefix)
            if not older:
                return
            await look_again(self._client, older[0].key, revision, puts=False)

    async def leave(self) -> None:
        """Give the lease back, and with it the key."""
        if self._guard is not None:
            self._guard.cancel()
        try:
            # Closing comes first: it ends the renewals before it waits for anything, so whoever is cancelled
            # here leaves a lease that expires.
            await self._session.close()
        finally:
            if self._guard is not None:
                await asyncio.gather(self._guard, return_exceptions=True)


class Holder:
    """What locks, semaphores, elections and barriers share: to hold something, and to be told of its loss.

    One object is one holder: two tasks that compete use two objects. It can be used again after ``release``.
    """

    def __init__(self, client: Keyspace, name: Name, *, ttl: int = TTL) -> None:
        """``ttl``: seconds after which the servers take it from a holder that has died."""
        self._client = client
        self._prefix = folder(name)
        self._ttl = ttl
        self._taking = False
        self._place: Place | None = None

    @property
    def _held_place(self) -> Place:
        if self._place is None:
            raise RuntimeError(f"{type(self).__name__} is not held")
        return self._place

    @property
    def is_held(self) -> bool:
        """Whether it was acquired, not released, and is not known to be lost."""
        return self._place is not None and not self._place.lost.is_set()

    @property
    def key(self) -> bytes:
        """The key that stands for this holder."""
        return self._held_place.key

    @property
    def lease(self) -> int:
        """The lease it is held by; keys that shall go with it can be put on it too."""
        return self._held_place.lease

    @property
    def token(self) -> int:
        """The fencing token: larger for each later holder. Resources refuse one below what they have seen."""
        return self._held_place.token

    @property
    def held(self) -> Comparison:
        """For ``client.txn(when=[...])``: true while this holder holds it, judged by the store."""
        return self._held_place.held

    @property
    def lost(self) -> asyncio.Event:
        """Set when the lease is gone or may be, or the key was deleted. Not set by ``release``."""
        return self._held_place.lost

    def check(self) -> None:
        """Raises LeaseLost when it is lost."""
        self._held_place.check()

    async def release(self) -> None:
        """Give it up, lost or not. Does nothing when it is not held."""
        place, self._place = self._place, None
        if place is not None:
            await place.leave()

    async def __aexit__(self, *_: object) -> None:
        await self.release()

    def _begin_taking(self) -> None:
        if self._place is not None or self._taking:
            raise RuntimeError(f"{type(self).__name__} is held already")
        self._taking = True

    async def _acquire(
        self,
        turn: Callable[[Place], Coroutine[Any, Any, bool]],
        *,
        below: bytes = b"",
        value: bytes = b"",
    ) -> bool:
        """Take a place and wait for its turn; whether it came.

        A place that is lost while it waits is taken anew, at the end of the line: nothing was held yet.
        """
        self._begin_taking()
        try:
            while True:
                place = Place(self._client, self._prefix + below, value, self._ttl)
                try:
                    if await place.take() and await place.unless_lost(turn(place)):
                        place.check()  # its turn and its loss may come in the same moment
                        self._place = place
                        return True
                    return False
                except LeaseLost:
                    continue
                finally:
                    if self._place is None:
                        await place.leave()
        finally:
            self._taking = False
