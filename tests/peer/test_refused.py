"""What our own dialler makes of refusals, silence and slowness; and how a peer is chosen and dropped."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from tests.peer.cluster import Caller, Cluster, raft_headers
from tests.peer.test_transport import app, heartbeat

from petcd.net.http import HttpExchange
from petcd.peer.streams import MESSAGES_MAX
from petcd.raft import MSG_HEARTBEAT, Message
from petcd.server.peering import PeerAnswer
from petcd.testing.drive import Loss
from petcd.testing.world import Simulation


def test_a_removed_member_learns_it_from_a_stream() -> None:
    with Simulation(1) as sim:
        cluster = Cluster(sim, 2)
        cluster.settle()
        cluster[1].receiver.removed_ids.add(2)
        cluster.on(1, cluster[1].transport.remove, 2)
        sim.run_for(2)
        assert cluster[2].receiver.removals == 1
        assert cluster[1].receiver.removals == 0
        assert cluster.on(1, cluster[1].transport.active_since, 2) is None


def test_403_to_a_post_says_the_same() -> None:
    with Simulation(2) as sim:
        cluster = Cluster(sim, 2, acquainted=False)
        cluster[1].router.add("/raft", lambda exchange: exchange.text(403, "{}"))
        cluster.on(2, cluster[2].transport.add_remote, 1, [cluster[1].url])
        cluster.on(2, cluster[2].send, heartbeat(2, 1))
        sim.run_for(1)
        assert cluster[2].receiver.removals == 1


def test_other_failures_of_a_post_mean_unreachable() -> None:
    with Simulation(3) as sim:
        cluster = Cluster(sim, 2, acquainted=False)
        cluster.on(2, cluster[2].transport.add_remote, 1, [cluster[1].url])
        cluster.on(2, cluster[2].send, Message(MSG_HEARTBEAT, 1, 2, 2))
        sim.run_for(1)
        assert cluster[2].receiver.unreachable == []
        sim.hosts["m1"].crash()
        cluster.on(2, cluster[2].send, Message(MSG_HEARTBEAT, 1, 2, 2))
        sim.run_for(20)
        assert cluster[2].receiver.unreachable == [1]
        assert cluster[2].receiver.removals == 0


def test_members_of_another_cluster_do_not_mix() -> None:
    with Simulation(4) as sim:
        cluster = Cluster(sim, 1, acquainted=False)
        other = cluster.boot(2, cluster_id=0xBAD)
        cluster.introduce(cluster[1])
        cluster.introduce(other)
        for _ in range(5):
            cluster.on(2, other.send, heartbeat(2, 1))
            sim.run_for(1)
        assert not cluster[1].receiver.messages
        assert not other.receiver.messages
        assert cluster.on(2, other.transport.active_since, 1) is None
        assert "request sent was ignored by remote peer due to cluster ID mismatch" in other.texts()
        assert "request cluster ID mismatch" in cluster[1].texts()


def test_dials_are_spaced_and_take_the_urls_in_turn() -> None:
    with Simulation(5) as sim:
        cluster = Cluster(sim, 1, acquainted=False)
        asked: list[float] = []

        def refuse(exchange: HttpExchange) -> None:
            if exchange.request.path.startswith("/raft/stream/msgapp"):
                asked.append(sim.now)
            exchange.text(404, "error sender not found\n")

        other = cluster.boot(2)
        other.router.add("/raft/stream/m", refuse, prefix=True)
        urls = ["http://10.0.0.2:2380", "http://10.0.0.2:9999"]
        cluster.on(1, cluster[1].transport.add, 2, urls)
        sim.run_for(3)
        gaps = [later - earlier for earlier, later in pairwise(asked)]
        assert asked
        assert all(gap >= 0.09 for gap in gaps)
        assert 10 <= len(asked) <= 30, "at most ten dials a second, some of them at the dead URL"


def test_a_second_dial_replaces_the_first() -> None:
    with Simulation(6) as sim:
        cluster = Cluster(sim, 1)
        cluster.on(1, cluster[1].transport.add, 2, ["http://10.0.0.2:2380"])
        caller = Caller(sim)
        first = caller.ask("GET", "/raft/stream/message/2", raft_headers(), seconds=0.1)
        assert first[0] == 200
        # The first connection was cut by its client; the second is answered and written to.
        cluster.sim.run_for(0.1)
        assert cluster[1].transport.peer(2).streams == (False,) * 4  # type: ignore[union-attr]


def test_a_peer_that_does_not_read_costs_a_bound_and_then_its_stream() -> None:
    with Simulation(7) as sim:
        cluster = Cluster(sim, 2)
        cluster.settle()
        sim.network.cut("m1", "m2")
        station = cluster[1]
        big = app(1, 2, 0, 1)
        big.entries[0].data = bytes(1 << 20)
        for _ in range(100):
            cluster.on(1, station.send, big)
        sim.run_for(0.01)
        assert station.receiver.unreachable
        peer: Any = station.transport.peer(2)
        assert peer._msgapp._exchange.pending_bytes < 68 << 20
        assert "dropped internal Raft message since sending buffer is full" in station.texts()
        sim.run_for(10)
        assert "lost TCP streaming connection with remote peer" in station.texts()
        sim.network.heal()
        cluster.settle()
        cluster[2].receiver.messages.clear()
        cluster.on(1, station.send, app(1, 2, 7, 2))
        sim.run_for(0.1)
        assert cluster[2].receiver.messages == [app(1, 2, 7, 2)]


def test_many_small_messages_to_a_peer_that_does_not_read() -> None:
    with Simulation(8) as sim:
        cluster = Cluster(sim, 2)
        cluster.settle()
        for name in ("m1", "m2"):
            sim.hosts[name].pause() if name == "m2" else None
        station = cluster[1]
        cluster.on(1, station.send, *[heartbeat(1, 2)] * (MESSAGES_MAX - 1))
        sim.run_for(0.01)
        assert not station.receiver.unreachable
        cluster.on(1, station.transport.send, [heartbeat(1, 2)] * (MESSAGES_MAX + 1))
        sim.run_for(0.01)
        assert station.receiver.unreachable == [2], "once a turn"


def test_a_message_for_nobody_is_dropped() -> None:
    with Simulation(9) as sim:
        cluster = Cluster(sim, 1)
        cluster.on(1, cluster[1].send, heartbeat(1, 99))
        sim.run_for(1)
        assert not cluster[1].receiver.unreachable


def test_messages_on_a_stream_are_checked_like_posts() -> None:
    with Simulation(10) as sim:
        cluster = Cluster(sim, 2)
        cluster.settle()
        cluster[2].receiver.removed_ids.add(66)
        sender = cluster[1].transport.peer(2)
        assert sender is not None
        wrong = [heartbeat(1, 3), heartbeat(66, 2), Message(10, 2, 1), Message(7, 2, 1), heartbeat(1, 2)]

        def queue() -> None:
            for message in wrong:
                sender.send(message)
            cluster[1].transport.flush()

        cluster.on(1, queue)
        sim.run_for(0.1)
        assert cluster[2].receiver.messages == [heartbeat(1, 2)]
        assert cluster[2].all_up(1), "the stream stays"
        assert "rejected Raft message" in cluster[2].texts()


@pytest.mark.parametrize("size", [1, 5, 40])
def test_garbage_from_a_member_we_dialled(size: int) -> None:
    """It ends that stream, and nothing else; we dial again."""
    with Simulation(11) as sim:
        cluster = Cluster(sim, 2, acquainted=False)
        dials = 0

        def babble(exchange: HttpExchange) -> None:
            nonlocal dials
            dials += 1
            exchange.start(200, [(b"X-Server-Version", b"3.7.1")])
            exchange.send(b"\xff" * size)

        cluster[2].router.add("/raft/stream/m", babble, prefix=True)
        cluster.introduce(cluster[1])
        sim.run_for(8)
        assert 4 <= dials <= 162
        assert not cluster[1].receiver.messages
        assert "lost TCP streaming connection with remote peer" in cluster[1].texts()


def test_a_stream_without_a_version_is_not_used() -> None:
    with Simulation(12) as sim:
        cluster = Cluster(sim, 2, acquainted=False)
        cluster[2].router.add("/raft/stream/m", lambda exchange: exchange.start(200), prefix=True)
        cluster.introduce(cluster[1])
        sim.run_for(2)
        assert cluster[1].transport.peer(2).streams == (False,) * 4  # type: ignore[union-attr]


def ask(cluster: Cluster, urls: list[str], path: str = "/page", **options: Any) -> list[PeerAnswer]:
    answers: list[PeerAnswer] = []
    cluster.on(1, cluster[1].transport.request, urls, "GET", path, answers.append, **options)
    cluster.sim.run_for(20)
    return answers


def test_requests_try_the_urls_in_turn() -> None:
    with Simulation(13) as sim:
        cluster = Cluster(sim, 2, acquainted=False)
        cluster[2].router.add("/page", lambda exchange: exchange.respond(201, [(b"X-Some", b"1")], b"body"))
        (answer,) = ask(cluster, ["http://10.0.0.2:9", "bad", "http://10.0.0.2:2380"])
        assert (answer.status, answer.headers["x-some"], answer.body) == (201, "1", b"body")
        (nobody,) = ask(cluster, ["http://10.0.0.2:9"])
        assert (nobody.status, b"refused" in nobody.body) == (0, True)
        assert ask(cluster, [])[0].status == 0
        cluster[2].router.add("/page", lambda exchange: None)
        (late,) = ask(cluster, [cluster[2].url], timeout_seconds=1.0)
        assert (late.status, late.body) == (0, b"timeout")


def test_requests_use_a_connection_again_and_survive_its_end() -> None:
    with Simulation(14) as sim:
        cluster = Cluster(sim, 2, acquainted=False)
        cluster[2].router.add("/page", lambda exchange: exchange.text(200, "ok"))
        answers: list[PeerAnswer] = []
        for _ in range(5):
            cluster.on(1, cluster[1].transport.request, [cluster[2].url], "GET", "/page", answers.append)
            sim.run_for(0.1)
        assert cluster[2].edge.accepted_count == 1
        for connection in list(cluster[2].edge._connections):
            connection.abort()
        cluster.on(1, cluster[1].transport.request, [cluster[2].url], "GET", "/page", answers.append)
        sim.run_for(0.1)
        assert [answer.status for answer in answers] == [200] * 6
        sim.run_for(6)
        assert cluster[2].edge.open_count == 0, "idle ones are closed before the other side closes them"


def test_closing_ends_everything() -> None:
    with Simulation(15) as sim:
        cluster = Cluster(sim, 2)
        cluster.settle()
        told: list[bool] = []
        cluster[1].world.disk.open("db", create=True).close()
        cluster.on(1, cluster[1].transport.send_snapshot, Message(7, 2, 1), "db", told.append)
        cluster.on(1, cluster[1].transport.close)
        cluster.on(1, cluster[1].send, heartbeat(1, 2))
        cluster.on(1, cluster[1].transport.add, 3, ["http://10.0.0.3:2380"])
        sim.run_for(3)
        assert told == [False]
        assert cluster[1].transport.counters == {}
        assert cluster.on(2, cluster[2].transport.active_since, 1) is None


def test_urls_can_change() -> None:
    with Simulation(16) as sim:
        cluster = Cluster(sim, 2, acquainted=False)
        cluster.on(1, cluster[1].transport.add, 2, ["http://10.0.0.2:9"])
        cluster.on(2, cluster[2].transport.add, 1, [cluster[1].url])
        sim.run_for(1)
        assert not cluster[1].all_up(2)
        cluster.on(1, cluster[1].transport.update, 2, [cluster[2].url])
        cluster.settle()


def test_nobody_listening_is_said_at_once() -> None:
    """The process of a member has ended: whoever waits for it as its leader need not."""
    with Simulation(17) as sim:
        cluster = Cluster(sim, 2)
        cluster.settle()
        sim.hosts["m2"].crash(Loss.NONE)
        sim.run_for(0.3)
        assert 2 in cluster[1].receiver.refused
        assert cluster.on(1, cluster[1].transport.active_since, 2) is None
