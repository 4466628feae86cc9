"""Raft snapshot files, ``TTTTTTTTTTTTTTTT-IIIIIIIIIIIIIIII.snap`` (term, index; contract/disk.md 3).

A file is ``snappb.snapshot``: the CRC-32C of an encoded ``raftpb.Snapshot``, and that. It counts only when
the write-ahead log has a snapshot record of the same index and term, which is written after it.

What a crash leaves: in a save, a ``tmp-*`` that is removed at the next start; after its rename, a complete,
synced file that no record speaks of yet, and that is therefore not chosen. A file that cannot be read is set
aside as ``*.broken``, and the one before it is tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from google_crc32c import value as crc32c

from petcd.counters import Histogram
from petcd.logs import NULL, Logger
from petcd.pb import raftpb, snappb
from petcd.pb.wire import DecodeError
from petcd.seams.disk import Disk
from petcd.storage.errors import CorruptError, write_failed
from petcd.storage.wal.reader import WalSnapshot

_SUFFIX: Final = ".snap"


class Snapshotter:
    """The snapshot files of one member. Its calls block: at start, or in a lane."""

    def __init__(
        self, disk: Disk, directory: str, logger: Logger = NULL, now: Callable[[], float] = lambda: 0.0
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._logger = logger
        self.now = now
        self.fsync_seconds = Histogram()
        """Of ``.snap`` files; observed where they are written, in a lane."""
        self.database_fsync_seconds = Histogram()
        self.database_save_seconds = Histogram([0.1 * 2**i for i in range(10)])
        """Of received databases; the whole of a save is from its first byte to its name."""

    def save(self, snapshot: raftpb.Snapshot) -> str:
        """Write one file, durably, and return its name. An empty snapshot (index 0) is not written.

        Raises: WriteFailed.
        """
        metadata = snapshot.metadata
        if metadata is None or metadata.index == 0:
            return ""
        name = f"{metadata.term:016x}-{metadata.index:016x}{_SUFFIX}"
        path = f"{self._directory}/{name}"
        temporary = f"{self._directory}/tmp-{name[: -len(_SUFFIX)]}"
        data = snapshot.encode()
        disk = self._disk
        try:
            file = disk.open(temporary, create=True, mode=0o666)
            try:
                file.truncate(0)
                file.pwrite(snappb.Snapshot(crc=crc32c(data), data=data).encode(), 0)
                began = self.now()
                file.sync()
                self.fsync_seconds.observe(self.now() - began)
            finally:
                file.close()
            disk.rename(temporary, path)
            disk.sync_dir(self._directory)
        except OSError as error:
            raise write_failed(path, "save the snapshot", error) from error
        return name

    def names(self) -> list[str]:
        """The names of all snapshot files, newest first."""
        return [name for name in reversed(self._disk.listdir(self._directory)) if name.endswith(_SUFFIX)]

    def load(self, name: str) -> raftpb.Snapshot:
        """Raises: CorruptError."""
        return parse_snapshot_file(f"{self._directory}/{name}", self._disk.read(f"{self._directory}/{name}"))

    def load_newest(self, valid: Iterable[WalSnapshot | tuple[int, int]] | None) -> raftpb.Snapshot | None:
        """The newest readable snapshot among those whose (index, term) is in ``valid`` (None: any).

        Unreadable ones met on the way are renamed to ``*.broken``.
        """
        wanted = None if valid is None else {(place[0], place[1]) for place in valid}
        for name in self.names():
            path = f"{self._directory}/{name}"
            try:
                snapshot = self.load(name)
            except CorruptError as error:
                self._logger.warn("failed to read a snap file", path=path, error=str(error))
                self._disk.rename(path, path + ".broken")
                continue
            metadata = snapshot.metadata
            if metadata is not None and (wanted is None or (metadata.index, metadata.term) in wanted):
                self._make_durable(path)
                return snapshot
        return None

    def _make_durable(self, path: str) -> None:
        """A process that was killed may have left the file, or its name, unsynced; from now on it counts."""
        file = self._disk.open(path, readonly=True)
        try:
            file.sync()
        finally:
            file.close()
        self._disk.sync_dir(self._directory)

    def remove_leftovers(self) -> None:
        """At start: files of saves, receptions and defragmentations that a crash broke off."""
        for name in self._disk.listdir(self._directory):
            if name.startswith(("tmp", "db.tmp")):
                self._disk.remove(f"{self._directory}/{name}")

    def database_path(self, index: int) -> str:
        """Where a database received with the snapshot ``index`` waits to be adopted."""
        return f"{self._directory}/{index:016x}.snap.db"

    def temporary_path(self, label: str) -> str:
        """For a file that the next start removes if a crash leaves it behind."""
        return f"{self._directory}/tmp-{label}"

    def release_databases(self, index: int) -> None:
        """Remove received databases of snapshots before ``index``."""
        for name in self._disk.listdir(self._directory):
            if name.endswith(".snap.db"):
                try:
                    received = int(name[: -len(".snap.db")], 16)
                except ValueError:
                    continue
                if received < index:
                    self._disk.remove(f"{self._directory}/{name}")


def parse_snapshot_file(path: str, content: bytes) -> raftpb.Snapshot:
    """Check and decode the bytes of a ``.snap`` file. Raises: CorruptError."""
    if not content:
        raise CorruptError(path, "the snapshot file is empty")
    try:
        outer = snappb.Snapshot.decode(content)
        if not outer.data or outer.crc == 0:
            raise CorruptError(path, "the snapshot file has no data or no checksum")
        if crc32c(outer.data) != outer.crc:
            raise CorruptError(path, "snap: crc mismatch")
        return raftpb.Snapshot.decode(outer.data)
    except DecodeError as error:
        raise CorruptError(path, f"malformed snapshot: {error}") from error
