"""A snapshot is stored whole or not at all, and raft hears of it only when it is durable."""

from __future__ import annotations

from typing import Any

import pytest
from tests.peer.cluster import Caller, Cluster, Station, raft_headers

from petcd.peer.codec import encode_message
from petcd.peer.framing import U64
from petcd.peer.receiving import MESSAGE_BYTES_MAX
from petcd.raft import MSG_HEARTBEAT, MSG_SNAP, ConfState, Message, Snapshot, SnapshotMetadata
from petcd.testing.drive import Loss
from petcd.testing.world import Simulation

INDEX = 0x2A
FINAL = f"{INDEX:016x}.snap.db"


def snap(to: int = 1, sender: int = 2) -> Message:
    metadata = SnapshotMetadata(ConfState([1, 2]), INDEX, 2)
    return Message(MSG_SNAP, to, sender, 2, snapshot=Snapshot(b"{}", metadata))


def body_of(message: Message, database: bytes) -> bytes:
    encoded = encode_message(message)
    return U64.pack(len(encoded)) + encoded + database


def post(sim: Simulation, body: bytes, **changes: str) -> tuple[int, str]:
    status, _, text = Caller(sim).ask("POST", "/raft/snapshot", raft_headers(**changes), body, seconds=3)
    return status, text.decode()


def files(station: Station) -> list[str]:
    return station.world.disk.listdir("snap")


def database(size: int) -> bytes:
    return b"DB" + bytes(range(256)) * (size // 256)


def deliver(cluster: Cluster, content: bytes, *, seconds: float = 30) -> list[bool]:
    """Send a snapshot from 2 to 1; what the sender is told."""
    sender = cluster[2]
    file = sender.world.disk.open("db", create=True)
    file.truncate(0)
    file.pwrite(content, 0)
    file.close()
    told: list[bool] = []
    cluster.on(2, sender.transport.send_snapshot, snap(), "db", told.append)
    cluster.sim.run_for(seconds)
    return told


@pytest.mark.parametrize("size", [0, 1000, 5 << 20])
def test_from_member_to_member(size: int) -> None:
    with Simulation(1) as sim:
        cluster = Cluster(sim, 2)
        content = database(size)
        assert deliver(cluster, content) == [True]
        assert cluster[1].receiver.snapshots == [snap()]
        assert files(cluster[1]) == [FINAL]
        assert cluster[1].world.disk.read(f"snap/{FINAL}") == content
        assert "received and saved database snapshot" in cluster[1].texts()


def test_what_was_acknowledged_survives_a_loss_of_power() -> None:
    with Simulation(2) as sim:
        cluster = Cluster(sim, 2)
        content = database(2 << 20)
        assert deliver(cluster, content) == [True]
        sim.hosts["m1"].crash(Loss.ALL)
        again = cluster.boot(1)
        assert again.world.disk.read(f"snap/{FINAL}") == content


def test_a_broken_database_is_refused_and_removed() -> None:
    with Simulation(3) as sim:
        cluster = Cluster(sim, 2)
        assert deliver(cluster, b"garbage") == [False]
        assert not cluster[1].receiver.snapshots
        assert files(cluster[1]) == []
        assert post(sim, body_of(snap(), b"garbage")) == (
            500,
            "failed to save KV snapshot (not a database)\n",
        )


def test_what_raft_refuses_the_sender_hears() -> None:
    with Simulation(4) as sim:
        cluster = Cluster(sim, 2)
        cluster[1].receiver.verdict = "too old"
        assert deliver(cluster, database(100)) == [False]
        assert post(sim, body_of(snap(), database(100))) == (
            500,
            "failed to process raft message (too old)\n",
        )


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"", 400, "failed to decode raft message (EOF)"),
        (b"\0\0\0", 400, "failed to decode raft message (unexpected EOF)"),
        (body_of(snap(), b"")[:-3], 400, "failed to decode raft message (unexpected EOF)"),
        (U64.pack(3) + b"\xff\xff\xff", 400, "failed to decode raft message (unexpected end of message)"),
        (U64.pack(MESSAGE_BYTES_MAX + 1), 400, "failed to decode raft message (error limit exceeded)"),
        (b"\xff" * 3000, 400, "failed to decode raft message (error limit exceeded)"),
        (body_of(Message(MSG_HEARTBEAT, 1, 2), database(9)), 400, "wrong raft message type"),
        (body_of(snap(to=3), database(9)), 500, "failed to process raft message (mismatch member ID)"),
        (
            body_of(snap(sender=0xDEAD), database(9)),
            500,
            "failed to process raft message (the member has been removed)",
        ),
    ],
)
def test_refusals(body: bytes, status: int, text: str) -> None:
    with Simulation(5) as sim:
        cluster = Cluster(sim, 2)
        cluster[1].receiver.removed_ids.add(0xDEAD)
        assert post(sim, body) == (status, text + "\n")
        assert files(cluster[1]) == []
        assert not cluster[1].receiver.snapshots


def test_another_clusters_snapshot_is_not_even_begun() -> None:
    with Simulation(6) as sim:
        cluster = Cluster(sim, 2)
        assert post(sim, body_of(snap(), database(9)), X_Etcd_Cluster_Id="bad") == (
            412,
            "cluster ID mismatch\n",
        )
        assert files(cluster[1]) == []


@pytest.mark.parametrize("size", [0, 3, 500, 3 << 20])
def test_a_truncated_snapshot_changes_nothing(size: int) -> None:
    """The connection ends before the final chunk; what came goes."""
    with Simulation(7) as sim:
        cluster = Cluster(sim, 2)
        whole = body_of(snap(), database(4 << 20))
        head = "".join(f"{name}: {value}\r\n" for name, value in [("Host", "x"), *raft_headers()])
        request = f"POST /raft/snapshot HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\n".encode()
        cut = whole[:size] if size else b""
        if cut:
            request += b"%x\r\n%b\r\n" % (len(cut), cut)
        assert Caller(sim).raw(request, then_cut=True) == b""
        sim.run_for(1)
        assert files(cluster[1]) == []
        assert not cluster[1].receiver.snapshots
        complained = "failed to save incoming database snapshot" in cluster[1].texts()
        assert complained == (size >= 500), "the message had come"


def test_a_silent_sender_is_cut_off() -> None:
    with Simulation(8) as sim:
        cluster = Cluster(sim, 2)
        whole = body_of(snap(), database(1000))
        head = "".join(f"{name}: {value}\r\n" for name, value in [("Host", "x"), *raft_headers()])
        request = f"POST /raft/snapshot HTTP/1.1\r\n{head}Content-Length: 999999\r\n\r\n".encode() + whole
        Caller(sim).raw(request, seconds=30)
        sim.run_for(1)
        assert files(cluster[1]) == []
        assert not cluster[1].transport._receptions


def test_a_database_over_the_limit_is_refused() -> None:
    with Simulation(9) as sim:
        cluster = Cluster(sim, 2, snapshot_bytes_max=1 << 20)
        assert deliver(cluster, database(3 << 20)) == [False]
        assert files(cluster[1]) == []
        assert deliver(cluster, database(1 << 19)) == [True]


def test_a_full_disk_is_said_and_leaves_nothing() -> None:
    with Simulation(10) as sim:
        cluster = Cluster(sim, 2)
        sim.hosts["m1"].drive.faults.capacity_bytes = 2 << 20
        assert deliver(cluster, database(4 << 20)) == [False]
        assert files(cluster[1]) == []
        assert not cluster[1].receiver.snapshots


def test_a_sender_that_is_cut_hears_a_failure_and_the_receiver_forgets() -> None:
    with Simulation(11) as sim:
        cluster = Cluster(sim, 2)
        cluster.settle()
        link = sim.network.link("m2", "m1")
        link.delay_min = link.delay_max = 0.05
        told = deliver(cluster, database(8 << 20), seconds=3)
        assert told == []
        assert any(name.startswith("tmp") for name in files(cluster[1]))
        sim.network.partition({"m1"}, {"m2"})
        sim.run_for(60)
        assert told == [False]
        assert files(cluster[1]) == []


def test_removing_the_target_ends_its_snapshot() -> None:
    with Simulation(12) as sim:
        cluster = Cluster(sim, 2)
        cluster.settle()
        told = deliver(cluster, database(8 << 20), seconds=0.01)
        cluster.on(2, cluster[2].transport.remove, 1)
        sim.run_for(5)
        assert told == [False]
        assert files(cluster[1]) == []


def test_the_reader_pauses_while_the_disk_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """At no time is more than a bound in memory."""
    monkeypatch.setattr("petcd.peer.receiving.UNWRITTEN_BYTES_HIGH", 2 << 20)
    most = 0
    with Simulation(13) as sim:
        cluster = Cluster(sim, 2)
        jobs: list[Any] = []
        station = cluster[1]
        lane = station.transport._lane("snapshot-receive")

        class Slow:
            """Each job takes a second."""

            def submit(self, job: Any, done: Any, failed: Any) -> None:
                jobs.append(job)
                station.world.clock.call_later(1.0 * len(jobs), self._run, job, done, failed)

            def _run(self, job: Any, done: Any, failed: Any) -> None:
                nonlocal most
                for reception in station.transport._receptions:
                    most = max(most, reception._unwritten + reception._have)
                jobs.remove(job)
                lane.submit(job, done, failed)

            def close(self) -> None:
                lane.close()

        station.transport._lanes["snapshot-receive"] = Slow()  # type: ignore[assignment]
        content = database(16 << 20)
        assert deliver(cluster, content, seconds=60) == [True]
        assert station.world.disk.read(f"snap/{FINAL}") == content
    assert 2 << 20 < most < 4 << 20


def test_a_crash_leaves_only_what_a_start_removes() -> None:
    with Simulation(14) as sim:
        cluster = Cluster(sim, 2)
        cluster.settle()
        link = sim.network.link("m2", "m1")
        link.delay_min = link.delay_max = 0.05
        deliver(cluster, database(8 << 20), seconds=3)
        sim.hosts["m1"].crash(Loss.NONE)
        again = cluster.boot(1)
        assert files(again)
        again.transport._snapshotter.remove_leftovers()
        assert files(again) == []
