"""The multi-version store: one state machine, applied to one entry at a time.

    store.begin()
    body = store.put(request)           # or delete_range, apply_txn, …; errors leave nothing behind
    changes = store.end()               # the revision grew by one iff something changed

Values live in the backend only: a put writes its KeyValue under its revision into the backend's buffer of
unflushed writes, and the index remembers the revision. Response bodies are bytes without the header field;
``store.rev`` after ``end`` is the revision the header carries.

Semantics: contract/wire-v3.md 3.4 to 3.6 and 8.1 to 8.3. No clock, no randomness: every member that
applies the same entries holds the same bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from petcd import errors
from petcd.mvcc import keyvalue
from petcd.mvcc.hashing import CompactionHashes
from petcd.mvcc.index import Index, KeyIndex
from petcd.mvcc.keyvalue import KEY_HEADS
from petcd.mvcc.ranges import range_body
from petcd.mvcc.restore import Restored, restore
from petcd.mvcc.revision import FIRST_SUB, PLAIN_BYTES, bound, main_of, make
from petcd.pb.wire import VARINTS, varint
from petcd.storage.schema import KEY, META, SCHEDULED_COMPACT_REV

if TYPE_CHECKING:
    from petcd.pb.etcdserverpb import DeleteRangeRequest, PutRequest, RangeRequest
    from petcd.storage.backend import Backend


class Change(NamedTuple):
    """One event of a revision, before any watcher has asked for it."""

    key: bytes
    rev: bytes
    """The revision key; a tombstone's for a deletion."""
    kv: bytes
    """What was stored: the KeyValue, or the tombstone with the key only."""
    prev: bytes | None
    """The revision key of the put it replaced, None if the key did not live."""


Changes = Sequence[Change]

NO_CHANGES: Final[Changes] = ()


class Compaction(NamedTuple):
    """One compaction that was asked for."""

    rev: int
    previous: int
    """The compact revision before it."""
    hashed: bool
    """Whether it yields a compaction hash: the one before it was over when this was asked for."""


class LeaseHooks(Protocol):
    """What the store needs of the lessor. Called only for puts and keys that have a lease."""

    def exists(self, lease: int) -> bool: ...

    def attach(self, lease: int, key: bytes) -> None: ...

    def detach(self, lease: int, key: bytes) -> None: ...


class NoLeases:
    """The hooks of a store without a lessor: no lease exists."""

    def exists(self, lease: int) -> bool:
        return False

    def attach(self, lease: int, key: bytes) -> None: ...

    def detach(self, lease: int, key: bytes) -> None: ...


_TABLE: Final = len(VARINTS)
_VALUE_HEADS: Final = tuple(b"\x2a" + n if n != b"\0" else b"" for n in VARINTS)
_VERSIONS: Final = tuple(b"\x20" + n for n in VARINTS)
_RECENT_BYTES_MAX: Final = 48 << 20
"""How much of what was written last stays beside the index, for the reads that follow: a range of 100 keys
from LMDB costs 160 µs more."""
_RECENT_BYTES_STEP: Final = 256 << 10
_RECENT_ENTRY_BYTES: Final = 160
"""What an entry of that queue weighs beside its value."""
_BULK: Final = 64
"""From this many keys on, a range delete edits the sorted lists as a whole."""


class Store:
    """Revisions, index and the open write transaction of one member.

    Invariant outside a transaction: ``_main == rev + 1`` and ``_sub == 0``.
    """

    __slots__ = (
        "_changes",
        "_main",
        "_pending",
        "_recent",
        "_recent_bytes",
        "_sub",
        "backend",
        "compact_rev",
        "compactions",
        "finished_compact_rev",
        "generation",
        "hashes",
        "hashing",
        "index",
        "key_leases",
        "leases",
        "rev",
        "watched",
    )

    def __init__(self, backend: Backend, leases: LeaseHooks | None = None) -> None:
        self.backend = backend
        self.leases: LeaseHooks = leases if leases is not None else NoLeases()
        self.index = Index()
        self.key_leases: dict[bytes, int] = {}
        """The lease of every live key that has one."""
        self.rev = 1
        """The newest revision; 1 for an empty store."""
        self.compact_rev = -1
        """Reads below this revision are refused; -1 until the first compaction."""
        self.finished_compact_rev = -1
        """The last compaction whose work in the backend is over."""
        self.compactions: deque[Compaction] = deque()
        """Compactions whose work is not over, in order; the Compactor does it."""
        self.hashes = CompactionHashes()
        self.hashing = 0
        """HashKV runs under way; while there are any, nothing is pruned."""
        self.generation = 0
        """Counts how often the whole state was replaced."""
        self.watched = False
        """Whether ``end`` must report changes; the watch hub sets it."""
        self._pending = backend.pending(KEY)
        self._recent: deque[tuple[KeyIndex, bytes]] = deque()
        self._recent_bytes = 0
        self._main = 2
        self._sub = 0
        self._changes: list[Change] = []

    def restore(self) -> None:
        """Rebuild everything from the backend in one go; ``key_leases`` then tells what is attached."""
        self.become(restore(self.backend))

    def become(self, restored: Restored) -> None:
        """Take over a state that was rebuilt from the backend (``petcd.mvcc.restore.Restorer``)."""
        assert self._sub == 0
        self.generation += 1
        self.rev = restored.rev
        self.compact_rev = restored.compact_rev
        self.finished_compact_rev = restored.finished_compact_rev
        self.compactions.clear()
        self.hashes = CompactionHashes()
        if restored.compact_rev > restored.finished_compact_rev:
            self.compactions.append(Compaction(restored.compact_rev, -1, False))
        self.index = restored.index
        self._recent.clear()
        self._recent_bytes = 0
        self.key_leases = restored.key_leases
        self._main = restored.rev + 1
        self._changes = []

    # The write transaction

    def begin(self) -> None:
        """Open the transaction of one entry."""
        assert self._sub == 0

    def end(self) -> Changes:
        """Close it; what changed, in order, if somebody watches."""
        if self._sub == 0:
            return NO_CHANGES
        self.rev = self._main
        self._main += 1
        self._sub = 0
        changes = self._changes
        if not changes:
            return NO_CHANGES
        self._changes = []
        return changes

    @property
    def seen_rev(self) -> int:
        """The revision a read sees now: inside a transaction that changed something, the one it makes."""
        return self._main if self._sub else self.rev

    def lease_of(self, key: bytes) -> int:
        """The lease a live key is attached to, 0 for none."""
        return self.key_leases.get(key, 0)

    # Writes

    def put(self, request: PutRequest) -> bytes:
        """Apply one put; the body of its PutResponse.

        Raises: LeaseNotFound, KeyNotFound (ignore_value or ignore_lease on a missing key), with no effect.
        """
        lease = request.lease
        if lease and not self.leases.exists(lease):
            raise errors.LeaseNotFound
        if request.prev_kv or request.ignore_value or request.ignore_lease:
            if (request.ignore_value or request.ignore_lease) and not self.lives(request.key):
                raise errors.KeyNotFound
            return self.put_checked(request)
        self.write(request.key, request.value, lease)
        return b""

    def put_alone(self, request: PutRequest) -> bytes:
        """A put that is a transaction of its own, when nobody watches: ``begin``, ``put``, ``end`` in one."""
        if request.lease or request.prev_kv or request.ignore_value or request.ignore_lease:
            body = self.put(request)
        else:
            self.write(request.key, request.value, 0)
            body = b""
        self.rev = self._main
        self._main += 1
        self._sub = 0
        return body

    def put_checked(self, request: PutRequest) -> bytes:
        """Apply a put whose lease and key were found valid. It cannot fail: inside a transaction an earlier
        operation may have deleted the key that ignore_value meant; then there is nothing to keep."""
        key = request.key
        value = request.value
        lease = request.lease
        if not (request.prev_kv or request.ignore_value or request.ignore_lease):
            self.write(key, value, lease)
            return b""
        ki = self.index.keys.get(key)
        body = b""
        if ki is not None and len(ki.mod) == PLAIN_BYTES:
            stored = self.stored(ki.mod)
            if request.ignore_value or request.ignore_lease:
                old = keyvalue.decode(stored)
                if request.ignore_value:
                    value = old.value
                if request.ignore_lease:
                    lease = old.lease
            if request.prev_kv:
                body = b"\x12" + varint(len(stored)) + stored
        self.write(key, value, lease)
        return body

    def write(self, key: bytes, value: bytes, lease: int) -> None:
        """One put into the open transaction: the hottest lines of the room, 2 to 3 µs."""
        main = self._main
        sub = self._sub
        rev = main.to_bytes(8, "big") + (FIRST_SUB if sub == 0 else b"_" + sub.to_bytes(8, "big"))
        self._sub = sub + 1
        index = self.index
        ki = index.keys.get(key)
        prev = None
        if ki is None:
            create = main
            version = 1
            ki = index.keys[key] = KeyIndex(rev, main, 1, None)
            index.live.add(key)
        else:
            prev = ki.mod
            older = ki.older
            if older is None:
                ki.older = [prev]
                index.dirty[key] = ki
            else:
                older.append(prev)
            ki.mod = rev
            if len(prev) == PLAIN_BYTES:
                create = ki.create
                version = ki.version = ki.version + 1
            else:
                prev = None
                create = ki.create = main
                version = ki.version = 1
                index.dead.remove(key)
                index.live.add(key)
        n = len(key)
        v = len(value)
        mod = varint(main)
        kv = b"".join(
            (
                KEY_HEADS[n] if n < 512 else b"\x0a" + varint(n),
                key,
                b"\x10",
                mod if create == main else varint(create),
                b"\x18",
                mod,
                _VERSIONS[version] if version < _TABLE else b"\x20" + varint(version),
                _VALUE_HEADS[v] if v < _TABLE else b"\x2a" + varint(v),
                value,
            )
        )
        if lease:
            kv += b"\x30" + varint(lease)
        self._pending[rev] = kv
        ki.kv = kv
        self._recent.append((ki, kv))
        self._recent_bytes += len(kv) + _RECENT_ENTRY_BYTES
        if self._recent_bytes > _RECENT_BYTES_MAX:
            self._forget()
        if self.watched:
            self._changes.append(Change(key, rev, kv, prev))
        leased = self.key_leases
        if lease or leased:
            old = leased.get(key, 0)
            if old != lease:
                if old:
                    self.leases.detach(old, key)
                    del leased[key]
                if lease:
                    leased[key] = lease
                    self.leases.attach(lease, key)

    def _forget(self) -> None:
        """Let go of the values written longest ago, some hundred at a time; the backend has them."""
        recent = self._recent
        size = self._recent_bytes
        while size > _RECENT_BYTES_MAX - _RECENT_BYTES_STEP:
            ki, kv = recent.popleft()
            size -= len(kv) + _RECENT_ENTRY_BYTES
            if ki.kv is kv:
                ki.kv = None
        self._recent_bytes = size

    def delete_range(self, request: DeleteRangeRequest) -> bytes:
        """Apply one range delete; the body of its DeleteRangeResponse. It cannot fail."""
        keys = self.index.live_keys(request.key, request.range_end)
        if not keys:
            return b""
        n = len(keys)
        body = b"\x10" + varint(n)
        if request.prev_kv:
            index = self.index.keys
            parts = [body]
            for kv in self.backend.get_many(KEY, [index[key].mod for key in keys]):
                assert kv is not None
                parts += (b"\x1a", varint(len(kv)), kv)
            body = b"".join(parts)
        self.delete(keys)
        return body

    def delete_key(self, key: bytes) -> None:
        """Delete one key if it lives; what revoking a lease does to each of its keys."""
        if self.lives(key):
            self.delete([key])

    def delete(self, keys: Sequence[bytes]) -> None:
        """Delete these live keys in this order, one sub-revision each."""
        index = self.index
        entries = index.keys
        dirty = index.dirty
        pending = self._pending
        main = self._main
        sub = self._sub
        head = main.to_bytes(8, "big") + b"_"
        leased = self.key_leases
        watched = self.watched
        for key in keys:
            ki = entries[key]
            prev = ki.mod
            assert len(prev) == PLAIN_BYTES
            rev = head + sub.to_bytes(8, "big") + b"t"
            sub += 1
            older = ki.older
            if older is None:
                ki.older = [prev]
                dirty[key] = ki
            else:
                older.append(prev)
            ki.mod = rev
            ki.kv = None
            ki.create = 0
            ki.version = 0
            kv = pending[rev] = keyvalue.tombstone(key)
            if watched:
                self._changes.append(Change(key, rev, kv, prev))
            if leased:
                lease = leased.pop(key, 0)
                if lease:
                    self.leases.detach(lease, key)
        self._sub = sub
        live = index.live
        dead = index.dead
        if len(keys) < _BULK:
            for key in keys:
                live.remove(key)
                dead.add(key)
        else:
            lo = live.bisect_left(keys[0])
            if live[lo : lo + len(keys)] == keys:
                del live[lo : lo + len(keys)]
            else:
                for key in keys:
                    live.remove(key)
            dead.update(keys)

    # Compaction

    def compact(self, rev: int) -> None:
        """Make ``rev`` the compact revision: at once for readers, later in index and backend.

        Raises: Compacted, FutureRev.
        """
        if rev <= self.compact_rev:
            raise errors.Compacted
        if rev > self.rev:
            raise errors.FutureRev
        self.compactions.append(
            Compaction(rev, self.compact_rev, self.finished_compact_rev == self.compact_rev)
        )
        self.compact_rev = rev
        self.backend.put(META, SCHEDULED_COMPACT_REV, make(rev, 0))

    @property
    def compaction_due(self) -> bool:
        """Whether a compaction has work left in index and backend."""
        return bool(self.compactions)

    def size(self) -> int:
        """Bytes of the backend's file in use, for the quota."""
        return self.backend.size()

    # Reads

    def range(self, request: RangeRequest) -> bytes:
        """The body of a RangeResponse.

        Raises: FutureRev, Compacted.
        """
        return range_body(self, request)

    def read_bound(self, revision: int) -> bytes | None:
        """The bound below which a read at ``revision`` looks, None for the newest state (contract 3.5).

        Raises: FutureRev, Compacted.
        """
        if revision <= 0:
            return None
        seen = self._main if self._sub else self.rev
        if revision > seen:
            raise errors.FutureRev
        if revision < self.compact_rev:
            raise errors.Compacted
        return None if revision == seen else bound(revision)

    def stored(self, rev: bytes) -> bytes:
        """The KeyValue of a put that the index knows."""
        kv = self._pending.get(rev) or self.backend.get(KEY, rev)
        assert kv is not None, rev
        return kv

    def get(self, key: bytes) -> bytes | None:
        """The newest KeyValue of a key, as bytes."""
        ki = self.index.keys.get(key)
        if ki is None or len(ki.mod) != PLAIN_BYTES:
            return None
        return ki.kv or self.backend.get(KEY, ki.mod)

    def lives(self, key: bytes) -> bool:
        ki = self.index.keys.get(key)
        return ki is not None and len(ki.mod) == PLAIN_BYTES

    def previous(self, change: Change) -> bytes | None:
        """The pair before the revision of ``change`` as a watcher with prev_kv sees it (contract 4.4).

        None for a creation, and where that revision is compacted.
        """
        main = main_of(change.rev)
        if main - 1 < self.compact_rev:
            return None
        prev = change.prev
        if prev is not None and prev < change.rev[:8]:
            return self.backend.get(KEY, prev)
        if len(change.rev) == PLAIN_BYTES and prev is None:
            return None
        rev = self.index.at(change.key, bound(main - 1))
        return self.backend.get(KEY, rev) if rev is not None else None

    def check(self) -> None:
        """Every invariant at once; for tests and the simulation. Cost: the whole store."""
        assert self._main == self.rev + 1
        assert self._sub == 0
        assert self.compact_rev <= self.rev
        self.index.check()
        for key, ki in self.index.keys.items():
            assert main_of(ki.mod) <= self.rev, key
            if len(ki.mod) != PLAIN_BYTES:
                assert key not in self.key_leases, key
                assert ki.kv is None, key
                continue
            assert ki.kv in (None, self.stored(ki.mod)), key
            kv = keyvalue.decode(self.stored(ki.mod))
            assert kv.key == key
            assert kv.mod_revision == main_of(ki.mod), key
            assert (kv.create_revision, kv.version) == (ki.create, ki.version), key
            assert self.key_leases.get(key, 0) in (kv.lease, 0), key
        assert all(self.lives(key) for key in self.key_leases)
