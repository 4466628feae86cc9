"""One conversion, run by hand, and what it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.exchange.godir import GoDirectory

from petcd.logs import NULL, Logger
from petcd.seams import Failpoints, World
from petcd.seams.disk import Disk
from petcd.seams.real import RealDisk
from petcd.server.takeover import Takeover
from petcd.storage.datadir import BACKUP_NAME, DataDir
from petcd.storage.lmdb_backend import LmdbBackend
from petcd.storage.schema import BUCKETS, Bucket

Rows = dict[Bucket, dict[bytes, bytes]]


class StillClock:
    """Time goes by, a second a look."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1.0
        return self.now


def world_of(disk: Disk, failpoints: Failpoints | None = None) -> World:
    clock: Any = StillClock()
    nothing: Any = None
    return World(clock=clock, random=nothing, net=nothing, disk=disk, failpoints=failpoints or Failpoints())


def take_over(path: Path | str, disk: Disk | None = None, logger: Logger = NULL, **options: Any) -> bool:
    """As a member does at its start; whether there was something to convert."""
    world = world_of(disk or RealDisk())
    data = DataDir(world.disk, str(path))
    try:
        takeover = Takeover(world, data, 1, logger, **options)
        if not takeover.is_due:
            return False
        try:
            found = takeover.begin()
            if found is not None:
                takeover.convert()
        finally:
            takeover.close()
        return found is not None
    finally:
        data.close()


def backend_rows(path: Path) -> Rows:
    """Everything in the backend of a data directory."""
    backend = LmdbBackend(f"{path}/member/snap/petcd.mdb", disk=RealDisk())
    try:
        return {bucket: dict(backend.range(bucket, b"", None)) for bucket in BUCKETS}
    finally:
        backend.close()


def files(path: Path, *, without: tuple[str, ...] = ("member/petcd.lock",)) -> dict[str, bytes]:
    """All files by name, preallocated zeros left out."""
    return {
        name: one.read_bytes().rstrip(b"\0")
        for one in sorted(path.rglob("*"))
        if one.is_file() and (name := str(one.relative_to(path))) not in without
    }


def made(path: Path, **options: Any) -> dict[str, bytes]:
    """A directory of Go etcd at ``path``; its files."""
    path.mkdir()
    GoDirectory(**options).write(RealDisk(), str(path))
    return files(path)


BACKED_UP = f"{BACKUP_NAME}/"
