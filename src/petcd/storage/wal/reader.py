"""Reading a write-ahead log: which segments, which records count, what a crash may have left.

Rules of contract/disk.md 2.7 to 2.9. In short: a zero length field or the end of a file ends a segment; only
the last segment may be torn (``TornError``, repairable); everything else that does not fit is damage and is
refused with its own error. In one place we are stricter than etcd: a length field that a torn write cannot
explain (data of other records follows it) is damage too, for to cut there would drop acknowledged entries.
An announced length is bounded by the rest of its file, so forged lengths
(CVE-2020-15106) cost nothing, and an index that leaves a hole is refused (CVE-2020-15112).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from google_crc32c import extend

from petcd.logs import NULL, Logger
from petcd.pb import raftpb, walpb
from petcd.pb.wire import DecodeError, long_varint
from petcd.seams.disk import Disk, File
from petcd.storage.errors import (
    CorruptError,
    CrcMismatch,
    IndexGapError,
    MetadataConflict,
    SnapshotMismatch,
    SnapshotNotFound,
    TornError,
    WalNotFound,
)
from petcd.storage.wal.records import (
    CRC,
    ENTRY,
    METADATA,
    SECTOR_BYTES,
    SNAPSHOT,
    STATE,
    is_torn,
    parse_segment_name,
)

_READ_BYTES: Final = 1 << 20
_unpack_length: Final = struct.Struct("<Q").unpack_from
_LENGTH_MASK: Final = (1 << 56) - 1


class WalEntry(NamedTuple):
    """A raft log entry as stored; ``data`` is empty when it was absent."""

    type: int
    term: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody wants here
    data: bytes


class WalState(NamedTuple):
    """The hard state as stored."""

    term: int = 0
    vote: int = 0
    commit: int = 0


class WalSnapshot(NamedTuple):
    """A snapshot record: where a snapshot stands, and since 3.5 the configuration at it."""

    index: int = 0  # type: ignore[assignment]
    term: int = 0
    conf_state: raftpb.ConfState | None = None


@dataclass(slots=True)
class WalContents:
    """What a log holds from a snapshot on."""

    metadata: bytes = b""
    """etcdserverpb.Metadata as written at creation."""
    hard_state: WalState = field(default_factory=WalState)
    entries: list[WalEntry] = field(default_factory=list)
    """Without gaps; the first one's index is the snapshot's plus one."""
    snapshots: list[WalSnapshot] = field(default_factory=list)
    """All snapshot records met, in file order."""
    snapshot_found: bool = False
    """Whether the snapshot asked for is among them."""
    last_index: int = 0
    """Index of the last entry record, which an overwritten tail may have above ``entries``."""
    torn: bool = False
    """Read-only reading met a torn end; what stands before it is here."""


class SegmentReader:
    """Decodes the records of consecutive segments, checking the checksum chain.

    After an error or the end, ``position`` is the segment's place in ``files`` and ``offset`` the end of its
    last good record; ``crc`` is the chain's value there.
    """

    __slots__ = ("_files", "crc", "offset", "position")

    def __init__(self, files: Sequence[File]) -> None:
        self._files = files
        self.crc = 0
        self.offset = 0
        self.position = 0

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """(type, data) of each record but the crc records.

        Raises: TornError in the last segment; CrcMismatch, CorruptError anywhere.
        """
        for position, file in enumerate(self._files):
            self.position = position
            self.offset = 0
            yield from self._segment(file, last=position == len(self._files) - 1)

    def _segment(self, file: File, last: bool) -> Iterator[tuple[int, bytes]]:
        file_bytes = file.size()
        # ``buffer`` holds the file from ``base`` on; ``at`` is the frame's place in it.
        buffer, base, at = b"", 0, 0
        crc = self.crc
        extend_crc = extend
        while True:
            if at + 8 > len(buffer):
                base, at = base + at, 0
                buffer = file.pread(_READ_BYTES, base)
                if len(buffer) < 8:
                    if buffer:
                        raise _torn(file, base, last, "a record's length is cut off")
                    return
            (length,) = _unpack_length(buffer, at)
            offset = base + at
            if length == 0:
                rest = SECTOR_BYTES - offset % SECTOR_BYTES
                if last and any(file.pread(rest, offset)):
                    # One sector is written whole or not at all, so this length was overwritten.
                    raise CorruptError(file.path, "a record's length is zero, its data is not", offset)
                return
            n = length & _LENGTH_MASK
            padding = length >> 56 & 7 if length >> 63 else 0
            frame_bytes = 8 + n + padding
            if offset + frame_bytes > file_bytes:
                if last and _more_follows(file, offset, file_bytes):
                    raise CorruptError(file.path, f"a record's length, {n}, is damaged", offset)
                raise _torn(file, offset, last, f"a record of {n} bytes reaches beyond the end")
            if padding != -n % 8:
                if last and _zeros_from(file, offset + 8):
                    raise TornError(file.path, "a record's length is half written", offset)
                raise CorruptError(file.path, f"a record's length, {length:#018x}, is damaged", offset)
            if at + frame_bytes > len(buffer):
                base, at = offset, 0
                buffer = file.pread(max(_READ_BYTES, frame_bytes), base)
                if len(buffer) < frame_bytes:
                    raise _torn(file, offset, last, f"a record of {n} bytes could not be read whole")
            start = at + 8
            try:
                record_type, record_crc, data = _parse_record(buffer, start, start + n)
            except DecodeError as error:
                if last and (
                    is_torn(buffer, start, n + padding, offset + 8)
                    or _breaks_off(file, buffer, start, n, offset)
                ):
                    raise TornError(file.path, "torn record", offset) from error
                raise CorruptError(file.path, f"malformed record: {error}", offset) from error
            if record_type == CRC:
                if crc != 0 and record_crc != crc:
                    raise CrcMismatch(
                        file.path, "crc mismatch: the segment does not continue the log", offset
                    )
                crc = record_crc
            else:
                found = extend_crc(crc, data)
                if found != record_crc:
                    if last and (
                        is_torn(buffer, start, n + padding, offset + 8)
                        or _breaks_off(file, buffer, start, n, offset)
                    ):
                        raise TornError(file.path, "torn record", offset)
                    raise CrcMismatch(
                        file.path, f"crc mismatch: expected {record_crc:x}, computed {found:x}", offset
                    )
                crc = found
            at += frame_bytes
            self.crc = crc
            self.offset = base + at
            if record_type != CRC:
                yield record_type, data


def _more_follows(file: File, offset: int, file_bytes: int) -> bool:
    """Whether data follows the record at ``offset``, whose announced length cannot be right.

    The record itself says how long its data is. If it ends before the file does and something stands behind
    it, the length was damaged in the middle of the log, and cutting here would drop acknowledged entries.
    """
    head = file.pread(32, offset + 8)
    try:
        if head[0] != 0x08 or head[2] != 0x10:
            return False
        _, at = long_varint(head, 3)
        if head[at] != 0x1A:
            return False
        size, at = long_varint(head, at + 1)
    except (IndexError, DecodeError):
        return False
    end = offset + 8 + -(-(at + size) // 8) * 8
    return end < file_bytes and not _zeros_from(file, end)


def _breaks_off(file: File, buffer: bytes, start: int, n: int, offset: int) -> bool:
    """Whether the record of ``n`` bytes at ``offset`` ends in zeros that go on to the end of the file.

    Then its writing stopped within a sector, as some file systems let happen. etcd refuses such a log; here
    it is a torn end like any other. What was acknowledged cannot be mistaken for it: a whole entry ends in
    its request's id, a hard state in its commit index, neither of them zero. (A snapshot record may end in a
    zero; without it the snapshot before it counts.)
    """
    return buffer[start + n - 1] == 0 and _zeros_from(file, offset + 8 + n)


def _zeros_from(file: File, offset: int) -> bool:
    """Whether nothing but zeros stands from ``offset`` to the end of the file."""
    while True:
        chunk = file.pread(_READ_BYTES, offset)
        if not chunk:
            return True
        if any(chunk):
            return False
        offset += len(chunk)


def _torn(file: File, offset: int, last: bool, reason: str) -> CorruptError:
    if last:
        return TornError(file.path, reason, offset)
    return CorruptError(file.path, f"{reason}, and later segments follow", offset)


def _parse_record(buffer: bytes, start: int, end: int) -> tuple[int, int, bytes]:
    """(type, crc, data) of the walpb.Record in ``buffer[start:end]``; data is empty when absent."""
    # The order every release writes: 08 <type> 10 <crc> [1a <length> <data>].
    if end - start > 10 and buffer[start] == 0x08 and buffer[start + 1] < 128 and buffer[start + 2] == 0x10:
        try:
            crc, at = long_varint(buffer, start + 3)
            if buffer[at] == 0x1A:
                size, at = long_varint(buffer, at + 1)
                if at + size == end:
                    return buffer[start + 1], crc & 0xFFFF_FFFF, buffer[at:end]
        except IndexError:
            raise DecodeError("number without an end") from None
    record = walpb.Record.decode(buffer[start:end])
    if record.type == 0:
        raise DecodeError("record without a type")
    return record.type, record.crc, record.data


def parse_entry(data: bytes) -> WalEntry:
    """Decode raftpb.Entry. Raises: DecodeError. Cost: 1 µs."""
    end = len(data)
    # The order every release writes: [08 <type>] 10 <term> 18 <index> [22 <length> <data>].
    at = 2 if end > 2 and data[0] == 0x08 and data[1] < 128 else 0
    if end > at + 3 and data[at] == 0x10:
        try:
            term, index_at = long_varint(data, at + 1)
            if data[index_at] == 0x18:
                index, data_at = long_varint(data, index_at + 1)
                if data_at == end:
                    return WalEntry(data[1] if at else 0, term, index, b"")
                if data[data_at] == 0x22:
                    size, data_at = long_varint(data, data_at + 1)
                    if data_at + size == end:
                        return WalEntry(data[1] if at else 0, term, index, data[data_at:])
        except IndexError:
            raise DecodeError("number without an end") from None
    entry = raftpb.Entry.decode(data)
    return WalEntry(entry.Type, entry.Term, entry.Index, entry.Data or b"")


def parse_state(data: bytes) -> WalState:
    """Decode raftpb.HardState. Raises: DecodeError."""
    state = raftpb.HardState.decode(data)
    return WalState(state.term, state.vote, state.commit)


def parse_snapshot(data: bytes) -> WalSnapshot:
    """Decode walpb.Snapshot. Raises: DecodeError."""
    snapshot = walpb.Snapshot.decode(data)
    return WalSnapshot(snapshot.index, snapshot.term, snapshot.conf_state)


def collect(
    reader: SegmentReader, files: Sequence[File], start: WalSnapshot, torn_is_end: bool = False
) -> WalContents:
    """Read to the end, keeping what counts from ``start`` on.

    Raises: what the reader raises, but for TornError when ``torn_is_end``; IndexGapError, MetadataConflict,
    SnapshotMismatch, CorruptError.
    """
    contents = WalContents()
    try:
        _collect(contents, reader, files, start)
    except TornError:
        if not torn_is_end:
            raise
        contents.torn = True
    return contents


def _collect(contents: WalContents, reader: SegmentReader, files: Sequence[File], start: WalSnapshot) -> None:
    metadata: bytes | None = None
    entries = contents.entries
    start_index = start.index
    for record_type, data in reader:
        try:
            if record_type == ENTRY:
                entry = parse_entry(data)
                contents.last_index = entry.index
                place = entry.index - start_index - 1
                if place < 0:
                    continue
                if place != len(entries):
                    if place > len(entries):
                        raise IndexGapError(
                            files[reader.position].path,
                            f"entry {entry.index} follows entry {start_index + len(entries)}",
                            reader.offset,
                        )
                    # A new leader overwrote an uncommitted tail.
                    del entries[place:]
                entries.append(entry)
            elif record_type == STATE:
                contents.hard_state = parse_state(data)
            elif record_type == METADATA:
                if metadata is not None and metadata != data:
                    raise MetadataConflict(
                        files[reader.position].path, "conflicting metadata found", reader.offset
                    )
                metadata = contents.metadata = data
            elif record_type == SNAPSHOT:
                snapshot = parse_snapshot(data)
                contents.snapshots.append(snapshot)
                if snapshot.index == start_index:
                    if snapshot.term != start.term:
                        raise SnapshotMismatch(
                            files[reader.position].path,
                            f"snapshot {snapshot.index} has term {snapshot.term}, not {start.term}",
                            reader.offset,
                        )
                    contents.snapshot_found = True
            else:
                raise CorruptError(
                    files[reader.position].path, f"unexpected record type {record_type}", reader.offset
                )
        except DecodeError as error:
            raise CorruptError(
                files[reader.position].path, f"malformed record of type {record_type}: {error}", reader.offset
            ) from error


def has_wal(disk: Disk, directory: str) -> bool:
    """Whether the directory holds a segment; that alone decides between restart and bootstrap."""
    return disk.is_dir(directory) and any(name.endswith(".wal") for name in disk.listdir(directory))


def segment_names(disk: Disk, directory: str, logger: Logger = NULL) -> list[str]:
    """The names of all segments, oldest first.

    Raises: WalNotFound when there is none.
    """
    if not disk.is_dir(directory):
        raise WalNotFound(f"{directory}: no write-ahead log")
    names = []
    for name in disk.listdir(directory):
        if parse_segment_name(name) is not None:
            names.append(name)
        elif not name.endswith(".tmp"):
            logger.warn("ignored file in WAL directory", path=name)
    if not names:
        raise WalNotFound(f"{directory}: no segment of a write-ahead log")
    return sorted(names)


def select_segments(disk: Disk, directory: str, index: int, logger: Logger = NULL) -> list[str]:
    """The segments to read for what follows snapshot ``index``: from the last whose name index is <= it.

    Raises: WalNotFound when all begin later; CorruptError when a sequence number is missing.
    """
    names = segment_names(disk, directory, logger)
    parsed = [place for name in names if (place := parse_segment_name(name)) is not None]
    first = max((i for i, (_, begin) in enumerate(parsed) if begin <= index), default=-1)
    if first < 0:
        raise WalNotFound(f"{directory}: the oldest segment {names[0]} begins after snapshot index {index}")
    for i in range(first + 1, len(parsed)):
        if parsed[i][0] != parsed[i - 1][0] + 1:
            raise CorruptError(
                f"{directory}/{names[i]}", f"sequence numbers are not continuous after {names[i - 1]}"
            )
    return names[first:]


def read_log(
    disk: Disk, directory: str, snapshot: WalSnapshot | None = None, logger: Logger = NULL
) -> WalContents:
    """Read a log without locking or changing it; a torn end is left out and noted.

    Raises: SnapshotNotFound when ``snapshot`` was given and is not there, and what ``collect`` raises.
    """
    start = snapshot or WalSnapshot()
    files = [
        disk.open(f"{directory}/{name}", readonly=True)
        for name in select_segments(disk, directory, start.index, logger)
    ]
    try:
        contents = collect(SegmentReader(files), files, start, torn_is_end=True)
    finally:
        for file in files:
            file.close()
    if snapshot is not None and not contents.snapshot_found:
        raise SnapshotNotFound(f"{directory}: no snapshot record of index {start.index}")
    return contents


def valid_snapshots(disk: Disk, directory: str, logger: Logger = NULL) -> list[WalSnapshot]:
    """The snapshot records a start may use: those the log's last hard state has committed (2.9).

    A torn end is tolerated, for the log has not been repaired yet when this is asked.
    """
    files = [
        disk.open(f"{directory}/{name}", readonly=True) for name in segment_names(disk, directory, logger)
    ]
    snapshots: list[WalSnapshot] = []
    state = WalState()
    reader = SegmentReader(files)
    try:
        for record_type, data in reader:
            if record_type == SNAPSHOT:
                snapshots.append(parse_snapshot(data))
            elif record_type == STATE:
                state = parse_state(data)
    except TornError:
        pass
    except DecodeError as error:
        raise CorruptError(files[reader.position].path, str(error), reader.offset) from error
    finally:
        for file in files:
            file.close()
    return [snapshot for snapshot in snapshots if snapshot.index <= state.commit]
