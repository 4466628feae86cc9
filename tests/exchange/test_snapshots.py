"""Snapshots between the two: saved from petcd while it is written to, restored and served by Go."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from tests.etcdutl.sources import restore_flags, run
from tests.exchange.facts import facts
from tests.rpc import Rpc
from tests.servers import Server, needs_go_etcd, needs_go_etcdctl, serving

from petcd.pb import etcdserverpb as pb

pytestmark = [pytest.mark.go, needs_go_etcd, needs_go_etcdctl]

KEYS = 3000


class Writer(threading.Thread):
    """Puts, one after the other, until it is told to end."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(daemon=True)
        self._endpoint = endpoint
        self._over = threading.Event()
        self.revisions: list[int] = []

    def run(self) -> None:
        with Rpc(self._endpoint) as rpc:
            while not self._over.is_set():
                self.revisions.append(rpc.put(b"written", b"x"))

    def end(self) -> None:
        self._over.set()
        self.join(10)


def test_saved_from_petcd_while_writes_go_on(tmp_path: Path) -> None:
    saved = tmp_path / "saved.db"
    with serving("petcd", tmp_path / "ours") as ours, Rpc(ours.endpoint) as rpc:
        rpc.call(pb.LeaseGrantRequest(ID=0x101, TTL=600))
        for start in range(0, KEYS, 100):
            puts = [
                pb.RequestOp(request_put=pb.PutRequest(key=b"k%05d" % n, value=b"v" * 300, lease=0x101))
                for n in range(start, start + 100)
            ]
            rpc.call(pb.TxnRequest(success=puts))
        rpc.call(pb.DeleteRangeRequest(key=b"k00010", range_end=b"k00020"))
        rpc.call(pb.CompactionRequest(revision=3))
        writer = Writer(ours.endpoint)
        writer.start()
        while not writer.revisions:
            pass
        first = writer.revisions[-1]
        ours.etcdctl("snapshot", "save", str(saved))
        last = writer.revisions[-1]
        writer.end()
        assert last > first + 5, "writes went on meanwhile"
        status = json.loads(ours.etcdctl("snapshot", "status", str(saved), "-w", "json").stdout)
        assert first <= status["revision"] <= last + 1
        assert status["totalSize"] == saved.stat().st_size - 32
        assert status["totalKey"] > KEYS
        revision = status["revision"]
        hashed = rpc.call(pb.HashKVRequest(revision=revision))
        leased = facts(ours, oldest=revision).leases
    go = Server("go", tmp_path / "go", name="restored")
    peer = f"http://127.0.0.1:{go.peer_port}"
    go.directory.mkdir()
    go.etcdctl(
        *("snapshot", "restore", str(saved), f"--data-dir={go.data_dir}", f"--name={go.name}"),
        *(f"--initial-cluster={go.name}={peer}", f"--initial-advertise-peer-urls={peer}"),
    )
    go.start()
    try:
        with Rpc(go.endpoint) as rpc:
            served = rpc.call(pb.HashKVRequest(revision=revision))
            assert served.header.revision == revision
            assert (served.hash, served.compact_revision) == (hashed.hash, hashed.compact_revision)
            lease = rpc.call(pb.LeaseTimeToLiveRequest(ID=0x101, keys=True))
            assert (lease.grantedTTL, sorted(lease.keys)) == leased[0x101]
            assert rpc.put(b"more", b"x") == revision + 1
    finally:
        go.kill()


def test_users_who_must_log_in_are_not_forgotten(tmp_path: Path) -> None:
    """What is restored or backed up of a cluster with authentication is not served without it."""
    saved = tmp_path / "saved.db"
    with serving("go", tmp_path / "go") as go:
        for words in ("user add root:secret", "user grant-role root root", "auth enable"):
            go.etcdctl(*words.split())
        go.etcdctl("--user=root:secret", "snapshot", "save", str(saved))
        go.stop()
    restored, copied = (Server("petcd", tmp_path / name, name=name) for name in ("restored", "copied"))
    done = run("etcdutl", "snapshot", "restore", str(saved), *restore_flags(restored))
    assert done.returncode == 0, done.stderr
    done = run("etcdutl", "backup", f"--data-dir={go.data_dir}", f"--backup-dir={copied.data_dir}")
    assert done.returncode == 0, done.stderr
    copied.args = ("--force-new-cluster",)
    for server in (restored, copied):
        server.spawn()
        try:
            assert server.wait() == 1
            assert "petcd.mdb: authentication is enabled" in server.log()
        finally:
            server.kill()
