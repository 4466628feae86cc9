"""Directories that are not taken over: each is refused in words, and not a byte of it changes."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.exchange.godir import MEMBER, ONE_MEMBER, GoDirectory, history, put, rows, tree, v2
from tests.exchange.taking import files, made, take_over
from tests.rpc import Rpc
from tests.servers import Server, needs_go_etcd, serving
from tests.storage.bbolt.build import written

from petcd.pb import etcdserverpb as pb
from petcd.pb import raftpb
from petcd.raft import Entry
from petcd.seams.real import RealDisk
from petcd.storage import schema
from petcd.storage.datadir import BACKUP_NAME
from petcd.storage.errors import (
    CorruptError,
    CrcMismatch,
    FutureVersionError,
    IncompatibleError,
    LockedError,
    StorageError,
    WriteFailed,
)
from petcd.storage.wal.reader import SegmentReader
from petcd.storage.wal.records import chain


def refused(path: Path, kind: type[Exception], *words: str, **options: Any) -> None:
    before = files(path)
    names = set(path.rglob("*"))
    with pytest.raises(kind) as told:
        take_over(path, **options)
    text = str(told.value)
    assert str(path) in text, "it names the file"
    for word in words:
        assert word in text
    assert files(path) == before
    assert set(path.rglob("*")) - names <= {path / "member" / "petcd.lock"}


def segment(path: Path) -> Path:
    return max((path / "member" / "wal").glob("*.wal"))


def with_rows(change: Callable[[Any], object], applied: int = 10) -> Any:
    contents = rows(applied)
    change(contents)
    return contents


def meta(**values: bytes) -> dict[str, Any]:
    named = {"storage_version": schema.STORAGE_VERSION, "consistent_index": schema.CONSISTENT_INDEX}
    return {
        "contents": with_rows(
            lambda contents: contents[schema.META].update({named[n]: v for n, v in values.items()})
        )
    }


def request(**fields: Any) -> bytes:
    return pb.InternalRaftRequest(ID=1, **fields).encode()


V2_CHANGE = raftpb.ConfChangeV2(changes=[raftpb.ConfChangeSingle(type=0, node_id=5)]).encode()
CASES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "too new": (
        meta(storage_version=b"3.8.0"),
        FutureVersionError,
        "written by etcd 3.8, which is newer than the 3.7 this program understands",
    ),
    "no version": (meta(storage_version=b"new"), CorruptError, "is not a version"),
    "of a newer cluster": (
        {"entries": [*history(0), v2(5, "/0/version", "3.8.0")], "applied": 5},
        FutureVersionError,
        "of a cluster of version 3.8.0, which is newer than the 3.7",
    ),
    "acknowledged entries are missing": (
        {"entries": history(3), "applied": 9},
        CorruptError,
        "the write-ahead log ends at index 7, but the database holds effects up to 9",
    ),
    "an old database": (
        {"applied": 6, "snapshot": 10},
        CorruptError,
        "the database ends at index 6, before the snapshot of index 10",
    ),
    "users that the database does not hold": (
        {"entries": [*history(), Entry(2, 17, 0, request(auth_user_add=pb.AuthUserAddRequest(name="u")))]},
        IncompatibleError,
        "entry 17, which the database does not hold yet, cannot be applied",
    ),
    "a change of the membership that etcd does not make": (
        {"entries": [*history(), Entry(2, 17, 2, V2_CHANGE)]},
        IncompatibleError,
        "entry 17",
    ),
    "such a change, applied": (
        {"entries": [*history(1), Entry(2, 6, 2, V2_CHANGE)], "applied": 6},
        CorruptError,
        "entry 6",
    ),
    "no request at all": (
        {"entries": [*history(), Entry(2, 17, 0, b"\xff\xff")]},
        IncompatibleError,
        "entry 17",
    ),
    "authentication": (
        {
            "contents": with_rows(
                lambda contents: contents[schema.AUTH].update({schema.AUTH_ENABLED: b"\x01"})
            )
        },
        IncompatibleError,
        "authentication is enabled",
    ),
    "keys of the v2 API in the log": (
        {"entries": [*history(), v2(17, "/1/a", "x")]},
        IncompatibleError,
        "data of the v2 API (entry 17 is a request of the v2 API: PUT /1/a)",
    ),
    "keys of the v2 API, applied": (
        {"entries": [*history(1), v2(6, "/1/a", "x")], "applied": 6},
        IncompatibleError,
        "data of the v2 API (entry 6",
    ),
    "keys of the v2 API in the tree": (
        {"snapshot": 8, "tree": tree(ONE_MEMBER, **{"1": {"Children": {"a": {"Value": "x"}}}})},
        IncompatibleError,
        "there is something under /1",
    ),
    "users of the v2 API": (
        {
            "snapshot": 8,
            "tree": tree(ONE_MEMBER, **{"2": {"Children": {"users": {"Children": {"u": {"Value": ""}}}}}}),
        },
        IncompatibleError,
        "there is something under /2/users",
    ),
    "a tree that is none": ({"snapshot": 8, "tree": b"[]"}, CorruptError, "the tree of the v2 store"),
    "a tree without the members": ({"snapshot": 8, "tree": b'{"Root":{}}'}, CorruptError, "the tree"),
    "a tree with a strange member": (
        {"snapshot": 8, "tree": tree({"x": ONE_MEMBER[f"{MEMBER:x}"]})},
        CorruptError,
        "the tree",
    ),
    "a member that is none": (
        {
            "contents": with_rows(
                lambda contents: (
                    contents[schema.MEMBERS].update({b"1": b"{"}),
                    contents[schema.META].update({schema.STORAGE_VERSION: b"3.6.0"}),
                )
            )
        },
        CorruptError,
        "its members cannot be read",
    ),
    "no bucket of keys": ({"contents": "no database"}, CorruptError, "not a bbolt file"),
}


@pytest.mark.parametrize("name", CASES)
def test_refused(tmp_path: Path, name: str) -> None:
    options, kind, words = CASES[name]
    path = tmp_path / "data"
    if options.get("contents") == "no database":
        made(path)
        (path / "member/snap/db").write_bytes(b"x" * 8192)
    else:
        made(path, **options)
    refused(path, kind, words)


def test_what_stands_in_the_database_may_be_unknown_in_the_log(tmp_path: Path) -> None:
    """Users that were added and are stored: nobody applies these entries again."""
    path = tmp_path / "data"
    user = Entry(2, 6, 0, request(auth_user_add=pb.AuthUserAddRequest(name="u")))
    made(path, entries=[*history(1), user, put(7, b"k")], applied=6)
    assert take_over(path)


def test_a_two_that_is_empty_is_no_content(tmp_path: Path) -> None:
    path = tmp_path / "data"
    made(path, snapshot=8, tree=tree(ONE_MEMBER, **{"2": {"Children": {"enabled": {"Value": "false"}}}}))
    assert take_over(path)


@pytest.mark.parametrize("where", ["page", "cut short", "metas"])
def test_a_damaged_database(tmp_path: Path, where: str) -> None:
    path = tmp_path / "data"
    made(path, entries=history(400), applied=404)
    database = path / "member/snap/db"
    content = bytearray(database.read_bytes())
    if where == "page":
        content[5 * 4096 + 9] ^= 0xFF
    elif where == "metas":
        content[30] ^= 1
        content[4096 + 30] ^= 1
    else:
        del content[-4096:]
    database.write_bytes(content)
    refused(path, CorruptError, "member/snap/db")


def test_a_page_that_is_in_use_twice(tmp_path: Path) -> None:
    """Only a look at every page finds it."""
    path = tmp_path / "data"
    made(path, applied=10)
    database = path / "member/snap/db"
    contents = rows(10)
    contents[schema.KEY] = {b"%08d_%08d" % (n, 0): b"v" * 300 for n in range(100)}
    content = bytearray(written(contents))
    leaves = [at for at in range(2 * 4096, len(content), 4096) if content[at + 8 : at + 10] == b"\x02\0"]
    content[leaves[1] : leaves[1] + 4096] = content[leaves[0] : leaves[0] + 4096]
    database.write_bytes(content)
    refused(path, CorruptError)


def test_a_flipped_bit_in_the_log(tmp_path: Path) -> None:
    path = tmp_path / "data"
    made(path)
    content = bytearray(segment(path).read_bytes())
    content[content.index(b"k007")] ^= 1
    segment(path).write_bytes(content)
    refused(path, CrcMismatch, "crc mismatch")


def test_a_record_of_an_unknown_type(tmp_path: Path) -> None:
    path = tmp_path / "data"
    made(path)
    file = RealDisk().open(str(segment(path)))
    reader = SegmentReader([file])
    for _ in reader:
        pass
    record, _ = chain(9, reader.crc, b"of a later release")
    file.pwrite(record, reader.offset)
    file.close()
    refused(path, CorruptError, "unexpected record type 9")


def test_no_log(tmp_path: Path) -> None:
    path = tmp_path / "data"
    made(path)
    for one in (path / "member/wal").iterdir():
        one.unlink()
    refused(path, StorageError, "no segment of a write-ahead log")


def test_the_first_segments_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "data"
    made(path)
    segment(path).rename(segment(path).with_name(f"{1:016x}-{7:016x}.wal"))
    refused(path, StorageError, "begins after snapshot index 0")


@pytest.mark.parametrize("content", [b"", b"\0" * 512, b"\x10\0\0"])
def test_a_last_segment_without_a_head(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data"
    made(path)
    segment(path).with_name(f"{1:016x}-{17:016x}.wal").write_bytes(content)
    refused(path, CorruptError, ".wal")


def test_two_databases(tmp_path: Path) -> None:
    """Somebody put Go's back: which of them counts, nobody but he can say."""
    path = tmp_path / "data"
    made(path)
    assert take_over(path)
    (path / "member/snap/db").write_bytes((path / BACKUP_NAME / "snap/db").read_bytes())
    refused(path, IncompatibleError, "it is not clear which of them counts")


def test_a_database_in_an_unfinished_backup(tmp_path: Path) -> None:
    path = tmp_path / "data"
    made(path)
    unfinished = path / f"{BACKUP_NAME}.tmp" / "snap"
    unfinished.mkdir(parents=True)
    (unfinished / "db").write_bytes(b"somebody's")
    refused(path, IncompatibleError, "move away the one that does not count")


HOLD = """
import fcntl, os, struct, sys
fd = os.open(sys.argv[2], os.O_RDWR)
if sys.argv[1] == "flock":
    fcntl.flock(fd, fcntl.LOCK_EX)
else:
    fcntl.fcntl(fd, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("lock", ["flock", "ofd"])
def test_locked_as_go_does(tmp_path: Path, lock: str) -> None:
    path = tmp_path / "data"
    made(path)
    held = path / "member/snap/db" if lock == "flock" else segment(path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, lock, str(held)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        refused(path, LockedError, "in use by a running Go etcd")
        holder.stdin.close()
        holder.wait(10)
    assert take_over(path)


def test_a_failure_on_the_way_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "data"
    made(path)

    def full(_path: str, batches: Any) -> None:
        list(batches)
        raise OSError(28, "No space left on device")

    refused(path, WriteFailed, "No space left on device", build=full)
    assert take_over(path)


@pytest.mark.go
@needs_go_etcd
def test_a_running_go_etcd_is_left_alone(tmp_path: Path) -> None:
    with serving("go", tmp_path / "go") as go, Rpc(go.endpoint) as rpc:
        rpc.put(b"a", b"1")
        ours = Server("petcd", tmp_path / "ours", [f"--data-dir={go.data_dir}"])
        ours.spawn()
        try:
            assert ours.wait() == 1
        finally:
            ours.kill()
        assert "in use by a running Go etcd; stop that first" in ours.log_tail()
        assert "Traceback" not in ours.log()
        rpc.put(b"b", b"2")
        assert not (go.data_dir / BACKUP_NAME).exists()
        assert not (go.data_dir / "member/snap/petcd.mdb").exists()


@pytest.mark.go
@pytest.mark.slow
@needs_go_etcd
def test_go_goes_on_with_what_was_refused(tmp_path: Path) -> None:
    """Users that are only in the log: Go stores them, and then its directory is fine."""
    go = Server("go", tmp_path, ["--backend-batch-interval=1h", "--backend-batch-limit=1000000"])
    go.start()
    go.etcdctl("role", "add", "r")
    go.kill()
    before = files(go.data_dir)
    ours = dataclasses.replace(go, kind="petcd", args=[], process=None)
    ours.spawn()
    assert ours.wait() == 1
    assert "start Go etcd once more, and end it with SIGTERM" in ours.log_tail()
    assert files(go.data_dir) == before
    go.start()
    go.stop()
    ours.start()
    ours.kill()
    assert "took over the data directory of Go etcd" in ours.log()


def test_nothing_is_due_elsewhere(tmp_path: Path) -> None:
    """A directory of our own, and an empty one."""
    path = tmp_path / "data"
    path.mkdir()
    assert not take_over(path)
    GoDirectory().write(RealDisk(), str(path))
    assert take_over(path)
    assert not take_over(path)
