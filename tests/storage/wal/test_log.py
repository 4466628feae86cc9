"""Create, append, cut, reopen; what a torn or damaged log turns into."""

from __future__ import annotations

import contextlib
import errno
import itertools
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.storage.fakes import FakeDisk

from petcd.pb import raftpb
from petcd.seams import Failpoints
from petcd.seams.real import RealDisk
from petcd.storage import wal
from petcd.storage.errors import (
    ClosedError,
    CorruptError,
    CrcMismatch,
    DiskFullError,
    IndexGapError,
    LockedError,
    MetadataConflict,
    SnapshotMismatch,
    SnapshotNotFound,
    WalNotFound,
    WriteFailed,
)
from petcd.storage.wal import Wal, WalContents, WalEntry, WalSnapshot, records

METADATA = b"\x08\x01\x10\x02"
DIR = "/m/wal"
SEGMENT = 16_384


def entry(index: int, term: int = 1, data: bytes = b"payload") -> tuple[int, bytes]:
    return index, raftpb.Entry(Term=term, Index=index, Data=data).encode()


def create(disk: FakeDisk | RealDisk, directory: str = DIR, segment_bytes: int = SEGMENT) -> Wal:
    disk.mkdir(directory.rpartition("/")[0])
    return Wal.create(disk, directory, METADATA, segment_bytes=segment_bytes)


def reopen(disk: FakeDisk | RealDisk, directory: str = DIR, at: WalSnapshot | None = None) -> WalContents:
    log, contents = Wal.open(disk, directory, at, segment_bytes=SEGMENT)
    log.close()
    return contents


def save(log: Wal, *entries: tuple[int, bytes], state: tuple[int, int, int] | None = None) -> None:
    log.write(log.encode(entries, wal.encode_hard_state(*state) if state else None, True))


def test_what_was_written_is_read_back() -> None:
    disk = FakeDisk()
    log = create(disk)
    save(log, entry(1), entry(2, data=b""), state=(1, 7, 1))
    save(log, entry(3, 2, b"x" * 5000), state=(2, 7, 3))
    log.close()
    contents = reopen(disk)
    assert contents.metadata == METADATA
    assert contents.hard_state == (2, 7, 3)
    assert contents.entries == [
        WalEntry(0, 1, 1, b"payload"),
        WalEntry(0, 1, 2, b""),
        WalEntry(0, 2, 3, b"x" * 5000),
    ]
    assert contents.snapshots == [WalSnapshot(0, 0, None)]
    assert contents.snapshot_found


def test_appending_after_a_reopen_continues_the_chain() -> None:
    disk = FakeDisk()
    create(disk).close()
    for index in range(1, 6):
        log, contents = Wal.open(disk, DIR, segment_bytes=SEGMENT)
        assert [e.index for e in contents.entries] == list(range(1, index))
        assert log.last_index == index - 1
        save(log, entry(index), state=(1, 1, index))
        log.close()
    assert len(reopen(disk).entries) == 5


def test_a_new_leader_overwrites_an_uncommitted_tail() -> None:
    disk = FakeDisk()
    log = create(disk)
    save(log, entry(1), entry(2), entry(3))
    save(log, entry(2, 2, b"other"))
    log.close()
    assert [(e.index, e.term) for e in reopen(disk).entries] == [(1, 1), (2, 2)]


def test_a_full_segment_is_cut() -> None:
    disk = FakeDisk()
    log = create(disk)
    log.prepare()
    assert "0.tmp" in disk.listdir(DIR)
    index = 0
    cuts = 0
    while cuts < 3:
        index += 1
        write = log.encode([entry(index, data=b"v" * 1000)], wal.encode_hard_state(1, 1, index - 1), True)
        log.write(write)
        if write.cut is not None:
            cuts += 1
            log.prepare()
    save(log, entry(index + 1))
    names = [name for name in disk.listdir(DIR) if name.endswith(".wal")]
    assert records.parse_segment_name(names[0]) == (0, 0)
    assert len(names) == 4
    assert disk.names[f"{DIR}/{names[0]}"].now[-8:] != bytes(8), "a cut segment ends with its last record"  # type: ignore[union-attr]
    log.close()
    assert not [name for name in disk.listdir(DIR) if name.endswith(".tmp")]
    contents = reopen(disk)
    assert [e.index for e in contents.entries] == list(range(1, index + 2))
    assert contents.hard_state == (1, 1, index - 1)


def test_a_log_opens_at_the_segment_its_snapshot_needs() -> None:
    disk = FakeDisk()
    log = create(disk)
    for index in range(1, 61):
        save(log, entry(index, data=b"v" * 1000), state=(1, 1, index))
    conf = raftpb.ConfState(voters=[1, 2])
    log.write(log.encode([], None, True, wal.encode_snapshot_record(40, 1, conf)))
    log.close()
    for name in disk.listdir(DIR)[:2]:
        disk.remove(f"{DIR}/{name}")
    contents = reopen(disk, at=WalSnapshot(40, 1))
    assert contents.entries[0].index == 41
    assert contents.entries[-1].index == 60
    assert contents.snapshot_found
    assert contents.snapshots == [WalSnapshot(40, 1, conf)]
    with pytest.raises(SnapshotMismatch):
        reopen(disk, at=WalSnapshot(40, 2))
    with pytest.raises(WalNotFound):
        reopen(disk)
    assert wal.read_log(disk, DIR, WalSnapshot(40, 1)).snapshot_found
    with pytest.raises(SnapshotNotFound):
        wal.read_log(disk, DIR, WalSnapshot(39, 1))


def test_valid_snapshots_are_those_committed() -> None:
    disk = FakeDisk()
    log = create(disk)
    save(log, *[entry(i) for i in range(1, 11)], state=(1, 1, 5))
    for index in (4, 5, 6):
        log.write(log.encode([], None, True, wal.encode_snapshot_record(index, 1, None)))
    log.close()
    assert [s.index for s in wal.valid_snapshots(disk, DIR)] == [0, 4, 5]


def test_a_missing_segment_is_refused() -> None:
    disk = FakeDisk()
    log = create(disk)
    for index in range(1, 61):
        save(log, entry(index, data=b"v" * 1000))
    log.close()
    disk.remove(f"{DIR}/{disk.listdir(DIR)[1]}")
    with pytest.raises(CorruptError, match="sequence numbers are not continuous"):
        reopen(disk)


def test_an_index_gap_is_refused() -> None:
    disk = FakeDisk()
    log = create(disk)
    save(log, entry(1), entry(3))
    log.close()
    with pytest.raises(IndexGapError, match="entry 3 follows entry 1"):
        reopen(disk)


def test_conflicting_metadata_is_refused() -> None:
    disk = FakeDisk()
    log = create(disk)
    frame, _ = records.chain(records.METADATA, log._crc, b"\x08\x09")
    disk.open(f"{DIR}/{records.segment_name(0, 0)}").pwrite(frame, log._offset)
    log.close()
    with pytest.raises(MetadataConflict):
        reopen(disk)


def test_an_unknown_record_type_is_refused() -> None:
    disk = FakeDisk()
    log = create(disk)
    frame, _ = records.chain(9, log._crc, b"\x08\x09")
    disk.open(f"{DIR}/{records.segment_name(0, 0)}").pwrite(frame, log._offset)
    log.close()
    with pytest.raises(CorruptError, match="unexpected record type 9"):
        reopen(disk)


def three_entries(payload: int = 900) -> tuple[FakeDisk, str, int, int]:
    """A log of three entries; the place where the last one's frame begins and ends."""
    disk = FakeDisk()
    log = create(disk)
    rng = random.Random(1)
    save(log, entry(1), entry(2), state=(1, 1, 2))
    begin = log._offset
    save(log, entry(3, data=bytes(rng.randrange(1, 256) for _ in range(payload))))
    end = log._offset
    log.close()
    return disk, f"{DIR}/{records.segment_name(0, 0)}", begin, end


def test_a_file_cut_at_any_byte_of_its_last_record_is_repaired() -> None:
    disk, path, begin, end = three_entries()
    whole = disk.read(path)
    for size in range(begin, end):
        torn = FakeDisk()
        torn.mkdir(DIR)
        torn.open(path, create=True).pwrite(whole[:size], 0)
        log, contents = Wal.open(torn, DIR, segment_bytes=SEGMENT)
        assert [e.index for e in contents.entries] == [1, 2]
        assert contents.hard_state == (1, 1, 2)
        save(log, entry(3, data=b"again"))
        log.close()
        assert reopen(torn).entries[-1].data == b"again"
        assert (path + ".broken" in torn.names) == (size > begin)


def test_a_batch_zero_from_any_byte_on_keeps_what_is_whole() -> None:
    """Preallocated space reads as zeros behind a write that stopped anywhere, sector border or not."""
    disk = FakeDisk()
    log = create(disk)
    save(log, entry(1), state=(1, 1, 1))
    begin = log._offset
    ends = []
    for index in (2, 3, 4):
        save(log, entry(index, data=b"p" * (index * 300) + b"q"))
        ends.append(log._offset)
    log.close()
    path = f"{DIR}/{records.segment_name(0, 0)}"
    whole = disk.read(path)
    for size in range(begin, ends[-1] - 8):
        torn = FakeDisk()
        torn.mkdir(DIR)
        torn.open(path, create=True).pwrite(whole[:size] + bytes(len(whole) - size), 0)
        kept = [e.index for e in reopen(torn).entries]
        least = 1 + sum(end <= size for end in ends)
        # The zeros that pad a record to eight bytes may be written or not.
        most = 1 + sum(end - 8 < size for end in ends)
        assert list(range(1, least + 1)) == kept or list(range(1, most + 1)) == kept, size


def test_a_last_record_zero_from_any_sector_on_is_repaired() -> None:
    disk, path, begin, end = three_entries(3000)
    whole = disk.read(path)
    for sector in range((begin + 8) // 512 + 1, end // 512):
        for stop in (sector * 512 + 512, len(whole)):
            torn = FakeDisk()
            torn.mkdir(DIR)
            hole = whole[: sector * 512] + bytes(stop - sector * 512) + whole[stop:]
            torn.open(path, create=True).pwrite(hole, 0)
            assert [e.index for e in reopen(torn).entries] == [1, 2]


def test_old_bytes_behind_a_torn_record_never_come_back() -> None:
    disk, path, begin, _ = three_entries()
    file = disk.open(path)
    # A record whose first sector was lost: its length reads zero, and bytes of it stand behind.
    file.pwrite(bytes(512 - begin % 512), begin)
    assert any(disk.read(path)[begin:])
    log, contents = Wal.open(disk, DIR, segment_bytes=SEGMENT)
    assert [e.index for e in contents.entries] == [1, 2]
    assert not any(disk.read(path)[begin:])
    assert len(disk.read(path)) == SEGMENT
    save(log, entry(3, data=b"x"))
    log.close()
    assert len(reopen(disk).entries) == 3


def test_a_flipped_bit_anywhere_is_refused_and_nothing_is_changed() -> None:
    disk, path, begin, end = three_entries(60)
    whole = disk.read(path)
    refused = 0
    for at in range(end):
        flipped = FakeDisk()
        flipped.mkdir(DIR)
        flipped.open(path, create=True).pwrite(whole[:at] + bytes((whole[at] ^ 0x40,)) + whole[at + 1 :], 0)
        try:
            contents = reopen(flipped)
        except CorruptError:
            refused += 1
            assert flipped.read(path)[:at] == whole[:at]
            assert len(flipped.read(path)) == len(whole)
            continue
        # What is not noticed: padding, bits of the length that mean nothing, and the length of the last
        # record, which then counts as a write that was broken off.
        count = len(contents.entries)
        assert count == 3 or (count == 2 and begin <= at < begin + 8), at
    assert refused > end * 3 // 4


def test_damage_in_the_middle_is_refused() -> None:
    disk, path, begin, _ = three_entries()
    file = disk.open(path)
    file.pwrite(bytes((file.pread(1, begin - 20)[0] ^ 1,)), begin - 20)
    before = disk.read(path)
    with pytest.raises(CorruptError, match=r"offset \d+: a record's length"):
        reopen(disk)
    assert disk.read(path) == before
    file.pwrite(bytes((file.pread(1, begin - 20)[0] ^ 1,)), begin - 20)
    file.pwrite(bytes((file.pread(1, begin - 50)[0] ^ 1,)), begin - 50)
    with pytest.raises(CrcMismatch, match=r"offset \d+: crc mismatch"):
        reopen(disk)


def test_a_torn_segment_that_is_not_the_last_is_refused() -> None:
    disk = FakeDisk()
    log = create(disk)
    for index in range(1, 31):
        save(log, entry(index, data=b"v" * 1000))
    log.close()
    first = disk.open(f"{DIR}/{disk.listdir(DIR)[0]}")
    first.truncate(first.size() - 100)
    with pytest.raises(CorruptError, match="later segments follow"):
        reopen(disk)


@pytest.mark.parametrize("length", [1 << 20, 1 << 40, (1 << 56) - 1, (1 << 55) | (0x87 << 56)])
def test_a_forged_length_costs_nothing(length: int) -> None:
    # CVE-2020-15106: the length is bounded by the rest of the file before anything is read or reserved.
    disk, path, begin, _ = three_entries()
    disk.open(path).pwrite(length.to_bytes(8, "little"), begin)
    assert [e.index for e in reopen(disk).entries] == [1, 2]


@given(st.binary(max_size=400), st.integers(0, 200))
@settings(max_examples=100, deadline=None)
def test_garbage_is_read_or_refused_with_one_family_of_errors(garbage: bytes, keep: int) -> None:
    disk, path, _, _ = three_entries(50)
    file = disk.open(path)
    head = file.pread(keep, 0)
    file.truncate(0)
    file.pwrite(head + garbage, 0)
    with contextlib.suppress(CorruptError):
        reopen(disk)


def test_an_emptied_last_segment_is_refused() -> None:
    disk, path, _, _ = three_entries()
    disk.open(path).truncate(0)
    with pytest.raises(CorruptError, match="empty"):
        reopen(disk)


def test_two_members_cannot_open_one_log() -> None:
    disk = FakeDisk()
    log = create(disk)
    with pytest.raises(LockedError):
        Wal.open(disk, DIR, segment_bytes=SEGMENT)
    log.close()
    reopen(disk)


def test_release_keeps_what_a_snapshot_needs_and_purge_takes_the_rest() -> None:
    disk = FakeDisk()
    log = create(disk)
    for index in range(1, 121):
        save(log, entry(index, data=b"v" * 1000))
    names = [name for name in disk.listdir(DIR) if name.endswith(".wal")]
    begins = [int(name[17:-4], 16) for name in names]
    assert wal.purge(disk, DIR, "wal", 1, locked=True) == []
    log.release(begins[3] + 1)
    # The last segment that begins before the snapshot stays locked.
    assert wal.purge(disk, DIR, "wal", 1, locked=True) == names[:3]
    assert wal.purge(disk, DIR, "wal", 0, locked=True) == []
    log.release(begins[3] + 1)
    log.release(10**6)
    assert wal.purge(disk, DIR, "wal", 2, locked=True) == names[3:-2]
    log.close()
    contents = reopen(disk, at=WalSnapshot(begins[-2], 1))
    assert contents.entries[-1].index == 120


def test_a_failed_sync_ends_all_writing() -> None:
    disk = FakeDisk()
    log = create(disk)
    save(log, entry(1))
    disk.sync_fails = True
    with pytest.raises(WriteFailed, match="Input/output error"):
        save(log, entry(2))
    disk.sync_fails = False
    with pytest.raises(ClosedError):
        save(log, entry(3))
    log.close()


def test_a_full_disk_has_its_own_error() -> None:
    disk = FakeDisk()
    log = create(disk, segment_bytes=4096)
    disk.room = 0
    with pytest.raises(DiskFullError, match="No space left on device"):
        save(log, entry(1, data=b"x" * 5000))
    log.close()
    other = FakeDisk()
    other.mkdir("/m")
    other.room = 0
    with pytest.raises(DiskFullError):
        Wal.create(other, DIR, METADATA)
    assert not wal.has_wal(other, DIR)


@pytest.mark.parametrize("name", ["precious", f"{0:016x}-{0:016x}.wal"])
def test_no_log_is_made_where_something_is(tmp_path: Path, name: str) -> None:
    """Nor where its temporary directory would be; an empty directory is replaced."""
    directory = tmp_path / "wal"
    directory.mkdir()
    (directory / name).write_text("data")
    with pytest.raises(WriteFailed, match=f"{directory} is not empty"):
        Wal.create(RealDisk(), str(directory), METADATA)
    assert [path.read_text() for path in tmp_path.rglob("*") if path.is_file()] == ["data"]
    (directory / name).unlink()
    Wal.create(RealDisk(), str(directory), METADATA, segment_bytes=4096).close()
    temporary = tmp_path / "other.tmp"
    temporary.mkdir()
    (temporary / "precious").write_text("data")
    with pytest.raises(WriteFailed, match=f"{temporary} is not empty"):
        Wal.create(RealDisk(), str(tmp_path / "other"), METADATA)
    assert (temporary / "precious").read_text() == "data"


def test_a_failed_creation_leaves_nothing() -> None:
    class Failing(FakeDisk):
        left = 0

        def step(self, what: str, path: str) -> None:
            if what != "remove_tree":
                self.left -= 1
                if self.left < 0:
                    raise OSError(errno.EIO, "Input/output error", path)
            super().step(what, path)

    for left in itertools.count():
        disk = Failing({"/": None, "/m": None})
        disk.left = left
        try:
            log = Wal.create(disk, DIR, METADATA, segment_bytes=4096)
        except WriteFailed:
            assert set(disk.names) == {"/", "/m"}
        else:
            disk.left = 100
            log.close()
            break
    assert left >= 7


def test_only_synced_writes_are_timed_and_failpoints_stand_around_the_sync() -> None:
    disk = FakeDisk()
    disk.mkdir("/m")
    failpoints = Failpoints()
    seen = failpoints.collect()
    ticks = iter(range(100))
    log = Wal.create(disk, DIR, METADATA, failpoints=failpoints, now=lambda: float(next(ticks)))
    log.write(log.encode([], wal.encode_hard_state(1, 1, 1), False))
    assert log.fsync_seconds.count == 0
    save(log, entry(1))
    assert log.fsync_seconds.count == 1
    assert log.fsync_seconds.total == 1.0
    assert seen == {"walBeforeSync", "walAfterSync"}
    log.close()


def test_without_fsync_nothing_is_synced() -> None:
    disk = FakeDisk()
    disk.mkdir("/m")
    log = Wal.create(disk, DIR, METADATA, unsafe_no_fsync=True, segment_bytes=4096)
    for index in range(1, 10):
        save(log, entry(index, data=b"v" * 1000))
    log.close()
    assert not [operation for operation in disk.operations if operation.startswith("sync")]


def test_an_abandoned_creation_is_replaced() -> None:
    disk = FakeDisk()
    disk.mkdir(DIR + ".tmp")
    disk.open(f"{DIR}.tmp/{records.segment_name(0, 0)}", create=True).pwrite(b"torn", 0)
    create(disk).close()
    assert disk.listdir("/m") == ["wal"]


def test_on_the_real_file_system(tmp_path: Path) -> None:
    disk = RealDisk()
    directory = str(tmp_path / "m" / "wal")
    log = create(disk, directory, records.SEGMENT_BYTES)
    log.prepare()
    save(log, entry(1), state=(1, 1, 1))
    assert sorted(p.name for p in Path(directory).iterdir()) == [
        "0.tmp",
        "0000000000000000-0000000000000000.wal",
    ]
    assert (Path(directory) / "0.tmp").stat().st_size == 64_000_000
    assert (Path(directory) / "0000000000000000-0000000000000000.wal").stat().st_size == 64_000_000
    assert Path(directory).stat().st_mode & 0o777 == 0o700
    with pytest.raises(LockedError):
        Wal.open(disk, directory)
    log.close()
    assert len(reopen(disk, directory).entries) == 1
