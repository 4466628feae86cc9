"""Real data directories of Go etcd, taken over in place."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import time
from pathlib import Path

import pytest
from tests.exchange.facts import facts
from tests.exchange.rounds import compare_once
from tests.rpc import Rpc
from tests.servers import Server, needs_go_etcd, needs_go_etcdctl

from petcd.pb import etcdserverpb as pb
from petcd.seams.real import RealDisk
from petcd.storage import schema
from petcd.storage.bbolt import BboltFile
from petcd.storage.datadir import BACKUP_NAME

pytestmark = [pytest.mark.go, needs_go_etcd, needs_go_etcdctl]

LAZY = ("--backend-batch-interval=1h", "--backend-batch-limit=1000000000")
"""Go's database then holds what its last snapshot forced it to, and nothing later."""

COMPACTED = 15


def many_things(rpc: Rpc) -> None:
    """A bit of everything that a log can hold; the last change is a put."""
    for number in range(30):
        rpc.put(b"k%02d" % (number % 10), b"v%d" % number)
    rpc.call(pb.LeaseGrantRequest(ID=0x101, TTL=600))
    rpc.call(pb.LeaseGrantRequest(ID=0x102, TTL=300))
    rpc.call(pb.LeaseGrantRequest(ID=0x103, TTL=500))
    rpc.put(b"leased/a", b"1", lease=0x101)
    rpc.put(b"leased/b", b"2", lease=0x101)
    rpc.put(b"leased/c", b"3", lease=0x103)
    rpc.call(pb.LeaseRevokeRequest(ID=0x103))
    rpc.call(pb.DeleteRangeRequest(key=b"k03", range_end=b"k06"))
    rpc.call(pb.CompactionRequest(revision=COMPACTED, physical=True))
    learner = rpc.call(pb.MemberAddRequest(peerURLs=["http://127.0.0.1:7"], isLearner=True)).member
    rpc.put(b"k00", b"Go drops a change of the membership that comes at the heels of another")
    rpc.call(pb.MemberUpdateRequest(ID=learner.ID, peerURLs=["http://127.0.0.1:9"]))
    rpc.put(b"k00", b"and its client waits for nothing")
    rpc.call(pb.MemberRemoveRequest(ID=learner.ID))
    rpc.put(b"k04", b"again")
    rpc.call(pb.MemberAddRequest(peerURLs=["http://127.0.0.1:11"], isLearner=True))
    compare = pb.Compare(
        key=b"k04", target=pb.CompareTarget.VALUE, result=pb.CompareResult.EQUAL, value=b"again"
    )
    rpc.call(
        pb.TxnRequest(
            compare=[compare],
            success=[
                pb.RequestOp(request_put=pb.PutRequest(key=b"t1", value=b"x" * 3000)),
                pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=b"k01")),
                pb.RequestOp(request_put=pb.PutRequest(key=b"t2", lease=0x101)),
            ],
        )
    )
    rpc.call(pb.AlarmRequest(action=pb.AlarmAction.ACTIVATE, memberID=5, alarm=pb.AlarmType.NOSPACE))
    rpc.call(pb.AlarmRequest(action=pb.AlarmAction.DEACTIVATE, memberID=5, alarm=pb.AlarmType.NOSPACE))
    for number in range(15):
        rpc.put(b"late%d" % number, b"")
    rpc.call(pb.AlarmRequest(action=pb.AlarmAction.ACTIVATE, memberID=6, alarm=pb.AlarmType.NOSPACE))


def in_place(go: Server) -> Server:
    """The same member, but petcd."""
    return dataclasses.replace(go, kind="petcd", args=[], process=None)


def serve_alarmed(server: Server, *, seconds_max: float = 30.0) -> None:
    """Start it and wait for it; an alarm is no obstacle."""
    server.spawn()
    end = time.monotonic() + seconds_max
    while time.monotonic() < end and server.process is not None and server.process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if server.http("GET", "/health?exclude=NOSPACE", seconds_max=1.0)[0] == 200:
                return
        time.sleep(0.005)
    raise RuntimeError(f"it does not serve:\n{server.log_tail()}")


def everything_in(path: Path) -> dict[schema.Bucket, dict[bytes, bytes]]:
    file = RealDisk().open(str(path), readonly=True)
    try:
        database = BboltFile(file)
        return {bucket: dict(database.iterate(bucket)) for bucket in database.buckets}
    finally:
        file.close()


@pytest.mark.parametrize(
    ("args", "end", "snapshots"),
    [
        pytest.param(["--snapshot-count=10"], "stop", True, id="ended cleanly"),
        pytest.param(["--snapshot-count=10", *LAZY], "kill", True, id="killed"),
        pytest.param(LAZY, "kill", False, id="all of it in the log"),
    ],
)
def test_taken_over_in_place(tmp_path: Path, args: list[str], end: str, snapshots: bool) -> None:
    go = Server("go", tmp_path, args)
    go.start()
    try:
        if snapshots:  # what is known of users must be in the database
            for words in ("role add r", "role grant-permission r readwrite k", "user add u:pw"):
                go.etcdctl(*words.split())
        with Rpc(go.endpoint) as rpc:
            many_things(rpc)
        before = facts(go, oldest=COMPACTED + 1)
    finally:
        _ = go.kill() if end == "kill" else go.stop()
    snap = go.data_dir / "member" / "snap"
    assert (len(list(snap.glob("*.snap"))) > 1) == snapshots
    database = (snap / "db").read_bytes()
    ours = in_place(go)
    serve_alarmed(ours)
    try:
        after = facts(ours, oldest=COMPACTED + 1)
        assert after == before
        assert len(after.members) == 2 and after.alarms == {(6, 1)} and set(after.leases) == {0x101, 0x102}
        with Rpc(ours.endpoint) as rpc:
            rpc.call(
                pb.AlarmRequest(action=pb.AlarmAction.DEACTIVATE, memberID=6, alarm=pb.AlarmType.NOSPACE)
            )
            assert rpc.put(b"more", b"x") == before.revision + 1
        backup = go.data_dir / BACKUP_NAME
        assert (backup / "snap" / "db").read_bytes() == database
        assert not (snap / "db").exists()
        log = ours.log()
        for words in ("found a data directory of Go etcd", "took over the data directory of Go etcd"):
            assert log.count(words) == 1
        assert str(backup) in log and '"level":"error"' not in log
        ours.etcdctl("snapshot", "save", str(tmp_path / "saved.db"))
    finally:
        ours.kill()
    saved, original = everything_in(tmp_path / "saved.db"), everything_in(backup / "snap" / "db")
    for bucket in (schema.AUTH, schema.AUTH_USERS, schema.AUTH_ROLES):
        assert saved[bucket] == original[bucket]
    if end == "stop":
        assert saved[schema.KEY].items() > original[schema.KEY].items()
    # It is an ordinary directory of ours now.
    ours.start()
    try:
        with Rpc(ours.endpoint) as rpc:
            assert rpc.value(b"more") == b"x"
        assert ours.log().count("took over the data directory of Go etcd") == 1
        assert "found invalid file under data directory" not in ours.log()
    finally:
        ours.kill()


def test_a_log_with_a_directory_of_its_own(tmp_path: Path) -> None:
    wal = tmp_path / "log-disk" / "wal"
    go = Server("go", tmp_path, [f"--wal-dir={wal}"])
    go.start()
    with Rpc(go.endpoint) as rpc:
        rpc.put(b"a", b"1")
    go.stop()
    kept = {path.name: path.read_bytes() for path in wal.glob("*.wal")}
    ours = in_place(go)
    ours.args = [f"--wal-dir={wal}"]
    ours.start()
    try:
        with Rpc(ours.endpoint) as rpc:
            assert rpc.value(b"a") == b"1"
    finally:
        ours.kill()
    backup = go.data_dir / BACKUP_NAME / "wal"
    assert {path.name: path.read_bytes() for path in backup.iterdir()} == kept


def test_a_snapshot_of_go_restored_by_its_tool(tmp_path: Path) -> None:
    """The bucket of members then still has the old cluster's, which are no members any more."""
    go = Server("go", tmp_path / "first")
    go.start()
    with Rpc(go.endpoint) as rpc:
        many_things(rpc)
    before = facts(go, oldest=COMPACTED + 1)
    go.etcdctl("snapshot", "save", str(tmp_path / "saved.db"))
    go.kill()
    ours = Server("petcd", tmp_path / "second", name="restored")
    peer = f"http://127.0.0.1:{ours.peer_port}"
    ours.directory.mkdir()
    go.etcdctl(
        *("snapshot", "restore", str(tmp_path / "saved.db"), f"--data-dir={ours.data_dir}"),
        *(f"--name={ours.name}", f"--initial-cluster={ours.name}={peer}"),
        f"--initial-advertise-peer-urls={peer}",
    )
    assert len(everything_in(ours.data_dir / "member" / "snap" / "db")[schema.MEMBERS]) == 2
    serve_alarmed(ours)
    try:
        after = facts(ours, oldest=COMPACTED + 1)
        assert [one[1:] for one in after.members] == [("restored", (peer,), (ours.url,), False)]
        assert dataclasses.replace(after, members=before.members) == before
    finally:
        ours.kill()


@pytest.mark.slow
def test_three_members_taken_over_by_three(tmp_path: Path) -> None:
    members = [
        Server("go", tmp_path / name, ["--snapshot-count=20"], name=name) for name in ("m1", "m2", "m3")
    ]
    cluster = ",".join(f"{one.name}=http://127.0.0.1:{one.peer_port}" for one in members)
    for one in members:
        one.args = [*one.args, f"--initial-cluster={cluster}"]
        one.spawn()
    for one in members:
        one.wait_ready()
    with Rpc(members[0].endpoint) as rpc:
        for number in range(50):
            rpc.put(b"k%02d" % (number % 20), b"v%d" % number)
        rpc.call(pb.LeaseGrantRequest(ID=0x101, TTL=600))
        rpc.put(b"leased", b"1", lease=0x101)
    members[2].stop()
    ours = [in_place(one) for one in members]
    try:
        # While Go members of the cluster run, nothing is converted: they could not live together.
        ours[2].spawn()
        assert ours[2].wait() == 1
        assert "a member runs etcd 3.4" in ours[2].log_tail()
        assert (ours[2].data_dir / "member" / "snap" / "db").exists()
        assert not (ours[2].data_dir / BACKUP_NAME).exists()
        with Rpc(members[0].endpoint) as rpc:
            rpc.put(b"k00", b"while one was away")
        before = facts(members[0])
        members[0].stop()
        members[1].kill()
        for one in ours:
            one.spawn()
        for one in ours:
            one.wait_ready()
        assert [facts(one) for one in ours] == [before] * 3
        with Rpc(ours[1].endpoint) as rpc:
            assert rpc.put(b"more", b"x") == before.revision + 1
        hashes = [facts(one).hashes[before.revision + 1] for one in ours]
        assert hashes[0] == hashes[1] == hashes[2]
        assert all(one.log().count("took over the data directory of Go etcd") == 1 for one in ours)
    finally:
        for one in (*members, *ours):
            one.kill()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 4])
def test_a_random_history(tmp_path: Path, seed: int) -> None:
    """``python -m tests.exchange`` runs more of them."""
    assert compare_once(seed, tmp_path).endswith("all the same")
