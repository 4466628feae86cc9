"""The backend's twin in memory, for the simulation: same interface, same course of a flush, no LMDB.

Committed data lives in sorted maps. With a Disk, each commit also appends one checksummed record to a journal
there and syncs it, so that a simulated crash keeps and loses exactly what a real one would, at the times at
which lane jobs run. Without a Disk nothing outlives the object, unless its ``MemoryStore`` is handed on.

Journal: a sequence of ``u32 length, u32 CRC-32C, body``; the body is a list of bucket number, key and value,
each with its length. A torn end is a commit that did not happen.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from google_crc32c import value as crc32c
from sortedcontainers import SortedDict

from petcd.seams.clock import Clock
from petcd.seams.disk import Disk, File, Lane
from petcd.seams.failpoints import Failpoints
from petcd.storage.backend import BufferedBackend, Done, Failed, Item, View
from petcd.storage.errors import ClosedError, LockedError, StorageError, WriteFailed, write_failed
from petcd.storage.schema import BUCKETS, META, STORAGE_VERSION, Bucket, check_storage_version

_PAGE_BYTES: Final = 4096
_FRAME: Final = struct.Struct("<II")
_ITEM: Final = struct.Struct("<BII")
_DELETED: Final = 0xFFFF_FFFF

Tables = dict[Bucket, Any]
"""Bucket to a SortedDict of its pairs."""


def _empty() -> Tables:
    return {bucket: SortedDict() for bucket in BUCKETS}


class MemoryStore:
    """What has been committed: the part of a backend that outlives its process."""

    __slots__ = ("bytes_high_water", "bytes_in_use", "shared", "tables")

    def __init__(self) -> None:
        self.tables = _empty()
        self.shared: set[Bucket] = set()
        """Buckets that a view still reads; they are copied before the next write."""
        self.bytes_in_use = 0
        self.bytes_high_water = 0

    def apply(self, writes: Iterable[tuple[Bucket, bytes, bytes | None]]) -> None:
        for bucket, key, value in writes:
            if bucket in self.shared:
                self.tables[bucket] = SortedDict(self.tables[bucket])
                self.shared.discard(bucket)
            table = self.tables[bucket]
            former = table.get(key)
            if former is not None:
                self.bytes_in_use -= len(key) + len(former)
            if value is None:
                table.pop(key, None)
            else:
                table[key] = value
                self.bytes_in_use += len(key) + len(value)
        self.bytes_high_water = max(self.bytes_high_water, self.bytes_in_use)

    def snapshot(self) -> Tables:
        self.shared.update(BUCKETS)
        return dict(self.tables)


class MemoryView:
    """The tables as they were."""

    __slots__ = ("_tables",)

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def get(self, bucket: Bucket, key: bytes, /) -> bytes | None:
        found: bytes | None = self._tables[bucket].get(key)
        return found

    def range(
        self, bucket: Bucket, start: bytes, end: bytes | None, /, limit: int = 0
    ) -> list[tuple[bytes, bytes]]:
        return list(islice(self.iterate(bucket, start, end), limit or None))

    def iterate(
        self, bucket: Bucket, start: bytes = b"", end: bytes | None = None, /
    ) -> Iterator[tuple[bytes, bytes]]:
        table = self._tables[bucket]
        for key in table.irange(start, end, inclusive=(True, False)):
            yield key, table[key]

    def close(self) -> None:
        self._tables = _empty()


class MemoryBackend(BufferedBackend):
    """``Backend`` without LMDB."""

    def __init__(
        self,
        store: MemoryStore | None = None,
        *,
        disk: Disk | None = None,
        path: str = "",
        clock: Clock | None = None,
        lane: Lane | None = None,
        failpoints: Failpoints | None = None,
        failed: Failed | None = None,
        now: Callable[[], float] | None = None,
    ) -> None:
        """``store`` is what an earlier process committed; with ``disk``, it is read from ``path`` instead."""
        super().__init__(clock=clock, lane=lane, failpoints=failpoints, failed=failed)
        self._store = store or MemoryStore()
        self._disk = disk
        self._path = path
        self._now = now or (clock.monotonic if clock is not None else lambda: 0.0)
        self._txn: list[tuple[Bucket, bytes, bytes | None]] | None = None
        self._journal: File | None = None
        self._journal_bytes = 0
        self.commit_count = 0
        self.fail_next: StorageError | None = None
        """A fault for the next commit, as a full disk would be."""
        if disk is not None:
            try:
                self._journal = self._open_journal(disk)
            except OSError as error:
                raise self._typed(error) from error
        check_storage_version(path or "memory", self._store.tables[META].get(STORAGE_VERSION))

    @property
    def store(self) -> MemoryStore:
        return self._store

    # ------------------------------------------------------------------ the journal

    def _open_journal(self, disk: Disk) -> File:
        directory, _, name = self._path.rpartition("/")
        for other in disk.listdir(directory):
            if other.startswith(name + "."):
                disk.remove(f"{directory}/{other}")
        file = disk.open(self._path, create=True)
        if not file.try_lock():
            file.close()
            raise LockedError(f"{self._path}: locked by another process")
        # A process that was killed may not have got as far as its sync; what is read now must stay.
        file.sync()
        disk.sync_dir(directory)
        data = file.pread(file.size(), 0)
        at = 0
        while at + _FRAME.size <= len(data):
            size, crc = _FRAME.unpack_from(data, at)
            body = data[at + _FRAME.size : at + _FRAME.size + size]
            if len(body) != size or size == 0 or crc32c(body) != crc:
                break
            self._store.apply(_decode(body))
            at += _FRAME.size + size
        if at != len(data):
            file.truncate(at)
        self._journal_bytes = at
        return file

    # ------------------------------------------------------------------ a transaction

    def _begin(self) -> None:
        self._txn = []

    def _write(self, bucket: Bucket, items: list[tuple[bytes, bytes]], deletions: list[bytes]) -> None:
        assert self._txn is not None
        self._txn += [(bucket, key, None) for key in deletions]
        self._txn += [(bucket, key, value) for key, value in items]

    def _commit(self) -> None:
        assert self._txn is not None
        fault, self.fail_next = self.fail_next, None
        if fault is not None:
            raise fault
        started = self._now()
        if self._journal is not None:
            body = _encode(self._txn)
            frame = _FRAME.pack(len(body), crc32c(body)) + body
            self._journal.pwrite(frame, self._journal_bytes)
            self._journal.datasync()
            self._journal_bytes += len(frame)
        self.commit_seconds.observe(self._now() - started)

    def _abort(self) -> None:
        self._txn = None
        if self._journal is not None:
            self._journal.truncate(self._journal_bytes)

    def _refresh(self) -> None:
        # Readers see the commit only now, as LMDB's read transaction does.
        if self._txn is not None:
            self._store.apply(self._txn)
            self._txn = None
        self.commit_count += 1

    def _recover(self, error: Exception, retry: Callable[[], object]) -> bool:
        return False

    def _typed(self, error: Exception) -> StorageError:
        if isinstance(error, StorageError):
            return error
        if isinstance(error, OSError):
            return write_failed(self._path, "write the backend", error)
        return WriteFailed(f"backend: {error}")

    # ------------------------------------------------------------------ committed data

    def _committed(self, bucket: Bucket, key: bytes) -> bytes | None:
        found: bytes | None = self._store.tables[bucket].get(key)
        return found

    def _committed_many(self, bucket: Bucket, keys: Sequence[bytes]) -> list[bytes | None]:
        get = self._store.tables[bucket].get
        return [get(key) for key in keys]

    def _committed_range(
        self, bucket: Bucket, start: bytes, end: bytes | None, limit: int
    ) -> list[tuple[bytes, bytes]]:
        return MemoryView(self._store.tables).range(bucket, start, end, limit)

    def size(self) -> int:
        return _pages(self._store.bytes_high_water)

    def size_in_use(self) -> int:
        return _pages(self._store.bytes_in_use)

    def open_view(self) -> View:
        if self._closed:
            raise ClosedError("the backend is closed")
        return MemoryView(self._store.snapshot())

    # ------------------------------------------------------------------ rewriting

    def defragment(self, done: Done, failed: Failed | None = None) -> None:
        def rewrite() -> None:
            self._exclusive(self._copy_compact, adopt, failed)

        def adopt(journal: File | None) -> None:
            if not self._adopt(journal):
                return
            self._store.bytes_high_water = self._store.bytes_in_use
            done()

        self.flush(rewrite, failed)

    def _copy_compact(self) -> File | None:
        self._failpoints.hit("defragBeforeCopy")
        tables = self._store.tables
        return self._write_journal(
            ".defrag", ((bucket, key, value) for bucket in BUCKETS for key, value in tables[bucket].items())
        )

    def _write_journal(self, suffix: str, writes: Iterable[Item]) -> File | None:
        disk = self._disk
        body = _encode(writes)
        if disk is None:
            self._failpoints.hit("defragBeforeRename")
            return None
        file = disk.open(self._path + suffix, create=True)
        try:
            file.truncate(0)
            file.try_lock()
            if body:
                file.pwrite(_FRAME.pack(len(body), crc32c(body)) + body, 0)
            file.sync()
            self._failpoints.hit("defragBeforeRename")
            disk.rename(self._path + suffix, self._path)
            disk.sync_dir(self._path.rpartition("/")[0])
        except BaseException:
            file.close()
            raise
        return file

    def _adopt(self, journal: File | None) -> bool:
        """Go on with ``journal``; False when the backend was closed meanwhile."""
        if self._closed:
            if journal is not None:
                journal.close()
            return False
        if self._journal is not None and journal is not None:
            self._journal.close()
            self._journal = journal
            self._journal_bytes = journal.size()
        return True

    def replace(self, items: Callable[[], Iterable[Item]], done: Done, failed: Failed | None = None) -> None:
        def rebuild() -> tuple[File | None, MemoryStore]:
            store = MemoryStore()
            store.apply(items())
            tables = store.tables
            journal = self._write_journal(
                ".replace",
                ((bucket, key, value) for bucket in BUCKETS for key, value in tables[bucket].items()),
            )
            return journal, store

        def adopt(result: tuple[File | None, MemoryStore]) -> None:
            journal, store = result
            superseded = self._drop_buffers()
            if not self._adopt(journal):
                return
            self._store.tables = store.tables
            self._store.shared = set()
            self._store.bytes_in_use = self._store.bytes_high_water = store.bytes_in_use
            done()
            for told in superseded:
                told()

        self._exclusive(rebuild, adopt, failed)

    def crash(self) -> MemoryStore:
        """End as a killed process does: what was not committed is gone. Returns what was."""
        self.close()
        return self._store

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._layers = ()
            if self._lane is not None:
                self._lane.close()
            if self._journal is not None:
                self._journal.close()


def _pages(data_bytes: int) -> int:
    return (2 + -(-data_bytes // _PAGE_BYTES)) * _PAGE_BYTES


def _encode(writes: Iterable[tuple[Bucket, bytes, bytes | None]]) -> bytes:
    parts: list[bytes] = []
    for bucket, key, value in writes:
        size = _DELETED if value is None else len(value)
        parts += (_ITEM.pack(BUCKETS.index(bucket), len(key), size), key, value or b"")
    return b"".join(parts)


def _decode(body: bytes) -> Iterator[tuple[Bucket, bytes, bytes | None]]:
    at = 0
    while at < len(body):
        number, key_bytes, value_bytes = _ITEM.unpack_from(body, at)
        at += _ITEM.size
        key = body[at : at + key_bytes]
        at += key_bytes
        if value_bytes == _DELETED:
            yield BUCKETS[number], key, None
        else:
            yield BUCKETS[number], key, body[at : at + value_bytes]
            at += value_bytes
