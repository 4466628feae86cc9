"""The claims of a queue: keys that say who works on which item.

A claim hangs on the lease of its taker and holds the item for as long as that lives. One that nobody works on
(the call that made it was cancelled, or a late copy of it arrived) would hold it for nothing. So every claim
has a value of its own, by which its taker knows it; and whoever takes a claim away modifies the item, so that
a claim which is still on its way finds the item changed and is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from petcd.client import Comparison, Delete, Get, KeyValue, LeaseLost, Put, Txn, TxnResult, compare
from petcd.client.recipes._session import Session, client_closed, persist
from petcd.errors import Compacted, EtcdError, LeaseNotFound

if TYPE_CHECKING:
    from petcd.client import Keyspace


@dataclass(frozen=True, slots=True)
class Item:
    """An item that was taken and is not finished."""

    key: bytes
    value: bytes
    claim: bytes
    """The key that says that we have it."""
    mark: bytes
    """The value of that key, which no other claim has."""
    token: int
    """Larger for each later taker of the item."""
    lease: int
    """What the claim hangs on."""
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the claim is gone or may be: others can take the item."""

    @property
    def text(self) -> str:
        """The value as UTF-8."""
        return self.value.decode()

    @property
    def held(self) -> Comparison:
        """For ``client.txn(when=[...])``: true while the item is ours and not finished."""
        return compare(self.claim).create_revision == self.token


class Membership(Session):
    """The lease of a queue, and what we know of the keys on it."""

    def __init__(self, client: Keyspace, ttl: int) -> None:
        super().__init__(client, ttl)
        self.puts = 0
        """The version that the producer's key has."""
        self.marks: set[bytes] = set()
        """The values of the claims that somebody here works on. Any other claim on this lease is a relict."""

    async def tidy(self, work: Coroutine[Any, Any, object]) -> None:
        """Do what can be done while the lease lives; what cannot is left to its end."""
        with contextlib.suppress(LeaseLost, EtcdError):
            await self.within(work)


class Claims:
    """What is done with the claims below one prefix, for the items below another one."""

    def __init__(self, client: Keyspace, items: bytes, claims: bytes) -> None:
        self._client = client
        self._items = items
        self._claims = claims

    async def claim(self, session: Membership, kv: KeyValue) -> Item | None:
        """Take an item that was seen as ``kv``; None when it has been taken. Raises: LeaseNotFound."""
        claim = self._claims + kv.key.removeprefix(self._items)
        mark = b"%016x" % random.getrandbits(64)
        item = None
        session.marks.add(mark)
        try:
            item = await self._send(session, kv, claim, mark)
        except LeaseNotFound:
            raise  # no claim can be on a lease that is gone
        except BaseException:
            await session.tidy(self._withdraw(kv, claim, mark))
            raise
        finally:
            if item is None:
                session.marks.discard(mark)
        return item

    async def _send(self, session: Membership, kv: KeyValue, claim: bytes, mark: bytes) -> Item | None:
        # Giving an item back modifies it, so a late copy of this finds it changed, or gone.
        when = [compare(kv.key).mod_revision == kv.mod_revision, compare(claim).create_revision == 0]
        put, own = Put(claim, mark, lease=session.id), Get(claim)
        sendings = 0

        def send() -> Awaitable[TxnResult]:
            nonlocal sendings
            sendings += 1
            return self._client.txn(when, [put], [own])

        done = await persist(send)
        token = done.revision
        if not done:
            found = done[own].first
            if found is None:
                return None
            if found.value != mark:
                if sendings > 1:
                    # A sending without an answer could arrive when the other one's claim has gone.
                    await self._withdraw(kv, claim, mark)
                return None
            token = found.create_revision
        return Item(kv.key, kv.value, claim, mark, token, session.id)

    async def _withdraw(self, kv: KeyValue, claim: bytes, mark: bytes) -> None:
        """Undo a claim of unknown fate, and see to it that it does not arrive any more."""
        unclaimed = Txn([compare(kv.key).mod_revision == kv.mod_revision], [Put(kv.key, ignore_value=True)])
        await self._free(compare(claim).value == mark, kv.key, claim, unclaimed)

    async def give_back(self, item: Item) -> None:
        """Make an item free for others."""
        await self._free(item.held, item.key, item.claim)

    async def remove_relicts(self, session: Membership, claims: Iterable[KeyValue]) -> bool:
        """Take away what nobody here works on, of the claims that were seen; whether there was any.

        They arrived late, or could not be taken away when their takers were cancelled.
        """
        relicts = [kv for kv in claims if kv.lease == session.id and kv.value not in session.marks]
        for kv in relicts:
            item = self._items + kv.key.removeprefix(self._claims)
            await self._free(compare(kv.key).create_revision == kv.create_revision, item, kv.key)
        return bool(relicts)

    async def _free(self, held: Comparison, key: bytes, claim: bytes, *otherwise: Txn) -> None:
        """Take a claim away, if ``held``, and modify its item: what claims it as it was is refused."""
        modified = Put(key, ignore_value=True)
        try:
            await persist(lambda: self._client.txn([held], [Delete(claim), modified], otherwise))
        except EtcdError:
            # A full store takes no put, and a deleted item none either.
            await persist(lambda: self._client.txn([held], [Delete(claim)]))

    async def finish(self, item: Item) -> bool:
        """Remove an item; False when it has become another's. Raises: LeaseLost when nobody can tell."""
        both, rest = [Delete(item.key), Delete(item.claim)], Get(item.key)
        done = await persist(lambda: self._client.txn([item.held], both, [rest]))
        if done:
            return True
        return done[rest].first is None and await self._was_finished(item)

    async def _was_finished(self, item: Item) -> bool:
        """Whether an item that is gone went together with our claim: an earlier sending removed both."""

        async def end_of_claim() -> int:
            patient = self._client.options(timeout=None)
            async with patient.watch(item.claim, start_revision=item.token + 1, puts=False) as watch:
                async for event in watch:
                    return event.revision
            raise client_closed()

        try:
            end = await persist(end_of_claim)
            return (await persist(lambda: self._client.get(item.key, revision=end))).first is None
        except Compacted:
            raise LeaseLost(item.lease) from None
