"""The backend on LMDB, a memory-mapped B+tree in one file: ``<snap dir>/petcd.mdb``.

LMDB does its own file work, so this module is the one place where I/O does not pass the Disk seam; what
surrounds it (renames, leftovers, locks) does. Buckets are LMDB's named databases.

What a crash leaves, and what opening makes of it:

* in a transaction or its commit: the last committed one. LMDB writes pages to free places, syncs, then
  writes one of two meta pages and syncs; the newer of the two counts.
* while the file is first made: ``petcd.mdb.new``, removed at the next open. ``petcd.mdb`` appears complete,
  by rename, and the directory is synced before anything relies on it.
* while defragmenting or replacing: the old file, and a ``petcd.mdb.defrag`` or ``.replace`` that is removed;
  or, once the rename happened, the new file, which was synced before.

A file cut short is found before LMDB maps it, where touching a missing page would kill the process.
``lmdb_access`` has what is inside the file.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import lmdb

from petcd.logs import NULL, Logger
from petcd.seams.clock import Clock
from petcd.seams.disk import Disk, File, Lane
from petcd.seams.failpoints import Failpoints
from petcd.storage.backend import BufferedBackend, Done, Failed, Item, View
from petcd.storage.errors import (
    ClosedError,
    CorruptError,
    DiskFullError,
    LockedError,
    NotWritableError,
    StorageError,
    WriteFailed,
    WrittenByGoError,
    write_failed,
)
from petcd.storage.lmdb_access import (
    MAP_BYTES,
    PLAIN_KEY_BYTES_MAX,
    Batch,
    LmdbPairs,
    build_file,
    escaped_key,
    get_value,
    open_buckets,
    open_env,
    pairs_between,
    put_pairs,
)
from petcd.storage.lmdb_file import check_file, newest_meta
from petcd.storage.ownership import keep_owner
from petcd.storage.schema import (
    FIXED_KEYS,
    META,
    STORAGE_VERSION,
    Bucket,
    check_storage_version,
)

FILE_NAME: Final = "petcd.mdb"
GO_FILE_NAME: Final = "db"

_VIEW_POLL_SECONDS: Final = 0.01

_BUILD_ITEMS: Final = 1000

_ROOM_BYTES_MIN: Final = 64 << 10
"""With less room than this a failed write is put down to the full disk."""


def _no_time() -> float:
    return 0.0


class _Handle:
    """One open LMDB environment. It outlives its use as the backend's until its last view is closed."""

    __slots__ = ("_open", "dbs", "env", "file", "retired", "views")

    def __init__(self, env: Any, dbs: dict[Bucket, Any], file: File) -> None:
        self.env = env
        self.dbs = dbs
        self.file = file
        """Holds the lock of the data file."""
        self.views: set[object] = set()
        self.retired = False
        self._open = [True]

    def retire(self) -> None:
        self.retired = True
        self.close_if_unused()

    def close_if_unused(self) -> None:
        # May be reached by two threads at once; taking the token is atomic.
        if self.retired and not self.views:
            try:
                self._open.pop()
            except IndexError:
                return
            self.env.close()
            self.file.close()


class LmdbView(LmdbPairs):
    """A read transaction of its own."""

    __slots__ = ("_handle",)

    def __init__(self, handle: _Handle) -> None:
        super().__init__(handle.dbs, handle.env.begin())
        self._handle = handle
        handle.views.add(self)

    def close(self) -> None:
        if self._txn is not None:
            self._txn.abort()
            self._txn = None
            self._handle.views.discard(self)
            self._handle.close_if_unused()


class LmdbBackend(BufferedBackend):
    """``Backend`` on a file. The caller holds the lock of the data directory."""

    def __init__(
        self,
        path: str,
        *,
        disk: Disk,
        clock: Clock | None = None,
        lane: Lane | None = None,
        failpoints: Failpoints | None = None,
        failed: Failed | None = None,
        logger: Logger = NULL,
        now: Callable[[], float] | None = None,
        map_bytes: int = MAP_BYTES,
        unsafe_no_fsync: bool = False,
    ) -> None:
        """Open the file at ``path``, or make it.

        Raises: LockedError, CorruptError, FutureVersionError, WrittenByGoError, WriteFailed and its kinds.
        """
        super().__init__(clock=clock, lane=lane, failpoints=failpoints, failed=failed)
        self._path = path
        self._directory, _, self._name = path.rpartition("/")
        self._disk = disk
        self._logger = logger
        self._now = now or (clock.monotonic if clock is not None else _no_time)
        self._map_bytes = map_bytes
        self._unsafe_no_fsync = unsafe_no_fsync
        self._txn: Any = None
        """The write transaction; begun, committed and aborted in the lane."""
        self._size = 0
        self._size_in_use = 0
        try:
            self._remove_leftovers()
            if not disk.exists(path):
                if disk.exists(f"{self._directory}/{GO_FILE_NAME}"):
                    raise WrittenByGoError(
                        f"{self._directory}/{GO_FILE_NAME}: this data directory was written by Go etcd; a "
                        "member that starts on it takes it over first"
                    )
                self._build(".new", ())
            self._handle = self._open()
            self._reader: Any = self._handle.env.begin()
            try:
                self._get = self._reader.get
                check_storage_version(path, self._committed(META, STORAGE_VERSION))
                self._measure()
            except BaseException:
                self._let_go()
                raise
        except (OSError, lmdb.Error) as error:
            raise self._typed(error) from error

    # ------------------------------------------------------------------ files

    def _remove_leftovers(self) -> None:
        for name in self._disk.listdir(self._directory):
            if name.startswith(self._name + ".") or name == self._name + "-lock":
                self._disk.remove(f"{self._directory}/{name}")

    def _open(self) -> _Handle:
        """Open the complete file at the backend's path; it has passed all checks afterwards."""
        path = self._path
        file = self._disk.open(path)
        try:
            if not file.try_lock():
                raise LockedError(f"{path}: locked by another process")
            check_file(file)
            if not self._unsafe_no_fsync:
                # What a killed process left unsynced is read from here on, and must not be lost any more.
                file.sync()
                self._disk.sync_dir(self._directory)
            # A lock file of an environment that is being replaced, or of a dead process, is not ours to join.
            if self._disk.exists(path + "-lock"):
                self._disk.remove(path + "-lock")
            env = open_env(path, self._map_bytes, sync=not self._unsafe_no_fsync)
            try:
                dbs = open_buckets(env)
            except BaseException:
                env.close()
                raise
        except BaseException:
            file.close()
            raise
        return _Handle(env, dbs, file)

    def _build(self, suffix: str, items: Iterable[Item]) -> None:
        """Make a complete, synced file holding ``items`` and give it the backend's name."""
        path = self._path + suffix
        build_file(
            path,
            _batches(items),
            disk=self._disk,
            map_bytes=self._map_bytes,
            sync=not self._unsafe_no_fsync,
        )
        self._adopt(path)

    def _adopt(self, path: str) -> None:
        """Rename a complete file over the backend's."""
        if not self._unsafe_no_fsync:
            file = self._disk.open(path)
            try:
                file.sync()
            finally:
                file.close()
        self._disk.rename(path, self._path)
        if not self._unsafe_no_fsync:
            self._disk.sync_dir(self._directory)

    # ------------------------------------------------------------------ a transaction

    def _begin(self) -> None:
        self._txn = self._handle.env.begin(write=True)

    def _write(self, bucket: Bucket, items: list[tuple[bytes, bytes]], deletions: list[bytes]) -> None:
        txn, db = self._txn, self._handle.dbs[bucket]
        for key in deletions:
            txn.delete(escaped_key(key), db=db)
        if items:
            added = put_pairs(txn, db, bucket, items)
            if added != len(items):
                raise StorageError(f"{self._path}: {len(items) - added} items of a slice were not put")

    def _commit(self) -> None:
        txn, self._txn = self._txn, None
        started = self._now()
        txn.commit()
        self.commit_seconds.observe(self._now() - started)

    def _abort(self) -> None:
        txn, self._txn = self._txn, None
        if txn is not None:
            txn.abort()

    def _refresh(self) -> None:
        self._reader.abort()
        self._reader = self._handle.env.begin()
        self._get = self._reader.get
        self._measure()

    def _recover(self, error: Exception, retry: Callable[[], object]) -> bool:
        if not isinstance(error, lmdb.MapFullError):
            return False
        if self._handle.views:
            # The map cannot move while somebody reads through it; views are short.
            if self._clock is None:
                return False
            self._clock.call_later(_VIEW_POLL_SECONDS, self._grow_later, error, retry)
            return True
        self._grow()
        retry()
        return True

    def _grow_later(self, error: lmdb.MapFullError, retry: Callable[[], object]) -> None:
        if self._closed:
            return
        try:
            self._recover(error, retry)
        except Exception as second:  # noqa: BLE001 - becomes a StorageError for the caller of flush
            self._flush_failed(second)

    def _grow(self) -> None:
        self._map_bytes = 2 * max(self._map_bytes, self._handle.env.info()["map_size"])
        self._reader.abort()
        try:
            self._handle.env.set_mapsize(self._map_bytes)
        finally:
            self._reader = self._handle.env.begin()
            self._get = self._reader.get
        self._logger.info("grew the backend's map", bytes=self._map_bytes)

    def _measure(self) -> None:
        handle = self._handle
        meta = newest_meta(handle.file)
        self._size = (meta.last_page + 1) * meta.page_bytes
        pages = 2 + meta.tree_pages
        for db in handle.dbs.values():
            stat = self._reader.stat(db)
            pages += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        self._size_in_use = pages * meta.page_bytes

    def _typed(self, error: Exception) -> StorageError:
        if isinstance(error, StorageError):
            return error
        if isinstance(error, OSError):
            return write_failed(self._path, "write the backend", error)
        words = f"{self._path}: {error}"
        if isinstance(error, lmdb.DiskError):
            return DiskFullError(words)
        if isinstance(error, lmdb.Error) and self._no_room():
            return DiskFullError(f"{words} (no space left on device)")
        if isinstance(error, lmdb.ReadonlyError):
            return NotWritableError(words)
        if isinstance(error, (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError)):
            return CorruptError(self._path, str(error))
        if isinstance(error, lmdb.Error) and os.strerror(errno.EROFS) in str(error):
            return NotWritableError(words)
        return WriteFailed(words)

    def _no_room(self) -> bool:
        # LMDB calls a write that was cut short by a full disk an I/O error.
        try:
            room = os.statvfs(self._directory)
        except OSError:
            return False
        return room.f_bavail * room.f_frsize < _ROOM_BYTES_MIN

    # ------------------------------------------------------------------ committed data

    def _committed(self, bucket: Bucket, key: bytes) -> bytes | None:
        if len(key) > PLAIN_KEY_BYTES_MAX or not key:
            return get_value(self._reader, self._handle.dbs[bucket], key)
        found: bytes | None = self._get(key, None, self._handle.dbs[bucket])
        return found

    def _committed_many(self, bucket: Bucket, keys: Sequence[bytes]) -> list[bytes | None]:
        db = self._handle.dbs[bucket]
        if bucket not in FIXED_KEYS:
            return [get_value(self._reader, db, key) for key in keys]
        get = self._get
        return [get(key, None, db) for key in keys]

    def _committed_range(
        self, bucket: Bucket, start: bytes, end: bytes | None, limit: int
    ) -> list[tuple[bytes, bytes]]:
        return pairs_between(self._reader, self._handle.dbs[bucket], bucket, start, end, limit)

    def size(self) -> int:
        return self._size

    def size_in_use(self) -> int:
        return self._size_in_use

    def open_view(self) -> View:
        if self._closed:
            raise ClosedError(f"{self._path}: closed")
        return LmdbView(self._handle)

    # ------------------------------------------------------------------ rewriting the file

    def defragment(self, done: Done, failed: Failed | None = None) -> None:
        def rewrite() -> None:
            self._exclusive(self._copy_compact, adopt, failed)

        def adopt(handle: _Handle) -> None:
            if self._swap(handle):
                done()

        self.flush(rewrite, failed)

    def _copy_compact(self) -> _Handle:
        self._failpoints.hit("defragBeforeCopy")
        path = self._path + ".defrag"
        if self._disk.exists(path):
            self._disk.remove(path)
        try:
            self._handle.env.copy(path, compact=True)
            keep_owner(self._path, path)  # LMDB makes copies with the umask's mode
        except (OSError, lmdb.Error):
            # On a full disk the half copy must not stay.
            self._disk.remove(path)
            raise
        self._failpoints.hit("defragBeforeRename")
        self._adopt(path)
        return self._open()

    def replace(self, items: Callable[[], Iterable[Item]], done: Done, failed: Failed | None = None) -> None:
        def rebuild() -> _Handle:
            for name in (".replace", ".replace-lock"):
                if self._disk.exists(self._path + name):
                    self._disk.remove(self._path + name)
            self._build(".replace", items())
            return self._open()

        def adopt(handle: _Handle) -> None:
            superseded = self._drop_buffers()
            if self._swap(handle):
                done()
                for told in superseded:
                    told()

        self._exclusive(rebuild, adopt, failed)

    def _swap(self, handle: _Handle) -> bool:
        """Read and write through ``handle`` from here on; False when the backend was closed meanwhile."""
        if self._closed:
            handle.retire()
            return False
        former, self._handle = self._handle, handle
        self._reader.abort()
        self._reader = handle.env.begin()
        self._get = self._reader.get
        former.retire()
        self._measure()
        return True

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._layers = ()
        if self._lane is not None:
            self._lane.close()
        # The lane's thread is gone, and with it whoever held LMDB's mutex; the lock file is not used again.
        self._abort()
        self._let_go()

    def _let_go(self) -> None:
        self._reader.abort()
        self._handle.retire()


def _batches(items: Iterable[Item]) -> Iterator[Batch]:
    bucket: Bucket | None = None
    pairs: list[tuple[bytes, bytes]] = []
    for item in items:
        if item[0] != bucket or len(pairs) == _BUILD_ITEMS:
            if bucket is not None:
                yield bucket, pairs
            bucket, pairs = item[0], []
        pairs.append(item[1:])
    if bucket is not None:
        yield bucket, pairs
