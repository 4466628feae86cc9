"""The data directory of a stopped member, ours or Go's, opened to be changed.

Both programs' directories look alike but for the database: ``member/snap/petcd.mdb`` is ours, ``db`` Go's. A
change of Go's file is a rewrite of it: what was there stays whole until the new one takes its name.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from petcd.cli.etcdctl.commands import complain
from petcd.cli.etcdutl.files import DISK, is_at
from petcd.storage.bbolt import BboltFile, write_database
from petcd.storage.bbolt.writer import Overrides
from petcd.storage.datadir import BACKUP_NAME, DataDir, two_databases
from petcd.storage.errors import IncompatibleError, LockedError, StorageError
from petcd.storage.lmdb_backend import FILE_NAME, GO_FILE_NAME, LmdbBackend
from petcd.storage.ownership import keep_owner

_POLL_SECONDS: Final = 0.05
_SAY_SECONDS: Final = 1.0


def snap_dir(data_dir: str) -> str:
    return f"{data_dir.rstrip('/')}/member/snap"


def our_database(data_dir: str) -> str:
    """The path of our database; empty when there is none, or only one that a broken-off conversion left.

    Raises: IncompatibleError when Go's is there, too, for another reason (``server.takeover.backup``).
    """
    path = f"{snap_dir(data_dir)}/{FILE_NAME}"
    if not DISK.exists(path):
        return ""
    if not DISK.exists(go_database(data_dir)):
        return path
    pending = f"{data_dir.rstrip('/')}/{BACKUP_NAME}.tmp"
    if not DISK.exists(pending) or DISK.exists(f"{pending}/snap/{GO_FILE_NAME}"):
        raise two_databases(snap_dir(data_dir))
    return ""


def go_database(data_dir: str) -> str:
    """Where Go's database is, or would be."""
    return f"{snap_dir(data_dir)}/{GO_FILE_NAME}"


@contextmanager
def our_backend(data_dir: str, timeout: int, waiting: str = "") -> Iterator[LmdbBackend]:
    """Our backend, with the directory locked. Waits ``timeout`` nanoseconds for that (0: for ever), and
    after a second says ``waiting``. Raises: StorageError."""
    wait = _Wait(timeout, waiting)
    while True:
        try:
            data = DataDir(DISK, data_dir.rstrip("/"))
            break
        except LockedError:
            wait.more()
    try:
        backend = LmdbBackend(data.backend_path, disk=DISK)
        try:
            yield backend
        finally:
            backend.close()
    finally:
        data.close()


def _as_it_is(_database: BboltFile) -> Overrides:
    return {}


def rewrite_go_database(
    path: str,
    timeout: int,
    waiting: str = "",
    choose: Callable[[BboltFile], Overrides | None] = _as_it_is,
) -> None:
    """Write Go's database at ``path`` anew, without its free pages.

    ``choose`` looks at it, under the lock, and says what is to be written instead of what is there; None
    leaves the file alone. Waits as ``our_backend``. Raises: OSError when it is not there, StorageError.
    """
    with _exclusively(path, _Wait(timeout, waiting)) as number:
        file = DISK.open(path, readonly=True)
        try:
            database = BboltFile(file)
            overrides = choose(database)
            if overrides is None:
                return
            if database.unknown:
                name = database.unknown[0].decode(errors="backslashreplace")
                raise IncompatibleError(f"{path}: it has a bucket that is not etcd's, {name}")
            _rewrite(database, path, overrides)
            _retire(number, database.meta.page_bytes)
        finally:
            file.close()


def _rewrite(database: BboltFile, path: str, overrides: Overrides) -> None:
    directory, _, name = path.rpartition("/")
    for leftover in DISK.listdir(directory):
        if leftover.startswith(f"{name}.tmp."):  # of a run that was killed; Go names its own so, too
            DISK.remove(f"{directory}/{leftover}")
    temporary = f"{path}.tmp.{os.getpid()}"
    made = DISK.open(temporary, create=True, exclusive=True)
    try:
        for _ in write_database(database, made, overrides=overrides):
            pass
        keep_owner(path, temporary)
    except BaseException:
        DISK.remove(temporary)
        raise
    finally:
        made.close()
    DISK.rename(temporary, path)
    DISK.sync_dir(directory)


def _retire(number: int, page_bytes: int) -> None:
    """Make a file that has been replaced one that Go refuses.

    A Go etcd that started meanwhile waits for the lock of this file, and would serve it for all that it has
    no name any more: what it wrote would be lost. So it ends instead, and its next start finds the new one.
    """
    if not os.fstat(number).st_nlink:  # otherwise somebody keeps it under another name
        os.pwrite(number, bytes(2 * page_bytes), 0)  # both metas


@contextmanager
def _exclusively(path: str, wait: _Wait) -> Iterator[int]:
    """Hold Go's lock on the file that has this name when the lock is there."""
    while True:
        number = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if _try_exclusively(number) and is_at(number, path):
                yield number
                return
        finally:
            os.close(number)
        wait.more()


def _try_exclusively(number: int) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _Wait:
    def __init__(self, timeout: int, text: str) -> None:
        self._began = time.monotonic()
        self._seconds = timeout / 1e9
        self._text = text

    def more(self) -> None:
        """Sleep a little. Raises: StorageError when it has been long enough."""
        waited = time.monotonic() - self._began
        if self._seconds and waited >= self._seconds:
            raise StorageError("timeout")
        if self._text and waited >= _SAY_SECONDS:
            complain(self._text)
            self._text = ""
        time.sleep(_POLL_SECONDS)
