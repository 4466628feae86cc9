"""A drive in memory that keeps its promises and no more.

What was synced survives; of the rest a crash keeps an arbitrary part. Two things are tracked apart:

- a file's bytes: each write since the file's last sync may survive whole, torn at a byte, in any subset of
  its 512-byte sectors, or not at all; the same holds for truncations and extensions;
- a directory's entries: each creation, rename and removal since the directory's last ``sync_dir`` may be lost
  by itself. A synced file whose entry was not synced can vanish with its name (strict POSIX; Pillai, OSDI
  2014).

Faults: a crash, EIO or ENOSPC at the n-th operation, a capacity in bytes, slow syncs. Operations are counted,
so a test can run the same history once for each of them.

Rejected: directories as files of records. Entries as data let each kind of loss be drawn by itself.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from petcd.testing.clock import Process

PAGE: Final = 4096
SECTOR: Final = 512
_ZERO_PAGE: Final = bytes(PAGE)


class Loss(Enum):
    """What a crash does to writes that were not synced."""

    NONE = "none"
    """The process dies, the machine does not: everything written is there."""
    ALL = "all"
    """Power fails and only what was synced is there."""
    SOME = "some"
    """Power fails; of what was not synced an arbitrary part is there."""


class Pages:
    """Bytes in pages; an absent page is all zeros, so a preallocated segment costs nothing.

    Pages are immutable: a copy of the whole costs one pointer a page.
    """

    __slots__ = ("pages", "size")

    def __init__(self, pages: dict[int, bytes] | None = None, size: int = 0) -> None:
        self.pages = pages if pages is not None else {}
        self.size = size

    def copy(self) -> Pages:
        return Pages(dict(self.pages), self.size)

    def read(self, size: int, offset: int) -> bytes:
        end = min(self.size, offset + size)
        if end <= offset:
            return b""
        pages = self.pages
        first, last = offset // PAGE, (end - 1) // PAGE
        if first == last:
            return pages.get(first, _ZERO_PAGE)[offset - first * PAGE : end - first * PAGE]
        whole = b"".join([pages.get(number, _ZERO_PAGE) for number in range(first, last + 1)])
        return whole[offset - first * PAGE : end - first * PAGE]

    def write(self, data: bytes, offset: int) -> None:
        position, end, taken = offset, offset + len(data), 0
        while position < end:
            number = position // PAGE
            start = position - number * PAGE
            count = min(PAGE - start, end - position)
            if count == PAGE:
                self.pages[number] = data[taken : taken + PAGE]
            else:
                page = self.pages.get(number, _ZERO_PAGE)
                self.pages[number] = page[:start] + data[taken : taken + count] + page[start + count :]
            position += count
            taken += count
        self.size = max(self.size, end)

    def resize(self, size: int) -> None:
        if size < self.size:
            last, start = divmod(size, PAGE)
            for number in [n for n in self.pages if n > last or (n == last and start == 0)]:
                del self.pages[number]
            if start and last in self.pages:
                self.pages[last] = self.pages[last][:start] + bytes(PAGE - start)
        self.size = size


@dataclass(slots=True)
class Change:
    """One change of a file not synced yet: bytes at an offset, or a new size when ``data`` is None."""

    offset: int
    data: bytes | None


class Inode:
    """A file's content, as the process sees it and as a power cut would leave it."""

    __slots__ = ("durable", "lock", "now", "pending")

    def __init__(self) -> None:
        self.now = Pages()
        self.durable = Pages()
        self.pending: list[Change] = []
        self.lock: Process | None = None

    def sync(self) -> None:
        for change in self.pending:
            _apply(self.durable, change)
        self.pending.clear()

    def survive(self, loss: Loss, rng: random.Random) -> None:
        """Become what the next start finds."""
        self.lock = None
        if loss is Loss.NONE:
            return
        if loss is Loss.SOME:
            for change in self.pending:
                _apply_some(self.durable, change, rng)
        self.pending.clear()
        self.now = self.durable.copy()


def _apply(pages: Pages, change: Change) -> None:
    if change.data is None:
        pages.resize(change.offset)
    else:
        pages.write(change.data, change.offset)


def _apply_some(pages: Pages, change: Change, rng: random.Random) -> None:
    draw = rng.randrange(4)
    data = change.data
    if draw == 0:
        return
    if draw == 1 or data is None:
        _apply(pages, change)
    elif draw == 2:
        pages.write(data[: rng.randrange(len(data) + 1)], change.offset)
    else:
        start, end = change.offset, change.offset + len(data)
        while start < end:
            stop = min(end, (start // SECTOR + 1) * SECTOR)
            if rng.random() < 0.5:
                pages.write(data[start - change.offset : stop - change.offset], start)
            start = stop


@dataclass(slots=True)
class Link:
    """A directory entry given to ``node``; ``None`` takes the entry away."""

    name: str
    node: Inode | Directory | None


@dataclass(slots=True, eq=False)
class Step:
    """One creation, removal or rename: links that survive together or not at all."""

    number: int
    """Of the disk operation: the order in which survivors take effect."""
    links: list[tuple[Directory, Link]]


class Directory:
    """Entries as the process sees them, and as a power cut would leave them."""

    __slots__ = ("durable", "now", "pending")

    def __init__(self) -> None:
        self.now: dict[str, Inode | Directory] = {}
        self.durable: dict[str, Inode | Directory] = {}
        self.pending: list[Step] = []

    def sync(self) -> None:
        for step in self.pending:
            _link(step)
            for directory, _ in step.links:
                if directory is not self and step in directory.pending:
                    directory.pending.remove(step)
        self.pending.clear()


def _link(step: Step) -> None:
    for directory, link in step.links:
        if link.node is None:
            directory.durable.pop(link.name, None)
        else:
            directory.durable[link.name] = link.node


@dataclass(slots=True)
class DiskFaults:
    """The faults of one drive. Operations count from 1 and include every call that reaches the disk."""

    crash_at: int = 0
    """Die instead of running this operation."""
    crash_keeps: int | None = None
    """When that operation is a write: how many of its bytes reach the disk first, synced."""
    fail_at: dict[int, int] = field(default_factory=dict)
    """Operation number to errno."""
    capacity_bytes: int = 0
    """ENOSPC beyond this many bytes in files; 0 is no limit."""
    sync_seconds: Callable[[], float] = float
    """How long a sync takes; what runs in a lane is answered that much later."""
    lane_at_once: Callable[[], bool] = bool
    """Whether an idle lane lets the member run a short job itself (``Lane.try_now``); never, unless set."""
    lane_seconds: Callable[[], float] = float
    """How long a lane waits before it takes up a job."""


class SimDrive:
    """What remains of a host's disk between its processes."""

    def __init__(self, rng: random.Random, *, note: Callable[[str], None] | None = None) -> None:
        self.root = Directory()
        self.faults = DiskFaults()
        self.operations = 0
        self.syncs = 0
        self._rng = rng
        self._note = note

    def used_bytes(self) -> int:
        return _used(self.root)

    def crash(self, loss: Loss) -> None:
        """Lose what a crash of this kind loses. The process must be dead already."""
        steps: list[Step] = []
        directories = [self.root]
        inodes: list[Inode] = []
        seen: set[int] = set()
        while directories:
            directory = directories.pop()
            if id(directory) in seen:
                continue
            seen.add(id(directory))
            steps += [step for step in directory.pending if not any(step is one for one in steps)]
            nodes = [*directory.now.values(), *directory.durable.values()]
            nodes += [
                link.node for step in directory.pending for _, link in step.links if link.node is not None
            ]
            for node in nodes:
                if isinstance(node, Directory):
                    directories.append(node)
                elif id(node) not in seen:
                    seen.add(id(node))
                    inodes.append(node)
        for inode in inodes:
            inode.survive(loss, self._rng)
        if loss is Loss.NONE:
            return
        for step in sorted(steps, key=lambda one: one.number):
            if loss is Loss.SOME and self._rng.random() < 0.5:
                _link(step)
        self._settle(self.root)

    def _settle(self, directory: Directory) -> None:
        directory.pending.clear()
        directory.now = dict(directory.durable)
        for node in directory.now.values():
            if isinstance(node, Directory):
                self._settle(node)

    def clone(self, rng: random.Random | None = None) -> SimDrive:
        """An independent copy of what the process sees, all of it synced; for trying many endings."""
        copy = SimDrive(rng or random.Random(0), note=self._note)
        _copy_into(self.root, copy.root)
        return copy

    def step(self, process: Process, what: str, path: str) -> None:
        """Count one operation and let its fault happen."""
        process.check()
        self.operations += 1
        number = self.operations
        if self._note is not None:
            self._note(f"disk {number} {what} {path}")
        if number == self.faults.crash_at:
            process.kill()
            process.check()
        code = self.faults.fail_at.get(number)
        if code is not None:
            raise OSError(code, os.strerror(code), path)

    def reserve(self, extra: int, path: str) -> int:
        """Bytes of ``extra`` that fit."""
        capacity = self.faults.capacity_bytes
        if not capacity or extra <= 0:
            return extra
        return max(0, min(extra, capacity - self.used_bytes()))

    def find(self, path: str) -> Inode | Directory | None:
        node: Inode | Directory = self.root
        for part in parts_of(path):
            if not isinstance(node, Directory):
                return None
            child = node.now.get(part)
            if child is None:
                return None
            node = child
        return node

    def parent(self, path: str) -> tuple[Directory, str]:
        parts = parts_of(path)
        if not parts:
            raise os_error(errno.EINVAL, path)
        parent = self.find("/".join(parts[:-1]))
        if parent is None:
            raise os_error(errno.ENOENT, path)
        if not isinstance(parent, Directory):
            raise os_error(errno.ENOTDIR, path)
        return parent, parts[-1]

    def files(self) -> dict[str, bytes]:
        """Every file's bytes by path, trailing zeros of preallocation left out."""
        found: dict[str, bytes] = {}
        _collect(self.root, "", found)
        return found


def _used(directory: Directory) -> int:
    return sum(
        _used(node) if isinstance(node, Directory) else node.now.size for node in directory.now.values()
    )


def _copy_into(source: Directory, target: Directory) -> None:
    for name, node in source.now.items():
        if isinstance(node, Directory):
            directory = Directory()
            _copy_into(node, directory)
            target.now[name] = target.durable[name] = directory
        else:
            inode = Inode()
            inode.now = node.now.copy()
            inode.durable = node.now.copy()
            target.now[name] = target.durable[name] = inode


def _collect(directory: Directory, prefix: str, found: dict[str, bytes]) -> None:
    for name, node in sorted(directory.now.items()):
        if isinstance(node, Directory):
            _collect(node, f"{prefix}{name}/", found)
        else:
            last = max(node.now.pages, default=-1)
            found[prefix + name] = node.now.read(min(node.now.size, (last + 1) * PAGE), 0).rstrip(b"\0")


def parts_of(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def os_error(code: int, path: str) -> OSError:
    return OSError(code, os.strerror(code), path)
