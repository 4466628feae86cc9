"""A lock that many readers or one writer have at a time, first come, first served.

    lock = ReadWriteLock(client, "tables/users")
    async with lock.read(): ...
    async with lock.write() as writer: ...

Readers' keys lie below ``name/read/``, writers' below ``name/write/``. A reader waits for the writers that
came before it, a writer for everyone who did; so a writer is not starved by readers that keep coming. What a
lock cannot promise stands in ``petcd.client.recipes.lock``, and holds here too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from petcd.client.recipes._place import Holder, Place
from petcd.client.recipes._session import TTL, Name

if TYPE_CHECKING:
    from petcd.client import Keyspace


class ReadWriteLock:
    """Makes the holders: one object for each task that reads or writes."""

    def __init__(self, client: Keyspace, name: Name, *, ttl: int = TTL) -> None:
        self._client = client
        self._name = name
        self._ttl = ttl

    def read(self) -> ReadLock:
        return ReadLock(self._client, self._name, ttl=self._ttl)

    def write(self) -> WriteLock:
        return WriteLock(self._client, self._name, ttl=self._ttl)


class ReadLock(Holder):
    """One reader's hold: no writer holds the lock meanwhile."""

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def acquire(self) -> None:
        """Wait for the writers before us."""
        await self._acquire(self._turn, below=b"read/")

    async def _turn(self, place: Place) -> bool:
        await place.wait_first(self._prefix + b"write/")
        return True


class WriteLock(Holder):
    """One writer's hold: nobody else holds the lock meanwhile."""

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def acquire(self) -> None:
        """Wait for all readers and writers before us."""
        await self._acquire(self._turn, below=b"write/")

    async def _turn(self, place: Place) -> bool:
        await place.wait_first(self._prefix)
        return True
