"""Files of a member at rest, opened by hand: the lock that a server would hold, and Go's words for trouble.

Go holds its ``db`` by flock(2), we hold ``petcd.mdb`` by an open-file-description lock; a tool takes the
shared form of the same, so that several may look at once and none looks while a server writes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Final, NoReturn

from petcd.cli.etcdctl.commands import ERROR, Exit
from petcd.seams.real import RealDisk
from petcd.storage.atrest import Database, is_ours, open_database
from petcd.storage.errors import UnrecognizedError

if TYPE_CHECKING:
    from petcd.seams.disk import File

_F_OFD_SETLK: Final = 37
_POLL_SECONDS: Final = 0.05

DISK: Final = RealDisk()


def fail(text: str) -> NoReturn:
    raise Exit(ERROR, text)


def os_text(act: str, path: str, error: OSError) -> str:
    """``open x: no such file or directory``."""
    return f"{act} {path}: {(error.strerror or str(error)).lower()}"


def check_exists(path: str) -> None:
    """Raises: Exit, as os.Stat fails."""
    try:
        os.stat(path)  # noqa: PTH116 - the error carries what Go prints
    except OSError as error:
        fail(os_text("stat", path, error))


@contextmanager
def opened(path: str) -> Iterator[File]:
    """The file, for reading."""
    try:
        file = DISK.open(path, readonly=True)
    except OSError as error:
        fail(os_text("open", path, error))
    try:
        if DISK.is_dir(path):
            fail(f"open {path}: is a directory")
        yield file
    finally:
        file.close()


@contextmanager
def database(path: str, timeout: int = 0) -> Iterator[tuple[File, Database]]:
    """The database at ``path``, of either kind, locked against servers. ``timeout`` as in ``locked``."""
    # Opened under the lock: what was there before may have been replaced.
    with locked_as_it_is(path, timeout), opened(path) as file:
        if not file.size():
            fail(f"write {path}: bad file descriptor")
        try:
            found = open_database(file)
        except UnrecognizedError:
            fail("invalid database")
        try:
            yield file, found
        finally:
            found.close()


@contextmanager
def locked(path: str, *, ours: bool, timeout: int) -> Iterator[None]:
    """Hold the shared lock; wait ``timeout`` nanoseconds for it (0: for ever). Raises: Exit."""
    deadline = time.monotonic() + timeout / 1e9
    while True:
        try:
            number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            fail(os_text("open", path, error))
        try:
            if _try_lock(number, ours=ours) and is_at(number, path):
                yield
                return
        finally:
            os.close(number)
        if timeout and time.monotonic() >= deadline:
            fail("timeout")
        time.sleep(_POLL_SECONDS)


def is_at(number: int, path: str) -> bool:
    """Whether the open file still has this name. Who waits for a lock asks: a server that defragments puts
    another file in its place, and the lock of the one before says nothing about that."""
    try:
        return os.path.samestat(os.fstat(number), os.stat(path))  # noqa: PTH116 - no need of an object
    except FileNotFoundError:
        return False


def locked_as_it_is(path: str, timeout: int) -> AbstractContextManager[None]:
    """``locked`` for a file of either kind; one that cannot be opened is left to who opens it next."""
    try:
        file = DISK.open(path, readonly=True)
    except OSError:
        return nullcontext()
    try:
        ours = not DISK.is_dir(path) and is_ours(file)
    finally:
        file.close()
    return locked(path, ours=ours, timeout=timeout)


def _try_lock(number: int, *, ours: bool) -> bool:
    try:
        if ours and os.uname().sysname == "Linux":
            fcntl.fcntl(number, _F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0))
        else:
            fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        # Where there are no locks nobody holds one.
        return error.errno not in (errno.EAGAIN, errno.EACCES)
    return True
