"""The twin on a disk that forgets: every crash point of commit, defragmentation and replacement."""

from __future__ import annotations

import random

import pytest
from tests.storage.fakes import Crash, FakeDisk, ManualClock, ManualLane, settle

from petcd.storage.backend import BufferedBackend
from petcd.storage.errors import DiskFullError, LockedError, StorageError
from petcd.storage.memory_backend import MemoryBackend
from petcd.storage.schema import KEY, META, Bucket

PATH = "/m/petcd.mdb"

State = dict[Bucket, dict[bytes, bytes]]


def contents(backend: BufferedBackend) -> State:
    return {bucket: dict(backend.range(bucket, b"", None)) for bucket in (KEY, META)}


class Life:
    """Commits, a defragmentation and a replacement, noting which states were promised."""

    def __init__(self, disk: FakeDisk) -> None:
        self.disk = disk
        self.states: list[State] = [{KEY: {}, META: {}}]
        self.acknowledged = 0

    def go(self) -> None:
        self.disk.mkdir("/m")
        self.disk.sync_dir("/")
        clock = ManualClock()
        lane = ManualLane(clock)
        backend = MemoryBackend(disk=self.disk, path=PATH, clock=clock, lane=lane)

        def acknowledge(number: int) -> None:
            self.acknowledged = number

        def step(number: int) -> None:
            settle(clock, lane)
            assert self.acknowledged == number

        for number in range(1, 8):
            if number == 4:
                before = self.states[-1]
                self.states.append(before)
                backend.defragment(lambda: acknowledge(4))
            elif number == 6:
                self.states.append({KEY: {b"r%d" % i: b"new" for i in range(60)}, META: {}})
                items = [(KEY, key, value) for key, value in self.states[-1][KEY].items()]
                backend.replace(lambda items=items: items, lambda: acknowledge(6))  # type: ignore[misc]
            else:
                for i in range(20):
                    backend.put(KEY, b"k%d" % (i * number), b"v%d" % number * 10)
                backend.delete(KEY, b"k0")
                backend.put(META, b"index", b"%d" % number)
                self.states.append(contents(backend))
                backend.flush(lambda number=number: acknowledge(number))  # type: ignore[misc]
            step(number)
        backend.close()


@pytest.mark.parametrize("keep", ["none", "all", "some"])
def test_a_crash_leaves_a_committed_state(keep: str) -> None:
    whole = Life(FakeDisk())
    whole.go()
    for at in range(len(whole.disk.operations)):
        life = Life(FakeDisk())
        life.disk.crash_at = at
        with pytest.raises(Crash):
            life.go()
        after = life.disk.after_crash(keep, random.Random(at))
        after.mkdir("/m")
        backend = MemoryBackend(disk=after, path=PATH)
        assert contents(backend) in life.states[life.acknowledged :]
        assert after.listdir("/m") == ["petcd.mdb"]
        backend.put(META, b"more", b"x")
        backend.flush(lambda: None)
        backend.close()
        again = MemoryBackend(disk=after, path=PATH)
        assert again.get(META, b"more") == b"x"
        again.close()


def test_a_crash_without_a_disk_hands_on_what_was_committed() -> None:
    clock = ManualClock()
    lane = ManualLane(clock)
    backend = MemoryBackend(clock=clock, lane=lane)
    backend.put(META, b"a", b"1")
    backend.flush(lambda: None)
    settle(clock, lane)
    backend.put(META, b"a", b"2")
    backend.flush(lambda: pytest.fail("the process died"))
    assert MemoryBackend(backend.crash()).get(META, b"a") == b"1"


def test_faults_can_be_ordered() -> None:
    backend = MemoryBackend()
    errors: list[StorageError] = []
    backend.fail_next = DiskFullError("full")
    backend.put(META, b"a", b"1")
    backend.flush(lambda: None, errors.append)
    assert [type(error) for error in errors] == [DiskFullError]
    backend.flush(lambda: None)
    assert backend.store.tables[META] == {b"a": b"1"}


def test_one_journal_has_one_backend() -> None:
    disk = FakeDisk()
    disk.mkdir("/m")
    backend = MemoryBackend(disk=disk, path=PATH)
    with pytest.raises(LockedError):
        MemoryBackend(disk=disk, path=PATH)
    backend.close()
    MemoryBackend(disk=disk, path=PATH).close()
