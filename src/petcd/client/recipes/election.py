"""An election: one leader at a time, whose proposal everybody can see.

    async with Election(client, "elections/scheduler", "10.0.0.7:80") as leadership:
        await leadership.proclaim("10.0.0.8:80")
        await leadership.lost.wait()

The keys are those of ``etcdctl elect`` and of Go's concurrency.Election: candidates and observers of either
kind take part in one election. Leadership is a lock, and promises no more than one: an old leader may act for
a moment after a new one was elected. Put ``leadership.held`` into transactions that only a leader may make.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from petcd.client import Get, KeyValue, LeaseLost, Put, compare
from petcd.client.recipes._place import Holder, Place
from petcd.client.recipes._session import TTL, Name, as_bytes, client_closed, persist, read_again
from petcd.errors import EtcdError, LeaseNotFound

if TYPE_CHECKING:
    from petcd.client import Keyspace


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads, as the store says."""

    key: bytes
    value: bytes
    """What the leader has proposed."""
    token: int
    """Larger for each later leader."""
    revision: int
    """When it was elected or last proclaimed something."""
    lease: int

    @property
    def text(self) -> str:
        """The proposal as UTF-8."""
        return self.value.decode()


class Election(Holder):
    """A candidate, and a view of the election; entering waits until elected, leaving resigns.

    ``value`` is what observers see of it when it leads. Guarantees and limits are those of ``Lock``.
    """

    def __init__(self, client: Keyspace, name: Name, value: bytes | str = b"", *, ttl: int = TTL) -> None:
        super().__init__(client, name, ttl=ttl)
        self._value = as_bytes(value)
        self._modified = 0

    async def __aenter__(self) -> Self:
        await self.campaign()
        return self

    async def campaign(self, value: bytes | str | None = None) -> None:
        """Wait until elected. Candidates are elected in the order in which they came."""
        if value is not None:
            self._value = as_bytes(value)
        await self._acquire(self._turn, value=self._value)
        self._modified = self.token

    async def _turn(self, place: Place) -> bool:
        await place.wait_first(self._prefix)
        return True

    async def resign(self) -> None:
        """Let the next one lead; the same as ``release``."""
        await self.release()

    async def proclaim(self, value: bytes | str) -> None:
        """Change what observers see. Raises: LeaseLost when this candidate leads no longer."""
        wanted = as_bytes(value)
        place = self._held_place
        place.check()
        put, own = Put(place.key, wanted, lease=place.lease), Get(place.key)
        while True:
            # Compared with the last change, so that a late copy of an older proclamation changes nothing.
            last = compare(place.key).mod_revision == self._modified
            try:
                done = await persist(lambda: self._client.txn([last, place.held], [put], [own]))  # noqa: B023
            except LeaseNotFound:
                raise LeaseLost(place.lease) from None
            if done:
                self._modified = done.revision
                break
            now = done[own].first
            if now is None or now.create_revision != place.token:
                raise LeaseLost(place.lease)
            self._modified = now.mod_revision
            if now.value == wanted:
                break  # an earlier sending of it had been carried out
            # What changed it is a proclamation that was cancelled here and carried out there.
        self._value = wanted

    async def leader(self) -> Leader | None:
        """Who leads now; None when there is no candidate."""
        query = self._client.get
        seen = await persist(lambda: query(self._prefix, prefix=True, sort_by="create", limit=1))
        return _leader(seen.first) if seen.first is not None else None

    async def observe(self) -> AsyncIterator[Leader]:
        """The leader now, then each new leader and each proclamation, in the order of the store's revisions.

        None is told twice, and none is missed, unless its history is compacted while no member answers, or
        the store is restored from a backup.
        """
        told = (0, 0)  # compared for equality: a store restored from a backup counts from less
        while True:
            seen = await persist(lambda: self._client.get(self._prefix, prefix=True))
            line = {kv.key: _leader(kv) for kv in seen}
            watch = self._client.options(timeout=None).watch(
                self._prefix, prefix=True, start_revision=seen.revision + 1
            )
            try:
                async with watch:
                    events = aiter(watch)
                    while True:
                        first = min(line.values(), key=_age, default=None)
                        if first is not None and (first.token, first.revision) != told:
                            told = first.token, first.revision
                            yield first
                        event = await anext(events, None)
                        if event is None:
                            raise client_closed()
                        if event.deleted:
                            line.pop(event.key, None)
                        else:
                            line[event.key] = _leader(event.kv)
            except EtcdError as error:
                if not read_again(error):
                    raise


def _leader(kv: KeyValue) -> Leader:
    return Leader(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.lease)


def _age(leader: Leader) -> int:
    return leader.token
