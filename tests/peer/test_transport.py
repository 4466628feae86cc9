"""Two and three transports on the simulated network: streams come up, carry messages, and come back."""

from __future__ import annotations

import pytest
from tests.peer.cluster import Cluster

from petcd.raft import MSG_APP, MSG_APP_RESP, MSG_HEARTBEAT, Entry, Message
from petcd.testing.drive import Loss
from petcd.testing.world import Simulation


def heartbeat(sender: int, to: int, commit: int = 0) -> Message:
    return Message(MSG_HEARTBEAT, to, sender, 2, commit=commit)


def app(sender: int, to: int, index: int, count: int) -> Message:
    entries = [Entry(2, index + 1 + n, 0, b"data %d" % n) for n in range(count)]
    return Message(MSG_APP, to, sender, 2, 2, index, entries, index)


def test_all_four_streams_of_a_pair_come_up_and_messages_arrive_in_order() -> None:
    with Simulation(1) as sim:
        cluster = Cluster(sim, 3)
        cluster.settle()
        batch = [app(1, 2, 0, 3), app(1, 2, 3, 2), app(1, 3, 0, 1), heartbeat(1, 2, 7)]
        cluster.on(1, cluster[1].send, *batch)
        sim.run_for(0.1)
        received = cluster[2].receiver.messages
        assert [m for m in received if m.type == MSG_APP] == batch[:2]
        assert [m for m in received if m.type != MSG_APP] == [batch[3]]
        assert cluster[3].receiver.messages == [batch[2]]
        assert "peer became active" in cluster[1].texts()
        assert cluster.on(1, cluster[1].transport.active_since, 2) is not None


def test_what_one_turn_queues_leaves_in_one_write_for_each_stream() -> None:
    with Simulation(2) as sim:
        cluster = Cluster(sim, 2)
        cluster.settle()
        sim.run_for(0.01)
        before = cluster[1].edge.bytes_out
        cluster.on(1, cluster[1].transport.send, [app(1, 2, n, 1) for n in range(100)])
        assert cluster[1].edge.bytes_out == before, "nothing leaves before the flush"
        cluster.on(1, cluster[1].transport.flush)
        sim.run_for(0.1)
        assert len(cluster[2].receiver.messages) == 100


@pytest.mark.parametrize("seed", range(3))
def test_streams_come_back_after_a_crash(seed: int) -> None:
    with Simulation(seed) as sim:
        cluster = Cluster(sim, 2)
        cluster.settle()
        sim.hosts["m2"].crash()
        sim.run_for(30)
        assert cluster.on(1, cluster[1].transport.active_since, 2) is None
        cluster.introduce(cluster.boot(2))
        cluster.settle()
        cluster.on(1, cluster[1].send, heartbeat(1, 2))
        sim.run_for(0.1)
        assert cluster[2].receiver.messages == [heartbeat(1, 2)]


def test_a_process_that_is_gone_is_told_from_one_that_is_silent() -> None:
    """A refused connection says that nobody listens; a cut link or a dark host says nothing."""
    with Simulation(4) as sim:
        cluster = Cluster(sim, 2)
        cluster.settle()
        refused = cluster[1].receiver.refused
        refused.clear()
        sim.network.partition({"m1"}, {"m2"})
        sim.run_for(20)
        sim.network.heal()
        cluster.settle()
        sim.hosts["m2"].crash(Loss.ALL)
        sim.run_for(20)
        assert refused == []
        cluster.introduce(cluster.boot(2))
        cluster.settle()
        refused.clear()
        sim.hosts["m2"].crash(Loss.NONE)
        sim.run_for(0.5)
        assert set(refused) == {2}


def test_streams_come_back_after_a_cut() -> None:
    with Simulation(4) as sim:
        cluster = Cluster(sim, 2)
        cluster.settle()
        sim.network.partition({"m1"}, {"m2"})
        sim.run_for(8)
        assert cluster.on(1, cluster[1].transport.active_since, 2) is None
        sim.network.heal()
        cluster.settle()
        sim.run_for(6)
        cluster.on(2, cluster[2].send, Message(MSG_APP_RESP, 1, 2, 2, index=9))
        sim.run_for(0.1)
        assert cluster[1].receiver.messages[-1].index == 9


def test_link_heartbeats_keep_a_quiet_stream_up() -> None:
    with Simulation(5) as sim:
        cluster = Cluster(sim, 2)
        cluster.settle()
        since = cluster.on(1, cluster[1].transport.active_since, 2)
        sim.run_for(60)
        assert cluster.on(1, cluster[1].transport.active_since, 2) == since
        assert not cluster[1].receiver.messages, "link heartbeats are not for raft"
        assert not [text for text in cluster[1].texts() if "lost" in text]
