"""Which database of a directory counts, and that it is still that one when its lock is there."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.etcdutl.conftest import Source
from tests.exchange.godir import GoDirectory, key_of, rows
from tests.storage.bbolt.build import written

from petcd.cli import etcdutl
from petcd.pb import splice
from petcd.pb.etcdserverpb import DowngradeVersionTestRequest, InternalRaftRequest
from petcd.seams.real import RealDisk
from petcd.storage import schema
from petcd.storage.atrest import build_backend, open_database
from petcd.storage.bbolt import BboltFile
from petcd.storage.datadir import BACKUP_NAME, DataDir
from petcd.storage.errors import UnrecognizedError
from petcd.storage.wal import Wal

DISK = RealDisk()
Ran = tuple[int, str, str]


@pytest.fixture
def utl(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run etcdutl: exit status, stdout, stderr."""

    def run(*words: object) -> Ran:
        capfd.readouterr()
        status = etcdutl.main([str(word) for word in words])
        said = capfd.readouterr()
        return status, said.out, said.err

    return run


def go_directory(path: Path) -> Path:
    """A directory of Go etcd, of a release with storage versions; its database."""
    contents: Any = rows(10)
    contents[schema.META][schema.STORAGE_VERSION] = b"3.7.0"
    contents[schema.META][schema.TERM] = schema.encode_u64(2)
    path.mkdir()
    GoDirectory(contents=contents).write(DISK, str(path))
    return path / "member" / "snap" / "db"


def lock(path: Path) -> int:
    """As a server of Go holds it, until it is closed."""
    number = os.open(path, os.O_RDWR)
    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return number


def when_waiting(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> list[bool]:
    """``act`` instead of the first sleep, and no sleep at all; filled when that has been."""
    done: list[bool] = []

    def sleep(_seconds: float) -> None:
        if not done:
            done.append(True)
            act()

    monkeypatch.setattr(time, "sleep", sleep)
    return done


@pytest.mark.parametrize("words", [["defrag"], ["migrate", "--target-version=3.6"]])
def test_a_database_that_took_the_place_is_not_overwritten(
    tmp_path: Path, words: list[str], utl: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that defragments puts another file there, and then holds that."""
    path = go_directory(tmp_path / "data")
    server = [lock(path)]
    newer = written(rows(12))

    def replace() -> None:
        beside = path.with_name("db.new")
        beside.write_bytes(newer)
        server.append(lock(beside))
        beside.rename(path)
        os.close(server.pop(0))

    waited = when_waiting(monkeypatch, replace)
    status, _, err = utl(*words, "--data-dir", tmp_path / "data", "--timeout=100ms")
    assert (status, waited) == (1, [True])
    assert "timeout" in err.splitlines()[-1]
    assert path.read_bytes() == newer
    os.close(server[0])


@pytest.mark.parametrize("kind", ["go", "petcd"])
def test_a_reader_reads_what_took_the_place(
    tmp_path: Path, kind: str, utl: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = go_directory(tmp_path / "data")
    newer = path.with_name("newer")
    newer.write_bytes(written(rows(12)))
    if kind == "petcd":
        ours = path.with_name("petcd.mdb")
        for source, target in ((path, ours), (newer, newer)):
            with reading(source) as database:
                build_backend(DISK, str(target), database)
        path.unlink()
        path = ours
    server = DISK.open(str(path))
    assert server.try_lock() if kind == "petcd" else server.try_flock()

    def replace() -> None:
        newer.rename(path)
        server.close()

    waited = when_waiting(monkeypatch, replace)
    status, out, err = utl("dump-db", "iterate-bucket", path, "key", "--limit=1", "--decode")
    assert (status, err, waited) == (0, "", [True])
    assert f'"{key_of(12).decode()}"' in out


@contextmanager
def reading(path: Path) -> Iterator[Any]:
    file = DISK.open(str(path), readonly=True)
    try:
        database = open_database(file)
        try:
            yield database
        finally:
            database.close()
    finally:
        file.close()


@pytest.mark.parametrize("kind", ["go", "petcd"])
def test_migrate_decides_on_what_the_member_left(
    petcd_source: Source,
    tmp_path: Path,
    kind: str,
    utl: Callable[..., Ran],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not on what was there when the waiting for its end began."""
    data_dir = tmp_path / "data"
    if kind == "go":
        number = lock(go_directory(data_dir))
    else:
        shutil.copytree(petcd_source.whole.data_dir, data_dir)
        held = DataDir(DISK, str(data_dir))
    request = InternalRaftRequest(downgrade_version_test=DowngradeVersionTestRequest(ver="3.7.0"))

    def end() -> None:
        wal, contents = Wal.open(DISK, str(data_dir / "member" / "wal"))
        index = contents.last_index + 1
        wal.write(wal.encode([(index, splice.entry(0, 2, index, request.encode()))], None, True))
        wal.close()
        if kind == "go":
            os.close(number)
        else:
            held.close()

    waited = when_waiting(monkeypatch, end)
    status, _, err = utl("migrate", "--data-dir", data_dir, "--target-version=3.6")
    assert (status, waited) == (1, [True])
    assert "cannot downgrade storage, WAL contains newer entries" in err


# ---------------------------------------------------------------------- which one counts


def test_a_broken_off_conversion_left_go_s_database(tmp_path: Path, utl: Callable[..., Ran]) -> None:
    """Until the decisive step Go's counts, and it is not the one beside it that is read or changed."""
    data_dir = tmp_path / "data"
    path = go_directory(data_dir)
    stale = path.with_name("petcd.mdb")
    stale.write_bytes(b"stale")
    pending = data_dir / f"{BACKUP_NAME}.tmp"
    (pending / "snap").mkdir(parents=True)
    assert utl("dump-db", "hash", data_dir)[:2] == (0, utl("dump-db", "hash", path)[1])
    before = path.stat().st_ino
    assert utl("defrag", "--data-dir", data_dir) == (0, "", "")
    assert path.stat().st_ino != before
    assert utl("migrate", "--data-dir", data_dir, "--target-version=3.6")[0] == 0
    with reading(path) as database:
        assert isinstance(database, BboltFile)
        assert database.get(schema.META, schema.STORAGE_VERSION) == b"3.6.0"
    assert utl("backup", "--data-dir", data_dir, "--backup-dir", tmp_path / "copy")[0] == 0
    with reading(tmp_path / "copy" / "member" / "snap" / "petcd.mdb") as database:
        assert dict(database.iterate(schema.KEY)) == rows(10)[schema.KEY]
    assert stale.read_bytes() == b"stale"


@pytest.mark.parametrize("pending", [False, True])
def test_two_databases(tmp_path: Path, utl: Callable[..., Ran], pending: bool) -> None:
    """Somebody put one there: nobody but he can say which of them counts."""
    data_dir = tmp_path / "data"
    path = go_directory(data_dir)
    path.with_name("petcd.mdb").write_bytes(b"ours")
    if pending:
        third = data_dir / f"{BACKUP_NAME}.tmp" / "snap" / "db"
        third.parent.mkdir(parents=True)
        third.write_bytes(b"another")
    before = path.read_bytes()
    for words in (
        ["defrag", "--data-dir", data_dir],
        ["migrate", "--data-dir", data_dir, "--target-version=3.6"],
        ["backup", "--data-dir", data_dir, "--backup-dir", tmp_path / "copy"],
        ["dump-db", "list-bucket", data_dir],
    ):
        status, out, err = utl(*words)
        assert (status, out) == (1, "")
        assert "it is not clear which of them counts; move the other one away" in err
    assert path.read_bytes() == before
    assert not (tmp_path / "copy").exists()


# ---------------------------------------------------------------------- what a rewrite leaves


@pytest.mark.parametrize("linked", [False, True])
def test_who_waits_for_the_former_file_cannot_serve_it(
    tmp_path: Path, utl: Callable[..., Ran], linked: bool
) -> None:
    """A Go etcd that started during the rewrite; but a file that has another name is left as it was."""
    path = go_directory(tmp_path / "data")
    before = path.read_bytes()
    if linked:
        (tmp_path / "kept").hardlink_to(path)
    waiting = DISK.open(str(path))
    assert utl("defrag", "--data-dir", tmp_path / "data") == (0, "", "")
    assert waiting.try_flock()
    if linked:
        assert waiting.pread(len(before), 0) == before
    else:
        with pytest.raises(UnrecognizedError):
            BboltFile(waiting)
    waiting.close()
    with reading(path) as database:
        assert dict(database.iterate(schema.KEY)) == rows(10)[schema.KEY]


def test_what_a_killed_rewrite_left_is_no_hindrance(tmp_path: Path, utl: Callable[..., Ran]) -> None:
    path = go_directory(tmp_path / "data")
    names = {one.name for one in path.parent.iterdir()}
    for number in (os.getpid(), 1):
        path.with_name(f"db.tmp.{number}").write_bytes(b"half")
    assert utl("defrag", "--data-dir", tmp_path / "data") == (0, "", "")
    assert {one.name for one in path.parent.iterdir()} == names


@pytest.mark.parametrize("kind", ["go", "petcd"])
@pytest.mark.parametrize("allowed", [True, False])
def test_a_rewrite_keeps_owner_and_mode(
    petcd_source: Source,
    tmp_path: Path,
    kind: str,
    allowed: bool,
    utl: Callable[..., Ran],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a repair by root would lock the member out. Who is not root may give nothing away."""
    data_dir = tmp_path / "data"
    if kind == "go":
        path = go_directory(data_dir)
    else:
        shutil.copytree(petcd_source.whole.data_dir, data_dir)
        path = data_dir / "member" / "snap" / "petcd.mdb"
    path.chmod(0o640)
    before = path.stat()
    given: list[tuple[int, int]] = []

    def chown(_path: str, owner: int, group: int) -> None:
        if not allowed:
            raise PermissionError
        given.append((owner, group))

    monkeypatch.setattr(os, "chown", chown)
    assert utl("defrag", "--data-dir", data_dir) == (0, "", "")
    after = path.stat()
    assert after.st_ino != before.st_ino
    assert after.st_mode == before.st_mode
    assert given == ([(before.st_uid, before.st_gid)] if allowed else [])
