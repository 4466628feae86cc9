"""What restore and backup make is theirs before they make it, and all that a failure removes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.etcdutl.conftest import Source
from tests.etcdutl.test_restore import DISK, FailingDisk

from petcd.cli import etcdutl
from petcd.logs import NULL
from petcd.seams.disk import File
from petcd.seams.real import RealDisk
from petcd.server.backup import BackupPaths, back_up
from petcd.server.config import Config
from petcd.server.restoring import restore
from petcd.storage.atrest import Database, open_database
from petcd.storage.datadir import LOCK_NAME, DataDir
from petcd.storage.errors import LockedError, StorageError, WriteFailed


def contents(path: Path) -> dict[str, bytes | None]:
    """All files and directories by name."""
    return {
        str(one.relative_to(path)): one.read_bytes() if one.is_file() else None for one in path.rglob("*")
    }


class Hooked(RealDisk):
    """Something happens just before the lock's file is opened."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        super().__init__()
        self._meanwhile = meanwhile

    def open(self, path: str, /, **options: bool) -> File:  # type: ignore[override]
        if path.endswith(LOCK_NAME):
            self._meanwhile()
        return super().open(path, **options)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("busy", [False, True])
def test_a_restore_beside_who_makes_the_same_leaves_it_alone(
    petcd_source: Source, tmp_path: Path, late: bool, busy: bool
) -> None:
    """The other is done, or at it, when it was not there before: when the first looks, or when it locks."""
    path, config = str(petcd_source.whole.path), Config(data_dir=str(tmp_path / "data"))
    found: dict[str, bytes | None] = {}
    with ExitStack() as held:

        def meanwhile() -> None:
            if busy:
                held.callback(DataDir(DISK, config.data_dir).close)
            else:
                with database(petcd_source) as other:
                    back_up(DISK, random.Random(1), other, paths(petcd_source, tmp_path / "data"))
            found.update(contents(tmp_path))

        def watch(_what: str, done: int, total: int) -> None:
            if done == total and not late and not found:
                meanwhile()

        disk = Hooked(meanwhile) if late else DISK
        kind, text = (LockedError, "in use") if busy else (StorageError, "expected .* to be empty")
        with pytest.raises(kind, match=text):
            restore(disk, path, config, progress=watch)
    assert contents(tmp_path) == found
    assert ("data/member/snap/petcd.mdb" in found) is not busy


def test_a_restore_beside_one_with_the_same_log(petcd_source: Source, tmp_path: Path) -> None:
    """The data directories differ; the log that was there first stays, and nothing else does."""
    path, wal_dir = str(petcd_source.whole.path), str(tmp_path / "wal")
    found: dict[str, bytes | None] = {}

    def meanwhile(what: str, done: int, total: int) -> None:
        if what == "restoring" and done == total and not found:
            found["begun"] = None
            restore(DISK, path, Config(data_dir=str(tmp_path / "other"), wal_dir=wal_dir))
            del found["begun"]
            found.update((n, c) for n, c in contents(tmp_path).items() if not n.startswith("data"))

    with pytest.raises(WriteFailed, match="not empty"):
        restore(DISK, path, Config(data_dir=str(tmp_path / "data"), wal_dir=wal_dir), progress=meanwhile)
    assert contents(tmp_path) == found


# ---------------------------------------------------------------------- backup


def paths(source: Source, target: Path, target_wal: str = "") -> BackupPaths:
    member = source.compacted.data_dir / "member"
    return BackupPaths(str(member / "snap"), str(member / "wal"), str(target), target_wal)


@contextmanager
def database(source: Source) -> Iterator[Database]:
    file = DISK.open(str(source.compacted.data_dir / "member" / "snap" / "petcd.mdb"), readonly=True)
    try:
        found = open_database(file)
        try:
            yield found
        finally:
            found.close()
    finally:
        file.close()


@pytest.mark.parametrize("existing", [False, True])
def test_a_failed_backup_leaves_what_was_there(petcd_source: Source, tmp_path: Path, existing: bool) -> None:
    """And so a second try works."""
    target, target_wal = tmp_path / "backup", tmp_path / "wal"
    if existing:
        for directory in (target, target / "member" / "snap"):
            directory.mkdir(parents=True, exist_ok=True)
        (target / "notes").write_text("mine")
    before = contents(tmp_path)
    failures = 0
    while True:
        try:
            with database(petcd_source) as found:
                disk = FailingDisk(failures)
                back_up(disk, random.Random(1), found, paths(petcd_source, target, str(target_wal)))
        except WriteFailed:
            failures += 1
            assert contents(tmp_path) == before
        else:
            break
    assert failures >= 7
    assert (target / "member" / "snap" / "petcd.mdb").exists() and any(target_wal.iterdir())


def test_a_backup_takes_no_directory_that_holds_something(
    petcd_source: Source, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("precious", f"{0:016x}-{0:016x}.wal"):
        (tmp_path / "wal").mkdir(exist_ok=True)
        (tmp_path / "wal" / name).write_text("data")
    (tmp_path / "full" / "member" / "snap").mkdir(parents=True)
    (tmp_path / "full" / "member" / "snap" / "db").write_text("data")
    before = contents(tmp_path)

    def refused(place: Path, got: str, *words: str) -> None:
        data_dir = f"--data-dir={petcd_source.compacted.data_dir}"
        capfd.readouterr()
        assert etcdutl.main(["backup", data_dir, *words]) == 1
        text = f'Error: expected "{place}" to be empty, got [{got}]'
        assert capfd.readouterr().err.splitlines()[-1] == text
        assert contents(tmp_path) == before

    wal = tmp_path / "wal"
    got = '"0000000000000000-0000000000000000.wal" "precious"'
    refused(wal, got, f"--backup-dir={tmp_path / 'b'}", f"--backup-wal-dir={wal}")
    refused(tmp_path / "full" / "member" / "snap", '"db"', f"--backup-dir={tmp_path / 'full'}")


def test_two_backups_at_once(petcd_source: Source, tmp_path: Path) -> None:
    target = tmp_path / "backup"
    other = DataDir(DISK, str(target), logger=NULL)
    before = contents(tmp_path)
    with database(petcd_source) as found, pytest.raises(LockedError):
        back_up(DISK, random.Random(1), found, paths(petcd_source, target))
    assert contents(tmp_path) == before
    other.close()
