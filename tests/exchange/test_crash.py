"""A crash at any moment of a conversion: Go's directory as it was, or a whole one of ours."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from tests.exchange.godir import GoDirectory, rows, write_file
from tests.exchange.taking import backend_rows, files, take_over, world_of
from tests.rpc import Rpc
from tests.servers import Server, needs_go_etcd
from tests.storage.bbolt.build import written

from petcd.logs import NULL
from petcd.seams import Disk, File
from petcd.seams.real import RealDisk
from petcd.server.takeover import Takeover
from petcd.storage.datadir import BACKUP_NAME, DataDir
from petcd.storage.errors import StorageError
from petcd.storage.schema import KEY
from petcd.testing.clock import SimCrash
from petcd.testing.drive import Loss
from petcd.testing.world import Host, Simulation

APPLIED = 12
RECEIVED = f"{10:016x}.snap.db"
"""Left behind by Go, and not needed: it goes where the other files go."""


class Killed(BaseException):
    """The process is gone: nothing after this is done, clean-ups neither."""


class DyingDisk:
    """The real disk, whose n-th act fails or is the last one."""

    def __init__(self, last: int, *, dies: bool) -> None:
        self._disk = RealDisk()
        self._last = last
        self._dies = dies
        self.acts = 0

    def act(self) -> None:
        self.acts += 1
        if self._dies:
            if self.acts >= self._last:
                raise Killed
        elif self.acts == self._last:
            number = errno.EIO if self.acts % 2 else errno.ENOSPC
            raise OSError(number, os.strerror(number))

    def __getattr__(self, name: str) -> Any:
        done = getattr(self._disk, name)

        def act(*args: Any, **options: Any) -> Any:
            if name not in ("exists", "is_dir", "listdir", "read"):
                self.act()
            result = done(*args, **options)
            return DyingFile(self, result) if name == "open" else result

        return act


class DyingFile:
    def __init__(self, disk: DyingDisk, file: File) -> None:
        self._disk = disk
        self._file = file
        self.path = file.path

    def __getattr__(self, name: str) -> Any:
        if name in ("pwrite", "truncate", "sync", "datasync"):
            self._disk.act()
        return getattr(self._file, name)


class Rows:
    """The backend's file, all of it through the disk, which LMDB's is not."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def build(self, path: str, batches: Iterable[Any]) -> None:
        write_file(self._disk, f"{path}.new", repr([*batches]).encode())
        self._disk.rename(f"{path}.new", path)
        self._disk.sync_dir(path.rpartition("/")[0])


def go_directory(disk: Disk, path: str) -> None:
    GoDirectory(applied=APPLIED, snapshot=10).write(disk, path)
    write_file(disk, f"{path}/member/snap/{RECEIVED}", written(rows(10)))
    disk.sync_dir(f"{path}/member/snap")


def is_untouched(before: dict[str, bytes], after: dict[str, bytes]) -> bool:
    return all(after.get(name) == content for name, content in before.items())


def is_ours(before: dict[str, bytes], after: dict[str, bytes]) -> bool:
    """Complete: what a start needs is in its place, and Go's database and log are kept."""
    backup = BACKUP_NAME if f"{BACKUP_NAME}/snap/db" in after else f"{BACKUP_NAME}.tmp"
    for name, content in before.items():
        kept = after.get(name.replace("member", backup, 1))
        if name.endswith((".snap.db", "/db")):
            if content not in (kept, after.get(name)):
                return False
        elif kept != content or after.get(name) != content:
            return False
    return "member/snap/petcd.mdb" in after and "member/snap/db" not in after


@pytest.mark.parametrize("dies", [True, False])
def test_at_every_act_on_the_disk(tmp_path: Path, dies: bool) -> None:
    """The process ends there, or goes on with an error; then the next start."""
    original = tmp_path / "original"
    original.mkdir()
    go_directory(RealDisk(), str(original))
    before = files(original)
    seen = set()
    last = 0
    path = tmp_path / "data"
    while True:
        last += 1
        shutil.copytree(original, path)
        disk: Any = DyingDisk(last, dies=dies)
        options = {} if dies else {"build": Rows(disk).build}
        try:
            take_over(path, disk, **options)
        except Killed:
            pass
        except (StorageError, OSError):
            assert not dies
        if disk.acts < last:
            break
        after = files(path)
        untouched, ours = is_untouched(before, after), is_ours(before, after)
        assert untouched != ours, (last, sorted(after))
        seen.add(ours)
        if not dies and untouched:
            leftovers = after.keys() - before.keys() - {"member/petcd.lock"}
            assert all(name.startswith(BACKUP_NAME) or name.endswith(".touch") for name in leftovers)
        if not dies:
            options = {"build": Rows(RealDisk()).build}
        assert take_over(path, **options) == untouched, "what was decided is not done again"
        assert is_ours(before, files(path))
        assert not (path / f"{BACKUP_NAME}.tmp").exists()
        assert (path / BACKUP_NAME / "snap" / RECEIVED).exists()
        if dies and last % 5 == 0:
            assert backend_rows(path)[KEY] == rows(APPLIED)[KEY]
        shutil.rmtree(path)
    assert last > 50
    assert seen == {True, False}


def run(host: Host) -> bool:
    """One life of a process that takes over ``data``."""
    world = host.boot()

    def live() -> bool:
        disk = world.disk
        data = DataDir(disk, "data")
        takeover = Takeover(world_of(disk), data, 1, NULL, build=Rows(disk).build)
        if not takeover.is_due:
            return False
        found = takeover.begin()
        if found is not None:
            takeover.convert()
        takeover.close()
        return found is not None

    assert host.process is not None
    return bool(host.process.run(live))


class Machine:
    """A simulated host with a directory of Go etcd, and copies of it to try endings on."""

    def __init__(self, simulation: Simulation) -> None:
        self.host = host = simulation.host("server", "10.0.0.1")
        self._rng = simulation.rng
        world = host.boot()
        assert host.process is not None
        host.process.run(world.disk.mkdir, "data")
        host.process.run(world.disk.sync_dir, ".")
        host.process.run(go_directory, world.disk, "data")
        host.crash(Loss.ALL)
        self._original = host.drive.clone()
        self.before = self.files()
        assert "member/snap/db" in self.before
        run(host)
        host.crash(Loss.NONE)
        self.wanted = self.files()["member/snap/petcd.mdb"]

    def files(self) -> dict[str, bytes]:
        return {name.removeprefix("data/"): content for name, content in self.host.drive.files().items()}

    def renew(self) -> None:
        self.host.drive = self._original.clone(self._rng)

    def keep(self) -> None:
        """The present state is the one to begin with from now on."""
        self._original = self.host.drive.clone()

    def run_until(self, number: int, loss: Loss) -> bool:
        """Take over, but for the crash at the operation ``number``; whether that came."""
        host = self.host
        host.drive.faults.crash_at = host.drive.operations + number
        try:
            run(host)
        except SimCrash:
            host.crash(loss)
            return True
        finally:
            host.drive.faults.crash_at = 0
        return False

    def check_state(self) -> bool:
        """Go's, or ours: whether it is ours."""
        after = self.files()
        untouched, ours = is_untouched(self.before, after), is_ours(self.before, after)
        assert untouched != ours, sorted(after)
        return ours

    def check_end(self) -> None:
        """Nothing has been served yet, and all of it must be durable."""
        self.host.crash(Loss.ALL)
        after = self.files()
        assert is_ours(self.before, after)
        assert after["member/snap/petcd.mdb"] == self.wanted
        assert f"{BACKUP_NAME}/snap/db" in after


@pytest.mark.parametrize("loss", [Loss.NONE, Loss.ALL, Loss.SOME])
def test_power_fails_at_every_operation(loss: Loss) -> None:
    """What was not synced may be gone."""
    with Simulation(1) as simulation:
        machine = Machine(simulation)
        number = 1
        machine.renew()
        seen = set()
        while machine.run_until(number, loss):
            ours = machine.check_state()
            seen.add(ours)
            assert run(machine.host) != ours, "what was decided is not done again"
            machine.check_end()
            machine.renew()
            number += 1
        assert number > 60
        assert seen == {True, False}


@pytest.mark.parametrize("seed", range(4))
def test_power_fails_while_a_broken_off_conversion_is_cleaned_up(seed: int) -> None:
    with Simulation(seed) as simulation:
        machine = Machine(simulation)
        number = 1
        machine.renew()
        while machine.run_until(number, Loss.NONE) and "member/snap/petcd.mdb" not in machine.files():
            machine.renew()
            number += 1
        machine.keep()
        for number in range(1, 60):
            machine.renew()
            assert machine.run_until(number, Loss.SOME)
            assert not machine.check_state()
            assert run(machine.host)
            machine.check_end()


@pytest.mark.go
@pytest.mark.slow
@needs_go_etcd
def test_killed_for_real(tmp_path: Path) -> None:
    """kill -9 at three of the steps, one life after the other, and Go itself in between."""
    server = Server("go", tmp_path)
    server.start()
    with Rpc(server.endpoint) as rpc:
        rpc.put(b"a", b"1")
    server.stop()
    snap = server.data_dir / "member" / "snap"
    for point in ("takeoverBeforeBuild", "takeoverBeforeDecide", "takeoverAfterDecide"):
        server.kind, server.env = "petcd", {"GOFAIL_FAILPOINTS": f"{point}=sleep(60000)"}
        server.spawn()
        assert server.process is not None
        while not reached(server, point):
            assert server.process.poll() is None, server.log_tail()
            time.sleep(0.005)
        server.kill()
        server.env = {}
        assert (snap / "db").exists() == (point != "takeoverAfterDecide")
        if point == "takeoverBeforeDecide":
            server.kind = "go"
            server.start()
            with Rpc(server.endpoint) as rpc:
                rpc.put(b"b", b"2")
            server.stop()
    server.kind = "petcd"
    server.start()
    try:
        with Rpc(server.endpoint) as rpc:
            assert [kv.value for kv in rpc.get(b"a", b"c").kvs] == [b"1", b"2"]
        assert not (server.data_dir / f"{BACKUP_NAME}.tmp").exists()
        assert (server.data_dir / BACKUP_NAME / "snap" / "db").exists()
    finally:
        server.kill()


def reached(server: Server, point: str) -> bool:
    """Whether the files say that this step's beginning has come."""
    backup = server.data_dir / f"{BACKUP_NAME}.tmp"
    if point == "takeoverBeforeBuild":
        return (backup / "wal").exists()
    if point == "takeoverBeforeDecide":
        segment = backup / "wal" / f"{0:016x}-{0:016x}.wal"
        return segment.exists() and segment.stat().st_size > 0
    return (backup / "snap" / "db").exists()
