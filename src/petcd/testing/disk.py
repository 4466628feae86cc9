"""The disk as one simulated process sees it: open files and lanes over a drive that outlives the process.

What a crash leaves behind is decided in ``petcd.testing.drive``. Every call counts as one operation there.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, TypeVar

from petcd.testing.clock import Process
from petcd.testing.drive import Change, Directory, Inode, Link, SimDrive, Step, os_error, parts_of

T = TypeVar("T")
_Job = tuple[Callable[[], Any], Callable[[Any], object], Callable[[BaseException], object]]


class SimFile:
    """An open file of one process."""

    def __init__(self, disk: SimDisk, inode: Inode, path: str, *, readonly: bool) -> None:
        self._disk = disk
        self._inode = inode
        self._holds_lock = False
        self._path = path
        self._readonly = readonly
        self._closed = False

    @property
    def path(self) -> str:
        return self._path

    def pread(self, size: int, offset: int, /) -> bytes:
        self._step("pread")
        return self._inode.now.read(size, offset)

    def pwrite(self, data: bytes, offset: int, /) -> None:
        data = bytes(data)
        faults = self._disk.drive.faults
        if faults.crash_keeps is not None and faults.crash_at == self._disk.drive.operations + 1:
            torn = data[: faults.crash_keeps]
            self._inode.now.write(torn, offset)
            self._inode.durable.write(torn, offset)
        self._step("pwrite", writes=True)
        size = self._inode.now.size
        extra = offset + len(data) - size
        fits = self._disk.drive.reserve(extra, self._path)
        kept = data if fits == extra else data[: max(0, len(data) - (extra - fits))]
        if kept:
            self._inode.now.write(kept, offset)
            self._inode.pending.append(Change(offset, kept))
        if len(kept) != len(data):
            raise os_error(errno.ENOSPC, self._path)

    def size(self) -> int:
        self._step("size")
        return self._inode.now.size

    def truncate(self, size: int, /) -> None:
        self._step("truncate", writes=True)
        self._inode.now.resize(size)
        self._inode.pending.append(Change(size, None))

    def allocate(self, size: int, /) -> None:
        self._step("allocate", writes=True)
        extra = size - self._inode.now.size
        if extra <= 0:
            return
        if self._disk.drive.reserve(extra, self._path) != extra:
            raise os_error(errno.ENOSPC, self._path)
        self._inode.now.resize(size)
        self._inode.pending.append(Change(size, None))

    def sync(self) -> None:
        self._sync("sync")

    def datasync(self) -> None:
        self._sync("datasync")

    def _sync(self, what: str) -> None:
        self._step(what)
        self._inode.sync()
        self._disk.synced()

    def try_lock(self) -> bool:
        self._step("lock")
        if self._inode.lock is not None and self._inode.lock.alive:
            return False
        self._inode.lock = self._disk.process
        self._disk.locks.append(self._inode)
        self._holds_lock = True
        return True

    def try_flock(self) -> bool:
        return self.try_lock()  # nobody here holds the other kind

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._holds_lock:  # the lock is this open file's, not its process's
            self._holds_lock = False
            if self._inode in self._disk.locks:
                self._disk.locks.remove(self._inode)
                self._inode.lock = None

    def _step(self, what: str, *, writes: bool = False) -> None:
        self._disk.process.check()
        if self._closed:
            raise os_error(errno.EBADF, self._path)
        if writes and self._readonly:
            raise os_error(errno.EBADF, self._path)
        self._disk.drive.step(self._disk.process, what, self._path)


class SimLane:
    """Runs jobs in order on the simulation's one thread, each at a later virtual time."""

    def __init__(self, disk: SimDisk, name: str) -> None:
        self._disk = disk
        self.name = name
        self._jobs: list[_Job] = []
        self._busy = False
        self._closed = False

    def submit(
        self,
        job: Callable[[], T],
        done: Callable[[T], object],
        failed: Callable[[BaseException], object],
    ) -> None:
        assert not self._closed, "a job for a closed lane"
        self._jobs.append((job, done, failed))
        if not self._busy:
            self._busy = True
            self._later(self._disk.drive.faults.lane_seconds(), self._run)

    def is_quick(self) -> bool:
        return not (self._busy or self._jobs) and self._disk.drive.faults.lane_at_once()

    def try_now(self, job: Callable[[], object]) -> bool:
        """Now and then, as ``DiskFaults.lane_at_once`` says; else a job takes its virtual time."""
        if self._busy or self._jobs or not self._disk.drive.faults.lane_at_once():
            return False
        job()
        return True

    def close(self) -> None:
        """The jobs that wait run now: the caller blocks until the lane is empty."""
        self._closed = True
        while self._jobs:
            self._run_one(then=None)

    def _run(self) -> None:
        if self._jobs:
            self._run_one(then=self._next)
        else:
            self._busy = False

    def _run_one(self, then: Callable[[], object] | None) -> None:
        job, done, failed = self._jobs.pop(0)
        disk = self._disk
        disk.sync_cost = 0.0
        answer: Callable[[Any], object]
        value: Any
        try:
            value = job()
            answer = done
        except Exception as error:  # noqa: BLE001 - it is handed to the member, not swallowed
            answer, value = failed, error
        cost, disk.sync_cost = disk.sync_cost, 0.0
        self._later(cost, _answer, answer, value, then)

    def _next(self) -> None:
        if self._jobs:
            self._later(self._disk.drive.faults.lane_seconds(), self._run)
        else:
            self._busy = False

    def _later(self, delay: float, callback: Callable[..., object], *args: object) -> None:
        process = self._disk.process
        loop = process.loop
        if delay > 0:
            loop.call_at(loop.now + delay, callback, *args, context=process.context)
        else:
            loop.call_soon(callback, *args, context=process.context)


def _answer(answer: Callable[[Any], object], value: Any, then: Callable[[], object] | None) -> None:
    if then is not None:
        then()
    answer(value)


class SimDisk:
    """The disk as one process sees it."""

    def __init__(self, process: Process, drive: SimDrive) -> None:
        self.process = process
        self.drive = drive
        self.locks: list[Inode] = []
        self.sync_cost = 0.0
        process.at_death(self._release)

    def _release(self) -> None:
        for inode in self.locks:
            inode.lock = None
        self.locks.clear()

    def synced(self) -> None:
        self.drive.syncs += 1
        self.sync_cost += self.drive.faults.sync_seconds()

    def open(
        self,
        path: str,
        /,
        *,
        create: bool = False,
        exclusive: bool = False,
        readonly: bool = False,
        mode: int = 0o600,
    ) -> SimFile:
        self._step("open", path)
        parent, name = self.drive.parent(path)
        node = parent.now.get(name)
        if node is not None and exclusive:
            raise os_error(errno.EEXIST, path)
        if isinstance(node, Directory):
            raise os_error(errno.EISDIR, path)
        if node is None:
            if not create:
                raise os_error(errno.ENOENT, path)
            node = Inode()
            self._link(parent, name, node)
        return SimFile(self, node, path, readonly=readonly)

    def read(self, path: str, /) -> bytes:
        self._step("read", path)
        inode = self._file(path)
        return inode.now.read(inode.now.size, 0)

    def exists(self, path: str, /) -> bool:
        self.process.check()
        return self.drive.find(path) is not None

    def is_dir(self, path: str, /) -> bool:
        self.process.check()
        return isinstance(self.drive.find(path), Directory)

    def listdir(self, path: str, /) -> list[str]:
        self._step("listdir", path)
        return sorted(self._directory(path).now)

    def mkdir(self, path: str, /, *, mode: int = 0o700) -> None:
        self._step("mkdir", path)
        directory = self.drive.root
        for part in parts_of(path):
            child = directory.now.get(part)
            if child is None:
                child = Directory()
                self._link(directory, part, child)
            if not isinstance(child, Directory):
                raise os_error(errno.EEXIST, path)
            directory = child

    def rename(self, source: str, target: str, /) -> None:
        self._step("rename", f"{source} -> {target}")
        source_dir, source_name = self.drive.parent(source)
        target_dir, target_name = self.drive.parent(target)
        node = source_dir.now.get(source_name)
        if node is None:
            raise os_error(errno.ENOENT, source)
        taken = target_dir.now.get(target_name)
        if isinstance(taken, Directory) and (not isinstance(node, Directory) or taken.now):
            raise os_error(errno.ENOTEMPTY, target)
        del source_dir.now[source_name]
        target_dir.now[target_name] = node
        step = Step(
            self.drive.operations,
            [(source_dir, Link(source_name, None)), (target_dir, Link(target_name, node))],
        )
        source_dir.pending.append(step)
        if target_dir is not source_dir:
            target_dir.pending.append(step)

    def remove(self, path: str, /) -> None:
        self._step("remove", path)
        parent, name = self.drive.parent(path)
        node = parent.now.get(name)
        if node is None:
            raise os_error(errno.ENOENT, path)
        if isinstance(node, Directory):
            raise os_error(errno.EISDIR, path)
        self._link(parent, name, None)

    def remove_tree(self, path: str, /) -> None:
        node = self.drive.find(path)
        if node is None:
            raise os_error(errno.ENOENT, path)
        if isinstance(node, Directory):
            for name in sorted(node.now):
                self.remove_tree(f"{path}/{name}")
        self._step("remove", path)
        parent, name = self.drive.parent(path)
        self._link(parent, name, None)

    def sync_dir(self, path: str, /) -> None:
        self._step("sync_dir", path)
        self._directory(path).sync()
        self.synced()

    def lane(self, name: str, /) -> SimLane:
        return SimLane(self, name)

    def _step(self, what: str, path: str) -> None:
        self.drive.step(self.process, what, path)

    def _file(self, path: str) -> Inode:
        node = self.drive.find(path)
        if node is None:
            raise os_error(errno.ENOENT, path)
        if isinstance(node, Directory):
            raise os_error(errno.EISDIR, path)
        return node

    def _directory(self, path: str) -> Directory:
        node = self.drive.find(path)
        if node is None:
            raise os_error(errno.ENOENT, path)
        if not isinstance(node, Directory):
            raise os_error(errno.ENOTDIR, path)
        return node

    def _link(self, directory: Directory, name: str, node: Inode | Directory | None) -> None:
        if node is None:
            directory.now.pop(name, None)
        else:
            directory.now[name] = node
        directory.pending.append(Step(self.drive.operations, [(directory, Link(name, node))]))
