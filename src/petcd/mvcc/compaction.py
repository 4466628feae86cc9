"""Compaction: at once for readers, in slices for index and backend (contract/disk.md 6.1, wire-v3.md 3.8).

``Store.compact`` refuses or records: reads below the revision fail from then on, and ``scheduledCompactRev``
goes into the backend with the entry that asked for it. What follows may take its time. One compaction
after another, in the order they were asked for, goes through two phases:

1. hash: a walk over the records up to the revision, for the cache of compaction hashes
   (``petcd.mvcc.hashing``);
2. prune: every key that has history is visited; per key the newest revision at or below the compact revision
   stays unless it is a tombstone below it, everything older goes. A tombstone exactly at the revision is
   kept, as newer releases do (since 3.4.34 and 3.5.16).

At the end ``finishedCompactRev`` is written. Deletions and that mark pass through the backend's buffer in
order, so no crash finds the mark without the deletions. After a crash between the two marks
``petcd.mvcc.restore`` runs the compaction again; deleting what is gone already changes nothing.

Bound: a slice visits at most the given number of keys, records and revisions together.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from petcd.mvcc.hashing import HashRun
from petcd.mvcc.revision import PLAIN_BYTES, bound, make
from petcd.seams.failpoints import Failpoints
from petcd.storage.schema import FINISHED_COMPACT_REV, KEY, META

if TYPE_CHECKING:
    from petcd.mvcc.index import KeyIndex
    from petcd.mvcc.store import Compaction, Store

SLICE_MAX: Final = 2000
"""Most keys, records and revisions that one slice visits (about 3 ms)."""


class Compactor:
    """Does the work of a store's compactions, the oldest first."""

    __slots__ = ("_batch", "_failpoints", "_hash", "_job", "_store", "_todo", "pruned")

    def __init__(self, store: Store, batch_limit: int = 1000, failpoints: Failpoints | None = None) -> None:
        self._store = store
        self._batch = max(1, min(batch_limit, SLICE_MAX))
        self._failpoints = failpoints if failpoints is not None else Failpoints()
        self._job: Compaction | None = None
        self._hash: HashRun | None = None
        self._todo: dict[bytes, KeyIndex] | None = None
        self.pruned = 0
        """Revisions removed so far, for the metrics."""

    def begin(self) -> None:
        """Take up the oldest compaction that is due, unless one is under way."""
        store = self._store
        if self._job is not None and store.compactions and self._job is store.compactions[0]:
            return
        self._hash = None
        self._todo = None
        self._job = None
        if store.compactions:
            self._failpoints.hit("compactBeforeCommitScheduledCompact")
            self._job = job = store.compactions[0]
            if job.hashed:
                self._hash = HashRun(store, job.rev, job.previous)
            self._failpoints.hit("compactAfterCommitScheduledCompact")

    def step(self) -> bool:
        """One slice of work; whether no compaction is due any more."""
        store = self._store
        self.begin()
        job = self._job
        if job is None:
            return True
        if self._hash is not None:
            if self._hash.step(self._batch):
                store.hashes.add(self._hash.result())
                self._hash = None
            return False
        if store.hashing:
            return False
        if self._todo is None:
            self._todo, store.index.dirty = store.index.dirty, {}
        self._failpoints.hit("compactBeforeCommitBatch")
        self._prune(job.rev, self._todo, self._batch)
        self._failpoints.hit("compactAfterCommitBatch")
        if self._todo:
            return False
        self._failpoints.hit("compactBeforeSetFinishedCompact")
        self._todo = None
        self._job = None
        store.compactions.popleft()
        store.finished_compact_rev = job.rev
        store.backend.put(META, FINISHED_COMPACT_REV, make(job.rev, 0))
        self._failpoints.hit("compactAfterSetFinishedCompact")
        return not store.compactions

    def run(self) -> None:
        """All of it in one go; for tools and tests."""
        assert not self._store.hashing
        while not self.step():
            pass

    def _prune(self, rev: int, todo: dict[bytes, KeyIndex], budget: int) -> None:
        """Visit keys until the budget is spent."""
        store = self._store
        index = store.index
        pending = store.backend.pending(KEY)
        above = bound(rev)
        above_tombstones = bound(rev - 1) if rev > 0 else bound(-1)
        while todo and budget > 0:
            key, ki = todo.popitem()
            budget -= 1
            if index.keys.get(key) is not ki:
                continue
            older = ki.older
            mod = ki.mod
            if mod < above:
                # The newest revision is at or below the compact revision: the whole history goes.
                if older is not None:
                    if len(older) > budget + 1:
                        self._cut(pending, older, budget + 1)
                        todo[key] = ki
                        return
                    budget -= len(older)
                    self._cut(pending, older, len(older))
                    ki.older = None
                if len(mod) != PLAIN_BYTES:
                    if mod < above_tombstones:
                        pending[mod] = None
                        self.pruned += 1
                        del index.keys[key]
                        index.dead.remove(key)
                    else:
                        index.dirty[key] = ki
                continue
            if older is None:
                # A tombstone above the compact revision would have history; a put alone needs no visit.
                if len(mod) != PLAIN_BYTES:
                    index.dirty[key] = ki
                continue
            n = bisect_left(older, above)
            if n and (len(older[n - 1]) == PLAIN_BYTES or older[n - 1] >= above_tombstones):
                n -= 1
            if n > budget + 1:
                self._cut(pending, older, budget + 1)
                todo[key] = ki
                return
            budget -= n
            self._cut(pending, older, n)
            if older:
                index.dirty[key] = ki
            else:
                ki.older = None
                if len(mod) != PLAIN_BYTES:
                    index.dirty[key] = ki

    def _cut(self, pending: dict[bytes, bytes | None], older: list[bytes], n: int) -> None:
        """Drop the first ``n`` revisions of a history."""
        if n:
            for rev in older[:n]:
                pending[rev] = None
            del older[:n]
            self.pruned += n
