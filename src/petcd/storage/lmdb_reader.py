"""A backend file of ours at rest, read without being changed: for tools.

Nobody may have it open as a backend meanwhile; the caller sees to that, as a member's lock does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import lmdb

from petcd.seams.disk import File
from petcd.storage.errors import CorruptError
from petcd.storage.lmdb_access import LmdbPairs
from petcd.storage.lmdb_file import check_file, newest_meta
from petcd.storage.schema import BUCKETS, FIXED_KEYS, Bucket

_BATCH_PAIRS: Final = 1000


class LmdbReader(LmdbPairs):
    """The same face as ``bbolt.BboltFile``: a view of the buckets in one file."""

    def __init__(self, file: File) -> None:
        """Raises: CorruptError."""
        self.path = file.path
        self.unknown: tuple[bytes, ...] = ()
        """There are never buckets but etcd's."""
        check_file(file)
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
        with self._txn.cursor(self._dbs[bucket]) as cursor:
            if cursor.last():
                yield from cursor.iterprev()

    def close(self) -> None:
        self._txn.abort()
        self._env.close()
