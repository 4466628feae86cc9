"""Go's files kept beside ours, and the one step that decides whose directory it is.

    <data-dir>/member.go-etcd-backup/       all of Go's member directory that a start needs
      snap/db, snap/*.snap, snap/*.snap.db
      wal/*.wal                             also of a log that has a directory of its own

The log is copied, because petcd goes on in its last segment and removes old ones later. The database is moved
there, and this rename is the decisive step. What a crash leaves, in the order of the steps:

    1. ``petcd.mdb`` is made, complete, beside Go's database         Go's directory, and files more that are
    2. the log and the ``.snap`` files are copied to ``….tmp/``      made anew by the next start
    3. ``snap/db`` is renamed to ``….tmp/snap/db``                   from here on it is petcd's; the next
    4. ``….tmp`` gets its name                                       start goes on with 4

So a database of Go in its place means: not converted, whatever else is there. A ``petcd.mdb`` beside it is
only taken for a broken-off conversion, and made anew, while ``….tmp`` is there, too; otherwise somebody put
the database back, and the start is refused. Nothing in a backup is ever changed or removed.
"""

from __future__ import annotations

from typing import Final

from petcd.seams.disk import Disk
from petcd.storage.datadir import BACKUP_NAME, DataDir, two_databases
from petcd.storage.errors import IncompatibleError
from petcd.storage.lmdb_backend import FILE_NAME, GO_FILE_NAME

_COPY_BYTES: Final = 1 << 20
_ZEROS: Final = bytes(_COPY_BYTES)


class Backup:
    """The backup of one data directory, on its way or complete. Everything blocks."""

    def __init__(self, disk: Disk, data: DataDir) -> None:
        self._disk = disk
        self._data = data
        self._temporary = f"{data.path}/{BACKUP_NAME}.tmp"

    @property
    def is_decided(self) -> bool:
        """The decisive step was done, and the end was not reached."""
        disk = self._disk
        return disk.exists(f"{self._temporary}/snap/{GO_FILE_NAME}") and not self._data.has_go_database()

    def begin(self) -> None:
        """Remove what a broken-off conversion left. Raises: IncompatibleError, when that was none."""
        disk, data = self._disk, self._data
        pending = disk.exists(self._temporary)
        if data.has_backend() and not pending:
            raise two_databases(data.snap)
        if disk.exists(f"{self._temporary}/snap/{GO_FILE_NAME}"):
            raise IncompatibleError(
                f"{self._temporary}: it holds a database of Go etcd, and {data.snap} another; move away the "
                "one that does not count"
            )
        self.discard()

    def discard(self) -> None:
        """Go's files are in their place; remove everything else that was made."""
        disk, data = self._disk, self._data
        assert data.has_go_database(), "otherwise this would be the data"
        for name in disk.listdir(data.snap):
            if name == FILE_NAME or name.startswith((f"{FILE_NAME}.", f"{FILE_NAME}-")):
                disk.remove(f"{data.snap}/{name}")
        disk.sync_dir(data.snap)  # before that which says what it was
        if disk.exists(self._temporary):
            disk.remove_tree(self._temporary)

    def prepare(self) -> None:
        """Say that a conversion is under way: from now on ``petcd.mdb`` is not somebody's data."""
        disk = self._disk
        for directory in (self._temporary, f"{self._temporary}/snap", f"{self._temporary}/wal"):
            disk.mkdir(directory, mode=0o700)
        disk.sync_dir(self._temporary)
        disk.sync_dir(self._data.path)

    def copy(self, segments: list[str], snapshots: list[str]) -> None:
        """Copy files of the log and the snap directory, durably."""
        data = self._data
        for directory, target, names in ((data.wal, "wal", segments), (data.snap, "snap", snapshots)):
            for name in names:
                copy_file(self._disk, f"{directory}/{name}", f"{self._temporary}/{target}/{name}")
            self._disk.sync_dir(f"{self._temporary}/{target}")

    def decide(self) -> None:
        """Move Go's database into the backup: the directory is petcd's."""
        disk, data = self._disk, self._data
        disk.rename(data.go_path, f"{self._temporary}/snap/{GO_FILE_NAME}")
        disk.sync_dir(f"{self._temporary}/snap")
        disk.sync_dir(data.snap)

    def finish(self) -> str:
        """Give the backup its name, and return it."""
        disk, data = self._disk, self._data
        for name in disk.listdir(data.snap):
            if name.endswith(".snap.db"):  # received by Go, and part of what it left
                disk.rename(f"{data.snap}/{name}", f"{self._temporary}/snap/{name}")
        disk.sync_dir(f"{self._temporary}/snap")
        path = f"{data.path}/{BACKUP_NAME}"
        number = 1
        while disk.exists(path):  # of an earlier conversion
            number += 1
            path = f"{data.path}/{BACKUP_NAME}-{number}"
        disk.rename(self._temporary, path)
        disk.sync_dir(data.path)
        return path


def copy_file(disk: Disk, source: str, target: str) -> None:
    """A synced copy; what is zero is not written, so that preallocated room takes none."""
    reader = disk.open(source, readonly=True)
    try:
        writer = disk.open(target, create=True, mode=0o600)
        try:
            writer.truncate(0)
            size = reader.size()
            for offset in range(0, size, _COPY_BYTES):
                chunk = reader.pread(_COPY_BYTES, offset)
                if chunk != _ZEROS:
                    writer.pwrite(chunk, offset)
            writer.truncate(size)
            writer.sync()
        finally:
            writer.close()
    finally:
        reader.close()
