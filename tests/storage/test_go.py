"""Go etcd reads what this room writes, and this room reads what Go etcd wrote."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from petcd.pb import etcdserverpb, raftpb
from petcd.seams.real import RealDisk
from petcd.storage import wal
from petcd.storage.snapshots import Snapshotter
from petcd.storage.wal import Wal, WalSnapshot, reader, records

ETCD = shutil.which("etcd", path="/usr/bin:/usr/local/bin")

pytestmark = [
    pytest.mark.go,
    pytest.mark.skipif(ETCD is None, reason="Go etcd is not installed here"),
]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class GoMember:
    def __init__(self, data_dir: Path, *flags: str) -> None:
        assert ETCD is not None
        client, peer = free_port(), free_port()
        self.url = f"http://127.0.0.1:{client}"
        self.log = data_dir.with_suffix(".log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    ETCD,
                    f"--data-dir={data_dir}",
                    "--name=a",
                    f"--listen-client-urls={self.url}",
                    f"--advertise-client-urls={self.url}",
                    f"--listen-peer-urls=http://127.0.0.1:{peer}",
                    f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
                    f"--initial-cluster=a=http://127.0.0.1:{peer}",
                    *flags,
                ],
                stdout=log,
                stderr=log,
            )

    def call(self, path: str, body: dict[str, str]) -> dict[str, object]:
        request = urllib.request.Request(self.url + path, json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=5) as answer:
            shape: dict[str, object] = json.load(answer)
            return shape

    def wait(self) -> None:
        for _ in range(200):
            try:
                with urllib.request.urlopen(self.url + "/health", timeout=1) as answer:
                    if json.load(answer)["health"] == "true":
                        return
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def put(self, key: str, value: str) -> None:
        self.call(
            "/v3/kv/put",
            {"key": b64encode(key.encode()).decode(), "value": b64encode(value.encode()).decode()},
        )

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait(timeout=10)


@contextmanager
def go_member(data_dir: Path, *flags: str) -> Iterator[GoMember]:
    member = GoMember(data_dir, *flags)
    try:
        member.wait()
        yield member
    finally:
        if member.process.poll() is None:
            member.process.kill()
            member.process.wait(timeout=10)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_log_of_a_go_member_is_read(tmp_path: Path, how: signal.Signals) -> None:
    data_dir = tmp_path / "go"
    with go_member(data_dir, "--snapshot-count=10") as member:
        for i in range(25):
            member.put(f"k{i}", "v" * 300)
        member.stop(how)
    disk = RealDisk()
    directory = f"{data_dir}/member/wal"
    assert wal.has_wal(disk, directory)
    whole = wal.read_log(disk, directory)
    metadata = etcdserverpb.Metadata.decode(whole.metadata)
    assert metadata.NodeID
    assert metadata.ClusterID
    assert [e.index for e in whole.entries] == list(range(1, len(whole.entries) + 1))
    assert sum(b"v" * 300 in e.data for e in whole.entries) == 25
    assert whole.hard_state.vote == metadata.NodeID

    valid = wal.valid_snapshots(disk, directory)
    assert len(valid) >= 2
    snapshot = Snapshotter(disk, f"{data_dir}/member/snap").load_newest(valid)
    assert snapshot is not None
    assert snapshot.metadata is not None
    place = WalSnapshot(snapshot.metadata.index, snapshot.metadata.term)
    log, contents = Wal.open(disk, directory, place)
    assert contents.snapshot_found
    assert contents.entries == whole.entries[place.index :]
    log.close()
    # And Go takes it back after we opened, zeroed and closed it.
    with go_member(data_dir) as member:
        answer = member.call("/v3/kv/range", {"key": b64encode(b"k24").decode()})
        assert answer["count"] == "1"


def rewrite(disk: RealDisk, source: str, target: str) -> None:
    """Write the records of a Go log through ``Wal``."""
    whole = wal.read_log(disk, source)
    log = Wal.create(disk, target, whole.metadata)
    for e in whole.entries:
        entry = raftpb.Entry(Type=e.type, Term=e.term, Index=e.index, Data=e.data).encode()
        log.write(log.encode([(e.index, entry)], None, True))
    log.write(log.encode([], wal.encode_hard_state(*whole.hard_state), True))
    log.close()


def test_go_starts_on_our_log(tmp_path: Path) -> None:
    data_dir = tmp_path / "go"
    with go_member(data_dir) as member:
        for i in range(25):
            member.put(f"k{i}", "v" * 300)
        member.stop()
    disk = RealDisk()
    shutil.move(data_dir / "member" / "wal", tmp_path / "theirs")
    rewrite(disk, str(tmp_path / "theirs"), f"{data_dir}/member/wal")
    # Without the backend everything must come from the log.
    (data_dir / "member" / "snap" / "db").unlink()
    with go_member(data_dir) as member:
        answer = member.call(
            "/v3/kv/range", {"key": b64encode(b"k").decode(), "range_end": b64encode(b"l").decode()}
        )
        assert answer["count"] == "25"
        member.put("after", "x")


def test_our_bytes_are_go_s_bytes(tmp_path: Path) -> None:
    """The same saves in the same order give the same file, byte for byte."""
    data_dir = tmp_path / "go"
    with go_member(data_dir) as member:
        for i in range(25):
            member.put(f"k{i}", "v" * (i * 40))
        member.stop(signal.SIGKILL)
    disk = RealDisk()
    path = data_dir / "member" / "wal" / "0000000000000000-0000000000000000.wal"
    theirs = path.read_bytes()
    segment_reader = reader.SegmentReader([disk.open(str(path))])
    log: Wal | None = None
    for record_type, data in segment_reader:
        if record_type == records.METADATA:
            log = Wal.create(disk, str(tmp_path / "ours"), data)
            continue
        assert log is not None
        if record_type == records.ENTRY:
            log.write(log.encode([(reader.parse_entry(data).index, data)], None, False))
        elif record_type == records.STATE:
            log.write(log.encode([], data, False))
    assert log is not None
    log.close()
    ours = (tmp_path / "ours" / path.name).read_bytes()
    assert len(ours) == len(theirs)
    assert ours == theirs


def test_go_repairs_a_torn_log_of_ours(tmp_path: Path) -> None:
    data_dir = tmp_path / "go"
    with go_member(data_dir) as member:
        for i in range(25):
            member.put(f"k{i}", "v" * 300)
        member.stop()
    disk = RealDisk()
    shutil.move(data_dir / "member" / "wal", tmp_path / "theirs")
    directory = f"{data_dir}/member/wal"
    rewrite(disk, str(tmp_path / "theirs"), directory)
    log, contents = Wal.open(disk, directory)
    last = contents.entries[-1]
    write = log.encode(
        [(last.index + 1, raftpb.Entry(Term=last.term, Index=last.index + 1, Data=b"\x01" * 3000).encode())],
        None,
        True,
    )
    log.write(write)
    log.close()
    segment = disk.open(f"{directory}/0000000000000000-0000000000000000.wal")
    segment.pwrite(bytes(2000), write.offset + 1024)
    segment.close()
    with go_member(data_dir) as member:
        member.put("after", "x")
    assert (Path(directory) / "0000000000000000-0000000000000000.wal.broken").exists()
