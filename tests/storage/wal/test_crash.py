"""Crash at every disk operation of create, save, cut, snapshot and reopen: nothing acknowledged is lost."""

from __future__ import annotations

import random

import pytest
from tests.storage.fakes import Crash, FakeDisk
from tests.storage.wal.test_log import DIR, METADATA, entry

from petcd.storage import wal
from petcd.storage.wal import Wal

SEGMENT = 4096


class Run:
    """A member's life with its log, and what it was told is durable."""

    def __init__(self, disk: FakeDisk) -> None:
        self.disk = disk
        self.acknowledged = 0
        self.attempted = 0
        self.commit = 0

    def go(self) -> None:
        self.disk.mkdir("/m")
        self.disk.sync_dir("/")
        log = Wal.create(self.disk, DIR, METADATA, segment_bytes=SEGMENT)
        log.prepare()
        for batch in range(6):
            first = self.attempted + 1
            entries = [entry(i, data=bytes((i % 255 + 1,)) * 450) for i in range(first, first + 3)]
            self.attempted = entries[-1][0]
            write = log.encode(entries, wal.encode_hard_state(1, 1, first - 1), True)
            log.write(write)
            self.acknowledged, self.commit = self.attempted, first - 1
            if write.cut is not None:
                log.prepare()
            if batch == 3:
                log.write(log.encode([], None, True, wal.encode_snapshot_record(self.commit, 1, None)))
                log.release(self.commit)
        log.close()


def check(run: Run, disk: FakeDisk) -> None:
    if not wal.has_wal(disk, DIR):
        assert run.acknowledged == 0
        disk.mkdir("/m")
        Wal.create(disk, DIR, METADATA, segment_bytes=SEGMENT).close()
        return
    wal.valid_snapshots(disk, DIR)
    log, contents = Wal.open(disk, DIR, segment_bytes=SEGMENT)
    found = [e.index for e in contents.entries]
    assert contents.metadata == METADATA
    assert found == list(range(1, len(found) + 1))
    assert run.acknowledged <= len(found) <= run.attempted
    assert all(e.data == bytes((e.index % 255 + 1,)) * 450 for e in contents.entries)
    assert contents.hard_state.commit >= run.commit
    # It must be possible to go on, past a cut, and to come back again.
    last = len(found)
    for i in range(last + 1, last + 12):
        log.write(log.encode([entry(i, 2, b"more" * 100)], wal.encode_hard_state(2, 1, last), True))
    log.close()
    log, contents = Wal.open(disk, DIR, segment_bytes=SEGMENT)
    assert len(contents.entries) == last + 11
    log.close()


def operations() -> int:
    run = Run(FakeDisk())
    run.go()
    return len(run.disk.operations)


@pytest.mark.parametrize("keep", ["none", "all", "some"])
def test_every_crash_point_recovers(keep: str) -> None:
    for at in range(operations()):
        for seed in range(4 if keep == "some" else 1):
            run = Run(FakeDisk())
            run.disk.crash_at = at
            with pytest.raises(Crash):
                run.go()
            check(run, run.disk.after_crash(keep, random.Random(seed * 1000 + at)))


@pytest.mark.parametrize("keep", ["none", "all", "some"])
def test_every_crash_point_of_a_repair_recovers(keep: str) -> None:
    for at in range(200):
        run = Run(FakeDisk())
        run.go()
        torn = run.disk.after_crash("all")
        last = max(name for name in torn.names if name.endswith(".wal"))
        log, _ = Wal.open(torn, DIR, segment_bytes=SEGMENT)
        end = log._offset
        log.close()
        torn.open(last).truncate(end - 5)
        torn = torn.after_crash("all")
        torn.crash_at = at
        run.acknowledged, run.commit = 0, 0
        try:
            log, _ = Wal.open(torn, DIR, segment_bytes=SEGMENT)
        except Crash:
            check(run, torn.after_crash(keep, random.Random(at)))
        else:
            break
    else:
        pytest.fail("the repair has no end")
    assert at > 5
