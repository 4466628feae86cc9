"""Locks, semaphores and elections for threads: those of ``petcd.client.recipes``, waited for here.

    with Lock(client, "locks/reports") as lock:
        client.txn(when=[lock.held], then=[Put("report", text)])

What they promise and what they cannot is written there. They are kept in the background thread. One object is
one holder: threads that compete use an object each.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from petcd.client.errors import LeaseLost
from petcd.client.recipes import Election as AsyncElection
from petcd.client.recipes import Leader
from petcd.client.recipes import Lock as AsyncLock
from petcd.client.recipes import ReadWriteLock as AsyncReadWriteLock
from petcd.client.recipes import Semaphore as AsyncSemaphore
from petcd.client.recipes._place import Holder as AsyncHolder
from petcd.client.recipes._session import TTL

if TYPE_CHECKING:
    from petcd.client.client import Client
    from petcd.client.conditions import Comparison
    from petcd.client.keys import Key
    from petcd.client.keyspace import Keyspace as AsyncKeyspace
    from petcd.client.sync.keyspace import Keyspace

H = TypeVar("H", bound=AsyncHolder)


class Holder(Generic[H]):
    """Something to hold, and to be told of its loss. It can be used again after ``release``."""

    def __init__(self, client: Keyspace, make: Callable[[AsyncKeyspace], H]) -> None:
        self._portal = client._portal
        self._of = client._of
        self._make = make
        self._generation = self._portal.generation
        self._inner: H | None = None
        self._guard: asyncio.Task[None] | None = None
        self._released = False
        self.lost = threading.Event()
        """Set when the lease is gone or may be, when the key was deleted, and when the client was closed. Not
        set by ``release``. In a forked child it is an event of its own, set when the parent held it."""
        self._portal.left_to_parent.add(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    @property
    def is_held(self) -> bool:
        """Whether it was acquired, not released, and is not known to be lost."""
        return self._inner is not None and self._inner.is_held and not self.lost.is_set()

    @property
    def key(self) -> bytes:
        """The key that stands for this holder."""
        return self._holding.key

    @property
    def lease(self) -> int:
        """The lease it is held by; keys that shall go with it can be put on it too."""
        return self._holding.lease

    @property
    def token(self) -> int:
        """The fencing token: larger for each later holder. Resources refuse one below what they have seen."""
        return self._holding.token

    @property
    def held(self) -> Comparison:
        """For ``client.txn(when=[...])``: true while this holder holds it, judged by the store."""
        return self._holding.held

    def check(self) -> None:
        """Raises LeaseLost when it is lost."""
        self._holding.check()
        if self.lost.is_set():
            raise LeaseLost(self.lease)

    def release(self) -> None:
        """Give it up, lost or not. Does nothing when it is not held, or is the parent process's."""
        if (
            self._inner is not None
            and self._generation == self._portal.generation
            and not self._portal.closed
        ):
            self._portal.run(self._release)

    @property
    def _holding(self) -> H:
        if self._inner is None:
            raise RuntimeError(f"{type(self).__name__} is not held")
        return self._inner

    def _take(self, wait: Callable[[H], Coroutine[Any, Any, bool | None]], timeout: float | None) -> bool:
        """Hold it once ``wait`` is over; whether it came to that. Raises TimeoutError."""
        taken = False

        async def take(client: Client) -> bool:
            nonlocal taken
            if self._inner is None or self._generation != self._portal.generation:
                self._inner, self._generation = self._make(self._of(client)), self._portal.generation
            inner = self._inner
            async with asyncio.timeout(timeout):
                taken = await wait(inner) is not False
            if taken:
                self._released = False
                self.lost = threading.Event()
                self._guard = asyncio.create_task(self._tell(inner.lost, self.lost), name="etcd holder guard")
            return taken

        try:
            return self._portal.run(take)
        except BaseException:
            if taken:  # the interrupt came a moment too late
                self.release()
            raise

    async def _tell(self, lost: asyncio.Event, told: threading.Event) -> None:
        try:
            await lost.wait()
        finally:
            if not self._released:
                told.set()

    def _forked(self) -> None:
        """In a forked child: what the parent holds is not held here."""
        if self.is_held:
            self.lost = threading.Event()  # a thread of the parent may have been in the midst of the other
            self.lost.set()

    async def _release(self, _client: Client) -> None:
        self._released = True
        if self._guard is not None:
            self._guard.cancel()
        if self._inner is not None:
            await self._inner.release()


class Lock(Holder[AsyncLock]):
    """A lock that one holder has at a time, first come, first served; ``etcdctl lock`` takes the same."""

    def __init__(self, client: Keyspace, name: Key, *, ttl: int = TTL) -> None:
        """``ttl``: seconds after which the servers take it from a holder that has died."""
        super().__init__(client, lambda keys: AsyncLock(keys, name, ttl=ttl))

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def acquire(self, timeout: float | None = None) -> None:
        """Wait for the lock. Raises TimeoutError after ``timeout`` seconds, leaving no key behind."""
        self._take(AsyncLock.acquire, timeout)

    def try_acquire(self) -> bool:
        """Take the lock if nobody has it or waits for it; whether it was taken."""
        return self._take(AsyncLock.try_acquire, None)


class Semaphore(Holder[AsyncSemaphore]):
    """As many holders at a time as there are permits."""

    def __init__(self, client: Keyspace, name: Key, permits: int, *, ttl: int = TTL) -> None:
        super().__init__(client, lambda keys: AsyncSemaphore(keys, name, permits, ttl=ttl))

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def acquire(self, timeout: float | None = None) -> None:
        """Wait for a permit. Raises TimeoutError."""
        self._take(AsyncSemaphore.acquire, timeout)

    def try_acquire(self) -> bool:
        """Take a permit if one is free; whether it was taken."""
        return self._take(AsyncSemaphore.try_acquire, None)


class _Side(Holder[Any]):
    """One side of a lock that readers share and a writer has alone."""

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def acquire(self, timeout: float | None = None) -> None:
        """Wait for it. Raises TimeoutError."""
        self._take(lambda side: side.acquire(), timeout)


class ReadWriteLock:
    """A lock that readers share and a writer has alone. ``read`` and ``write`` make a holder each."""

    def __init__(self, client: Keyspace, name: Key, *, ttl: int = TTL) -> None:
        self._client = client
        self._name = name
        self._ttl = ttl

    def read(self) -> _Side:
        return _Side(self._client, lambda keys: AsyncReadWriteLock(keys, self._name, ttl=self._ttl).read())

    def write(self) -> _Side:
        return _Side(self._client, lambda keys: AsyncReadWriteLock(keys, self._name, ttl=self._ttl).write())


class Election(Holder[AsyncElection]):
    """One leader among those who campaign; ``etcdctl elect`` takes part too."""

    def __init__(self, client: Keyspace, name: Key, value: bytes | str = b"", *, ttl: int = TTL) -> None:
        """``value``: what the others are told of the leader."""
        super().__init__(client, lambda keys: AsyncElection(keys, name, value, ttl=ttl))
        self._name = name

    def __enter__(self) -> Self:
        self.campaign()
        return self

    def campaign(self, value: bytes | str | None = None, *, timeout: float | None = None) -> None:
        """Wait until elected. Raises TimeoutError."""
        self._take(lambda election: election.campaign(value), timeout)

    def resign(self) -> None:
        """Let the next one lead."""
        self.release()

    def proclaim(self, value: bytes | str) -> None:
        """Tell the others something new. Raises LeaseLost when no longer the leader."""
        self.check()
        inner = self._holding
        self._portal.run(lambda _: inner.proclaim(value))

    def leader(self) -> Leader | None:
        """Who leads now."""
        return self._portal.run(lambda client: AsyncElection(self._of(client), self._name).leader())
