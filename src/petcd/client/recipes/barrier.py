"""Barriers: one that holds everybody back, and one at which a number of parties meet.

async with Barrier(client, "migration"): ...            # closed meanwhile
await Barrier(client, "migration").wait()               # elsewhere: until nobody holds it closed

async with DoubleBarrier(client, "phase", parties=3):   # all three are here ...
    ...
...                                                     # ... and all three have left
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from petcd.client import Delete, Get, KeyValue, LeaseLost, Put, compare
from petcd.client.recipes._place import Holder, Place
from petcd.client.recipes._session import TTL, Name, look_again, persist

if TYPE_CHECKING:
    from petcd.client import Keyspace


class Barrier(Holder):
    """Closed while anybody holds it; entering closes it, leaving opens it unless others still hold it.

    A holder that dies stops holding it when its ``ttl`` has passed, and one that is told by ``lost`` does not
    hold it any more, so who waits must not take an open barrier for a proof that the work was done.
    """

    async def __aenter__(self) -> Self:
        await self.close()
        return self

    async def close(self) -> None:
        """Hold it closed until ``release``."""

        async def at_once(_: Place) -> bool:
            return True

        await self._acquire(at_once)

    async def wait(self) -> None:
        """Wait until nobody holds it closed."""
        query = self._client.get
        while True:
            seen = await persist(
                lambda: query(self._prefix, prefix=True, sort_by="create", order="descend", limit=1)
            )
            if seen.first is None:
                return
            await look_again(self._client, seen.first.key, seen.revision, puts=False)


class DoubleBarrier(Holder):
    """A meeting of ``parties``: entering waits until all are there, leaving until all have left or died.

    The party that completes the number writes their keys into ``name/ready``; that is the round. Who comes
    while a round is on waits for its end. So the barrier can be used again at once, and a party that is too
    many takes part in a later round. A party that dies is no longer counted when its ``ttl`` has passed:
    before the round others take its place, and a round goes on without it. ``lost`` tells a party inside
    that the others may count it so.
    """

    def __init__(self, client: Keyspace, name: Name, parties: int, *, ttl: int = TTL) -> None:
        """``parties`` must be the same everywhere, and below the servers' ``--max-txn-ops`` (128)."""
        if parties < 1:
            raise ValueError("a barrier needs at least one party")
        super().__init__(client, name, ttl=ttl)
        self._waiting = self._prefix + b"waiting/"
        self._ready = self._prefix + b"ready"
        self._parties = parties
        self._round = 0

    @property
    def round(self) -> int:
        """The revision at which the present round began; larger for each later one."""
        return self._round

    async def __aenter__(self) -> Self:
        await self.enter()
        return self

    async def __aexit__(self, *error: object) -> None:
        # Who leaves because of an error does not wait for the others.
        await self.leave(wait=error[0] is None)

    async def enter(self) -> None:
        """Wait until all parties are there."""
        no_round = compare(self._ready).create_revision == 0
        self._begin_taking()
        try:
            while self._place is None:
                await self._finish(0)
                place = Place(self._client, self._waiting, b"", self._ttl)
                try:
                    if await place.take(no_round) and await place.unless_lost(self._gather(place)):
                        self._place = place
                except LeaseLost:
                    continue  # it has waited in vain: the next round
                finally:
                    if self._place is None:
                        await place.leave()
        finally:
            self._taking = False

    async def _gather(self, place: Place) -> bool:
        """Wait for the round to begin; whether this place is in it."""
        by_age = Get(self._waiting, prefix=True, sort_by="create", limit=self._parties)
        while True:
            seen = await persist(lambda: self._client.txn(then=[Get(self._ready), by_age]))
            ready, here = seen[Get(self._ready)].first, seen[by_age].kvs
            if ready is not None:
                self._round = ready.create_revision
                return place.key in self._members(ready)
            if len(here) < self._parties:
                await look_again(self._client, self._prefix, seen.revision, prefix=True)
                continue
            # All of them must still be there, so a late copy of this cannot begin a round by itself.
            all_here = [compare(kv.key).create_revision == kv.create_revision for kv in here]
            nobody_else = compare(self._ready).create_revision == 0
            begin = Put(self._ready, b" ".join(kv.key.removeprefix(self._waiting) for kv in here))
            await persist(lambda: self._client.txn([nobody_else, *all_here], [begin]))  # noqa: B023

    async def leave(self, *, wait: bool = True) -> None:
        """Leave, and ``wait`` until all parties of this round have left."""
        place, self._place = self._place, None
        if place is None:
            return
        await place.leave()
        if wait:
            await self._finish(self._round)

    async def _finish(self, number: int) -> None:
        """Wait for the end of a round (0: whichever is on) and clear it away."""
        while True:
            ready = (await persist(lambda: self._client.get(self._ready))).first
            if ready is None or number not in (0, ready.create_revision):
                return
            for key in self._members(ready):
                await self._gone(key)
            this_one = compare(self._ready).create_revision == ready.create_revision
            await persist(lambda: self._client.txn([this_one], [Delete(self._ready)]))  # noqa: B023

    def _members(self, ready: KeyValue) -> list[bytes]:
        """The keys of a round's parties."""
        return [self._waiting + lease for lease in ready.value.split()]

    async def _gone(self, key: bytes) -> None:
        while True:
            seen = await persist(lambda: self._client.get(key))
            if seen.first is None:
                return
            await look_again(self._client, key, seen.revision, puts=False)
