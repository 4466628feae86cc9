"""A member's database at rest, whichever program wrote it: Go's bbolt file or our LMDB file.

``open_database`` looks at the first page and hands out one face for both; ``build_backend`` makes a backend
of ours from one, with some of it changed on the way. What restores a snapshot, converts a data directory or
looks into one goes through here, a page of pairs at a time: memory does not grow with the database.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final, Protocol

import lmdb

from petcd.seams.disk import Disk, File
from petcd.storage.bbolt import BboltFile
from petcd.storage.errors import CorruptError, WriteFailed, write_failed
from petcd.storage.lmdb_access import Batch, build_file
from petcd.storage.schema import BUCKETS, KEY, Bucket

_LMDB_MAGIC: Final = (0xBEEFC0DE).to_bytes(4, "little")

_REVISION_BYTES: Final = (17, 18)

Pairs = list[tuple[bytes, bytes]]


class Database(Protocol):
    """A consistent, unchanging database; a ``View`` (``petcd.storage.backend``) and more."""

    @property
    def path(self) -> str: ...

    @property
    def size_bytes(self) -> int:
        """Up to the high-water mark: what servers report as its size."""
        ...

    @property
    def unknown(self) -> Sequence[bytes]:
        """Names of buckets that are not etcd's; not all, when there are many."""
        ...

    @property
    def buckets(self) -> tuple[Bucket, ...]: ...

    def get(self, bucket: Bucket, key: bytes, /) -> bytes | None: ...

    def range(
        self, bucket: Bucket, start: bytes, end: bytes | None, /, limit: int = 0
    ) -> list[tuple[bytes, bytes]]: ...

    def iterate(
        self, bucket: Bucket, start: bytes = b"", end: bytes | None = None, /
    ) -> Iterator[tuple[bytes, bytes]]: ...

    def batches(self, bucket: Bucket) -> Iterator[Pairs]:
        """All pairs of a bucket in key order, some at a time."""
        ...

    def last_key(self, bucket: Bucket) -> bytes | None: ...

    def backwards(self, bucket: Bucket) -> Iterator[tuple[bytes, bytes]]:
        """All pairs of a bucket, the last one first."""
        ...

    def close(self) -> None: ...


def open_database(file: File) -> Database:
    """Raises: CorruptError when it is neither kind, or damaged at its roots. The file stays its opener's."""
    if is_ours(file):
        from petcd.storage.lmdb_reader import LmdbReader

        return LmdbReader(file)
    return BboltFile(file)


def is_ours(file: File) -> bool:
    """Whether it begins as an LMDB file does."""
    return file.pread(4, 16) == _LMDB_MAGIC


def last_revision(database: Database) -> int:
    """The main part of the greatest revision in ``key``; 0 when there is none. Raises: CorruptError."""
    last = database.last_key(KEY)
    if last is None:
        return 0
    if len(last) not in _REVISION_BYTES or last[8:9] != b"_":
        raise CorruptError(database.path, f"a key of {len(last)} bytes in bucket key is no revision")
    return int.from_bytes(last[:8], "big")


Changes = Mapping[tuple[Bucket, bytes], bytes | None]
"""Values to be written instead of, or beside, those in a database; None leaves a key out."""


def changed_batches(
    database: Database,
    changes: Changes | None = None,
    without: Collection[Bucket] = (),
    progress: Callable[[int], object] | None = None,
) -> Iterator[Batch]:
    """Everything in a database, in order, with ``changes`` made and the buckets ``without`` left empty but
    for these. ``progress`` is told how many bytes of keys and values have gone by.

    Raises: CorruptError, possibly after a part was read.
    """
    done = 0
    for bucket in BUCKETS:
        waiting = sorted(((key, value) for (where, key), value in (changes or {}).items() if where == bucket))
        waiting.reverse()
        for batch in () if bucket in without else database.batches(bucket):
            if progress is not None:
                done += sum([len(key) + len(value) for key, value in batch])
                progress(done)
            if waiting and waiting[-1][0] <= batch[-1][0]:
                batch = _merged(batch, waiting)
            yield bucket, batch
        yield bucket, [(key, value) for key, value in reversed(waiting) if value is not None]


def _merged(batch: Pairs, waiting: list[tuple[bytes, bytes | None]]) -> Pairs:
    """The batch with the changes that are not behind it; they are taken out of ``waiting`` (descending)."""
    merged: dict[bytes, bytes | None] = dict(batch)
    last = batch[-1][0]
    while waiting and waiting[-1][0] <= last:
        key, value = waiting.pop()
        merged[key] = value
    return sorted((key, value) for key, value in merged.items() if value is not None)


def build_backend(
    disk: Disk,
    path: str,
    database: Database,
    *,
    changes: Changes | None = None,
    without: Collection[Bucket] = (),
    progress: Callable[[int], object] | None = None,
    sync: bool = True,
) -> None:
    """Make a backend file of ours at ``path``, complete and synced, its name in the directory included.

    Blocks. Nothing is left at ``path`` after a failure. Raises: CorruptError, WriteFailed.
    """
    directory = path.rpartition("/")[0] or "."
    making = f"{path}.new"
    try:
        build_file(making, changed_batches(database, changes, without, progress), disk=disk, sync=sync)
        if sync:
            file = disk.open(making)
            try:
                file.sync()
            finally:
                file.close()
        disk.rename(making, path)
        if sync:
            disk.sync_dir(directory)
    except OSError as error:
        raise write_failed(path, "write the backend", error) from error
    except lmdb.BadValsizeError as error:
        raise CorruptError(database.path, f"a key that no etcd can have: {error}") from error
    except lmdb.Error as error:
        raise WriteFailed(f"{path}: {error}") from error
