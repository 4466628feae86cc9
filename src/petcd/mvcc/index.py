"""The key index: which revisions each key has, in memory, ordered, with ranks.

A dict finds the entry of a key in one step. Two sorted lists beside it hold the same keys in order and never
share one: *live* keys (newest revision is a put) and *dead* keys (deleted, but still with history that a read
at an older revision may ask for). A range at the current revision is therefore a slice of ``live``, and how
many keys it covers is the difference of two ranks: O(log n), where a walk would cost O(keys). A range in the
past merges both lists.

An entry keeps the revision keys only. What create revision and version a key had at an older revision is
in the stored KeyValue itself. Generations (contract/disk.md 6.1) need no structure of their own: a
tombstone in the sequence ends one.

Memory, measured on CPython 3.11 with a million keys that were put once: see tests/mvcc/test_index.py.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import pairwise
from operator import attrgetter
from typing import Any, Final

from sortedcontainers import SortedList

from petcd.mvcc.revision import PLAIN_BYTES

OPEN_END: Final = b"\0"
"""A range_end of one zero byte: no upper end (contract 3.4)."""

mod_of: Final = attrgetter("mod")
kv_of: Final = attrgetter("kv")


class KeyIndex:
    """The revisions of one key.

    Invariant: ``older`` is None or a non-empty ascending list below ``mod``. ``create`` and ``version``
    belong to the newest life; both are 0 while ``mod`` is a tombstone. ``kv`` is what is stored under
    ``mod``, or None: only keys written lately carry it (``Store.write``).
    """

    __slots__ = ("create", "kv", "mod", "older", "version")

    def __init__(self, mod: bytes, create: int, version: int, older: list[bytes] | None) -> None:
        self.mod = mod
        self.create = create
        self.version = version
        self.older = older
        self.kv: bytes | None = None


class Index:
    """All keys. The store writes ``keys``, ``live``, ``dead`` and ``dirty`` itself where every µs counts."""

    __slots__ = ("dead", "dirty", "keys", "live")

    def __init__(self) -> None:
        self.keys: dict[bytes, KeyIndex] = {}
        self.live: Any = SortedList()
        self.dead: Any = SortedList()
        self.dirty: dict[bytes, KeyIndex] = {}
        """Keys with history or a tombstone that no compaction under way holds: all that the next one must
        visit.
        """

    def adopt(self, keys: dict[bytes, KeyIndex], live: Iterable[bytes], dead: Iterable[bytes]) -> None:
        """Take over a whole index built elsewhere; the lists are sorted in one go."""
        self.keys = keys
        self.live = SortedList(live)
        self.dead = SortedList(dead)
        self.dirty = {
            key: ki for key, ki in keys.items() if ki.older is not None or len(ki.mod) != PLAIN_BYTES
        }

    def at(self, key: bytes, bound: bytes) -> bytes | None:
        """The revision of the put visible just below ``bound``, if the key lives there."""
        ki = self.keys.get(key)
        if ki is None:
            return None
        rev = ki.mod
        if rev >= bound:
            older = ki.older
            if older is None:
                return None
            i = bisect_left(older, bound)
            if i == 0:
                return None
            rev = older[i - 1]
        return rev if len(rev) == PLAIN_BYTES else None

    def span(self, key: bytes, end: bytes) -> tuple[int, int]:
        """Ranks ``[lo, hi)`` of the live keys in ``[key, end)``; ``lo == hi`` for an empty range."""
        live = self.live
        lo: int = live.bisect_left(key)
        if end == OPEN_END:
            return lo, len(live)
        if end <= key:
            return lo, lo
        return lo, live.bisect_left(end)

    def live_keys(self, key: bytes, end: bytes) -> list[bytes]:
        """The live keys in the range, in order; an empty ``end`` means the one key."""
        if not end:
            ki = self.keys.get(key)
            return [key] if ki is not None and len(ki.mod) == PLAIN_BYTES else []
        lo, hi = self.span(key, end)
        found: list[bytes] = self.live[lo:hi]
        return found

    def all_keys(self, key: bytes, end: bytes) -> list[bytes]:
        """The live and dead keys in the range, in order."""
        if not end:
            return [key] if key in self.keys else []
        lo, hi = self.span(key, end)
        found: list[bytes] = self.live[lo:hi]
        dead = self.dead
        if dead:
            lo = dead.bisect_left(key)
            hi = len(dead) if end == OPEN_END else dead.bisect_left(end)
            if hi > lo:
                # Two ascending runs: the sort merges them in one pass.
                found = found + dead[lo:hi]
                found.sort()
        return found

    def first_keys(self, key: bytes, end: bytes, limit: int) -> list[bytes]:
        """The first ``limit`` live and dead keys in the range. Cost: O(log n + limit)."""
        if not end:
            return [key] if key in self.keys else []
        lo, hi = self.span(key, end)
        found: list[bytes] = self.live[lo : min(hi, lo + limit)]
        dead = self.dead
        if dead:
            lo = dead.bisect_left(key)
            hi = len(dead) if end == OPEN_END else dead.bisect_left(end)
            if hi > lo:
                found = found + dead[lo : min(hi, lo + limit)]
                found.sort()
                del found[limit:]
        return found

    def revisions_at(self, key: bytes, end: bytes, bound: bytes) -> list[bytes]:
        """The revisions visible just below ``bound`` in key order. Cost: a walk over the range."""
        at = self.at
        found = []
        for k in self.all_keys(key, end):
            rev = at(k, bound)
            if rev is not None:
                found.append(rev)
        return found

    def check(self) -> None:
        """Every invariant at once; for tests and the simulation."""
        live = {key for key, ki in self.keys.items() if len(ki.mod) == PLAIN_BYTES}
        assert list(self.live) == sorted(live)
        assert list(self.dead) == sorted(self.keys.keys() - live)
        for key, ki in self.keys.items():
            assert ki.older is None or ki.older, key
            revisions = [*(ki.older or ()), ki.mod]
            assert all(a < b for a, b in pairwise(revisions)), key
            if key in live and key:  # the empty one has only what raised the revision (petcd.mvcc.restore)
                assert ki.version >= 1, key
                assert ki.create >= 1, key
            else:
                assert ki.version == 0, key
