"""Snapshot files: bytes, choice of the newest, what is set aside."""

from __future__ import annotations

import random

import pytest
from tests.storage.fakes import Crash, FakeDisk

from petcd.pb.raftpb import ConfState, Snapshot, SnapshotMetadata
from petcd.storage.errors import CorruptError, WriteFailed
from petcd.storage.snapshots import Snapshotter, parse_snapshot_file
from petcd.storage.wal import WalSnapshot

DIR = "/m/snap"


def snapshot(index: int, term: int = 1, data: bytes = b"tree") -> Snapshot:
    return Snapshot(
        data=data,
        metadata=SnapshotMetadata(conf_state=ConfState(voters=[1]), index=index, term=term),
    )


def ready() -> tuple[FakeDisk, Snapshotter]:
    disk = FakeDisk()
    disk.mkdir(DIR)
    disk.sync_dir("/")
    disk.sync_dir("/m")
    return disk, Snapshotter(disk, DIR)


def test_a_saved_snapshot_is_loaded() -> None:
    disk, snapshotter = ready()
    assert snapshotter.save(snapshot(5610, 3)) == "0000000000000003-00000000000015ea.snap"
    content = disk.read(f"{DIR}/0000000000000003-00000000000015ea.snap")
    assert content[0] == 0x08
    assert content.endswith(bytes.fromhex("10ea2b1803"))
    assert snapshotter.load_newest([(5610, 3)]) == snapshot(5610, 3)
    assert snapshotter.load_newest(None) == snapshot(5610, 3)


def test_only_snapshots_the_log_knows_are_chosen() -> None:
    _, snapshotter = ready()
    for index, term in ((10, 1), (20, 1), (30, 2)):
        snapshotter.save(snapshot(index, term))
    assert snapshotter.load_newest([WalSnapshot(), WalSnapshot(10, 1), WalSnapshot(20, 1)]) == snapshot(20)
    assert snapshotter.load_newest([(30, 1), (10, 1)]) == snapshot(10)
    assert snapshotter.load_newest([(0, 0)]) is None


def test_an_empty_snapshot_is_not_written() -> None:
    disk, snapshotter = ready()
    assert snapshotter.save(Snapshot()) == ""
    assert disk.listdir(DIR) == []


def test_broken_files_are_set_aside_and_the_older_one_is_taken() -> None:
    disk, snapshotter = ready()
    snapshotter.save(snapshot(10))
    newest = f"{DIR}/{snapshotter.save(snapshot(20))}"
    file = disk.open(newest)
    file.pwrite(b"\xff", file.size() - 3)
    empty = f"{DIR}/{snapshotter.save(snapshot(30))}"
    disk.open(empty).truncate(0)
    assert snapshotter.load_newest(None) == snapshot(10)
    assert disk.exists(newest + ".broken")
    assert disk.exists(empty + ".broken")
    assert snapshotter.names() == ["0000000000000001-000000000000000a.snap"]


@pytest.mark.parametrize("content", [b"", b"\x08", b"\x08\x00\x12\x01x", b"\x08\x01", b"\xff" * 20])
def test_what_is_no_snapshot_is_refused(content: bytes) -> None:
    with pytest.raises(CorruptError):
        parse_snapshot_file("x", content)


def test_every_crash_point_of_a_save_leaves_the_old_or_the_new() -> None:
    for keep in ("none", "all", "some"):
        for at in range(100):
            disk, snapshotter = ready()
            snapshotter.save(snapshot(10))
            disk.crash_at = len(disk.operations) + at
            try:
                snapshotter.save(snapshot(20, data=b"x" * 2000))
            except Crash:
                saved = False
            else:
                saved = True
            after = disk.after_crash(keep, random.Random(at))
            again = Snapshotter(after, DIR)
            again.remove_leftovers()
            assert all(name.endswith(".snap") for name in after.listdir(DIR))
            found = again.load_newest(None)
            assert found in (snapshot(10), snapshot(20, data=b"x" * 2000))
            if saved:
                assert found == snapshot(20, data=b"x" * 2000)
                break
        else:
            pytest.fail("a save has no end")


def test_a_full_disk_is_told() -> None:
    disk, snapshotter = ready()
    disk.room = 0
    with pytest.raises(WriteFailed, match="No space left"):
        snapshotter.save(snapshot(10))
    assert snapshotter.names() == []


def test_received_databases_are_removed_when_overtaken() -> None:
    disk, snapshotter = ready()
    for index in (5, 20, 30):
        disk.open(snapshotter.database_path(index), create=True)
    disk.open(f"{DIR}/odd.snap.db", create=True)
    snapshotter.release_databases(20)
    assert disk.listdir(DIR) == ["0000000000000014.snap.db", "000000000000001e.snap.db", "odd.snap.db"]
