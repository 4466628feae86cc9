"""A crash between the entries and the hard state of one batch, amid two changes of the membership.

Too rare for random faults (none in thousands of seeds), so the story is told step by step:

1. three members; 4 is added without 2 hearing of it, then 5, acknowledged by 1, 3 and 4;
2. 2 gets both changes at once, and its disk is torn after the entries: it does not know that the first is
   committed;
3. 2 campaigns with the votes of 2 and 3, a majority of what it takes for the members; 1 does with those of 4
   and 5.
"""

from __future__ import annotations

import pytest
from tests.raft.cluster import Cluster

from petcd.raft import LEADER, ConfChange, node


def story() -> Cluster:
    cluster = Cluster((1, 2, 3), settings={"pre_vote": False, "check_quorum": False})
    cluster.elect(1)
    cluster.isolate(2)
    for added in (4, 5):
        cluster.join(added)
        if added == 5:
            cluster.cut |= {(1, 5), (5, 1)}  # it hears of everything later
        cluster.isolate(2)
        cluster[1].propose_conf_change(ConfChange(node_id=added))
        cluster.settle()
    assert cluster[1].conf_state.voters == [1, 2, 3, 4, 5]

    # The whole log comes to 2 in one message.
    cluster.heal()
    cluster[1].tick()
    torn = cluster.members[2]
    for _ in range(6):
        cluster.members[1].turn(9)
        cluster.members[1].sync()
        for message in [m for m in cluster.network if 2 in (m.from_, m.to)]:
            cluster.network.remove(message)
            cluster.carry(message)
        if torn.node.last_index == cluster[1].last_index:
            break
        torn.turn(9)
        torn.sync()
    assert torn.node.commit_index == torn.node.last_index == 3
    torn.writing.clear()
    torn.writing.append(torn.node.ready())
    torn.crash(torn_entries=9)
    assert torn.disk.last_index == 3 and torn.disk.hard_state.commit < 2
    cluster.network.clear()
    cluster.settle()
    torn.start()

    return cluster


def campaign(cluster: Cluster) -> None:
    """1 restarts, too; both ask for votes in the same term, 2 reaches 3, 1 reaches 4 and 5."""
    first, torn = cluster.members[1], cluster.members[2]
    first.crash()
    first.start()
    for member in (first, torn):
        member.turn(9)
        assert member.node.campaign()
        member.turn(9)
        member.sync()
    cluster.network = [m for m in cluster.network if (m.from_, m.to) in {(2, 3), (1, 4), (1, 5)}]
    for _ in range(3):
        messages, cluster.network = cluster.network, []
        for message in messages:
            cluster.carry(message)
        for member in cluster.members.values():
            member.turn(9)
            member.sync()


def test_two_changes_prove_the_first() -> None:
    cluster = story()
    campaign(cluster)
    assert cluster[1].role is LEADER and cluster[2].role is not LEADER


def test_without_the_proof_there_would_be_two_leaders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "proven_commit", lambda entries: 0)
    cluster = story()
    with pytest.raises(AssertionError, match="lead term 2"):
        campaign(cluster)
