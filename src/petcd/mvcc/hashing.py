"""Hashes by which members find out that they differ (contract/wire-v3.md 8.4, 8.5; disk.md 6.2).

``HashRun`` walks the ``key`` bucket in slices, flushed and unflushed records alike. It is right at any
pace: records at or below its revision change only by pruning, which the compactor holds back meanwhile. When
a snapshot replaces the whole store it begins again, at the compact revision if its own is no longer
readable: the result says what it stands for.

Which older records count is decided by the index, not by a set built beforehand: a record at or below the
compact revision belongs to keep(R) iff it is the newest revision of its key at R.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

import google_crc32c

from petcd import errors
from petcd.mvcc.keyvalue import key_of
from petcd.mvcc.revision import PLAIN_BYTES, bound
from petcd.storage.schema import BUCKETS, CONSISTENT_INDEX, KEY, META, STORAGE_VERSION, TERM

if TYPE_CHECKING:
    from petcd.mvcc.store import Store
    from petcd.storage.backend import View

_COMPACTION_HASHES_MAX: Final = 10


class KVHash(NamedTuple):
    """A hash and the two revisions it stands for."""

    hash: int
    revision: int
    compact_revision: int


class HashRun:
    """One HashKV under way: the records at or below ``rev``, seen from compact revision ``compact_rev``."""

    __slots__ = (
        "_crc",
        "_generation",
        "_holds",
        "_keep_below",
        "_next",
        "_store",
        "compact_rev",
        "done",
        "rev",
    )

    def __init__(self, store: Store, rev: int, compact_rev: int) -> None:
        self._store = store
        self._holds = False
        self._begin(rev, compact_rev)

    def _begin(self, rev: int, compact_rev: int) -> None:
        store = self._store
        self.rev = rev
        self.compact_rev = compact_rev
        self._generation = store.generation
        self._crc: int = google_crc32c.value(b"key")
        self._next = b""
        # Where nothing lives at ``rev``, etcd hashes whatever old records there are: once pruned, those that
        # the compaction kept. So the answer never depends on how far pruning has got.
        self._keep_below = bound(rev if compact_rev <= 0 or _keeps_any(store, rev) else compact_rev)
        self.done = False

    def hold(self) -> HashRun:
        """Keep the compactor from pruning until this run is done or closed."""
        self._holds = True
        self._store.hashing += 1
        return self

    def close(self) -> None:
        """Give up, if it is not done: the compactor may go on."""
        if self._holds:
            self._holds = False
            self._store.hashing -= 1

    def run(self) -> KVHash:
        """All of it in one go."""
        while not self.step():
            pass
        return self.result()

    def step(self, records: int = 1000) -> bool:
        """Hash up to that many records more; whether the end was reached."""
        if self.done:
            return True
        if self._generation != self._store.generation:
            self._begin(max(self.rev, self._store.compact_rev), self._store.compact_rev)
        rows = self._store.backend.range(KEY, self._next, bound(self.rev), records)
        parts: list[bytes] = []
        old_end = bound(self.compact_rev)
        above = self._keep_below
        keys = self._store.index.keys
        for row in rows:
            rev = row[0]
            if rev < old_end:
                if len(rev) != PLAIN_BYTES:
                    continue
                ki = keys.get(key_of(row[1]))
                if ki is None:
                    continue
                newest = ki.mod
                if newest >= above:
                    older = ki.older
                    i = bisect_left(older, above) if older is not None else 0
                    if i == 0:
                        continue
                    assert older is not None
                    newest = older[i - 1]
                if newest != rev:
                    continue
            parts += row
        if parts:
            self._crc = google_crc32c.extend(self._crc, b"".join(parts))
        if len(rows) < records:
            self.done = True
            self.close()
        else:
            self._next = rows[-1][0] + b"\0"
        return self.done

    def result(self) -> KVHash:
        assert self.done
        return KVHash(self._crc, self.rev, self.compact_rev)


def _keeps_any(store: Store, rev: int) -> bool:
    """Whether keep(rev) has a member. Cost: O(keys) only where nearly all of them were dead at ``rev``."""
    above = bound(rev)
    at = store.index.at
    return any(at(key, above) is not None for key in store.index.keys)


class CompactionHashes:
    """The hashes of the newest compactions; an answer for exactly these revisions."""

    __slots__ = ("_by_rev",)

    def __init__(self) -> None:
        self._by_rev: OrderedDict[int, KVHash] = OrderedDict()

    def add(self, kv_hash: KVHash) -> None:
        self._by_rev[kv_hash.revision] = kv_hash
        while len(self._by_rev) > _COMPACTION_HASHES_MAX:
            self._by_rev.popitem(last=False)

    def get(self, rev: int) -> KVHash | None:
        return self._by_rev.get(rev)

    def newest_first(self) -> list[KVHash]:
        """All that are kept; what a corruption check compares with the other members."""
        return sorted(self._by_rev.values(), key=lambda h: h.revision, reverse=True)


def cached_hash(store: Store, rev: int) -> KVHash | None:
    """The answer to a HashKV at exactly the revision of one of the newest compactions."""
    return store.hashes.get(rev)


def start_hash_kv(store: Store, rev: int) -> HashRun:
    """Begin a HashKV at ``rev`` (0 for the newest revision); first ask ``cached_hash``. Step it until it is
    done, or close it.

    Raises: Compacted, FutureRev.
    """
    if 0 < rev < store.compact_rev:
        raise errors.Compacted
    if rev > store.rev:
        raise errors.FutureRev
    return HashRun(store, rev if rev > 0 else store.rev, store.compact_rev).hold()


_NOT_HASHED: Final = frozenset((CONSISTENT_INDEX, TERM, STORAGE_VERSION))


def hash_all(view: View, rows_per_slice: int = 1000) -> Iterator[int]:
    """The Hash of everything committed; yields the CRC so far after each slice, the result last."""
    crc: int = google_crc32c.value(b"")
    for bucket in BUCKETS:
        crc = google_crc32c.extend(crc, bucket)
        start = b""
        while True:
            rows = view.range(bucket, start, None, rows_per_slice)
            if bucket == META:
                parts = [part for row in rows if row[0] not in _NOT_HASHED for part in row]
            else:
                parts = [part for row in rows for part in row]
            crc = google_crc32c.extend(crc, b"".join(parts))
            yield crc
            if len(rows) < rows_per_slice:
                break
            start = rows[-1][0] + b"\0"
