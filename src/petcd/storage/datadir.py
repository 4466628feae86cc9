"""The directories of one member (contract/disk.md 1), and the lock that keeps them to it.

    <data-dir>/member/            0700
      petcd.lock                  held for as long as the member runs
      snap/petcd.mdb              the backend
      snap/*.snap                 raft snapshots
      wal/*.wal                   the write-ahead log, unless it has a directory of its own

The lock is the operating system's and dies with the process, so a crash leaves nothing to clean up. It is
taken before anything else is read, and refused at once, not after a wait, when somebody holds it.
"""

from __future__ import annotations

from typing import Final

from petcd.logs import NULL, Logger
from petcd.seams.disk import Disk, File
from petcd.storage.errors import IncompatibleError, LockedError, WrittenByGoError, write_failed
from petcd.storage.lmdb_backend import FILE_NAME, GO_FILE_NAME
from petcd.storage.wal.reader import has_wal

LOCK_NAME: Final = "petcd.lock"
BACKUP_NAME: Final = "member.go-etcd-backup"
"""What was there before a data directory of Go etcd was taken over (``server.takeover``)."""
_MODE: Final = 0o700


class DataDir:
    """A data directory, made where it was missing, proved writable, and locked."""

    def __init__(self, disk: Disk, data_dir: str, wal_dir: str = "", logger: Logger = NULL) -> None:
        """Raises: LockedError, NotWritableError, DiskFullError, WriteFailed."""
        self._disk = disk
        self._logger = logger
        self.path = data_dir
        self.member = f"{data_dir}/member"
        self.snap = f"{self.member}/snap"
        self.wal = wal_dir or f"{self.member}/wal"
        self._lock: File | None = None
        try:
            for directory in (data_dir, self.member, self.snap):
                self._make(directory)
                self._touch(directory)
            if wal_dir and _parent(wal_dir):
                self._make(_parent(wal_dir))
            if has_wal(disk, self.wal):
                self._touch(self.wal)
            lock = disk.open(f"{self.member}/{LOCK_NAME}", create=True, mode=0o600)
        except OSError as error:
            raise write_failed(data_dir, "use it as the data directory", error) from error
        if not lock.try_lock():
            lock.close()
            raise LockedError(f"{data_dir}: the data directory is in use by another etcd process")
        self._lock = lock

    def _make(self, directory: str) -> None:
        """Make it and its parents, durably: a log in a directory whose own name is lost is lost, too."""
        missing = []
        path = directory
        while path and not self._disk.exists(path):
            missing.append(path)
            path = _parent(path)
        if missing:
            self._disk.mkdir(directory, mode=_MODE)
        else:
            missing = [directory]  # made, perhaps, by a process that was killed before it could sync the name
        for path in reversed(missing):
            self._disk.sync_dir(_parent(path) or ".")

    def _touch(self, directory: str) -> None:
        path = f"{directory}/.touch"
        file = self._disk.open(path, create=True, mode=0o600)
        try:
            file.pwrite(b"", 0)
        finally:
            file.close()
        self._disk.remove(path)

    @property
    def backend_path(self) -> str:
        return f"{self.snap}/{FILE_NAME}"

    def has_wal(self) -> bool:
        """Whether this member has run before; that alone decides between restart and bootstrap."""
        return has_wal(self._disk, self.wal)

    def has_backend(self) -> bool:
        return self._disk.exists(self.backend_path)

    @property
    def go_path(self) -> str:
        """Where Go etcd has its database."""
        return f"{self.snap}/{GO_FILE_NAME}"

    def has_go_database(self) -> bool:
        return self._disk.exists(self.go_path)

    def refuse_go_data(self) -> None:
        """Raises: WrittenByGoError when there is a database of Go etcd, and no log that it belongs to."""
        if not self.has_backend() and self.has_go_database():
            raise WrittenByGoError(
                f"{self.path}: there is a database of Go etcd, but no write-ahead log in {self.wal}; if the "
                "log has a directory of its own, name it (--wal-dir), and if the database is all there is, "
                "restore it (etcdutl snapshot restore)"
            )

    def close(self) -> None:
        """Give the directory up."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()


def two_databases(snap: str) -> IncompatibleError:
    """Only who put the second one there can say which of them is the member's."""
    return IncompatibleError(
        f"{snap}: there is a database of Go etcd ({GO_FILE_NAME}) beside the one of petcd ({FILE_NAME}), so "
        "that it is not clear which of them counts; move the other one away"
    )


def _parent(path: str) -> str:
    head, slash, _ = path.rstrip("/").rpartition("/")
    return head or slash
