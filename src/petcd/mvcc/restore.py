"""Rebuild the index from the backend: at start, and when a leader's snapshot replaced the backend.

The key bucket is read once in revision order, in slices, and of each record only the fields that the
index keeps are decoded, by hand. Revision rules (contract/wire-v3.md 8.1, disk.md 6.1): current = the
highest main stored, raised to the finished and the scheduled compaction; compact revision = the finished
one, or the scheduled one if that is higher, in which case the compaction runs again. A tombstone may be
the first record of a key. An empty record is the mark that ``snapshot restore --bump-revision`` leaves:
it raises the revision and names no key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from petcd.mvcc import keyvalue
from petcd.mvcc.index import Index, KeyIndex
from petcd.mvcc.revision import PLAIN_BYTES, TOMBSTONE_BYTES, main_of
from petcd.storage.schema import (
    FINISHED_COMPACT_REV,
    KEY,
    META,
    SCHEDULED_COMPACT_REV,
    Bucket,
    decode_compact_rev,
)


class Rows(Protocol):
    """Where the records lie: a backend, or a received database. The key bucket is read once, in order."""

    def get(self, bucket: Bucket, key: bytes, /) -> bytes | None: ...

    def range(
        self, bucket: Bucket, start: bytes, end: bytes | None, limit: int = 0, /
    ) -> list[tuple[bytes, bytes]]: ...


@dataclass(slots=True)
class Restored:
    """What the backend says; hand it to ``Store.become``."""

    rev: int
    compact_rev: int
    index: Index
    key_leases: dict[bytes, int]
    """The lease of every live key that has one."""
    finished_compact_rev: int
    """Below ``compact_rev`` when a crash interrupted the last compaction: it is to run again."""


class Restorer:
    """One restore under way."""

    __slots__ = ("_backend", "_keys", "_leases", "_next", "done", "records", "rev")

    def __init__(self, backend: Rows) -> None:
        self._backend = backend
        self._keys: dict[bytes, KeyIndex] = {}
        self._leases: dict[bytes, int] = {}
        self._next = b""
        self.rev = 1
        self.records = 0
        self.done = False

    def step(self, records: int = 10_000) -> bool:
        """Read up to that many records more; whether all are read."""
        if self.done:
            return True
        rows = self._backend.range(KEY, self._next, None, records)
        self.records += len(rows)
        self._take(rows)
        if rows:
            self.rev = max(self.rev, main_of(rows[-1][0]))
        if len(rows) < records:
            self.done = True
        else:
            self._next = rows[-1][0] + b"\0"
        return self.done

    def _take(self, rows: list[tuple[bytes, bytes]]) -> None:
        keys = self._keys
        find = keys.get
        leases = self._leases
        decode = keyvalue.decode
        for rev, kv in rows:
            size = len(rev)
            if size == PLAIN_BYTES:
                # The common record by hand: every length and number in at most four bytes, plain order.
                n = kv[1] if kv else 128
                i = 2 + n
                if n < 128 and kv[i] == 0x10:
                    key = kv[2:i]
                    b = kv[i + 1]
                    i += 2
                    if b < 128:
                        create = b
                    else:
                        create = b & 127
                        shift = 7
                        while True:
                            b = kv[i]
                            i += 1
                            if b < 128:
                                create |= b << shift
                                break
                            create |= (b & 127) << shift
                            shift += 7
                    # mod_revision is known from the revision
                    i += 1
                    while kv[i] > 127:
                        i += 1
                    i += 2
                    b = kv[i]
                    i += 1
                    if b < 128:
                        version = b
                    else:
                        version = b & 127
                        shift = 7
                        while True:
                            b = kv[i]
                            i += 1
                            if b < 128:
                                version |= b << shift
                                break
                            version |= (b & 127) << shift
                            shift += 7
                    end = len(kv)
                    lease = 0
                    if i < end:
                        if kv[i] == 0x2A:
                            b = kv[i + 1]
                            i += 2
                            v = b & 127
                            shift = 7
                            while b > 127:
                                b = kv[i]
                                i += 1
                                v |= (b & 127) << shift
                                shift += 7
                            i += v
                        if i < end:
                            lease = decode(kv).lease
                else:
                    record = decode(kv)
                    key = record.key
                    create = record.create_revision
                    version = record.version
                    lease = record.lease
            elif size == TOMBSTONE_BYTES:
                key = keyvalue.key_of(kv)
                create = version = lease = 0
            else:
                continue
            ki = find(key)
            if ki is None:
                keys[key] = KeyIndex(rev, create, version, None)
            else:
                older = ki.older
                if older is None:
                    ki.older = [ki.mod]
                else:
                    older.append(ki.mod)
                ki.mod = rev
                ki.create = create
                ki.version = version
            if lease:
                leases[key] = lease
            elif leases:
                leases.pop(key, None)

    def result(self) -> Restored:
        """Sort the index and apply the compaction marks. Cost: about 1 µs a key, in one go."""
        assert self.done
        finished = _mark(self._backend, FINISHED_COMPACT_REV)
        scheduled = _mark(self._backend, SCHEDULED_COMPACT_REV)
        index = Index()
        live: list[bytes] = []
        dead: list[bytes] = []
        for key, ki in self._keys.items():
            (live if len(ki.mod) == PLAIN_BYTES else dead).append(key)
        live.sort()
        dead.sort()
        index.adopt(self._keys, live, dead)
        return Restored(
            rev=max(self.rev, finished, scheduled, 1),
            compact_rev=max(finished, scheduled),
            index=index,
            key_leases=self._leases,
            finished_compact_rev=finished,
        )


def restore(backend: Rows) -> Restored:
    """The whole restore in one go."""
    restorer = Restorer(backend)
    while not restorer.step():
        pass
    return restorer.result()


def _mark(backend: Rows, name: bytes) -> int:
    value = backend.get(META, name)
    return -1 if value is None else decode_compact_rev(value)
