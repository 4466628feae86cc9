"""A backend file of ours at rest, read without being changed: for tools.

Nobody may have it open as a backend meanwhile; the caller sees to that, as a member's lock does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import lmdb

from petcd.pb.wire import DecodeError
from petcd.seams.disk import File
from petcd.storage.errors import CorruptError
from petcd.storage.lmdb_access import LmdbPairs
from petcd.storage.lmdb_file import check_file, newest_meta
from petcd.storage.schema import BUCKETS, FIXED_KEYS, Bucket

_BATCH_PAIRS: Final = 1000


class LmdbReader(LmdbPairs):
    """The same face as ``bbolt.BboltFile``: a view of the buckets in one file.

    Every page is looked at before LMDB sees the file, which it would not survive with a damaged one. What is
    found damaged later is a CorruptError of each method.
    """

    def __init__(self, file: File) -> None:
        """Raises: CorruptError."""
        self.path = file.path
        self.unknown: tuple[bytes, ...] = ()
        """There are never buckets but etcd's."""
        check_file(file, every_page=True)
        meta = newest_meta(file)
        self.size_bytes = (meta.last_page + 1) * meta.page_bytes
        try:
            self._env: Any = lmdb.open(
                file.path, subdir=False, readonly=True, lock=False, max_dbs=len(BUCKETS), create=False
            )
            dbs = {bucket: self._env.open_db(bucket, create=False) for bucket in BUCKETS}
            super().__init__(dbs, self._env.begin())
        except lmdb.Error as error:
            raise CorruptError(file.path, str(error)) from error

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """What is wrong with the file is a CorruptError."""
        try:
            yield
        except (lmdb.Error, DecodeError) as error:
            raise CorruptError(self.path, str(error)) from error

    def get(self, bucket: Bucket, key: bytes, /) -> bytes | None:
        with self._reading():
            return super().get(bucket, key)

    def range(
        self, bucket: Bucket, start: bytes, end: bytes | None, /, limit: int = 0
    ) -> list[tuple[bytes, bytes]]:
        with self._reading():
            return super().range(bucket, start, end, limit)

    def iterate(
        self, bucket: Bucket, start: bytes = b"", end: bytes | None = None, /
    ) -> Iterator[tuple[bytes, bytes]]:
        with self._reading():
            yield from super().iterate(bucket, start, end)

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        return BUCKETS

    def batches(self, bucket: Bucket) -> Iterator[list[tuple[bytes, bytes]]]:
        """All pairs in key order, some at a time."""
        batch: list[tuple[bytes, bytes]] = []
        for pair in self.iterate(bucket):
            batch.append(pair)
            if len(batch) == _BATCH_PAIRS:
                yield batch
                batch = []
        if batch:
            yield batch

    def last_key(self, bucket: Bucket) -> bytes | None:
        """The greatest key."""
        return next((key for key, _ in self.backwards(bucket)), None)

    def backwards(self, bucket: Bucket) -> Iterator[tuple[bytes, bytes]]:
        """All pairs from the last to the first."""
        if bucket not in FIXED_KEYS:
            yield from reversed(self.range(bucket, b"", None))
            return
        with self._reading(), self._txn.cursor(self._dbs[bucket]) as cursor:
            if cursor.last():
                yield from cursor.iterprev()

    def close(self) -> None:
        self._txn.abort()
        self._env.close()
