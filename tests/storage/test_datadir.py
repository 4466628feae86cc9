"""The data directory: made, proved, locked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.storage.fakes import FakeDisk

from petcd.seams.real import RealDisk
from petcd.storage.datadir import DataDir
from petcd.storage.errors import DiskFullError, LockedError, NotWritableError, WrittenByGoError
from petcd.storage.wal import Wal


def test_it_is_made_private(tmp_path: Path) -> None:
    data_dir = DataDir(RealDisk(), f"{tmp_path}/new/data")
    for path in (data_dir.path, data_dir.member, data_dir.snap):
        assert Path(path).stat().st_mode & 0o777 == 0o700
    assert not Path(data_dir.wal).exists()
    assert not data_dir.has_wal()
    assert not data_dir.has_backend()
    assert data_dir.backend_path == f"{tmp_path}/new/data/member/snap/petcd.mdb"
    Wal.create(RealDisk(), data_dir.wal, b"").close()
    assert data_dir.has_wal()
    data_dir.close()
    assert not list(Path(data_dir.path).rglob(".touch"))


def test_its_names_are_durable_before_anything_is_in_it() -> None:
    disk = FakeDisk()
    DataDir(disk, "/a/b/data").close()
    after = disk.after_crash("none")
    for path in ("/a", "/a/b", "/a/b/data", "/a/b/data/member", "/a/b/data/member/snap"):
        assert after.is_dir(path)


def test_a_log_elsewhere() -> None:
    disk = FakeDisk()
    data_dir = DataDir(disk, "/data", "/fast/wal")
    assert data_dir.wal == "/fast/wal"
    assert disk.is_dir("/fast")
    assert not disk.exists("/fast/wal")
    Wal.create(disk, data_dir.wal, b"", segment_bytes=4096).close()
    assert data_dir.has_wal()
    data_dir.close()


def test_two_members_cannot_share_it(tmp_path: Path) -> None:
    data_dir = DataDir(RealDisk(), str(tmp_path))
    with pytest.raises(LockedError, match=f"{tmp_path}: the data directory is in use"):
        DataDir(RealDisk(), str(tmp_path))
    script = (
        "import sys\n"
        "from petcd.seams.real import RealDisk\n"
        "from petcd.storage.datadir import DataDir\n"
        "from petcd.storage.errors import LockedError\n"
        "try:\n    DataDir(RealDisk(), sys.argv[1])\n"
        "except LockedError:\n    print('locked')\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "locked\n"
    data_dir.close()
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""
    DataDir(RealDisk(), str(tmp_path)).close()


def test_go_s_data_is_recognised(tmp_path: Path) -> None:
    data_dir = DataDir(RealDisk(), str(tmp_path))
    data_dir.refuse_go_data()
    (tmp_path / "member" / "snap" / "db").write_bytes(b"bolt")
    with pytest.raises(WrittenByGoError, match="a database of Go etcd, but no write-ahead log"):
        data_dir.refuse_go_data()
    (tmp_path / "member" / "snap" / "petcd.mdb").write_bytes(b"ours")
    data_dir.refuse_go_data()
    data_dir.close()


class Unwritable(FakeDisk):
    def open(self, path: str, /, **options: object) -> object:  # type: ignore[override]
        raise OSError(self.number, "refused", path)

    number = 30


@pytest.mark.parametrize(
    ("number", "kind"), [(30, NotWritableError), (13, NotWritableError), (28, DiskFullError)]
)
def test_what_cannot_be_written_is_told(number: int, kind: type[Exception]) -> None:
    disk = Unwritable()
    disk.number = number
    with pytest.raises(kind, match="cannot use it as the data directory"):
        DataDir(disk, "/data")
