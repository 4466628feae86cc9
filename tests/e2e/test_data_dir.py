"""Data directories that are not as they should be: each is refused with words, or served, never harmed."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.rpc import Rpc, Status
from tests.servers import Kind, Server, serving

from petcd.seams.real import RealDisk
from petcd.storage.lmdb_backend import LmdbBackend
from petcd.storage.schema import META, STORAGE_VERSION


@pytest.fixture
def own(kind: Kind) -> None:
    if kind != "petcd":
        pytest.skip("what Go does with a bad directory is not ours to assert")


@contextlib.contextmanager
def tmpfs(size_bytes: int) -> Iterator[Path]:
    """A small file system of its own."""
    path = Path(tempfile.mkdtemp(prefix="small-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "none", str(path)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        path.rmdir()
        pytest.skip("mounting a small file system takes privileges this run has not")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=False)
        path.rmdir()


def refused(server: Server, *words: str) -> None:
    """The process ends by itself, says why, and shows no traceback."""
    server.spawn()
    try:
        status = server.wait(seconds_max=30)
    finally:
        server.kill()
    log = server.log_tail(1500)
    assert status == 1, log
    assert "Traceback" not in server.log(), log
    for word in words:
        assert word in log.lower(), log


def seeded(kind: Kind, directory: Path, count: int = 50, *args: str) -> Server:
    """A stopped server whose directory holds ``count`` keys."""
    server = Server(kind, directory, args)
    server.start()
    with Rpc(server.endpoint) as rpc:
        for number in range(count):
            rpc.put(b"seed/%03d" % number, b"x" * 100)
    server.stop()
    server.log_path.unlink()
    return server


def wal_segments(server: Server) -> list[Path]:
    return sorted((server.data_dir / "member" / "wal").glob("*.wal"))


def count(server: Server) -> int:
    with Rpc(server.endpoint) as rpc:
        return rpc.get(b"seed/", b"seed0", count_only=True).count


@pytest.mark.usefixtures("own")
def test_locked(kind: Kind, tmp_path: Path) -> None:
    """A second process on the same directory never serves and says why; the first goes on."""
    with serving(kind, tmp_path / "one") as first:
        second = Server(kind, tmp_path / "two", (f"--data-dir={first.data_dir}",))
        second.spawn()
        try:
            end = time.monotonic() + 15
            while time.monotonic() < end and "in use by another" not in second.log():
                time.sleep(0.1)
            assert not second.is_healthy()
            assert "Traceback" not in second.log()
            assert f"{first.data_dir}: the data directory is in use by another" in second.log()
        finally:
            second.kill()
        assert first.is_healthy()
        with Rpc(first.endpoint) as rpc:
            rpc.put(b"still", b"here")


@pytest.mark.usefixtures("own")
def test_read_only(kind: Kind, tmp_path: Path) -> None:
    with tmpfs(200 << 20) as small:
        server = seeded(kind, small / "server")
        log = tmp_path / "elsewhere"
        log.mkdir()
        subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
        other = Server(kind, log, (f"--data-dir={server.data_dir}",))
        refused(other, "read-only file system")
        subprocess.run(["mount", "-o", "remount,rw", str(small)], check=True)
        server.start()
        try:
            assert count(server) == 50
        finally:
            server.kill()


@pytest.mark.usefixtures("own")
def test_no_room_to_start(kind: Kind, tmp_path: Path) -> None:
    with tmpfs(8 << 20) as small:
        server = Server(kind, tmp_path, (f"--data-dir={small}/data",))
        refused(server, "no space left on device")


@pytest.mark.slow
@pytest.mark.usefixtures("own")
def test_full_while_serving(kind: Kind, tmp_path: Path) -> None:
    """When the disk fills up, what was acknowledged stays; with room again everything goes on."""
    with tmpfs(260 << 20) as small:
        server = Server(kind, tmp_path, (f"--data-dir={small}/data",))
        server.start()
        ballast = small / "ballast"
        acknowledged: dict[bytes, int] = {}
        try:
            with Rpc(server.endpoint) as rpc:
                acknowledged[b"first"] = rpc.put(b"first", b"x")
                free = shutil.disk_usage(small).free
                with ballast.open("wb") as file:
                    file.write(bytes(max(0, free - (2 << 20))))
                value = bytes(1 << 20)
                with contextlib.suppress(Status):
                    for number in range(300):
                        key = b"full/%03d" % number
                        acknowledged[key] = rpc.put(key, value)
            time.sleep(0.5)
            assert "Traceback" not in server.log(), server.log_tail()
            ended = server.process is not None and server.process.poll() is not None
            assert len(acknowledged) < 301 or not ended
            if ended:
                assert "no space left on device" in server.log().lower(), server.log_tail()
            ballast.unlink()
            server.kill()
            server.start()
            with Rpc(server.endpoint) as rpc:
                for key, revision in acknowledged.items():
                    kvs = rpc.get(key).kvs
                    assert kvs, key
                    assert kvs[0].mod_revision == revision
                rpc.put(b"after", b"x")
        finally:
            server.kill()


@pytest.mark.usefixtures("own")
def test_a_torn_end_of_the_log_is_repaired(kind: Kind, tmp_path: Path) -> None:
    """After a crash before the backend's next commit; each cut starts from the same directory."""
    server = Server(kind, tmp_path, ("--backend-batch-interval=1h", "--backend-batch-limit=1000000"))
    server.start()
    with Rpc(server.endpoint) as rpc:
        for number in range(50):
            rpc.put(b"seed/%03d" % number, b"x" * 100)
    server.kill()
    whole = tmp_path / "whole"
    shutil.copytree(server.data_dir, whole)
    segment = wal_segments(server)[-1]
    data = segment.read_bytes()
    used = len(data.rstrip(b"\0"))
    for cut in (1, 3, 40, 200, 1000):
        for rest in (b"", bytes(len(data) - used + cut)):
            shutil.rmtree(server.data_dir)
            shutil.copytree(whole, server.data_dir)
            segment.write_bytes(data[: used - cut] + rest)
            server.start()
            try:
                assert 40 <= count(server) <= 50
            finally:
                server.kill()


@pytest.mark.usefixtures("own")
def test_a_log_that_ends_before_its_backend_is_refused(kind: Kind, tmp_path: Path) -> None:
    """Then what was acknowledged is gone for good, and nobody should go on without knowing."""
    server = seeded(kind, tmp_path)
    segment = wal_segments(server)[-1]
    data = segment.read_bytes()
    segment.write_bytes(data[: len(data.rstrip(b"\0")) - 1000])
    refused(server, "acknowledged entries are missing")


@pytest.mark.usefixtures("own")
def test_damage_in_the_middle_of_the_log_is_refused(kind: Kind, tmp_path: Path) -> None:
    server = seeded(kind, tmp_path)
    segment = wal_segments(server)[-1]
    data = bytearray(segment.read_bytes())
    data[data.index(b"seed/025") + 20] ^= 0xFF
    segment.write_bytes(data)
    before = {path: path.read_bytes() for path in wal_segments(server)}
    refused(server, segment.name)
    assert {path: path.read_bytes() for path in wal_segments(server)} == before


@pytest.mark.usefixtures("own")
def test_a_missing_log_is_refused_or_begun_anew_but_never_half_read(kind: Kind, tmp_path: Path) -> None:
    """Without its first segment a log that never took a snapshot cannot be replayed."""
    server = seeded(kind, tmp_path)
    segment = wal_segments(server)[0]
    segment.rename(segment.with_name("0000000000000005-0000000000000064.wal"))
    refused(server, "wal")


@pytest.mark.usefixtures("own")
def test_a_log_in_another_place_is_asked_for(kind: Kind, tmp_path: Path) -> None:
    server = seeded(kind, tmp_path)
    elsewhere = tmp_path / "wal"
    (server.data_dir / "member" / "wal").rename(elsewhere)
    before = backend_file(server).read_bytes()
    refused(server, "there is a database, but no write-ahead log in", "(--wal-dir)")
    assert backend_file(server).read_bytes() == before
    server.args = (f"--wal-dir={elsewhere}",)
    server.start()
    try:
        assert count(server) == 50
    finally:
        server.kill()


@pytest.mark.usefixtures("own")
def test_a_truncated_backend_is_refused(kind: Kind, tmp_path: Path) -> None:
    server = seeded(kind, tmp_path)
    file = backend_file(server)
    data = file.read_bytes()
    for size in (0, 100, 4096, len(data) // 2 // 4096 * 4096):
        file.write_bytes(data[:size])
        server.spawn()
        try:
            end = time.monotonic() + 20
            assert server.process is not None
            while server.process.poll() is None and not server.is_healthy() and time.monotonic() < end:
                time.sleep(0.02)
            if server.process.poll() is None:
                assert count(server) == 50, f"served after {size} bytes of the backend"
            else:
                assert server.process.returncode == 1, server.log_tail()
                assert "Traceback" not in server.log(), server.log_tail()
                assert str(file.name) in server.log(), server.log_tail()
        finally:
            server.kill()


def backend_file(server: Server) -> Path:
    """The largest file beside the log's."""
    files = [path for path in (server.data_dir / "member" / "snap").rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


@pytest.mark.usefixtures("own")
def test_from_the_future(kind: Kind, tmp_path: Path) -> None:
    """A backend that says it was written by a later release is left alone."""
    server = seeded(kind, tmp_path)
    backend = LmdbBackend(str(backend_file(server)), disk=RealDisk())
    backend.put(META, STORAGE_VERSION, b"9.9.0")
    backend.flush(lambda: None)
    backend.close()
    refused(server, "written by etcd 9.9, which is newer")


@pytest.mark.usefixtures("own")
def test_a_directory_of_something_else(kind: Kind, tmp_path: Path) -> None:
    server = Server(kind, tmp_path)
    (server.data_dir / "member").mkdir(parents=True)
    (server.data_dir / "member" / "wal").write_text("not a directory")
    refused(server)
