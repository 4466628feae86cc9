"""A disk in memory that forgets what was not synced, small enough to be enumerated operation by operation."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from typing import Any

SECTOR = 512


class Crash(BaseException):
    """The machine went down at this operation."""


class Inode:
    def __init__(self) -> None:
        self.now = bytearray()
        self.durable = b""
        self.locked = False


class FakeFile:
    def __init__(self, disk: FakeDisk, inode: Inode, path: str) -> None:
        self._disk = disk
        self.inode = inode
        self.path = path
        self._locks = False

    def pread(self, size: int, offset: int, /) -> bytes:
        return bytes(self.inode.now[offset : offset + size])

    def pwrite(self, data: bytes, offset: int, /) -> None:
        self._disk.step("pwrite", self.path)
        now = self.inode.now
        if self._disk.room is not None and offset + len(data) > len(now):
            raise OSError(errno.ENOSPC, "No space left on device", self.path)
        if len(now) < offset + len(data):
            now.extend(bytes(offset + len(data) - len(now)))
        now[offset : offset + len(data)] = data

    def size(self) -> int:
        return len(self.inode.now)

    def truncate(self, size: int, /) -> None:
        self._disk.step("truncate", self.path)
        now = self.inode.now
        del now[size:]
        now.extend(bytes(size - len(now)))

    def allocate(self, size: int, /) -> None:
        self._disk.step("allocate", self.path)
        if self._disk.room is not None:
            raise OSError(errno.ENOSPC, "No space left on device", self.path)
        now = self.inode.now
        now.extend(bytes(max(0, size - len(now))))

    def sync(self) -> None:
        self._disk.step("sync", self.path)
        if self._disk.sync_fails:
            raise OSError(errno.EIO, "Input/output error", self.path)
        self.inode.durable = bytes(self.inode.now)

    datasync = sync

    def try_lock(self) -> bool:
        if self.inode.locked:
            return False
        self.inode.locked = self._locks = True
        return True

    try_flock = try_lock

    def close(self) -> None:
        if self._locks:
            self.inode.locked = self._locks = False


Names = dict[str, "Inode | None"]
"""Path to file, or to None for a directory."""


class FakeDisk:
    """``Disk``. After a ``Crash`` ask ``after_crash`` for the disk the next start finds."""

    def __init__(self, names: Names | None = None) -> None:
        self.names: Names = dict(names or {"/": None})
        self._base: Names = dict(self.names)
        # Changes of names since the start: (directories concerned, the change, durable).
        self._changes: list[tuple[set[str], Callable[[Names], None], list[bool]]] = []
        self.operations: list[str] = []
        self.crash_at: int | None = None
        self.sync_fails = False
        self.room: int | None = None

    def step(self, what: str, path: str) -> None:
        if self.crash_at is not None and len(self.operations) >= self.crash_at:
            raise Crash(f"at {what} {path}")
        self.operations.append(f"{what} {path}")

    def _change(self, directories: set[str], change: Callable[[Names], None]) -> None:
        change(self.names)
        self._changes.append((directories, change, [False]))

    def open(
        self,
        path: str,
        /,
        *,
        create: bool = False,
        exclusive: bool = False,
        readonly: bool = False,
        mode: int = 0o600,
    ) -> Any:
        inode = self.names.get(path)
        if inode is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
            if _parent(path) not in self.names:
                raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
            self.step("create", path)
            made = inode = Inode()
            self._change({_parent(path)}, lambda names: names.__setitem__(path, made))
        elif exclusive:
            raise FileExistsError(errno.EEXIST, "File exists", path)
        return FakeFile(self, inode, path)

    def read(self, path: str, /) -> bytes:
        file = self.open(path)
        return bytes(file.pread(file.size(), 0))

    def exists(self, path: str, /) -> bool:
        return path in self.names

    def is_dir(self, path: str, /) -> bool:
        return path in self.names and self.names[path] is None

    def listdir(self, path: str, /) -> list[str]:
        head = path.rstrip("/") + "/"
        return sorted(
            name[len(head) :] for name in self.names if name.startswith(head) and "/" not in name[len(head) :]
        )

    def mkdir(self, path: str, /, *, mode: int = 0o700) -> None:
        parts = path.strip("/").split("/")
        for i in range(len(parts)):
            part = "/" + "/".join(parts[: i + 1])
            if part not in self.names:
                self.step("mkdir", part)
                self._change({_parent(part)}, lambda names, part=part: names.__setitem__(part, None))

    def rename(self, source: str, target: str, /) -> None:
        self.step("rename", f"{source} {target}")
        if source not in self.names:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", source)

        def move(names: Names) -> None:
            for name in [n for n in names if n == source or n.startswith(source + "/")]:
                names[target + name[len(source) :]] = names.pop(name)

        self._change({_parent(source), _parent(target)}, move)

    def remove(self, path: str, /) -> None:
        self.step("remove", path)
        self._change({_parent(path)}, lambda names: names.pop(path, None))

    def remove_tree(self, path: str, /) -> None:
        self.step("remove_tree", path)

        def drop(names: Names) -> None:
            for name in [n for n in names if n == path or n.startswith(path + "/")]:
                del names[name]

        self._change({_parent(path)}, drop)

    def sync_dir(self, path: str, /) -> None:
        self.step("sync_dir", path)
        for directories, _, durable in self._changes:
            if path in directories:
                durable[0] = True

    def lane(self, name: str, /) -> Any:
        raise AssertionError("this disk has no lanes")

    def after_crash(self, keep: str, rng: random.Random | None = None) -> FakeDisk:
        """What of the unsynced survives: ``none``, ``all``, or ``some`` (sectors, a prefix of names)."""
        names = dict(self._base)
        alive = True
        for _, change, durable in self._changes:
            if keep == "none":
                alive = False
            elif keep == "some" and alive:
                assert rng is not None
                alive = rng.random() < 0.7
            if durable[0] or alive:
                change(names)
        disk = FakeDisk({})
        copies: dict[int, Inode] = {}
        for name, inode in names.items():
            if inode is None:
                disk.names[name] = None
                continue
            if id(inode) not in copies:
                copy = copies[id(inode)] = Inode()
                copy.now = bytearray(_survive(inode, keep, rng))
                copy.durable = bytes(copy.now)
            disk.names[name] = copies[id(inode)]
        disk._base = dict(disk.names)
        return disk


def _survive(inode: Inode, keep: str, rng: random.Random | None) -> bytes:
    if keep == "none":
        return inode.durable
    if keep == "all":
        return bytes(inode.now)
    assert rng is not None
    size = rng.choice((len(inode.now), len(inode.durable)))
    out = bytearray()
    for at in range(0, size, SECTOR):
        source = rng.choice((bytes(inode.now), inode.durable))
        out += source[at : at + SECTOR].ljust(SECTOR, b"\x00")
    return bytes(out[:size])


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


class ManualClock:
    """``Clock`` whose callbacks run when the test says so."""

    def __init__(self) -> None:
        self.due: list[tuple[Callable[..., object], tuple[object, ...]]] = []
        self.later: list[tuple[Callable[..., object], tuple[object, ...]]] = []
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 0.001
        return self.now

    def wall_ns(self) -> int:
        return 0

    def call_soon(self, callback: Callable[..., object], *args: object) -> None:
        self.due.append((callback, args))

    def call_later(self, delay_seconds: float, callback: Callable[..., object], *args: object) -> Any:
        self.later.append((callback, args))

    def turn(self) -> bool:
        """Run what is due now; False when there was nothing."""
        due, self.due = self.due, []
        for callback, args in due:
            callback(*args)
        return bool(due)


class ManualLane:
    """``Lane`` that runs one job when told, and answers through the clock."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.jobs: list[tuple[Callable[[], Any], Callable[[Any], object], Callable[[Any], object]]] = []
        self.closed = False

    def submit(
        self, job: Callable[[], Any], done: Callable[[Any], object], failed: Callable[[Any], object]
    ) -> None:
        self.jobs.append((job, done, failed))

    def run_one(self) -> bool:
        if not self.jobs:
            return False
        job, done, failed = self.jobs.pop(0)
        try:
            result = job()
        except Exception as error:  # noqa: BLE001 - handed on as a lane does
            self.clock.call_soon(failed, error)
        else:
            self.clock.call_soon(done, result)
        return True

    def close(self) -> None:
        self.closed = True
        while self.run_one():
            pass


def settle(clock: ManualClock, lane: ManualLane) -> None:
    """Run everything until nothing is left to do."""
    while clock.turn() or lane.run_one():
        pass
