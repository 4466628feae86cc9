"""Software-transactional memory: a function that reads and writes keys as if it were alone.

    async with Stm(client) as stm:

        async def transfer(tx: Attempt) -> int:
            left = int(await tx.get("alice") or 0) - 10
            tx.put("alice", str(left))
            tx.put("bob", str(int(await tx.get("bob") or 0) + 10))
            return left

        left = await stm.run(transfer)

All reads of one attempt see the store at one revision. The writes are kept until the function ends and are
then made in one transaction of the store, which compares everything that was read with what is there now. If
anything has changed, the function runs again. So transactions are strictly serializable: each takes effect
at one revision, with what it has read still true there. A function that only reads is not compared at all.

A commit is carried out once, whatever members do: with its writes it changes a key of this program, below
``name/``, and a commit without an answer is told by that key. The function itself may run several times, so
it must not do anything else that counts."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar

from petcd.client import Comparison, Delete, Get, KeyValue, LeaseLost, Put, TxnResult, compare
from petcd.client.recipes._session import TTL, Name, Session, as_bytes, folder, persist
from petcd.errors import Compacted, LeaseNotFound

if TYPE_CHECKING:
    from petcd.client import Keyspace

T = TypeVar("T")


class _Stale(Exception):
    """The revision an attempt reads at is compacted: it cannot go on, another one can."""


@dataclass(slots=True)
class _Mark:
    """The key by which a commit is told to have been carried out; one attempt at a time uses it."""

    session: Session
    key: bytes
    modified: int


class Attempt:
    """One attempt. Used as a block it commits at its end, and not at all when the block raises."""

    def __init__(self, client: Keyspace, mark: _Mark) -> None:
        self._client = client
        self._mark = mark
        self._conditions: list[Comparison] = []
        self._read: dict[bytes, KeyValue | None] = {}
        self._writes: dict[bytes, Put | Delete] = {}
        self._first_read = asyncio.Lock()
        self.revision = 0
        """What the reads see; 0 before the first. Of a committed transaction that wrote: its own revision."""
        self.committed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        if kind is None:
            await self._commit()
        return kind is _Stale

    async def read(self, key: bytes | str) -> KeyValue | None:
        """The pair as it was at this attempt's revision, whatever this attempt has written since."""
        name = as_bytes(key)
        if name not in self._read:
            found = await self._at_revision(name)
            self._saw(name, found[0] if found else None)
        return self._read[name]

    async def get(self, key: bytes | str) -> bytes | None:
        """The value of a key, None where there is none; what this attempt has written counts."""
        written = self._writes.get(as_bytes(key))
        if written is not None:
            return as_bytes(written.value) if isinstance(written, Put) else None
        kv = await self.read(key)
        return kv.value if kv is not None else None

    async def items(self, prefix: bytes | str) -> dict[bytes, bytes]:
        """All keys with a prefix and their values, in key order; what this attempt has written counts.

        A key that comes or goes below the prefix is a change too.
        """
        start = as_bytes(prefix)
        found = await self._at_revision(start, prefix=True)
        self._conditions.append(compare(start, prefix=True).mod_revision < self.revision + 1)
        for kv in found:
            self._saw(kv.key, kv)
        values = {kv.key: kv.value for kv in found}
        for key, written in self._writes.items():
            if not key.startswith(start):
                continue
            if isinstance(written, Put):
                values[key] = as_bytes(written.value)
            else:
                values.pop(key, None)
        return dict(sorted(values.items()))

    def put(self, key: bytes | str, value: bytes | str, *, lease: int = 0) -> None:
        name = as_bytes(key)
        self._writes[name] = Put(name, as_bytes(value), lease)

    def delete(self, key: bytes | str) -> None:
        name = as_bytes(key)
        self._writes[name] = Delete(name)

    async def _at_revision(self, key: bytes, *, prefix: bool = False) -> tuple[KeyValue, ...]:
        if not self.revision:
            # Reads may run side by side: the first one to come decides what all of them see.
            async with self._first_read:
                if not self.revision:
                    return await self._see(Get(key, prefix=prefix))
        return await self._see(Get(key, prefix=prefix, revision=self.revision))

    async def _see(self, query: Get) -> tuple[KeyValue, ...]:
        try:
            seen = await persist(lambda: self._client.txn(then=[query]))
        except Compacted:
            raise _Stale from None
        self.revision = self.revision or seen.revision
        return seen[query].kvs

    def _saw(self, key: bytes, kv: KeyValue | None) -> None:
        if key not in self._read:
            self._read[key] = kv
            self._conditions.append(compare(key).mod_revision == (kv.mod_revision if kv is not None else 0))

    async def _commit(self) -> None:
        if not self._writes:
            self.committed = True  # it has seen one revision, which is consistent by itself
            return
        name = b"%016x" % random.getrandbits(64)
        marked, answered = await self._write_mark(name, self._conditions, self._writes.values())
        if marked != name and not answered:
            # The sending without an answer may still arrive, and find all as it was read: a key that was
            # absent, came and went. It is refused once the mark has changed.
            marked, _ = await self._write_mark(b"")
        if marked == name:
            self.revision = self._mark.modified
            self.committed = True

    async def _write_mark(
        self, value: bytes, when: Iterable[Comparison] = (), then: Iterable[Put | Delete] = ()
    ) -> tuple[bytes, bool]:
        """Do ``then``, and write the mark, if ``when`` holds and the mark is as we know it.

        Returns what the mark holds afterwards, and whether the first sending was answered. Raises: LeaseLost.
        """
        mark, own = self._mark, Get(self._mark.key)
        conditions = [*when, compare(mark.key).mod_revision == mark.modified]
        writes = [*then, Put(mark.key, value, lease=mark.session.id)]
        sendings = 0

        def send() -> Awaitable[TxnResult]:
            nonlocal sendings
            sendings += 1
            return self._client.txn(conditions, writes, [own])

        done = await persist(send)
        if done:
            mark.modified = done.revision
            return value, sendings == 1
        found = done[own].first
        if found is None:
            mark.session.lost.set()
            raise LeaseLost(mark.session.id)
        mark.modified = found.mod_revision
        return found.value, sendings == 1


class Stm:
    """Runs transactions; several may run at once. Entering is optional; leaving gives the lease back.

    A transaction takes at most as many reads and writes as the servers allow operations (128 by default), one
    being ours.
    """

    def __init__(self, client: Keyspace, name: Name = "stm", *, ttl: int = TTL) -> None:
        """``name``: below it are the keys by which commits are told; all programs may share it."""
        self._client = client
        self._prefix = folder(name)
        self._ttl = ttl
        self._session: Session | None = None
        self._opening = asyncio.Lock()
        self._free: list[_Mark] = []
        self._marks = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the lease back, and with it the keys of this program."""
        session, self._session = self._session, None
        self._free.clear()
        if session is not None:
            await session.close()

    async def run(self, function: Callable[[Attempt], Awaitable[T]]) -> T:
        """What ``function`` returned in the attempt that was committed.

        Raises: what the function raises, after which nothing was written; LeaseLost when the lease was lost
        at the moment of the commit, so that it is not known whether it was carried out.
        """
        async with contextlib.aclosing(self.attempts()) as attempts:
            async for attempt in attempts:
                async with attempt:
                    result = await function(attempt)
        return result

    async def attempts(self) -> AsyncGenerator[Attempt, None]:
        """Attempts until one is committed: ``async for tx in ...: async with tx: ...``. Raises: LeaseLost."""
        mark = await self._take_mark()
        try:
            while True:
                attempt = Attempt(self._client, mark)
                yield attempt
                if attempt.committed:
                    return
        finally:
            if mark.session is self._session and not mark.session.lost.is_set():
                self._free.append(mark)

    async def _take_mark(self) -> _Mark:
        async with self._opening:
            if self._session is not None and self._session.lost.is_set():
                await self.close()
            if self._free:
                return self._free.pop()
            if self._session is None:
                session = Session(self._client, self._ttl)
                await session.open()
                self._session = session
            session = self._session
            self._marks += 1
            key = self._prefix + b"%x/%d" % (session.id, self._marks)
        # A late copy must not change a mark that is in use.
        put, own = Put(key, b"", lease=session.id), Get(key)
        try:
            done = await persist(lambda: self._client.txn([compare(key).create_revision == 0], [put], [own]))
        except LeaseNotFound:
            raise LeaseLost(session.id) from None
        return _Mark(session, key, done.revision if done else done[own].kvs[0].mod_revision)
