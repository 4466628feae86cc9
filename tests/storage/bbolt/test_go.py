"""Go etcd reads what is written here, and what Go wrote is read here: the same content, the same hashes."""

from __future__ import annotations

import json
import random
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
import grpc
import pytest
from tests.rpc import Rpc, Status
from tests.servers import (
    GO_ETCDCTL,
    Server,
    clean_environment,
    needs_go_etcd,
    needs_go_etcdctl,
    serving,
)
from tests.storage.bbolt.build import Bytes, Contents, revision, written

from petcd.mvcc import Store, start_hash_kv
from petcd.mvcc.restore import Restorer
from petcd.pb import etcdserverpb as pb
from petcd.pb.mvccpb import KeyValue
from petcd.seams.real import RealDisk
from petcd.storage.bbolt import BboltFile, DatabaseInfo, check_database, read_database
from petcd.storage.memory_backend import MemoryBackend
from petcd.storage.schema import BUCKETS, CLUSTER, KEY, LEASE, MEMBERS, META

pytestmark = [pytest.mark.go, needs_go_etcd, needs_go_etcdctl]


def etcdctl(*args: str) -> str:
    """Go's etcdctl without a server."""
    result = subprocess.run(
        [GO_ETCDCTL, *args],
        text=True,
        capture_output=True,
        env=clean_environment({"ETCDCTL_API": "3"}),
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def go_status(path: Path) -> dict[str, int]:
    status: dict[str, int] = json.loads(etcdctl("snapshot", "status", str(path), "-w", "json"))
    return status


def our_status(path: Path) -> dict[str, int]:
    """The same from what the reader reads: contract disk section 6.2."""
    file = RealDisk().open(str(path), readonly=True)
    try:
        info = check_database(file, every_page=True)
        database = BboltFile(file)
        crc, total = 0, 0
        for bucket in BUCKETS:
            crc = google_crc32c.extend(crc, bucket)
            for key, value in database.iterate(bucket):
                crc = google_crc32c.extend(google_crc32c.extend(crc, key), value)
                total += 1
        assert total == info.keys
        last = database.last_key(KEY)
        return {
            "hash": crc,
            "revision": int.from_bytes(last[:8], "big") if last else 0,
            "totalKey": total,
            "totalSize": info.size_bytes,
        }
    finally:
        file.close()


def restore(path: Path, server: Server) -> None:
    """A data directory for ``server``, made by Go from a snapshot."""
    peer = f"http://127.0.0.1:{server.peer_port}"
    etcdctl(
        "snapshot",
        "restore",
        str(path),
        f"--name={server.name}",
        f"--data-dir={server.data_dir}",
        f"--initial-cluster={server.name}={peer}",
        f"--initial-advertise-peer-urls={peer}",
        *(["--skip-hash-check"] if path.stat().st_size % 512 == 0 else []),
    )


def hash_kv(server: Server, rev: int = 0) -> tuple[int, int]:
    with Rpc(server.endpoint) as rpc:
        answer = rpc.call(pb.HashKVRequest(revision=rev))
        return answer.hash, answer.compact_revision


def content(server: Server) -> list[KeyValue]:
    with Rpc(server.endpoint) as rpc:
        kvs: list[KeyValue] = rpc.call(pb.RangeRequest(key=b"\0", range_end=b"\0")).kvs
        return kvs


class Restored:
    """A store of our own, filled from a file."""

    def __init__(self, path: Path) -> None:
        file = RealDisk().open(str(path), readonly=True)
        try:
            self.info: DatabaseInfo = check_database(file, every_page=True)
            backend = MemoryBackend()
            replaced: list[bool] = []
            backend.replace(lambda: read_database(file), lambda: replaced.append(True))
            assert replaced
            # The index can be built from the file itself, too.
            restorer = Restorer(BboltFile(file))
            while not restorer.step(700):
                pass
            from_file = restorer.result()
        finally:
            file.close()
        self.backend = backend
        self.store = Store(backend)
        self.store.restore()
        assert (self.store.rev, self.store.compact_rev) == (from_file.rev, from_file.compact_rev)
        assert self.store.key_leases == from_file.key_leases

    def hash_kv(self, rev: int) -> int:
        run = start_hash_kv(self.store, rev)
        while not run.step():
            pass
        return run.result().hash

    def content(self) -> list[KeyValue]:
        body = self.store.range(pb.RangeRequest(key=b"\0", range_end=b"\0"))
        kvs: list[KeyValue] = pb.RangeResponse.decode(body).kvs
        return kvs


def load(rpc: Rpc, seed: int, *, txns: int, value_bytes: int = 300, keys: int = 4000) -> None:
    """Puts, overwrites and deletes over and over: pages split, merge, and are used again."""
    rng = random.Random(seed)
    for number in range(txns):
        picked = rng.sample(range(keys), 60)
        operations: list[pb.RequestOp] = [
            pb.RequestOp(
                request_put=pb.PutRequest(
                    key=b"key/%06d" % one, value=rng.randbytes(rng.randrange(value_bytes))
                )
            )
            for one in picked[:50]
        ]
        operations += [
            pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=b"key/%06d" % one))
            for one in picked[50:]
        ]
        rpc.call(pb.TxnRequest(success=operations))
        if number % 40 == 0:
            rpc.call(pb.PutRequest(key=b"large/%d" % number, value=rng.randbytes(200_000)))


# ---------------------------------------------------------------------- ours, read by Go


def rows(count: int, sizes: tuple[int, ...], seed: int) -> dict[bytes, bytes]:
    rng = random.Random(seed)
    return {
        revision(main): KeyValue(
            key=b"k%07d" % main,
            create_revision=main,
            mod_revision=main,
            version=1,
            value=rng.randbytes(rng.choice(sizes)),
        ).encode()
        for main in range(2, count + 2)
    }


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(0, (1,)), (1, (10,)), (50, (10,)), (20_000, (0, 40, 300)), (300, (10, 5000, 70_000))],
)
def test_status_of_a_written_file(tmp_path: Path, count: int, sizes: tuple[int, ...]) -> None:
    contents: Contents = {
        KEY: rows(count, sizes, count),
        META: {b"consistent_index": struct.pack(">Q", 9), b"term": struct.pack(">Q", 2)},
        CLUSTER: {b"clusterVersion": b"3.4.0"},
        MEMBERS: {b"%x" % i: b"{}" for i in range(1, 90)},
        LEASE: {struct.pack(">Q", i): b"\x08\x01\x10\x02" for i in range(200)},
    }
    path = tmp_path / "db"
    path.write_bytes(written(contents))
    assert go_status(path) == our_status(path)


def test_go_serves_and_continues_a_written_file(tmp_path: Path) -> None:
    """Served, written to over all its pages, compacted, defragmented, and read here again."""
    path = tmp_path / "db"
    path.write_bytes(written({KEY: rows(3000, (10, 300, 5000), 3), META: {b"consistent_index": bytes(8)}}))
    server = Server("go", tmp_path / "go")
    restore(path, server)
    try:
        server.start()
        ours = Restored(path)
        assert content(server) == ours.content()
        assert hash_kv(server) == (ours.hash_kv(3001), -1)
        with Rpc(server.endpoint) as rpc:
            for main in range(2, 3002, 7):
                rpc.call(pb.PutRequest(key=b"k%07d" % main, value=b"x" * (main % 900)))
            rpc.call(pb.DeleteRangeRequest(key=b"k0001", range_end=b"k0002"))
            rpc.call(pb.CompactionRequest(revision=3200, physical=True))
            rpc.call(pb.DefragmentRequest())
        hashed, found = hash_kv(server), content(server)
        server.stop()
    finally:
        server.kill()
    again = Restored(server.data_dir / "member" / "snap" / "db")
    assert again.content() == found
    assert hashed == (again.hash_kv(0), 3200)


# ---------------------------------------------------------------------- Go's, read here


@pytest.fixture(scope="module")
def go_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Go member with much in it: 10,000 revisions, leases, a user, an alarm, pages split and freed."""
    with serving("go", tmp_path_factory.mktemp("go")) as server:
        with Rpc(server.endpoint, seconds_max=60) as rpc:
            load(rpc, 1, txns=120)
            for lease in range(50, 400):
                rpc.call(pb.LeaseGrantRequest(ID=lease, TTL=3600))
            rpc.call(pb.PutRequest(key=b"leased", value=b"x", lease=77))
            rpc.call(pb.CompactionRequest(revision=60, physical=True))
            load(rpc, 2, txns=30)
        server.etcdctl("user", "add", "root:secret")
        server.etcdctl("role", "add", "reader")
        yield server


def test_a_go_snapshot(go_server: Server, tmp_path: Path) -> None:
    path = tmp_path / "snap.db"
    go_server.etcdctl("snapshot", "save", str(path))
    assert go_status(path) == our_status(path)
    ours = Restored(path)
    assert ours.content() == content(go_server)
    assert (ours.hash_kv(0), ours.store.compact_rev) == hash_kv(go_server)
    assert ours.hash_kv(100) == hash_kv(go_server, 100)[0]
    assert ours.store.key_leases == {b"leased": 77}
    assert ours.info.cluster_version == "3.4.0"
    assert ours.info.consistent_index > 150
    assert ours.info.unknown == ()
    assert ours.info.buckets == BUCKETS
    assert len(ours.backend.range(LEASE, b"", None)) == 350


def test_a_go_snapshot_through_petcd_and_back(go_server: Server, tmp_path: Path) -> None:
    """Read here, written here, restored by Go: the same hash."""
    path, again = tmp_path / "snap.db", tmp_path / "again.db"
    go_server.etcdctl("snapshot", "save", str(path))
    contents: Contents = {}
    for bucket, key, value in read_database(Bytes(path.read_bytes())):
        contents.setdefault(bucket, {})[key] = value
    again.write_bytes(written(contents))
    first, second = go_status(path), go_status(again)
    for name in ("hash", "revision", "totalKey"):
        assert first[name] == second[name]
    other = Server("go", tmp_path / "other")
    restore(again, other)
    try:
        other.start()
        assert hash_kv(other) == hash_kv(go_server)
    finally:
        other.kill()


def test_a_go_member_killed_while_it_writes(tmp_path: Path) -> None:
    """Its file holds whole transactions: the hash is the one that the member has for their last revision."""
    with serving("go", tmp_path / "go") as server:
        stop = threading.Event()

        def write() -> None:
            try:
                with Rpc(server.endpoint) as rpc:
                    seed = 0
                    while not stop.is_set():
                        load(rpc, seed, txns=20, keys=500)
                        seed += 1
            except (Status, grpc.RpcError):
                return

        writers = [threading.Thread(target=write) for _ in range(3)]
        for writer in writers:
            writer.start()
        stop.wait(1.5)
        server.kill()
        stop.set()
        for writer in writers:
            writer.join()
        ours = Restored(server.data_dir / "member" / "snap" / "db")
        rev = ours.store.rev
        assert rev > 20
        mine = ours.hash_kv(rev)
        server.start()
        assert hash_kv(server, rev)[0] == mine


# ---------------------------------------------------------------------- a petcd member


def test_a_petcd_member_saved_and_restored_by_go(tmp_path: Path) -> None:
    """``snapshot save, status, restore`` of Go's etcdctl, then a Go member: it has what the other had."""
    path = tmp_path / "snap.db"
    with serving("petcd", tmp_path / "petcd") as server:
        with Rpc(server.endpoint, seconds_max=60) as rpc:
            load(rpc, 3, txns=60)
            for lease in range(50, 90):
                rpc.call(pb.LeaseGrantRequest(ID=lease, TTL=3600))
            rpc.call(pb.PutRequest(key=b"leased", value=b"x", lease=77))
            rpc.call(pb.CompactionRequest(revision=40, physical=True))
            load(rpc, 4, txns=20)
        server.etcdctl("snapshot", "save", str(path))
        found, hashed = content(server), hash_kv(server)
        older = hash_kv(server, 50)
        other = tmp_path / "other.db"
        save = "import sys; from petcd.cli.etcdctl import main; sys.exit(main())"
        command = [
            sys.executable,
            "-c",
            save,
            f"--endpoints={server.endpoint}",
            "snapshot",
            "save",
            str(other),
        ]
        said = subprocess.run(command, check=True, capture_output=True, text=True, env=clean_environment())
        assert said.stdout == f"Snapshot saved at {other}\nServer version 3.7.0\n"
        assert other.stat().st_size == path.stat().st_size
        assert go_status(other) == go_status(path)
    assert go_status(path) == our_status(path)
    assert Restored(path).content() == found
    go = Server("go", tmp_path / "go")
    restore(path, go)
    try:
        go.start()
        assert content(go) == found
        assert hash_kv(go) == hashed
        assert hash_kv(go, 50) == older
        with Rpc(go.endpoint) as rpc:
            assert sorted(one.ID for one in rpc.call(pb.LeaseLeasesRequest()).leases) == list(range(50, 90))
            leased = rpc.call(pb.LeaseTimeToLiveRequest(ID=77, keys=True))
            assert (leased.keys, leased.grantedTTL) == ([b"leased"], 3600)
        go.etcdctl("put", "after", "x")
    finally:
        go.kill()
