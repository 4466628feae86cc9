"""The disk: files whose writes are lost unless synced, and lanes on which blocking jobs run in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class File(Protocol):
    """An open file. Offsets are explicit; nothing keeps a position."""

    @property
    def path(self) -> str: ...

    def pread(self, size: int, offset: int, /) -> bytes: ...

    def pwrite(self, data: bytes, offset: int, /) -> None:
        """Write all of it; durable after the next ``datasync``. Raises OSError (ENOSPC, EIO)."""
        ...

    def size(self) -> int: ...

    def truncate(self, size: int, /) -> None: ...

    def allocate(self, size: int, /) -> None:
        """Extend to ``size`` with zeros, reserving the blocks where the file system can."""
        ...

    def sync(self) -> None:
        """fsync: data and length."""
        ...

    def datasync(self) -> None:
        """fdatasync."""
        ...

    def try_lock(self) -> bool:
        """An exclusive lock that dies with the process (open-file-description lock); False when taken."""
        ...

    def try_flock(self) -> bool:
        """The same by flock(2), which on Linux knows nothing of the other kind: Go holds its database so."""
        ...

    def close(self) -> None: ...


class Lane(Protocol):
    """A helper thread that runs blocking jobs in the order given and never touches the member's state."""

    def submit(
        self,
        job: Callable[[], T],
        done: Callable[[T], object],
        failed: Callable[[BaseException], object],
    ) -> None:
        """Run ``job`` aside; then exactly one of ``done`` and ``failed`` is called on the member's thread."""
        ...

    def is_quick(self) -> bool:
        """Whether the lane is idle, and its jobs so short that handing one over would take as long; now and
        then also where they were not, to see whether they still are."""
        ...

    def try_now(self, job: Callable[[], object]) -> bool:
        """Run ``job`` here and now, if the lane is quick. False: it was not run. What it raises, this
        raises."""
        ...

    def close(self) -> None:
        """Run what was submitted, then end; returns when the thread is gone."""
        ...


class Disk(Protocol):
    """Files by path. All calls block; use them at start, or in a lane."""

    def open(
        self,
        path: str,
        /,
        *,
        create: bool = False,
        exclusive: bool = False,
        readonly: bool = False,
        mode: int = 0o600,
    ) -> File:
        """``create`` makes a missing file; ``exclusive`` refuses an existing one. Raises OSError."""
        ...

    def read(self, path: str, /) -> bytes: ...

    def exists(self, path: str, /) -> bool: ...

    def is_dir(self, path: str, /) -> bool: ...

    def listdir(self, path: str, /) -> list[str]:
        """Sorted names."""
        ...

    def mkdir(self, path: str, /, *, mode: int = 0o700) -> None:
        """Make it and its parents; an existing directory is fine."""
        ...

    def rename(self, source: str, target: str, /) -> None: ...

    def remove(self, path: str, /) -> None: ...

    def remove_tree(self, path: str, /) -> None: ...

    def sync_dir(self, path: str, /) -> None:
        """Make renames, creations and removals in this directory durable."""
        ...

    def lane(self, name: str, /) -> Lane: ...
