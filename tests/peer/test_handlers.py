"""What the peer listener refuses, and in which words: a Go member acts on the status."""

from __future__ import annotations

import pytest
from tests.peer.cluster import CLUSTER, Caller, Cluster, raft_headers

from petcd import ETCD_VERSION
from petcd.peer.codec import encode_message
from petcd.peer.framing import MESSAGE_LINK_HEARTBEAT
from petcd.peer.probing import now_text, parse_now
from petcd.raft import MSG_APP, MSG_HEARTBEAT, MSG_SNAP, Entry, Message
from petcd.testing.clock import WALL_START_NS
from petcd.testing.world import Simulation

STREAM = "/raft/stream/message/2"
VOID = b"404 page not found\n"


def heartbeat(to: int = 1, sender: int = 2) -> bytes:
    return encode_message(Message(MSG_HEARTBEAT, to, sender, 2))


@pytest.mark.parametrize(
    ("method", "target", "headers", "status", "text"),
    [
        ("POST", STREAM, raft_headers(), 405, "Method Not Allowed"),
        ("GET", STREAM, [], 412, "incompatible version"),
        ("GET", STREAM, raft_headers(X_Server_Version="2.3.8"), 412, "incompatible version"),
        ("GET", STREAM, raft_headers(X_Server_Version="soup"), 412, "incompatible version"),
        ("GET", STREAM, raft_headers(X_Min_Cluster_Version="9.0.0"), 412, "incompatible version"),
        ("GET", STREAM, raft_headers(cluster_id=0xBAD), 412, "cluster ID mismatch"),
        ("GET", STREAM, raft_headers(X_Etcd_Cluster_Id=""), 412, "cluster ID mismatch"),
        ("GET", "/raft/stream/other/2", raft_headers(), 404, "invalid path"),
        ("GET", "/raft/stream/message/xyz", raft_headers(), 404, "invalid from"),
        ("GET", "/raft/stream/message/-2", raft_headers(), 404, "invalid from"),
        ("GET", "/raft/stream/message/1" + "0" * 16, raft_headers(), 404, "invalid from"),
        ("GET", "/raft/stream/message/", raft_headers(), 404, "invalid from"),
        ("GET", "/raft/stream/message/dead", raft_headers(), 410, "removed member"),
        ("GET", "/raft/stream/message/77", raft_headers(), 404, "error sender not found"),
        ("GET", STREAM, raft_headers(X_Raft_To="3"), 412, "to field mismatch"),
        ("GET", STREAM, raft_headers(X_Raft_To=""), 412, "to field mismatch"),
        ("GET", "/raft", raft_headers(), 405, "Method Not Allowed"),
        ("GET", "/raft/snapshot", raft_headers(), 405, "Method Not Allowed"),
    ],
)
def test_refusals(method: str, target: str, headers: list[tuple[str, str]], status: int, text: str) -> None:
    with Simulation(1) as sim:
        cluster = Cluster(sim, 2)
        cluster.settle()
        cluster[1].receiver.removed_ids.add(0xDEAD)
        answer, head, body = Caller(sim).ask(method, target, headers)
        assert (answer, body.decode()) == (status, text + "\n")
        assert head["content-type"] == "text/plain; charset=utf-8"
        assert head["x-content-type-options"] == "nosniff"
        if status == 405:
            assert head["allow"] == ("POST" if method == "GET" else "GET")
        else:
            assert head["x-etcd-cluster-id"] == f"{CLUSTER:x}"
            assert head["x-server-version"] == ETCD_VERSION
        assert cluster[1].all_up(2), "nobody else is disturbed"


@pytest.mark.parametrize(
    ("headers", "body", "status", "text"),
    [
        (raft_headers(), heartbeat(), 204, ""),
        ([], heartbeat(), 412, "incompatible version\n"),
        (raft_headers(cluster_id=0xBAD), heartbeat(), 412, "cluster ID mismatch\n"),
        (raft_headers(), b"\xff\xff", 400, "error unmarshalling raft message\n"),
        (raft_headers(), heartbeat(to=3), 500, "error processing raft message\n"),
        (raft_headers(0xDEAD), heartbeat(sender=0xDEAD), 500, "error processing raft message\n"),
    ],
)
def test_posts(headers: list[tuple[str, str]], body: bytes, status: int, text: str) -> None:
    with Simulation(2) as sim:
        cluster = Cluster(sim, 2)
        cluster[1].receiver.removed_ids.add(0xDEAD)
        answer, head, said = Caller(sim).ask("POST", "/raft", headers, body)
        assert (answer, said.decode()) == (status, text)
        assert head["x-etcd-cluster-id"] == f"{CLUSTER:x}"
        assert len(cluster[1].receiver.messages) == (1 if status == 204 else 0)


def test_strangers_are_refused_before_their_body_is_kept() -> None:
    with Simulation(2) as sim:
        Cluster(sim, 2)
        head = "POST /raft HTTP/1.1\r\nHost: x\r\nX-Etcd-Cluster-ID: dead\r\nContent-Length: 60000000\r\n\r\n"
        answer = Caller(sim).raw(head.encode())
        assert answer.startswith(b"HTTP/1.1 412 "), "though the body never came"


@pytest.mark.parametrize("kind", [0, 1, 10, 11, 12, 19, 22, 99, 1 << 63])
def test_messages_that_are_private_to_a_member_are_ignored(kind: int) -> None:
    with Simulation(3) as sim:
        cluster = Cluster(sim, 1)
        answer, _, _ = Caller(sim).ask(
            "POST", "/raft", raft_headers(), encode_message(Message(kind, 1, 2, 2))
        )
        assert answer == 204
        assert not cluster[1].receiver.messages


def test_a_snapshot_is_no_plain_message() -> None:
    with Simulation(3) as sim:
        cluster = Cluster(sim, 1)
        body = encode_message(Message(MSG_SNAP, 1, 2, 2))
        assert Caller(sim).ask("POST", "/raft", raft_headers(), body)[0] == 204
        assert not cluster[1].receiver.messages


def test_a_stream_begins_at_once_and_beats() -> None:
    with Simulation(4) as sim:
        cluster = Cluster(sim, 1)
        cluster.on(1, cluster[1].transport.add, 2, ["http://10.0.0.2:2380"])
        status, head, body = Caller(sim).ask("GET", STREAM, raft_headers(), seconds=4)
        assert (status, head["x-server-version"], head["transfer-encoding"]) == (200, ETCD_VERSION, "chunked")
        assert body == MESSAGE_LINK_HEARTBEAT * (len(body) // len(MESSAGE_LINK_HEARTBEAT))
        assert 2 <= len(body) // len(MESSAGE_LINK_HEARTBEAT) <= 3


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x01\x02" * 100,
        b"GET\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a" * (2 << 20),
        b"POST /raft HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /raft HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST /raft HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_garbage_on_the_peer_port(garbage: bytes) -> None:
    with Simulation(5) as sim:
        cluster = Cluster(sim, 2)
        cluster.settle()
        answer = Caller(sim).raw(garbage)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
        assert cluster[1].all_up(2)
        assert not cluster[1].receiver.messages


@pytest.mark.parametrize("path", ["/health", "/metrics", "/", "/raft/other", "/v2/keys"])
def test_other_pages_are_not_here(path: str) -> None:
    with Simulation(6) as sim:
        Cluster(sim, 1)
        status, _, body = Caller(sim).ask("GET", path)
        assert (status, body) == (404, VOID)


def test_probing() -> None:
    with Simulation(7) as sim:
        Cluster(sim, 1)
        status, head, body = Caller(sim).ask("GET", "/raft/probing")
        assert (status, head["content-type"]) == (200, "text/plain; charset=utf-8")
        assert body.startswith(b'{"OK":true,"Now":"2027-01-15T08:00:00.')
        assert body.endswith(b'Z"}\n')
        told = parse_now(body)
        assert told is not None and 0 < told - WALL_START_NS / 1e9 < 1


def test_now_as_go_writes_it() -> None:
    assert now_text(1_800_000_000 * 10**9) == "2027-01-15T08:00:00Z"
    assert now_text(1_800_000_000 * 10**9 + 120_000_000) == "2027-01-15T08:00:00.12Z"
    assert parse_now(b'{"OK":true,"Now":"2026-11-21T00:16:50.563523435Z"}\n') is not None
    for soup in (b"", b"[]", b'{"OK":true}', b'{"OK":true,"Now":7}', b'{"OK":false,"Now":"x"}', b"\xff"):
        assert parse_now(soup) is None


def test_whoever_posts_is_answered_by_posts() -> None:
    """A joining member is not in our log yet, but its first acknowledgements need an answer."""
    with Simulation(8) as sim:
        cluster = Cluster(sim, 2, acquainted=False)
        cluster.on(2, cluster[2].transport.add_remote, 1, [cluster[1].url])
        cluster.on(2, cluster[2].send, Message(MSG_HEARTBEAT, 1, 2, 2))
        sim.run_for(0.1)
        assert cluster[1].receiver.messages
        cluster.on(1, cluster[1].send, Message(MSG_APP, 2, 1, 2, entries=[Entry(2, 1)]))
        sim.run_for(0.1)
        assert [m.type for m in cluster[2].receiver.messages] == [MSG_APP]


def test_remotes_are_bounded_and_never_removed_members() -> None:
    with Simulation(9) as sim:
        cluster = Cluster(sim, 1)
        cluster[1].receiver.removed_ids.add(0x50)
        caller = Caller(sim)
        for sender in [0x50, *range(0x100, 0x150)]:
            headers = [*raft_headers(sender), ("X-PeerURLs", "http://10.9.9.9:1,soup:")]
            caller.ask("POST", "/raft", headers, heartbeat(sender=sender), seconds=0.02)
        assert len(cluster[1].transport._remotes) == 64
        assert 0x50 not in cluster[1].transport._remotes
