"""Range: pick the revision, collect in key order, filter, sort, limit, splice (contract/wire-v3.md 3.5).

The plain case, newest revision without sort and filter, copies stored bytes into the response and counts by
rank. Everything else goes through decoded records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, Final

from petcd import errors
from petcd.mvcc import keyvalue
from petcd.mvcc.index import kv_of, mod_of
from petcd.mvcc.keyvalue import KeyValue
from petcd.mvcc.revision import PLAIN_BYTES
from petcd.pb.splice import range_response
from petcd.pb.wire import VARINTS, varint
from petcd.storage.schema import KEY

if TYPE_CHECKING:
    from petcd.mvcc.store import Store
    from petcd.pb.etcdserverpb import RangeRequest

NONE: Final = 0
ASCEND: Final = 1
DESCEND: Final = 2

TARGET_KEY: Final = 0
TARGET_VALUE: Final = 4

_SORT_KEYS: Final[tuple[Callable[[KeyValue], Any], ...]] = (
    attrgetter("key"),
    attrgetter("version"),
    attrgetter("create_revision"),
    attrgetter("mod_revision"),
    attrgetter("value"),
)
SORT_TARGETS: Final = len(_SORT_KEYS)

_TABLE: Final = len(VARINTS)
_KV_HEADS: Final = tuple(b"\x12" + n for n in VARINTS)
"""Tag and length of one of the response's KeyValues."""
_ONE: Final = b"\x20\x01"
"""count = 1."""


def range_body(store: Store, request: RangeRequest) -> bytes:
    """The body of the RangeResponse, without the header field.

    Raises: FutureRev, Compacted.
    Cost: newest revision: O(log n + returned); older, filtered or sorted: O(keys in the range).
    """
    below = store.read_bound(request.revision) if request.revision > 0 else None
    if (
        request.sort_target
        or request.sort_order > ASCEND
        or request.keys_only
        or request.count_only
        or request.min_mod_revision
        or request.max_mod_revision
        or request.min_create_revision
        or request.max_create_revision
    ):
        return _general(store, request, below)
    if below is None and not request.range_end:
        ki = store.index.keys.get(request.key)
        if ki is None:
            return b""
        rev = ki.mod
        if len(rev) != PLAIN_BYTES:
            return b""
        kv = ki.kv or store.stored(rev)
        n = len(kv)
        return (_KV_HEADS[n] if n < _TABLE else b"\x12" + varint(n)) + kv + _ONE
    if below is None:
        return _newest(store, request.key, request.range_end, request.limit)
    revisions, count = _collect(store, request, below, request.limit)
    return range_response(_fetch(store, revisions), len(revisions) < count, count)


def _newest(store: Store, key: bytes, end: bytes, limit: int) -> bytes:
    """A range at the newest revision, in key order, values and all."""
    index = store.index
    lo, hi = index.span(key, end)
    stop = min(hi, lo + limit) if limit > 0 else hi
    entries = list(map(index.keys.__getitem__, index.live[lo:stop]))
    kvs: list[bytes] = list(map(kv_of, entries))
    if not all(kvs):
        # No KeyValue is empty: these are the ones that were written too long ago.
        missing = [ki.mod for ki in entries if ki.kv is None]
        fetched = iter(_fetch(store, missing))
        kvs = [kv or next(fetched) for kv in kvs]
    return range_response(kvs, stop < hi, hi - lo)


def _collect(store: Store, request: RangeRequest, below: bytes | None, limit: int) -> tuple[list[bytes], int]:
    """The first ``limit`` revisions in key order (all when it is not positive), and how many there are."""
    index = store.index
    key = request.key
    end = request.range_end
    if below is not None:
        found = index.revisions_at(key, end, below)
        return (found[:limit] if limit > 0 else found), len(found)
    if not end:
        ki = index.keys.get(key)
        found = [ki.mod] if ki is not None and len(ki.mod) == PLAIN_BYTES else []
        return found, len(found)
    lo, hi = index.span(key, end)
    stop = min(hi, lo + limit) if limit > 0 else hi
    return list(map(mod_of, map(index.keys.__getitem__, index.live[lo:stop]))), hi - lo


def _fetch(store: Store, revisions: list[bytes]) -> list[bytes]:
    found: list[bytes] = store.backend.get_many(KEY, revisions)  # type: ignore[assignment]
    assert None not in found
    return found


def _general(store: Store, request: RangeRequest, below: bytes | None) -> bytes:
    """Every option. Order NONE with another target than the key limits in key order first and then sorts."""
    if request.count_only:
        return range_response((), False, count_at(store, request, below))
    order = request.sort_order
    target = request.sort_target
    filtered = bool(
        request.min_mod_revision
        or request.max_mod_revision
        or request.min_create_revision
        or request.max_create_revision
    )
    limit = request.limit
    in_key_order = order == NONE or (order == ASCEND and target == TARGET_KEY)
    # One more than the limit is sorted along, as etcd does: it decides which pairs remain.
    first = limit + 1 if limit > 0 and in_key_order and not filtered else 0
    revisions, count = _collect(store, request, below, first)
    if target == TARGET_KEY and not filtered:
        # Only the bytes are needed; keys come in order already.
        if order == DESCEND:
            revisions.reverse()
        more = 0 < limit < len(revisions)
        if more:
            del revisions[limit:]
        stored: Iterable[bytes] = _fetch(store, revisions)
        if request.keys_only:
            stored = map(keyvalue.without_value, stored)
        return range_response(stored, more, count)
    raw = _fetch(store, revisions)
    rows = list(zip(map(keyvalue.decode, raw), raw, strict=True))
    if filtered:
        rows = [row for row in rows if _passes(request, row[0])]
    if target != TARGET_KEY or order == DESCEND:
        by = _SORT_KEYS[target]
        rows.sort(key=lambda row: by(row[0]), reverse=order == DESCEND)
    more = 0 < limit < len(rows)
    if more:
        del rows[limit:]
    if not request.keys_only:
        return range_response(map(itemgetter(1), rows), more, count)
    # keys_only is served from the index, which knows no lease, unless the value was read for the sort.
    keep_lease = target == TARGET_VALUE
    return range_response(
        (
            keyvalue.key_value(
                kv.key, kv.create_revision, kv.mod_revision, kv.version, b"", kv.lease if keep_lease else 0
            )
            for kv, _ in rows
        ),
        more,
        count,
    )


def count_at(store: Store, request: RangeRequest, below: bytes | None) -> int:
    """How many keys of the range live just below ``below``, or now if it is None."""
    index = store.index
    if below is not None:
        return len(index.revisions_at(request.key, request.range_end, below))
    if not request.range_end:
        return 1 if store.lives(request.key) else 0
    lo, hi = index.span(request.key, request.range_end)
    return hi - lo


def _passes(request: RangeRequest, kv: KeyValue) -> bool:
    return (
        (not request.max_mod_revision or kv.mod_revision <= request.max_mod_revision)
        and (not request.min_mod_revision or kv.mod_revision >= request.min_mod_revision)
        and (not request.max_create_revision or kv.create_revision <= request.max_create_revision)
        and (not request.min_create_revision or kv.create_revision >= request.min_create_revision)
    )


def check_sort(request: RangeRequest) -> None:
    """Raises: InvalidSortOption for an unknown order or target."""
    if not (0 <= request.sort_order <= DESCEND and 0 <= request.sort_target < SORT_TARGETS):
        raise errors.InvalidSortOption
