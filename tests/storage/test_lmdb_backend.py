"""What only the file can show: kills, lost pages, damage, full maps and disks, other people's files."""

from __future__ import annotations

import errno
import itertools
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import lmdb
import pytest
from tests.storage.fakes import ManualClock, ManualLane, settle

from petcd.seams.disk import File
from petcd.seams.real import RealDisk
from petcd.storage import lmdb_backend
from petcd.storage.errors import (
    CorruptError,
    FutureVersionError,
    LockedError,
    NotWritableError,
    StorageError,
    WriteFailed,
    WrittenByGoError,
)
from petcd.storage.lmdb_backend import LmdbBackend
from petcd.storage.lmdb_file import check_file
from petcd.storage.schema import CONSISTENT_INDEX, KEY, META, STORAGE_VERSION, encode_u64

PAGE = 4096


def rev(n: int) -> bytes:
    return n.to_bytes(8, "big") + b"_" + bytes(8)


def backend_at(tmp_path: Path, **options: int) -> LmdbBackend:
    return LmdbBackend(f"{tmp_path}/petcd.mdb", disk=RealDisk(), **options)


def flush(backend: LmdbBackend) -> None:
    done: list[bool] = []
    backend.flush(lambda: done.append(True))
    assert done


def filled(tmp_path: Path, count: int = 500, value_bytes: int = 300) -> bytes:
    """A closed file with ``count`` keys; returns its bytes."""
    backend = backend_at(tmp_path)
    for i in range(count):
        backend.put(KEY, rev(i), b"v" * value_bytes)
    backend.put(KEY, rev(count), b"big" * 5000)
    backend.put(META, CONSISTENT_INDEX, encode_u64(count))
    flush(backend)
    backend.close()
    return (tmp_path / "petcd.mdb").read_bytes()


def test_a_new_file_is_private_and_alone(tmp_path: Path) -> None:
    backend = backend_at(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["petcd.mdb", "petcd.mdb-lock"]
    assert (tmp_path / "petcd.mdb").stat().st_mode & 0o777 == 0o600
    assert backend.size() == (tmp_path / "petcd.mdb").stat().st_size
    backend.defragment(lambda: None)
    assert (tmp_path / "petcd.mdb").stat().st_mode & 0o777 == 0o600
    backend.close()


def test_the_size_is_the_high_water_mark(tmp_path: Path) -> None:
    backend = backend_at(tmp_path)
    before = backend.size()
    for i in range(1000):
        backend.put(KEY, rev(i), b"v" * 1000)
    flush(backend)
    assert backend.size() > before + 1_000_000
    assert 0.95 * backend.size() < backend.size_in_use() <= backend.size()
    for i in range(1000):
        backend.delete(KEY, rev(i))
    flush(backend)
    assert backend.size_in_use() < 100_000
    assert backend.size() > before + 1_000_000
    backend.close()


def test_revisions_fill_their_pages(tmp_path: Path) -> None:
    backend = backend_at(tmp_path)
    for start in range(0, 10_000, 100):
        for i in range(start, start + 100):
            backend.put(KEY, rev(i), b"v" * 300)
        flush(backend)
    assert backend.size_in_use() < 10_000 * 330 * 1.15
    backend.close()


WRITER = """
import asyncio, sys
from petcd.seams.real import real_world
from petcd.storage.lmdb_backend import LmdbBackend
from petcd.storage.schema import KEY, META, CONSISTENT_INDEX

async def main():
    world = real_world(asyncio.get_running_loop())
    backend = LmdbBackend(sys.argv[1], disk=world.disk, clock=world.clock, lane=world.disk.lane("backend"))
    index = int.from_bytes(backend.get(META, CONSISTENT_INDEX) or b"", "big")
    while True:
        for _ in range(40):
            index += 1
            for sub in range(50):
                backend.put(KEY, index.to_bytes(8, "big") + b"_" + sub.to_bytes(8, "big"), b"v" * 200)
            if index % 7 == 0:
                for sub in range(50):
                    backend.delete(KEY, (index - 5).to_bytes(8, "big") + b"_" + sub.to_bytes(8, "big"))
            backend.put(META, CONSISTENT_INDEX, index.to_bytes(8, "big"))
        done = asyncio.get_running_loop().create_future()
        backend.flush(lambda: done.set_result(None), done.set_exception)
        await done
        print(index, flush=True)

asyncio.run(main())
"""


def test_a_kill_leaves_the_last_commit_whole(tmp_path: Path) -> None:
    path = f"{tmp_path}/petcd.mdb"
    rng = random.Random(4)
    acknowledged = 0
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        acknowledged = int(process.stdout.readline())
        time.sleep(rng.uniform(0.0, 0.15))
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
        process.stdout.close()
        process.wait()
        if len(rest) > 1:
            acknowledged = int(rest[-2])
        backend = backend_at(tmp_path)
        index = int.from_bytes(backend.get(META, CONSISTENT_INDEX) or b"", "big")
        assert index >= acknowledged
        assert index % 40 == 0
        gone = {i - 5 for i in range(7, index + 1, 7)}
        expected = [
            i.to_bytes(8, "big") + b"_" + sub.to_bytes(8, "big")
            for i in range(1, index + 1)
            if i not in gone
            for sub in range(50)
        ]
        assert [key for key, _ in backend.range(KEY, b"", None)] == expected
        backend.close()
    assert acknowledged > 100


def test_lost_unsynced_pages_leave_the_last_commit(tmp_path: Path) -> None:
    """Everything of the next commit but its meta page may have reached the disk in part."""
    path = tmp_path / "petcd.mdb"
    backend = backend_at(tmp_path)
    rng = random.Random(7)
    state: dict[bytes, bytes] = {}
    images: list[tuple[bytes, dict[bytes, bytes]]] = []
    for round_ in range(6):
        for _ in range(200):
            key = rev(rng.randrange(400))
            if rng.random() < 0.3:
                state.pop(key, None)
                backend.delete(KEY, key)
            else:
                state[key] = b"%d" % round_ * rng.randrange(1, 300)
                backend.put(KEY, key, state[key])
        flush(backend)
        images.append((path.read_bytes(), dict(state)))
    backend.close()
    for (old, expected), (new, _) in itertools.pairwise(images):
        for _ in range(3):
            pages = [old[: 2 * PAGE]]
            for at in range(2 * PAGE, max(len(old), len(new)), PAGE):
                kept = old[at : at + PAGE].ljust(PAGE, b"\0") if at < len(old) else bytes(PAGE)
                pages.append(rng.choice((kept, new[at : at + PAGE])))
            path.write_bytes(b"".join(pages))
            reopened = backend_at(tmp_path)
            assert dict(reopened.range(KEY, b"", None)) == expected
            reopened.close()


def test_a_truncated_file_is_refused_before_it_is_mapped(tmp_path: Path) -> None:
    whole = filled(tmp_path)
    path = tmp_path / "petcd.mdb"
    refused = 0
    for size in [*range(0, len(whole), PAGE), len(whole) - 1, 100, PAGE + 17]:
        path.write_bytes(whole[:size])
        try:
            backend = backend_at(tmp_path)
        except CorruptError:
            refused += 1
            assert path.read_bytes() == whole[:size]
            continue
        # Only pages nobody reaches were lost.
        assert len(backend.range(KEY, b"", None)) == 501
        assert backend.get(KEY, rev(500)) == b"big" * 5000
        backend.close()
    assert refused > 40


def test_a_short_file_that_misses_only_free_pages_is_sound(tmp_path: Path) -> None:
    backend = backend_at(tmp_path)
    for i in range(500):
        backend.put(KEY, rev(i), b"v" * 300)
    flush(backend)
    for start in range(0, 160, 40):
        for i in range(start, start + 40):
            backend.delete(KEY, rev(i))
        flush(backend)
    in_use = backend.size_in_use()
    backend.close()
    path = tmp_path / "petcd.mdb"
    whole = path.read_bytes()
    sound = []
    for size in range(2 * PAGE, len(whole), PAGE):
        path.write_bytes(whole[:size])
        file = RealDisk().open(str(path), readonly=True)
        try:
            check_file(file)
            sound.append(size)
        except CorruptError:
            assert not sound
        finally:
            file.close()
    assert sound
    assert sound[0] >= in_use
    path.write_bytes(whole[: sound[0]])
    backend = backend_at(tmp_path)
    assert [key for key, _ in backend.range(KEY, b"", None)] == [rev(i) for i in range(160, 500)]
    for i in range(1000, 1500):
        backend.put(KEY, rev(i), b"v" * 300)
    flush(backend)
    assert len(backend.range(KEY, b"", None)) == 840
    backend.close()


@pytest.mark.parametrize("content", [b"", b"x", b"garbage" * 5000, bytes(8 * PAGE)])
def test_what_is_no_backend_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "petcd.mdb").write_bytes(content)
    with pytest.raises(CorruptError, match="not a backend file"):
        backend_at(tmp_path)
    assert (tmp_path / "petcd.mdb").read_bytes() == content


def test_a_file_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    backend = backend_at(tmp_path)
    backend.put(META, STORAGE_VERSION, b"3.7.0")
    flush(backend)
    backend.close()
    backend = backend_at(tmp_path)
    backend.put(META, STORAGE_VERSION, b"3.8.0")
    flush(backend)
    backend.close()
    with pytest.raises(FutureVersionError, match=r"written by etcd 3\.8"):
        backend_at(tmp_path)
    # It was let go, too.
    with pytest.raises(FutureVersionError):
        backend_at(tmp_path)


def test_a_go_database_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(bytes(100))
    with pytest.raises(WrittenByGoError, match="written by Go etcd"):
        backend_at(tmp_path)
    assert not (tmp_path / "petcd.mdb").exists()


def test_one_file_has_one_backend(tmp_path: Path) -> None:
    backend = backend_at(tmp_path)
    with pytest.raises(LockedError):
        backend_at(tmp_path)
    backend.put(META, b"a", b"1")
    flush(backend)
    # The lock goes on over a rewrite of the file.
    backend.defragment(lambda: None)
    with pytest.raises(LockedError):
        backend_at(tmp_path)
    backend.put(META, b"b", b"1")
    flush(backend)
    backend.close()
    backend = backend_at(tmp_path)
    assert backend.get(META, b"b") == b"1"
    backend.close()


def test_a_full_map_grows_by_itself(tmp_path: Path) -> None:
    backend = backend_at(tmp_path, map_bytes=1 << 18)
    for i in range(2000):
        backend.put(KEY, rev(i), b"v" * 2000)
    flush(backend)
    assert len(backend.range(KEY, b"", None)) == 2000
    backend.close()
    # Also when it was larger than what is asked for now.
    backend = backend_at(tmp_path, map_bytes=1 << 18)
    assert len(backend.range(KEY, b"", None)) == 2000
    backend.put(KEY, rev(2000), b"v" * 2_000_000)
    flush(backend)
    backend.close()


def test_a_full_map_waits_for_its_views(tmp_path: Path) -> None:
    clock = ManualClock()
    lane = ManualLane(clock)
    backend = LmdbBackend(f"{tmp_path}/petcd.mdb", disk=RealDisk(), clock=clock, lane=lane, map_bytes=1 << 18)
    view = backend.open_view()
    done: list[bool] = []
    for i in range(2000):
        backend.put(KEY, rev(i), b"v" * 2000)
    backend.flush(lambda: done.append(True))
    settle(clock, lane)
    assert not done
    assert backend.get(KEY, rev(1999)) == b"v" * 2000
    for _ in range(2):
        (callback, args), clock.later = clock.later[0], []
        callback(*args)
        settle(clock, lane)
        assert not done
        assert list(view.iterate(KEY)) == []
    view.close()
    while clock.later:
        (callback, args), clock.later = clock.later[0], []
        callback(*args)
        settle(clock, lane)
    assert done
    assert len(backend.range(KEY, b"", None)) == 2000
    backend.close()


def test_a_replacement_may_outgrow_the_map(tmp_path: Path) -> None:
    backend = backend_at(tmp_path, map_bytes=1 << 18)
    done: list[bool] = []
    backend.replace(lambda: ((KEY, rev(i), b"v" * 2000) for i in range(2000)), lambda: done.append(True))
    assert done
    assert len(backend.range(KEY, b"", None)) == 2000
    backend.put(KEY, rev(3000), b"x")
    flush(backend)
    backend.close()


def test_a_write_error_is_typed_and_loses_nothing(tmp_path: Path) -> None:
    backend = backend_at(tmp_path)
    backend.put(META, b"a", b"1")
    flush(backend)
    errors: list[StorageError] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (backend.size() + PAGE, hard))
    try:
        for i in range(1000):
            backend.put(KEY, rev(i), b"v" * 1000)
        backend.flush(lambda: pytest.fail("there was no room"), errors.append)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert len(errors) == 1
    assert isinstance(errors[0], WriteFailed)
    assert len(backend.range(KEY, b"", None)) == 1000
    view = backend.open_view()
    assert view.get(KEY, rev(0)) is None
    assert view.get(META, b"a") == b"1"
    view.close()
    backend._queued_done.clear()
    flush(backend)
    backend.close()
    backend = backend_at(tmp_path)
    assert len(backend.range(KEY, b"", None)) == 1000
    backend.close()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (lmdb.DiskError("mdb_txn_commit: No space left on device"), "DiskFullError"),
        (lmdb.MapFullError("mdb_put"), "WriteFailed"),
        (lmdb.CorruptedError("mdb_get"), "CorruptError"),
        (lmdb.ReadonlyError("mdb_txn_begin: Permission denied"), "NotWritableError"),
        (lmdb.Error("mdb_env_open: Read-only file system"), "NotWritableError"),
        (lmdb.Error("mdb_txn_commit: Input/output error"), "WriteFailed"),
        (OSError(28, "No space left on device"), "DiskFullError"),
        (ValueError("a bug"), "WriteFailed"),
    ],
)
def test_every_error_has_a_type(tmp_path: Path, error: Exception, kind: str) -> None:
    backend = backend_at(tmp_path)
    typed = backend._typed(error)
    assert type(typed).__name__ == kind
    assert "petcd.mdb" in str(typed)
    backend.close()


class ReadonlyDisk(RealDisk):
    def open(self, path: str, /, **options: object) -> File:  # type: ignore[override]
        raise OSError(errno.EROFS, "Read-only file system", path)


def test_a_read_only_file_system_is_refused(tmp_path: Path) -> None:
    filled(tmp_path)
    with pytest.raises(NotWritableError, match="Read-only file system"):
        LmdbBackend(f"{tmp_path}/petcd.mdb", disk=ReadonlyDisk())


class Stop(Exception):
    pass


@pytest.mark.parametrize("name", ["defragBeforeCopy", "defragBeforeRename"])
def test_a_defragmentation_broken_off_leaves_the_old_file(tmp_path: Path, name: str) -> None:
    filled(tmp_path)
    backend = backend_at(tmp_path)

    def stop() -> None:
        raise Stop

    backend._failpoints.arm(name, stop)
    errors: list[StorageError] = []
    backend.defragment(lambda: pytest.fail("it was broken off"), errors.append)
    assert isinstance(errors[0].__cause__, Stop)
    backend.put(META, b"after", b"1")
    flush(backend)
    backend.close()
    leftover = tmp_path / "petcd.mdb.defrag"
    assert leftover.exists() == (name == "defragBeforeRename")
    for other in ("petcd.mdb.new", "petcd.mdb.replace", "petcd.mdb.replace-lock", "petcd.mdb-lock"):
        (tmp_path / other).write_bytes(b"left over")
    backend = backend_at(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["petcd.mdb", "petcd.mdb-lock"]
    assert len(backend.range(KEY, b"", None)) == 501
    assert backend.get(META, b"after") == b"1"
    backend.defragment(lambda: None)
    backend.close()


def test_closing_in_a_transaction_drops_it(tmp_path: Path) -> None:
    clock = ManualClock()
    lane = ManualLane(clock)
    backend = LmdbBackend(f"{tmp_path}/petcd.mdb", disk=RealDisk(), clock=clock, lane=lane)
    backend.put(META, b"a", b"1")
    backend.flush(lambda: pytest.fail("closed"))
    lane.run_one()
    view = backend.open_view()
    backend.close()
    # A view that is still open keeps its file, not the backend's.
    assert view.get(META, b"a") is None
    view.close()
    backend = backend_at(tmp_path)
    assert backend.get(META, b"a") is None
    backend.close()


def test_the_module_names_its_file() -> None:
    assert (lmdb_backend.FILE_NAME, lmdb_backend.GO_FILE_NAME) == ("petcd.mdb", "db")
