"""A data directory in the making: found empty, locked meanwhile, and removed again after a failure.

Whoever holds the lock of a directory and found nothing in it knows that everything in it is of his own
making. So the look that counts is the one under the lock, and what fails before it removes no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from petcd.logs import NULL, Logger
from petcd.seams.disk import Disk
from petcd.server.gotext import quote
from petcd.storage.datadir import LOCK_NAME, DataDir
from petcd.storage.errors import LockedError, StorageError
from petcd.storage.wal import Wal


class NewDataDir:
    """``with NewDataDir(…) as made``: the directory is there until an exception leaves the block."""

    def __init__(self, disk: Disk, data_dir: str, wal_dir: str = "", logger: Logger = NULL) -> None:
        self._disk = disk
        self._data_dir = data_dir
        self._wal_dir = wal_dir
        self._logger = logger
        self._member = f"{data_dir}/member"
        self._snap = f"{self._member}/snap"
        self._wal = wal_dir or f"{self._member}/wal"
        self._missing: list[str] = []
        self._had_lock = False
        self._has_wal = False
        self._data: DataDir | None = None

    def __enter__(self) -> NewDataDir:
        """Raises: LockedError, StorageError when there is something already, and as ``DataDir``."""
        disk = self._disk
        self._check_empty(self._snap)
        self._check_empty(self._wal)
        self._missing = [
            path for path in (self._wal, self._snap, self._member, self._data_dir) if not disk.exists(path)
        ]
        self._had_lock = disk.exists(f"{self._member}/{LOCK_NAME}")
        try:
            data = DataDir(disk, self._data_dir, self._wal_dir, self._logger)
        except LockedError:
            raise  # it is somebody else's
        except BaseException:
            self._remove_directories()
            raise
        try:
            self._check_empty(self._snap)
            self._check_empty(self._wal)
        except BaseException:
            data.close()
            raise
        self._data = data
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        data, self._data = self._data, None
        assert data is not None
        try:
            if error is not None:
                self._discard()
        finally:
            data.close()

    @property
    def data(self) -> DataDir:
        assert self._data is not None, "it is there within its block only"
        return self._data

    def create_wal(
        self, metadata: bytes, entries: Sequence[tuple[int, bytes]] = (), hard_state: bytes | None = None
    ) -> Wal:
        """As ``Wal.create``. The log comes last: a directory without one is not started on."""
        wal = Wal.create(self._disk, self.data.wal, metadata, entries, hard_state, logger=self._logger)
        self._has_wal = True
        return wal

    def _check_empty(self, directory: str) -> None:
        found = self._disk.listdir(directory) if self._disk.exists(directory) else []
        if found:
            names = " ".join(map(quote, found))
            raise StorageError(f"expected {quote(directory)} to be empty, got [{names}]")

    def _discard(self) -> None:
        disk = self._disk
        for directory in (self._wal, self._snap) if self._has_wal else (self._snap,):
            for name in disk.listdir(directory):
                disk.remove(f"{directory}/{name}")
        if not self._had_lock:
            disk.remove(f"{self._member}/{LOCK_NAME}")
        self._remove_directories()

    def _remove_directories(self) -> None:
        """Those that were not there, as far as they are empty."""
        disk = self._disk
        for path in self._missing:
            if disk.exists(path) and not disk.listdir(path):
                disk.remove_tree(path)
