"""The backend: ordered buckets of bytes behind a write buffer that becomes durable one transaction at a time.

Everything put since the last flush lies in dicts, one per bucket, and is visible to every read at once. A
flush freezes them and makes them one atomic, durable transaction while the next ones gather:

    new  -> (flush) ->  queued  ->  writing  -> (commit) ->  committed
    put                 waits for   being put      on disk
    goes here           the one     into the
                        before it   transaction

Reads look in that order. One flush is under way at most; those that come meanwhile merge into ``queued``,
which is still exactly what was put before the last of them: a transaction never holds half an entry.

Threads: the lane begins and commits the transaction, both blocking; the member's thread puts the items, in
slices between other callbacks. The items are not put in the lane because py-lmdb gives up the interpreter
lock for each of them and gets it back from a busy loop only after 5 ms.

What a crash leaves: the last committed transaction, whole, and nothing of later ones; they come back from
the write-ahead log, because the consistent index is in the same transaction as the effects it speaks of.

A failed transaction (no room, map full beyond growth, I/O error) loses nothing in memory: its items go back
to ``queued``, the error goes to ``failed``, and the next flush tries all of them again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol, TypeVar

from petcd.counters import Histogram
from petcd.seams.clock import Clock
from petcd.seams.disk import Lane
from petcd.seams.failpoints import Failpoints
from petcd.storage.errors import ClosedError, StorageError
from petcd.storage.schema import BUCKETS, Bucket

T = TypeVar("T")

Item = tuple[Bucket, bytes, bytes]
Layer = dict[Bucket, dict[bytes, bytes | None]]
"""Buffered writes: per bucket the values by key, None for a deletion."""

Done = Callable[[], object]
Failed = Callable[[StorageError], object]

SLICE_ITEMS: Final = 1000
SLICE_BYTES: Final = 1 << 20
"""A slice of a flush ends at the first of the two; about a millisecond of the member's thread."""


class View(Protocol):
    """A consistent read snapshot of committed data, usable on any one thread at a time."""

    def get(self, bucket: Bucket, key: bytes, /) -> bytes | None: ...

    def range(
        self, bucket: Bucket, start: bytes, end: bytes | None, /, limit: int = 0
    ) -> list[tuple[bytes, bytes]]: ...

    def iterate(
        self, bucket: Bucket, start: bytes = b"", end: bytes | None = None, /
    ) -> Iterator[tuple[bytes, bytes]]:
        """Pairs of ``[start, end)`` in key order; ``end`` None goes to the bucket's end."""
        ...

    def close(self) -> None:
        """Give the snapshot up. Its pages stay occupied until then."""
        ...


class Backend(Protocol):
    """What the rest of a member knows of its backend. All calls on the member's thread."""

    @property
    def commit_seconds(self) -> Histogram: ...

    @property
    def puts(self) -> int:
        """Writes since the last flush."""
        ...

    def get(self, bucket: Bucket, key: bytes, /) -> bytes | None: ...

    def get_many(self, bucket: Bucket, keys: Sequence[bytes], /) -> list[bytes | None]: ...

    def range(
        self, bucket: Bucket, start: bytes, end: bytes | None, /, limit: int = 0
    ) -> list[tuple[bytes, bytes]]:
        """Pairs of ``[start, end)`` in key order, at most ``limit`` of them (0: all)."""
        ...

    def put(self, bucket: Bucket, key: bytes, value: bytes, /) -> None: ...

    def delete(self, bucket: Bucket, key: bytes, /) -> None: ...

    def pending(self, bucket: Bucket, /) -> dict[bytes, bytes | None]:
        """The dict that ``put`` and ``delete`` write to; the same object for the backend's whole life."""
        ...

    def flush(self, done: Done, failed: Failed | None = None) -> None:
        """Make everything put before this call one durable transaction, then call ``done``.

        When the transaction fails, ``failed`` is called instead and nothing is lost: the writes stay readable
        and go with the next flush, whose success then also calls ``done``.
        """
        ...

    def size(self) -> int:
        """Bytes of the file up to its high-water page, as of the last commit."""
        ...

    def size_in_use(self) -> int:
        """The same without pages that are free to be reused."""
        ...

    def open_view(self) -> View: ...

    def defragment(self, done: Done, failed: Failed | None = None) -> None:
        """Flush, then rewrite the file without its free pages. Reads and puts go on; flushes wait."""
        ...

    def replace(self, items: Callable[[], Iterable[Item]], done: Done, failed: Failed | None = None) -> None:
        """Make ``items`` the whole contents, atomically and durably; what was there, buffered too, is gone.

        ``items`` is called and consumed in the lane.
        """
        ...

    def close(self) -> None:
        """Let go of the files and the lane. What was not flushed is dropped."""
        ...


_MISSING: Final[Any] = object()


class BufferedBackend(ABC):
    """The write buffer and the course of a flush; below it a transactional store.

    Without a lane everything happens within the call, which is what tools and small tests want.
    """

    def __init__(
        self,
        *,
        clock: Clock | None,
        lane: Lane | None,
        failpoints: Failpoints | None,
        failed: Failed | None,
    ) -> None:
        assert (clock is None) == (lane is None), "a lane answers through the clock's thread"
        # The lane is the backend's own from here on: ``close`` ends it.
        self._clock = clock
        self._lane = lane
        self._failpoints = failpoints or Failpoints()
        self._failed = failed
        self.commit_seconds = Histogram()
        """How long commits took; observed in the lane."""

        self._new: Layer = {bucket: {} for bucket in BUCKETS}
        self._layers: tuple[Layer, ...] = ()
        """What is frozen and not committed yet, newest first: queued, writing."""
        self._queued: Layer = {}
        self._queued_done: list[Done] = []
        self._queued_failed: Failed | None = None
        self._writing: Layer = {}
        self._writing_done: list[Done] = []
        self._writing_failed: Failed | None = None
        self._under_way = False
        """A flush or an exclusive job holds the store."""
        self._waiting: list[Callable[[], object]] = []
        """Exclusive jobs that wait for their turn."""
        self._closed = False

    # ------------------------------------------------------------------ the store below

    @abstractmethod
    def _begin(self) -> None:
        """Open the write transaction (lane)."""

    @abstractmethod
    def _write(self, bucket: Bucket, items: list[tuple[bytes, bytes]], deletions: list[bytes]) -> None:
        """Put ``items`` (ascending) into the open transaction (member's thread)."""

    @abstractmethod
    def _commit(self) -> None:
        """Commit it durably (lane)."""

    @abstractmethod
    def _abort(self) -> None:
        """Drop the transaction if one is open (lane)."""

    @abstractmethod
    def _refresh(self) -> None:
        """Let reads see what was committed (member's thread)."""

    @abstractmethod
    def _recover(self, error: Exception, retry: Callable[[], object]) -> bool:
        """After the abort: True when the cause can be removed; ``retry`` is then called once it is."""

    @abstractmethod
    def _typed(self, error: Exception) -> StorageError:
        """The storage error that ``error`` stands for."""

    @abstractmethod
    def _committed(self, bucket: Bucket, key: bytes) -> bytes | None:
        """The committed value."""

    @abstractmethod
    def _committed_many(self, bucket: Bucket, keys: Sequence[bytes]) -> list[bytes | None]:
        """The committed values."""

    @abstractmethod
    def _committed_range(
        self, bucket: Bucket, start: bytes, end: bytes | None, limit: int
    ) -> list[tuple[bytes, bytes]]:
        """The committed pairs."""

    # ------------------------------------------------------------------ reads and writes

    @property
    def puts(self) -> int:
        return sum(map(len, self._new.values()))

    def pending(self, bucket: Bucket, /) -> dict[bytes, bytes | None]:
        return self._new[bucket]

    def put(self, bucket: Bucket, key: bytes, value: bytes, /) -> None:
        self._new[bucket][key] = value

    def delete(self, bucket: Bucket, key: bytes, /) -> None:
        self._new[bucket][key] = None

    def get(self, bucket: Bucket, key: bytes, /) -> bytes | None:
        value: bytes | None = self._new[bucket].get(key, _MISSING)
        if value is not _MISSING:
            return value
        for layer in self._layers:
            if bucket in layer:
                value = layer[bucket].get(key, _MISSING)
                if value is not _MISSING:
                    return value
        return self._committed(bucket, key)

    def get_many(self, bucket: Bucket, keys: Sequence[bytes], /) -> list[bytes | None]:
        buffered = [self._new[bucket]] if self._new[bucket] else []
        buffered += [layer[bucket] for layer in self._layers if bucket in layer]
        if not buffered:
            return self._committed_many(bucket, keys)
        found: dict[bytes, bytes | None] = {}
        for layer in reversed(buffered):
            for key in keys:
                if key in layer:
                    found[key] = layer[key]
        if not found:
            return self._committed_many(bucket, keys)
        rest = [key for key in keys if key not in found]
        if rest:
            found.update(zip(rest, self._committed_many(bucket, rest), strict=True))
        return [found[key] for key in keys]

    def range(
        self, bucket: Bucket, start: bytes, end: bytes | None, /, limit: int = 0
    ) -> list[tuple[bytes, bytes]]:
        """Cost: O(buffered writes of the bucket + pairs)."""
        overlay: dict[bytes, bytes | None] = {}
        for layer in (*reversed(self._layers), self._new):
            writes = layer.get(bucket)
            if writes:
                if end is None:
                    overlay.update((k, v) for k, v in writes.items() if k >= start)
                else:
                    overlay.update((k, v) for k, v in writes.items() if start <= k < end)
        if not overlay:
            return self._committed_range(bucket, start, end, limit)
        # Enough committed pairs that ``limit`` of them survive the deletions.
        gone = sum(value is None for value in overlay.values())
        merged: dict[bytes, bytes] = dict(
            self._committed_range(bucket, start, end, limit + gone if limit else 0)
        )
        for key, value in overlay.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = value
        pairs = sorted(merged.items())
        return pairs[:limit] if limit else pairs

    # ------------------------------------------------------------------ the course of a flush

    def flush(self, done: Done, failed: Failed | None = None) -> None:
        if self._closed:
            raise ClosedError("the backend is closed")
        frozen: Layer = {}
        for bucket, writes in self._new.items():
            if writes:
                frozen[bucket] = dict(writes)
                writes.clear()
        if frozen or self._queued:
            if self._queued:
                for bucket, writes in frozen.items():
                    self._queued.setdefault(bucket, {}).update(writes)
            else:
                self._queued = frozen
            self._queued_done.append(done)
            self._queued_failed = failed
            self._set_layers()
            if not self._under_way:
                self._start_flush()
        elif self._writing:
            self._writing_done.append(done)
        elif self._clock is not None:
            self._clock.call_soon(done)
        else:
            done()

    def _set_layers(self) -> None:
        self._layers = tuple(layer for layer in (self._queued, self._writing) if layer)

    def _start_flush(self) -> None:
        self._under_way = True
        self._writing, self._queued = self._queued, {}
        self._writing_done, self._queued_done = self._queued_done, []
        self._writing_failed, self._queued_failed = self._queued_failed, None
        self._submit(self._begin_job, self._begun, self._flush_failed)

    def _begin_job(self) -> None:
        failpoints = self._failpoints
        if failpoints.armed:
            failpoints.hit("beforeStartDBTxn")
        self._begin()
        if failpoints.armed:
            failpoints.hit("afterStartDBTxn")

    def _begun(self, _result: None) -> None:
        if self._failpoints.armed:
            self._failpoints.hit("beforeWritebackBuf")
        self._slice(self._slices())

    def _slices(self) -> Iterator[None]:
        """Put the items of ``_writing``, yielding after each slice."""
        for bucket, writes in self._writing.items():
            keys = sorted(writes)
            items: list[tuple[bytes, bytes]] = []
            deletions: list[bytes] = []
            item_bytes = 0
            for key in keys:
                value = writes[key]
                if value is None:
                    deletions.append(key)
                else:
                    items.append((key, value))
                    item_bytes += len(value)
                if item_bytes >= SLICE_BYTES or len(items) + len(deletions) >= SLICE_ITEMS:
                    self._write(bucket, items, deletions)
                    items, deletions, item_bytes = [], [], 0
                    yield
            if items or deletions:
                self._write(bucket, items, deletions)

    def _slice(self, slices: Iterator[None]) -> None:
        if self._closed:
            return
        try:
            if self._clock is not None:
                if next(slices, self) is None:
                    self._clock.call_soon(self._slice, slices)
                    return
            else:
                for _ in slices:
                    pass
        except Exception as error:  # noqa: BLE001 - becomes a StorageError for the caller of flush
            self._flush_failed(error)
            return
        if self._failpoints.armed:
            self._failpoints.hit("afterWritebackBuf")
        self._submit(self._commit_job, self._flushed, self._flush_failed)

    def _commit_job(self) -> None:
        failpoints = self._failpoints
        if failpoints.armed:
            failpoints.hit("beforeCommit")
        self._commit()
        if failpoints.armed:
            failpoints.hit("afterCommit")

    def _flushed(self, _result: None) -> None:
        if self._closed:
            return
        self._refresh()
        self._writing = {}
        dones, self._writing_done = self._writing_done, []
        self._writing_failed = None
        self._set_layers()
        self._release()
        for done in dones:
            done()

    def _flush_failed(self, error: BaseException) -> None:
        if not isinstance(error, Exception):
            raise error
        if self._closed:
            return
        cause: Exception = error
        self._submit(self._abort, lambda _result: self._aborted(cause), lambda _second: self._aborted(cause))

    def _aborted(self, error: Exception) -> None:
        if self._closed:
            return
        try:
            if self._recover(error, self._retry):
                return
        except Exception as second:  # noqa: BLE001 - becomes a StorageError for the caller of flush
            error = second
        failed = self._writing_failed or self._failed
        for bucket, writes in self._queued.items():
            self._writing.setdefault(bucket, {}).update(writes)
        self._queued, self._writing = self._writing, {}
        self._queued_done, self._writing_done = self._writing_done + self._queued_done, []
        self._set_layers()
        # The writes wait for the next flush: trying again by itself would only turn in circles.
        self._under_way = False
        self._next_exclusive()
        typed = self._typed(error)
        if failed is None:
            raise typed from error
        typed.__cause__ = error
        failed(typed)

    def _retry(self) -> None:
        self._submit(self._begin_job, self._begun, self._flush_failed)

    def _release(self) -> None:
        """Hand the store to whoever waits: exclusive jobs first, then a queued flush."""
        self._under_way = False
        if self._closed:
            return
        self._next_exclusive()
        if not self._under_way and self._queued and self._queued_done:
            self._start_flush()

    def _next_exclusive(self) -> None:
        if self._waiting and not self._under_way:
            self._waiting.pop(0)()

    def _exclusive(self, job: Callable[[], T], then: Callable[[T], object], failed: Failed | None) -> None:
        """Run ``job`` in the lane while no flush is under way, then ``then`` here before any flush begins.

        ``then`` is called after a close, too, to let go of what the job made.
        """

        def begin() -> None:
            self._under_way = True
            self._submit(job, finish, give_up)

        def finish(result: T) -> None:
            then(result)
            self._release()

        def give_up(error: BaseException) -> None:
            if not isinstance(error, Exception):
                raise error
            self._release()
            typed = self._typed(error)
            handler = failed or self._failed
            if handler is None:
                raise typed from error
            typed.__cause__ = error
            handler(typed)

        if self._under_way:
            self._waiting.append(begin)
        else:
            begin()

    def _drop_buffers(self) -> list[Done]:
        """What was put is superseded by a replacement. Returns who waits for it: to be told when that is
        in place, for no flush of theirs will come."""
        for writes in self._new.values():
            writes.clear()
        self._queued = {}
        self._queued_failed = None
        superseded, self._queued_done = self._queued_done, []
        self._set_layers()
        return superseded

    def _submit(
        self,
        job: Callable[[], T],
        done: Callable[[T], object],
        failed: Callable[[BaseException], object],
    ) -> None:
        if self._lane is not None:
            self._lane.submit(job, done, failed)
            return
        try:
            result = job()
        except Exception as error:  # noqa: BLE001 - handed on as a lane does
            failed(error)
        else:
            done(result)
