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

A file cut short is found before LMDB maps it, where touching a missing page would kill the process. Keys
longer than LMDB allows (511 bytes; only user and role names can be) are stored under their beginning and a
digest, with the whole key before the value.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import lmdb

from petcd.logs import NULL, Logger
from petcd.pb.wire import long_varint, varint
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
from petcd.storage.lmdb_file import check_file, newest_meta
from petcd.storage.schema import (
    BUCKETS,
    FIXED_KEYS,
    KEY,
    META,
    STORAGE_VERSION,
    Bucket,
    check_storage_version,
)

FILE_NAME: Final = "petcd.mdb"
GO_FILE_NAME: Final = "db"

MAP_BYTES: Final = 16 << 30
"""Address space reserved for the file, twice etcd's largest sensible quota; grown by doubling when spent."""

_READERS_MAX: Final = 126
_VIEW_POLL_SECONDS: Final = 0.01

_KEY_BYTES_MAX: Final = 511
_DIGEST_BYTES: Final = 32
_PLAIN_KEY_BYTES_MAX: Final = _KEY_BYTES_MAX - _DIGEST_BYTES - 1
"""Longer keys are stored escaped, at 511 bytes exactly, a length that no plain key has."""

_BUILD_ITEMS: Final = 10_000

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


class LmdbView:
    """A read transaction of its own."""

    __slots__ = ("_dbs", "_handle", "_txn")

    def __init__(self, handle: _Handle) -> None:
        self._handle = handle
        self._dbs = handle.dbs
        self._txn: Any = handle.env.begin()
        handle.views.add(self)

    def get(self, bucket: Bucket, key: bytes, /) -> bytes | None:
        return _get(self._txn, self._dbs[bucket], key)

    def range(
        self, bucket: Bucket, start: bytes, end: bytes | None, /, limit: int = 0
    ) -> list[tuple[bytes, bytes]]:
        return _range(self._txn, self._dbs[bucket], bucket, start, end, limit)

    def iterate(
        self, bucket: Bucket, start: bytes = b"", end: bytes | None = None, /
    ) -> Iterator[tuple[bytes, bytes]]:
        if bucket not in FIXED_KEYS:
            yield from self.range(bucket, start, end)
            return
        for pair in _pairs(self._txn, self._dbs[bucket], start):
            if end is not None and pair[0] >= end:
                return
            yield pair

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
                        f"{self._directory}/{GO_FILE_NAME}: this data directory was written by Go etcd; its "
                        "conversion is not there yet. Copy its keys with etcdctl make-mirror."
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
            env = _open_env(path, self._map_bytes, sync=not self._unsafe_no_fsync)
            try:
                dbs = _open_buckets(env)
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
        env = _open_env(path, self._map_bytes, sync=False)
        try:
            dbs = _open_buckets(env)
            batch: list[Item] = []
            for item in items:
                batch.append(item)
                if len(batch) == _BUILD_ITEMS:
                    _put_batch(env, dbs, batch)
                    batch.clear()
            _put_batch(env, dbs, batch)
            if not self._unsafe_no_fsync:
                env.sync(True)
        except Exception:
            env.close()
            self._disk.remove(path)
            raise
        finally:
            env.close()
            self._disk.remove(path + "-lock")
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
        if bucket not in FIXED_KEYS:
            items = sorted(_escape(key, value) for key, value in items)
            deletions = [_escaped_key(key) for key in deletions]
        for key in deletions:
            txn.delete(key, db=db)
        if items:
            with txn.cursor(db) as cursor:
                # Revisions only grow, so the usual slice goes behind the last key, filling pages whole.
                append = bucket == KEY and (not cursor.last() or items[0][0] > cursor.key())
                _, added = cursor.putmulti(items, append=append)
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
        if len(key) > _PLAIN_KEY_BYTES_MAX or not key:
            return _get(self._reader, self._handle.dbs[bucket], key)
        found: bytes | None = self._get(key, None, self._handle.dbs[bucket])
        return found

    def _committed_many(self, bucket: Bucket, keys: Sequence[bytes]) -> list[bytes | None]:
        db = self._handle.dbs[bucket]
        if bucket not in FIXED_KEYS:
            return [_get(self._reader, db, key) for key in keys]
        get = self._get
        return [get(key, None, db) for key in keys]

    def _committed_range(
        self, bucket: Bucket, start: bytes, end: bytes | None, limit: int
    ) -> list[tuple[bytes, bytes]]:
        return _range(self._reader, self._handle.dbs[bucket], bucket, start, end, limit)

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
            os.chmod(path, 0o600)  # noqa: PTH101 - LMDB makes copies with the umask's mode
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


# ---------------------------------------------------------------------- LMDB's ways


def _open_env(path: str, map_bytes: int, *, sync: bool) -> Any:
    return lmdb.open(
        path,
        subdir=False,
        map_size=map_bytes,
        max_dbs=len(BUCKETS),
        max_readers=_READERS_MAX,
        mode=0o600,
        sync=sync,
        metasync=sync,
    )


def _open_buckets(env: Any) -> dict[Bucket, Any]:
    with env.begin(write=True) as txn:
        return {bucket: env.open_db(bucket, txn=txn) for bucket in BUCKETS}


def _put_batch(env: Any, dbs: dict[Bucket, Any], batch: list[Item]) -> None:
    while True:
        try:
            with env.begin(write=True) as txn:
                for bucket, key, value in batch:
                    if bucket not in FIXED_KEYS:
                        key, value = _escape(key, value)
                    txn.put(key, value, db=dbs[bucket])
        except lmdb.MapFullError:
            env.set_mapsize(env.info()["map_size"] * 2)
        else:
            return


def _escaped_key(key: bytes) -> bytes:
    if len(key) <= _PLAIN_KEY_BYTES_MAX:
        return key
    return key[: _PLAIN_KEY_BYTES_MAX + 1] + hashlib.sha256(key).digest()


def _escape(key: bytes, value: bytes) -> tuple[bytes, bytes]:
    if len(key) <= _PLAIN_KEY_BYTES_MAX:
        return key, value
    return _escaped_key(key), varint(len(key)) + key + value


def _unescape(value: bytes) -> tuple[bytes, bytes]:
    size, at = long_varint(value, 0)
    return value[at : at + size], value[at + size :]


def _get(txn: Any, db: Any, key: bytes) -> bytes | None:
    if not key:
        return None  # LMDB has no empty keys, and refuses to be asked
    value: bytes | None = txn.get(_escaped_key(key), None, db)
    if value is not None and len(key) > _PLAIN_KEY_BYTES_MAX:
        return _unescape(value)[1]
    return value


def _pairs(txn: Any, db: Any, start: bytes) -> Iterator[tuple[bytes, bytes]]:
    cursor = txn.cursor(db)
    # An escaped key sorts by its beginning, which is not above its whole.
    if not (cursor.set_range(start[: _PLAIN_KEY_BYTES_MAX + 1]) if start else cursor.first()):
        return iter(())
    pairs: Iterator[tuple[bytes, bytes]] = cursor.iternext()
    return pairs


def _range(
    txn: Any, db: Any, bucket: Bucket, start: bytes, end: bytes | None, limit: int
) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    if bucket in FIXED_KEYS:
        for pair in _pairs(txn, db, start):
            if end is not None and pair[0] >= end:
                break
            found.append(pair)
            if len(found) == limit:
                break
        return found
    # Escaped keys of one beginning lie in the order of their digests, so a limit is applied at the end.
    for key, value in _pairs(txn, db, start):
        if len(key) == _KEY_BYTES_MAX:
            key, value = _unescape(value)
            if key < start or (end is not None and key >= end):
                continue
        elif end is not None and key >= end:
            break
        found.append((key, value))
    found.sort()
    return found[:limit] if limit else found
