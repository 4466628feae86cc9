"""The write-ahead log of one member: etcd's own format and file names, so that its tools read ours.

Two threads share a ``Wal``, each with fields of its own. ``encode`` runs on the member's thread, is pure
computation and decides when a segment is cut; ``write`` and everything else that touches files runs in one
lane, in the order of the encodes, every one of them exactly once.

What a crash leaves, and what ``open`` then makes of it:

* during ``create``: ``<dir>.tmp`` or nothing. The directory gets its name only when complete and synced, so a
  start sees no log and begins anew.
* during a write, before the sync returned: any of the written sectors may be missing. Sectors that were never
  written are zero, since segments are preallocated and their tails zeroed. The tail from the first incomplete
  record on is dropped (nothing in it was acknowledged), after a copy went to ``<segment>.broken``.
* during a cut: the old segment is complete and synced before the next one is filled; the next one is complete
  and synced before it gets its name; the name is synced before anything in it counts. So either it is there
  with its head, or the log ends with the old segment, and a ``N.tmp`` is left to be reused.
* a failed write or sync: this object refuses all further writes, because after a failed sync nobody knows
  which pages reached the disk. The member stops, and the next start reads what is there.

Source: contract/disk.md 2.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Final

from petcd.counters import Histogram
from petcd.logs import NULL, Logger
from petcd.pb import raftpb, walpb
from petcd.pb.wire import varint
from petcd.seams.disk import Disk, File
from petcd.seams.failpoints import Failpoints
from petcd.storage.errors import ClosedError, CorruptError, LockedError, StorageError, TornError, write_failed
from petcd.storage.wal.reader import (
    SegmentReader,
    WalContents,
    WalSnapshot,
    WalState,
    collect,
    parse_snapshot,
    segment_names,
    select_segments,
)
from petcd.storage.wal.records import (
    SEGMENT_BYTES,
    SNAPSHOT,
    STATE,
    append_entries,
    chain,
    segment_head,
    segment_name,
)

_ZERO_SNAPSHOT: Final = b"\x08\x00\x10\x00"


def _no_time() -> float:
    return 0.0


class Cut:
    """The next segment, decided while encoding."""

    __slots__ = ("head", "index", "sequence")

    def __init__(self, sequence: int, index: int, head: bytes) -> None:
        self.sequence = sequence
        self.index = index
        self.head = head


class WalWrite:
    """One encoded batch: bytes, where they go, and whether they must be synced."""

    __slots__ = ("cut", "data", "must_sync", "offset")

    def __init__(self, data: bytes, offset: int, must_sync: bool, cut: Cut | None) -> None:
        self.data = data
        self.offset = offset
        self.must_sync = must_sync
        self.cut = cut


class Wal:
    """An open log. Made by ``Wal.create`` and ``Wal.open``."""

    def __init__(
        self,
        disk: Disk,
        directory: str,
        metadata: bytes,
        *,
        logger: Logger,
        failpoints: Failpoints | None,
        now: Callable[[], float],
        unsafe_no_fsync: bool,
        segment_bytes: int,
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._metadata = metadata
        self._logger = logger
        self._failpoints = failpoints or Failpoints()
        self._now = now
        self._unsafe_no_fsync = unsafe_no_fsync
        self._segment_bytes = segment_bytes
        self.fsync_seconds = Histogram()
        """How long the syncs of ``write`` took; observed in the lane."""

        # The member's thread: what the next encode continues.
        self._crc = 0
        self._offset = 0
        self._sequence = 0
        self._last_index = 0
        self._hard_state: bytes | None = None

        # The lane: what the next write continues.
        self._file: File | None = None
        self._segments: list[tuple[int, File]] = []
        """(name index, file) of the locked segments, oldest first; the last one is ``_file``."""
        self._next: File | None = None
        self._next_count = 0
        self._broken: StorageError | None = None

    # ------------------------------------------------------------------ making

    @classmethod
    def create(
        cls,
        disk: Disk,
        directory: str,
        metadata: bytes,
        entries: Sequence[tuple[int, bytes]] = (),
        hard_state: bytes | None = None,
        *,
        logger: Logger = NULL,
        failpoints: Failpoints | None = None,
        now: Callable[[], float] = _no_time,
        unsafe_no_fsync: bool = False,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> Wal:
        """Make a new log of ``metadata``, the zero snapshot record, and the first entries and hard state.

        It appears whole: no crash leaves a log without its entries, and no failure leaves anything. A
        directory that exists must be empty. Raises: LockedError, WriteFailed.
        """
        wal = cls(
            disk,
            directory,
            metadata,
            logger=logger,
            failpoints=failpoints,
            now=now,
            unsafe_no_fsync=unsafe_no_fsync,
            segment_bytes=segment_bytes,
        )
        temporary = directory + ".tmp"
        name = segment_name(0, 0)
        try:
            _check_empty(disk, directory)
            if disk.exists(temporary):
                _check_empty(disk, temporary, but=name)
                disk.remove_tree(temporary)
            disk.mkdir(temporary, mode=0o700)
            made, file = temporary, None
            try:
                file = disk.open(f"{temporary}/{name}", create=True, mode=0o600)
                _lock(file, f"{directory}/{name}")
                file.allocate(segment_bytes)
                head, crc = segment_head(0, metadata, None)
                part, crc = chain(SNAPSHOT, crc, _ZERO_SNAPSHOT)
                parts = [head, part]
                crc, last_index = append_entries(parts, crc, entries)
                if hard_state is not None:
                    part, crc = chain(STATE, crc, hard_state)
                    parts.append(part)
                head = b"".join(parts)
                file.pwrite(head, 0)
                if not unsafe_no_fsync:
                    file.sync()
                    disk.sync_dir(temporary)
                disk.rename(temporary, directory)
                made = directory
                if not unsafe_no_fsync:
                    disk.sync_dir(_parent(directory))
            except BaseException:
                if file is not None:
                    file.close()
                with suppress(OSError):  # the first error is the one to be told
                    disk.remove_tree(made)
                raise
        except OSError as error:
            raise write_failed(directory, "create the write-ahead log", error) from error
        wal._crc = crc
        wal._offset = len(head)
        wal._last_index = last_index
        wal._hard_state = hard_state
        wal._file = file
        wal._segments.append((0, file))
        return wal

    @classmethod
    def open(
        cls,
        disk: Disk,
        directory: str,
        snapshot: WalSnapshot | None = None,
        *,
        logger: Logger = NULL,
        failpoints: Failpoints | None = None,
        now: Callable[[], float] = _no_time,
        unsafe_no_fsync: bool = False,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> tuple[Wal, WalContents]:
        """Lock the log, read it from ``snapshot`` on, repair a torn end once, and make it ready to append.

        Raises: WalNotFound, LockedError, CorruptError and its kinds, WriteFailed.
        """
        start = snapshot or WalSnapshot()
        wal = cls(
            disk,
            directory,
            b"",
            logger=logger,
            failpoints=failpoints,
            now=now,
            unsafe_no_fsync=unsafe_no_fsync,
            segment_bytes=segment_bytes,
        )
        try:
            try:
                contents = wal._open(start)
            except TornError as error:
                logger.warn("failed to read the WAL, trying to repair it", path=error.path, error=str(error))
                wal._close_files()
                repair(disk, directory, logger)
                contents = wal._open(start)
        except OSError as error:
            wal._close_files()
            raise write_failed(directory, "open the write-ahead log", error) from error
        except BaseException:
            wal._close_files()
            raise
        return wal, contents

    def _open(self, start: WalSnapshot) -> WalContents:
        disk, directory = self._disk, self._directory
        names = select_segments(disk, directory, start.index, self._logger)
        files: list[File] = []
        for name in names:
            file = disk.open(f"{directory}/{name}")
            files.append(file)
            self._segments.append((int(name[17:-4], 16), file))
            _lock(file, f"{directory}/{name}")
        reader = SegmentReader(files)
        contents = collect(reader, files, start)
        tail = files[-1]
        if reader.offset == 0:
            raise CorruptError(tail.path, "the last segment is empty", 0)
        if not contents.metadata:
            raise CorruptError(tail.path, "no metadata record")
        # Nothing may follow the last record: the next ones are written over zeros.
        former_bytes = tail.size()
        if former_bytes > reader.offset:
            tail.truncate(reader.offset)
            tail.allocate(former_bytes)
        if not self._unsafe_no_fsync:
            # What a killed process wrote may be read here and still be lost with the power. From now on it
            # counts as persisted, so it is made so, and so are the names of the segments.
            for file in files[-2:]:
                file.sync()
            disk.sync_dir(directory)
            disk.sync_dir(_parent(directory))
        self._metadata = contents.metadata
        self._crc = reader.crc
        self._offset = reader.offset
        self._sequence = int(names[-1][:16], 16)
        self._last_index = max(contents.last_index, start.index)
        state = contents.hard_state
        self._hard_state = None if state == WalState() else encode_hard_state(*state)
        self._file = tail
        return contents

    # ------------------------------------------------------------------ the member's thread

    def encode(
        self,
        entries: Sequence[tuple[int, bytes]],
        hard_state: bytes | None,
        must_sync: bool,
        snapshot: bytes | None = None,
    ) -> WalWrite:
        """Frame one batch: a received snapshot's record, entries (index, raftpb.Entry), the hard state.

        The result must go through ``write``, in the order of the encodes.
        Cost: under 1 µs an entry of 300 bytes.
        """
        parts: list[bytes] = []
        crc = self._crc
        if snapshot is not None:
            part, crc = chain(SNAPSHOT, crc, snapshot)
            parts.append(part)
            self._last_index = max(self._last_index, parse_snapshot(snapshot).index)
            must_sync = True
        if entries:
            crc, self._last_index = append_entries(parts, crc, entries)
        if hard_state is not None:
            part, crc = chain(STATE, crc, hard_state)
            parts.append(part)
            self._hard_state = hard_state
        data = b"".join(parts)
        offset = self._offset
        end = offset + len(data)
        cut = None
        # As etcd does, a snapshot record alone does not cut.
        if end >= self._segment_bytes and (entries or hard_state is not None):
            self._sequence += 1
            head, crc = segment_head(crc, self._metadata, self._hard_state)
            cut = Cut(self._sequence, self._last_index + 1, head)
            end = len(head)
        self._crc = crc
        self._offset = end
        return WalWrite(data, offset, must_sync, cut)

    @property
    def last_index(self) -> int:
        """Index of the last entry or snapshot encoded."""
        return self._last_index

    @property
    def metadata(self) -> bytes:
        return self._metadata

    # ------------------------------------------------------------------ the lane

    def write(self, write: WalWrite) -> None:
        """Write one batch and sync it when told; blocking.

        Raises: WriteFailed, after which every further write raises ClosedError.
        """
        file = self._file
        if file is None or self._broken is not None:
            raise ClosedError(
                f"{self._directory}: the write-ahead log takes no more writes"
            ) from self._broken
        try:
            if write.data:
                file.pwrite(write.data, write.offset)
            if write.cut is not None:
                self._cut(file, write.offset + len(write.data), write.cut)
            elif write.must_sync:
                self._sync(file)
        except OSError as error:
            self._broken = write_failed(file.path, "write to the write-ahead log", error)
            raise self._broken from error
        except BaseException:
            self._broken = StorageError(f"{file.path}: a write was broken off")
            raise

    def _sync(self, file: File) -> None:
        failpoints = self._failpoints
        if failpoints.armed:
            failpoints.hit("walBeforeSync")
        if not self._unsafe_no_fsync:
            started = self._now()
            file.datasync()
            self.fsync_seconds.observe(self._now() - started)
        if failpoints.armed:
            failpoints.hit("walAfterSync")

    def _cut(self, file: File, used_bytes: int, cut: Cut) -> None:
        file.truncate(used_bytes)
        self._sync(file)
        following = self._take_next()
        following.pwrite(cut.head, 0)
        self._sync(following)
        directory = self._directory
        self._disk.rename(following.path, f"{directory}/{segment_name(cut.sequence, cut.index)}")
        if not self._unsafe_no_fsync:
            self._disk.sync_dir(directory)
        self._file = following
        self._segments.append((cut.index, following))
        self._logger.info("created a new WAL segment", path=segment_name(cut.sequence, cut.index))

    def prepare(self) -> None:
        """Preallocate the next segment (``0.tmp``, ``1.tmp`` in turn) if that has not been done.

        Put in the lane at start and after each write that cut, so that a cut does not wait for it. A failure
        here is not one of the log: the cut tries again, and reports it.
        """
        if self._next is not None or self._file is None or self._broken is not None:
            return
        try:
            self._next = self._allocate_next()
        except OSError as error:
            self._logger.warn("failed to preallocate a WAL segment", error=str(error))

    def _take_next(self) -> File:
        file, self._next = self._next, None
        if file is None:
            file = self._allocate_next()
        self._next_count += 1
        return file

    def _allocate_next(self) -> File:
        path = f"{self._directory}/{self._next_count % 2}.tmp"
        file = self._disk.open(path, create=True, mode=0o600)
        try:
            _lock(file, path)
            # A crash may have left one with old bytes in it.
            file.truncate(0)
            file.allocate(self._segment_bytes)
            if not self._unsafe_no_fsync:
                file.sync()
        except BaseException:
            file.close()
            raise
        return file

    def release(self, index: int) -> None:
        """Give up the locks on segments that hold nothing after ``index``, so that purge may remove them."""
        segments = self._segments
        count = len(segments) - 1
        for place, (begin, _) in enumerate(segments):
            if begin >= index:
                count = place - 1
                break
        for _, file in segments[: max(count, 0)]:
            file.close()
        del segments[: max(count, 0)]

    def close(self) -> None:
        """Sync the tail, remove the preallocated segment, release all locks."""
        file = self._file
        try:
            if self._next is not None:
                self._disk.remove(self._next.path)
            if file is not None and self._broken is None and not self._unsafe_no_fsync:
                file.datasync()
        except OSError as error:
            raise write_failed(self._directory, "close the write-ahead log", error) from error
        finally:
            self._close_files()

    def _close_files(self) -> None:
        self._file = None
        for _, file in self._segments:
            file.close()
        self._segments.clear()
        if self._next is not None:
            self._next.close()
            self._next = None


def encode_hard_state(term: int, vote: int, commit: int) -> bytes:
    """raftpb.HardState with all three fields, as every release up to 3.6 writes it."""
    return _hard_state_head(term, vote) + varint(commit)


@lru_cache(maxsize=4)
def _hard_state_head(term: int, vote: int) -> bytes:
    """Of nearly all hard states that are written only the commit index is new."""
    return b"\x08" + varint(term) + b"\x10" + varint(vote) + b"\x18"


def encode_snapshot_record(index: int, term: int, conf_state: raftpb.ConfState | None) -> bytes:
    """walpb.Snapshot, the data of a snapshot record."""
    return walpb.Snapshot(index=index, term=term, conf_state=conf_state).encode()


def repair(disk: Disk, directory: str, logger: Logger = NULL) -> bool:
    """Cut a torn record off the last segment, keeping a copy of the whole in ``<name>.broken``.

    Returns whether something was cut. Raises: CorruptError when the damage is not a torn write.
    """
    path = f"{directory}/{segment_names(disk, directory, logger)[-1]}"
    file = disk.open(path)
    try:
        _lock(file, path)
        reader = SegmentReader([file])
        try:
            for _ in reader:
                pass
        except TornError as error:
            if reader.offset == 0:
                # A segment gets its name only with its head complete, so this is no broken-off write.
                raise CorruptError(path, "the first record of the segment is damaged", 0) from error
        else:
            return False
        broken = disk.open(path + ".broken", create=True, mode=0o600)
        try:
            broken.truncate(0)
            broken.pwrite(file.pread(file.size(), 0), 0)
            broken.sync()
        finally:
            broken.close()
        file.truncate(reader.offset)
        file.sync()
    finally:
        file.close()
    logger.info("repaired the WAL", path=path)
    return True


def purge(disk: Disk, directory: str, suffix: str, keep: int, *, locked: bool) -> list[str]:
    """Remove the oldest files whose names end in ``suffix`` until ``keep`` are left (0 keeps all).

    With ``locked`` a file goes only if its lock can be taken, and the first that is held ends the round.
    Returns the removed names. Raises: WriteFailed.
    """
    if keep == 0 or not disk.is_dir(directory):
        return []
    names = sorted(name for name in disk.listdir(directory) if name.endswith(suffix))
    removed = []
    for name in names[: max(0, len(names) - keep)]:
        path = f"{directory}/{name}"
        try:
            if not locked:
                disk.remove(path)
            else:
                file = disk.open(path)
                try:
                    if not file.try_lock():
                        break
                    disk.remove(path)
                    # Power may fail: a later segment must not be gone while an earlier one is still there.
                    disk.sync_dir(directory)
                finally:
                    file.close()
        except OSError as error:
            raise write_failed(path, "remove", error) from error
        removed.append(name)
    return removed


def _lock(file: File, path: str) -> None:
    if not file.try_lock():
        raise LockedError(f"{path}: locked by another process")


def _check_empty(disk: Disk, directory: str, *, but: str = "") -> None:
    """Raises: OSError when there is anything but the file named; it may be somebody's data."""
    if disk.exists(directory) and not {but}.issuperset(disk.listdir(directory)):
        raise OSError(errno.ENOTEMPTY, f"{directory} is not empty")


def _parent(path: str) -> str:
    return path.rstrip("/").rpartition("/")[0] or ("/" if path.startswith("/") else ".")
