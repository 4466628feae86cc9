"""RangeStream: one Range in chunks, all of the revision it began at (contract/wire-v3.md 3.5).

The chunks together hold exactly what one Range would have answered, though writes go on between them. The
first chunk has at most 10 keys; then the number doubles or halves to keep a chunk's size between half of the
request limit and twice that limit. Each chunk is one slice of work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from petcd import errors
from petcd.mvcc import keyvalue
from petcd.mvcc.ranges import count_at
from petcd.mvcc.revision import bound
from petcd.pb.splice import range_response
from petcd.storage.schema import KEY

if TYPE_CHECKING:
    from petcd.mvcc.store import Store
    from petcd.pb.etcdserverpb import RangeRequest

FIRST_KEYS: Final = 10
KEYS_MAX: Final = 10_000
"""Most keys one chunk looks at, so that small values do not make a long slice."""


def check_range_stream(request: RangeRequest) -> None:
    """What RangeStream refuses beyond ``check_range``.

    Raises: RangeStreamSort, RangeStreamFilter.
    """
    if request.sort_order or request.sort_target:
        raise errors.RangeStreamSort
    if (
        request.min_mod_revision
        or request.max_mod_revision
        or request.min_create_revision
        or request.max_create_revision
    ):
        raise errors.RangeStreamFilter


class RangeStream:
    """The chunks of one request; call ``next`` until ``done``.

    Raises (when made): FutureRev, Compacted.
    """

    __slots__ = (
        "_below",
        "_bytes_max",
        "_keys",
        "_left",
        "_next",
        "_request",
        "_store",
        "count",
        "done",
        "rev",
    )

    def __init__(self, store: Store, request: RangeRequest, request_bytes_max: int = 1_572_864) -> None:
        below = store.read_bound(request.revision)
        self._store = store
        self._request = request
        self.rev = store.rev
        """The store's revision at the start: what the last chunk's header says."""
        self._below = bound(store.rev) if below is None else below
        self.count = count_at(store, request, below)
        self._left = self.count if request.limit <= 0 else min(request.limit, self.count)
        if request.count_only:
            self._left = 0
        self._next = request.key
        self._keys = FIRST_KEYS
        self._bytes_max = request_bytes_max
        self.done = False

    def next(self) -> bytes:
        """The body of the next RangeResponse, without a header. May be empty before the end: send nothing.

        Raises: Compacted when a compaction has overtaken the revision.
        """
        store = self._store
        request = self._request
        if int.from_bytes(self._below, "big") - 1 < store.compact_rev:
            raise errors.Compacted
        kvs: list[bytes] = []
        if self._left:
            index = store.index
            keys = index.first_keys(self._next, request.range_end, self._keys)
            found = [rev for rev in (index.at(key, self._below) for key in keys) if rev is not None]
            kvs = store.backend.get_many(KEY, found[: self._left])  # type: ignore[assignment]
            assert None not in kvs
            self._left -= len(kvs)
            if self._left:
                assert keys, "the count was taken at this revision"
                self._next = keys[-1] + b"\0"
        size = sum(map(len, kvs))
        if size > self._bytes_max * 2:
            self._keys = max(1, self._keys // 2)
        elif size < self._bytes_max // 2:
            self._keys = min(KEYS_MAX, self._keys * 2)
        if request.keys_only:
            kvs = list(map(keyvalue.without_value, kvs))
        if self._left:
            return range_response(kvs, False, 0)
        self.done = True
        more = not request.count_only and 0 < request.limit < self.count
        return range_response(kvs, more, self.count)
