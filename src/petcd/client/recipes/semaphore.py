"""A number of permits that holders share, first come, first served.

    async with Semaphore(client, "downloads", permits=3): ...

Every holder writes the number it believes in into its key; whoever finds another number before it refuses to
go on. The limit is kept by the store's order, as a lock's is, and has a lock's limits: see
``petcd.client.recipes.lock``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from petcd.client.recipes._place import Holder, Place
from petcd.client.recipes._session import TTL, Name, look_again

if TYPE_CHECKING:
    from petcd.client import Keyspace


class Semaphore(Holder):
    """One permit of ``permits``; entering waits for it, leaving gives it back."""

    def __init__(self, client: Keyspace, name: Name, permits: int, *, ttl: int = TTL) -> None:
        if permits < 1:
            raise ValueError("a semaphore needs at least one permit")
        super().__init__(client, name, ttl=ttl)
        self._permits = permits

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def acquire(self) -> None:
        """Wait for a permit. Raises: ValueError when somebody before us has another number of permits."""
        await self._acquire(self._turn, value=b"%d" % self._permits)

    async def try_acquire(self) -> bool:
        """Take a permit if one is free; whether it was taken. Raises: as ``acquire``."""
        return await self._acquire(self._free, value=b"%d" % self._permits)

    async def _turn(self, place: Place) -> bool:
        while (revision := await self._full_since(place)) != 0:
            # Any of those before us may be the one that leaves, so it takes a watch on all of them.
            await look_again(self._client, self._prefix, revision, prefix=True, puts=False)
        return True

    async def _free(self, place: Place) -> bool:
        return await self._full_since(place) == 0

    async def _full_since(self, place: Place) -> int:
        """0 when older places leave a permit free, else the revision at which they left none."""
        revision, older = await place.older(self._prefix, limit=self._permits)
        for kv in older:
            if kv.value != b"%d" % self._permits:
                raise ValueError(f"this semaphore has {kv.text} permits elsewhere, not {self._permits}")
        return revision if len(older) == self._permits else 0
