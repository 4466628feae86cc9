"""What the Raft paper and thesis state, statement by statement, each named after its section."""

from __future__ import annotations

import pytest
from tests.raft.cluster import Cluster
from tests.raft.nodes import acknowledge, echo, entries_of, lead, lines, make, pump

from petcd.raft import (
    CANDIDATE,
    FOLLOWER,
    LEADER,
    MSG_APP,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_PRE_VOTE,
    MSG_PRE_VOTE_RESP,
    MSG_READ_INDEX,
    MSG_READ_INDEX_RESP,
    MSG_SNAP,
    MSG_TIMEOUT_NOW,
    MSG_VOTE,
    MSG_VOTE_RESP,
    PRE_CANDIDATE,
    ConfChange,
    ConfChangeV2,
    ConfState,
    Entry,
    Message,
    MessageError,
    ProposalDropped,
    Snapshot,
    SnapshotMetadata,
)
from petcd.raft.confchange import ConfChangeSingle

# -- paper 5.1: terms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["follower", "candidate", "leader"])
def test_paper_5_1_a_higher_term_is_followed(role: str) -> None:
    node = make(pre_vote=False)
    if role == "candidate":
        node.campaign()
    elif role == "leader":
        lead(node)
    node.step(Message(MSG_APP, from_=3, to=1, term=5))
    assert (node.term, node.role, node.lead, node.vote) == (5, FOLLOWER, 3, 0)


def test_paper_5_1_a_lower_term_is_refused() -> None:
    node = make(log=(1, 3), term=3)
    node.step(Message(MSG_APP, from_=2, to=1, term=2, index=1, log_term=1, entries=[Entry(2, 2)]))
    assert (node.term, node.lead, entries_of(node)) == (3, 0, [1, 3])


def test_paper_5_1_a_term_is_on_disk_before_anything_is_said_in_it() -> None:
    node = make()
    node.step(Message(MSG_HEARTBEAT, from_=2, to=1, term=4))
    ready = node.ready()
    assert ready.must_sync and ready.hard_state is not None and ready.hard_state.term == 4
    assert ready.messages == []
    assert lines(ready.messages_after_append) == ["1->2 HEARTBEAT_RESP term=4"]
    node.step(Message(MSG_HEARTBEAT, from_=2, to=1, term=4))
    assert lines(node.ready().messages_after_append) == ["1->2 HEARTBEAT_RESP term=4"], "still being written"
    node.persisted(ready.sequence)
    node.step(Message(MSG_HEARTBEAT, from_=2, to=1, term=4))
    assert lines(node.ready().messages) == ["1->2 HEARTBEAT_RESP term=4"]


# -- paper 5.2: elections ------------------------------------------------------------------------------------


def test_paper_5_2_begins_as_follower() -> None:
    node = make()
    assert (node.role, node.lead, node.term) == (FOLLOWER, 0, 0)


def test_paper_5_2_a_leader_sends_heartbeats() -> None:
    node = make(heartbeat_ticks=2)
    lead(node, append=(2, 3))
    node.tick()
    assert pump(node) == []
    node.tick()
    assert lines(pump(node)) == ["1->2 HEARTBEAT term=1 commit=1", "1->3 HEARTBEAT term=1 commit=1"]


def test_paper_5_2_a_follower_that_hears_nothing_campaigns() -> None:
    node = make(pre_vote=False)
    for _ in range(9):
        node.tick()
    assert node.role is FOLLOWER
    for _ in range(10):
        node.tick()
    assert (node.role, node.term, node.vote) == (CANDIDATE, 1, 1)
    assert lines(pump(node)) == ["1->2 VOTE term=1", "1->3 VOTE term=1"]


def test_paper_5_2_hearing_from_the_leader_starts_the_timeout_anew() -> None:
    node = make()
    for _ in range(100):
        node.tick()
        if node.role is not FOLLOWER:
            raise AssertionError("it heard from a leader")
        node.step(Message(MSG_HEARTBEAT, from_=2, to=1, term=1))


@pytest.mark.parametrize(
    ("size", "granted", "refused", "role"),
    [
        (1, 0, 0, LEADER),
        (3, 1, 0, LEADER),
        (3, 1, 1, LEADER),
        (3, 0, 1, CANDIDATE),
        (3, 0, 2, FOLLOWER),
        (5, 2, 0, LEADER),
        (5, 1, 0, CANDIDATE),
        (5, 1, 3, FOLLOWER),
        (5, 0, 3, FOLLOWER),
        (7, 2, 3, CANDIDATE),
    ],
)
def test_paper_5_2_outcomes_of_an_election(size: int, granted: int, refused: int, role: object) -> None:
    node = make(voters=range(1, size + 1), pre_vote=False)
    node.campaign()
    pump(node)
    for voter in range(2, 2 + granted + refused):
        node.step(Message(MSG_VOTE_RESP, from_=voter, to=1, term=1, reject=voter >= 2 + granted))
    assert node.role is role


def test_paper_5_2_one_vote_a_term_first_come_first_served() -> None:
    node = make(check_quorum=False)
    node.step(Message(MSG_VOTE, from_=2, to=1, term=1))
    node.step(Message(MSG_VOTE, from_=3, to=1, term=1))
    node.step(Message(MSG_VOTE, from_=2, to=1, term=1))
    assert lines(pump(node)) == [
        "1->2 VOTE_RESP term=1",
        "1->3 VOTE_RESP term=1 reject hint=0",
        "1->2 VOTE_RESP term=1",
    ]
    node.step(Message(MSG_VOTE, from_=3, to=1, term=2))
    assert lines(pump(node)) == ["1->3 VOTE_RESP term=2"]


def test_paper_5_2_a_vote_survives_a_restart() -> None:
    node = make(term=1, vote=2)
    node.step(Message(MSG_VOTE, from_=3, to=1, term=1))
    assert lines(pump(node)) == ["1->3 VOTE_RESP term=1 reject hint=0"]


def test_paper_5_2_a_vote_is_on_disk_before_it_is_given() -> None:
    node = make()
    node.step(Message(MSG_VOTE, from_=2, to=1, term=1))
    ready = node.ready()
    assert ready.must_sync and ready.hard_state is not None
    assert (ready.hard_state.term, ready.hard_state.vote) == (1, 2)
    assert ready.messages == [] and lines(ready.messages_after_append) == ["1->2 VOTE_RESP term=1"]


def test_paper_5_2_our_own_vote_counts_when_it_is_on_disk() -> None:
    node = make(pre_vote=False)
    node.campaign()
    ready = node.ready()
    assert ready.messages == [], "a request for votes waits as well"
    node.step(Message(MSG_VOTE_RESP, from_=2, to=1, term=1))
    assert node.role is CANDIDATE
    node.persisted(ready.sequence)
    assert node.role is LEADER


@pytest.mark.parametrize("kind", [MSG_APP, MSG_HEARTBEAT])
@pytest.mark.parametrize("pre_vote", [True, False])
def test_paper_5_2_a_candidate_follows_the_leader_of_its_term(kind: int, pre_vote: bool) -> None:
    node = make(pre_vote=pre_vote, term=1)
    node.campaign()
    pump(node)
    term = node.term
    node.step(Message(kind, from_=2, to=1, term=term))
    assert (node.role, node.lead, node.term) == (FOLLOWER, 2, term)


def test_paper_5_2_timeouts_are_drawn_anew_between_one_and_two_election_timeouts() -> None:
    seen = set()
    node = make(pre_vote=False)
    for _ in range(500):
        ticks, term = 0, node.term
        while node.term == term:
            node.tick()
            ticks += 1
        seen.add(ticks)
    assert seen == set(range(10, 20))


def test_paper_5_2_there_are_never_two_leaders_in_a_term() -> None:
    node = make()
    lead(node)
    with pytest.raises(MessageError, match="3 leads term 1, but so do we"):
        node.step(Message(MSG_HEARTBEAT, from_=3, to=1, term=1))
    follower = make(2)
    follower.step(Message(MSG_HEARTBEAT, from_=1, to=2, term=1))
    with pytest.raises(MessageError, match="3 leads term 1, but so does 1"):
        follower.step(Message(MSG_HEARTBEAT, from_=3, to=2, term=1))


# -- paper 5.3: replication ----------------------------------------------------------------------------------


def test_paper_5_3_the_leader_appends_and_sends_in_parallel() -> None:
    node = make()
    lead(node, append=(2, 3))
    node.propose([Entry(data=b"a"), Entry(data=b"b")])
    ready = node.ready()
    assert [entry.index for entry in ready.entries] == [2, 3]
    assert lines(ready.messages) == [
        "1->2 APP term=1 log=1/1 commit=1 entries=2",
        "1->3 APP term=1 log=1/1 commit=1 entries=2",
    ]


@pytest.mark.parametrize(
    ("size", "acknowledging", "committed"),
    [
        (1, (), True),
        (3, (), False),
        (3, (2,), True),
        (5, (2,), False),
        (5, (2, 4), True),
        (5, (2, 3, 4, 5), True),
    ],
)
def test_paper_5_3_committed_when_a_majority_has_it(
    size: int, acknowledging: tuple[int, ...], committed: bool
) -> None:
    node = make(voters=range(1, size + 1))
    lead(node, *range(2, size + 1), append=range(2, size + 1))
    node.propose([Entry(data=b"a")])
    pump(node)
    for member in acknowledging:
        acknowledge(node, member)
    assert (node.commit_index == node.last_index) is committed


def test_paper_5_3_what_precedes_is_committed_too() -> None:
    node = make(log=(1, 2, 2))
    lead(node)
    acknowledge(node, 2)
    assert node.commit_index == 4


def test_paper_5_3_the_leader_counts_itself_when_its_disk_has_it() -> None:
    """Thesis 10.2.1 as well: its own disk may be the last of a majority, or not in it."""
    node = make()
    lead(node, append=(2, 3))
    node.propose([Entry(data=b"a")])
    ready = node.ready()
    acknowledge(node, 2)
    assert node.commit_index == 1
    acknowledge(node, 3)
    assert node.commit_index == 2, "two others are a majority"
    assert not any(r.committed for r in (node.ready(),)), "but what our disk lacks is not applied"
    node.persisted(ready.sequence)
    assert [entry.data for entry in node.ready().committed] == [b"a"]


def test_paper_5_3_a_follower_learns_what_is_committed() -> None:
    node = make(2)
    entries = [Entry(1, 1, data=b"a"), Entry(1, 2, data=b"b")]
    node.step(Message(MSG_APP, from_=1, to=2, term=1, entries=entries))
    pump(node)
    assert node.commit_index == 0
    node.step(Message(MSG_APP, from_=1, to=2, term=1, index=2, log_term=1, commit=1))
    assert [entry.data for entry in node.ready().committed] == [b"a"]
    node.step(Message(MSG_HEARTBEAT, from_=1, to=2, term=1, commit=2))
    assert [entry.data for entry in node.ready().committed] == [b"b"]


def test_paper_5_3_only_what_the_message_reached_is_acknowledged_and_committed() -> None:
    """What a follower has behind it may be of another leader."""
    node = make(2, log=(1, 1, 1, 1), term=2)
    node.step(Message(MSG_APP, from_=1, to=2, term=2, index=1, log_term=1, entries=[Entry(1, 2)], commit=4))
    assert lines(pump(node)) == ["2->1 APP_RESP term=2 log=0/2"]
    assert (node.commit_index, node.last_index) == (2, 4)


def test_paper_5_3_a_follower_refuses_what_does_not_fit() -> None:
    """Contract 6.4: the hint is the last index whose term is not beyond the leader's, and that term."""
    node = make(2, log=(1, 1, 3, 3), term=4)
    node.step(Message(MSG_APP, from_=1, to=2, term=4, index=4, log_term=2))
    (answer,) = pump(node)
    assert (answer.index, answer.reject, answer.reject_hint, answer.log_term) == (4, True, 2, 1)
    node.step(Message(MSG_APP, from_=1, to=2, term=4, index=9, log_term=3))
    (answer,) = pump(node)
    assert (answer.index, answer.reject, answer.reject_hint, answer.log_term) == (9, True, 4, 3)


@pytest.mark.parametrize(
    ("hint", "hint_term", "prev"),
    [
        (2, 1, 2),  # our entry 2 is of term 1 too
        (4, 0, 4),  # releases before 3.5 hint at their last index only
        (5, 2, 3),  # the follower's terms there are at most 2: so are ours up to 3
    ],
)
def test_paper_5_3_the_leader_skips_to_the_hint(hint: int, hint_term: int, prev: int) -> None:
    node = make(log=(1, 1, 2, 4, 4, 4))
    lead(node)
    node.step(
        Message(
            MSG_APP_RESP, from_=2, to=1, term=5, index=6, reject=True, reject_hint=hint, log_term=hint_term
        )
    )
    (probe,) = pump(node)
    assert (probe.type, probe.to, probe.index, probe.log_term) == (MSG_APP, 2, prev, node.term_at(prev))


def test_paper_5_3_an_acknowledgement_is_on_disk_before_it_is_sent() -> None:
    node = make(2)
    node.step(Message(MSG_APP, from_=1, to=2, term=1, entries=[Entry(1, 1)]))
    first = node.ready()
    assert first.messages == [] and lines(first.messages_after_append) == ["2->1 APP_RESP term=1 log=0/1"]
    # The same entries again: nothing new to write, but the first write is not done.
    node.step(Message(MSG_APP, from_=1, to=2, term=1, entries=[Entry(1, 1)]))
    second = node.ready()
    assert second.messages == [] and not second.must_sync
    assert lines(second.messages_after_append) == ["2->1 APP_RESP term=1 log=0/1"]
    node.persisted(first.sequence)
    node.step(Message(MSG_APP, from_=1, to=2, term=1, entries=[Entry(1, 1)]))
    assert lines(node.ready().messages) == ["2->1 APP_RESP term=1 log=0/1"]


# -- paper 5.4: safety ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log", "last", "granted"),
    [
        ((1,), (1, 1), True),
        ((1,), (2, 1), True),
        ((1, 1), (1, 1), False),
        ((1, 1), (1, 2), True),
        ((2,), (9, 1), False),
        ((1, 2), (2, 1), False),
        ((), (0, 0), True),
    ],
)
@pytest.mark.parametrize("kind", [MSG_VOTE, MSG_PRE_VOTE])
def test_paper_5_4_1_only_a_log_as_new_as_ours_gets_our_vote(
    kind: int, log: tuple[int, ...], last: tuple[int, int], granted: bool
) -> None:
    node = make(log=log, term=3)
    node.step(Message(kind, from_=2, to=1, term=4, index=last[0], log_term=last[1]))
    (answer,) = pump(node)
    assert answer.reject is not granted


def test_paper_5_4_2_an_earlier_term_is_not_committed_by_counting() -> None:
    """Figure 8; the whole story is in ``scenarios/figure8.txt``."""
    node = make(log=(1, 2), term=3)
    lead(node)
    acknowledge(node, 2, 2)
    acknowledge(node, 3, 2)
    assert node.commit_index == 0
    acknowledge(node, 2, 3)
    assert node.commit_index == 3


def test_paper_5_4_2_a_leader_begins_with_an_empty_entry() -> None:
    node = make(log=(1,))
    sent = lead(node)
    assert lines(sent) == ["1->2 APP term=2 log=1/1 entries=1", "1->3 APP term=2 log=1/1 entries=1"]
    assert sent[0].entries[0].data == b"" and sent[0].entries[0].type == 0


# -- paper 6, thesis 4: membership ---------------------------------------------------------------------------


def test_paper_6_both_majorities_decide() -> None:
    cluster = Cluster((1, 2, 3), settings={"check_quorum": False})
    cluster.elect(1)
    for member in (4, 5):
        cluster.join(member)
    change = ConfChangeV2(2, [ConfChangeSingle(0, 4), ConfChangeSingle(0, 5), ConfChangeSingle(1, 3)])
    cluster[1].propose_conf_change(change)
    cluster.settle()
    assert cluster[1].configuration.joint
    committed = cluster[1].commit_index
    cluster.isolate(2)
    cluster.isolate(3)
    cluster.propose(1, b"needs 2 or 3")
    cluster.settle()
    assert cluster[1].commit_index == committed
    cluster.heal()
    cluster.tick(2)
    assert cluster[1].commit_index == committed + 1
    cluster.isolate(4)
    cluster.isolate(5)
    cluster.propose(1, b"needs 4 or 5")
    cluster.tick(2)
    assert cluster[1].commit_index == committed + 1
    cluster.heal(5)
    cluster.tick(2)
    assert cluster[1].commit_index == committed + 2


def test_paper_6_elections_need_both_majorities() -> None:
    node = make(voters=(1, 2, 3), pre_vote=False)
    node.apply_conf_change(
        ConfChangeV2(2, [ConfChangeSingle(0, 4), ConfChangeSingle(1, 2), ConfChangeSingle(1, 3)])
    )
    node.campaign()
    assert lines(pump(node)) == ["1->2 VOTE term=1", "1->3 VOTE term=1", "1->4 VOTE term=1"]
    node.step(Message(MSG_VOTE_RESP, from_=2, to=1, term=1))
    assert node.role is CANDIDATE, "a majority of 1, 2, 3, but not of 1, 4"
    node.step(Message(MSG_VOTE_RESP, from_=4, to=1, term=1))
    assert node.role is LEADER


def test_thesis_4_2_1_learners_get_entries_and_count_for_nothing() -> None:
    node = make(learners=(4,))
    sent = lead(node)
    assert "1->4 APP term=1 entries=1" in lines(sent)
    acknowledge(node, 4)
    assert node.commit_index == 0
    learner = make(4, learners=(4,))
    for _ in range(100):
        learner.tick()
    assert learner.role is FOLLOWER and not learner.campaign()
    learner.step(Message(MSG_VOTE, from_=1, to=4, term=1))
    assert lines(pump(learner)) == ["4->1 VOTE_RESP term=1"], "it may be a voter and not know it yet"


def test_thesis_4_2_2_a_member_of_no_configuration_stays_passive() -> None:
    node = make(9)
    for _ in range(100):
        node.tick()
    assert node.role is FOLLOWER and not node.has_ready()
    assert not node.campaign()


def test_thesis_4_2_3_who_hears_from_a_leader_ignores_candidates() -> None:
    node = make(term=1)
    node.step(Message(MSG_HEARTBEAT, from_=2, to=1, term=1))
    pump(node)
    for kind in (MSG_VOTE, MSG_PRE_VOTE):
        node.step(Message(kind, from_=3, to=1, term=9))
        assert (node.term, pump(node)) == (1, [])
    for _ in range(10):
        if node.role is FOLLOWER:
            node.tick()
    node.step(Message(MSG_VOTE, from_=3, to=1, term=9))
    assert node.term == 9


# -- paper 7: snapshots --------------------------------------------------------------------------------------


def snapshot(index: int, term: int, voters: tuple[int, ...] = (1, 2, 3), data: bytes = b"state") -> Snapshot:
    return Snapshot(data, SnapshotMetadata(ConfState(list(voters)), index, term))


def test_paper_7_a_snapshot_replaces_the_log() -> None:
    node = make(2, log=(1, 1, 1), commit=1)
    pump(node)
    node.step(Message(MSG_SNAP, from_=1, to=2, term=3, snapshot=snapshot(9, 2, (1, 2, 4))))
    ready = node.ready()
    assert ready.must_sync and ready.snapshot is not None and ready.snapshot.data == b"state"
    assert ready.committed == []
    assert lines(ready.messages_after_append) == ["2->1 APP_RESP term=3 log=0/9"]
    assert not node.campaign(), "not before it is applied"
    node.persisted(ready.sequence)
    node.applied_to(9)
    assert (node.first_index, node.last_index, node.commit_index, node.stable_index) == (10, 9, 9, 9)
    assert node.conf_state == ConfState([1, 2, 4])
    node.check()


def test_paper_7_what_follows_a_snapshot_is_kept() -> None:
    """Where our entry at its end matches, the snapshot tells only that everything before is committed."""
    node = make(2, log=(1, 1, 2, 2), commit=1)
    node.step(Message(MSG_SNAP, from_=1, to=2, term=3, snapshot=snapshot(3, 2)))
    ready = node.ready()
    assert ready.snapshot is None
    assert (node.commit_index, node.last_index, entries_of(node)) == (3, 4, [1, 1, 2, 2])


def test_paper_7_an_old_snapshot_is_ignored() -> None:
    node = make(2, log=(1, 1, 1), commit=3)
    node.step(Message(MSG_SNAP, from_=1, to=2, term=1, snapshot=snapshot(2, 1)))
    assert lines(pump(node)) == ["2->1 APP_RESP term=1 log=0/3"]
    assert node.last_index == 3


def test_paper_7_a_snapshot_that_does_not_know_us_is_ignored() -> None:
    node = make(2, log=(1,), commit=1)
    node.step(Message(MSG_SNAP, from_=1, to=2, term=1, snapshot=snapshot(9, 1, (1, 3))))
    assert lines(pump(node)) == ["2->1 APP_RESP term=1 log=0/1"]
    assert node.last_index == 1


# -- thesis --------------------------------------------------------------------------------------------------


def test_thesis_3_10_transfer_to_a_member_that_is_up_to_date() -> None:
    node = make()
    lead(node, append=(2, 3))
    node.transfer_leader(3)
    assert lines(pump(node)) == ["1->3 TIMEOUT_NOW term=1"]
    with pytest.raises(ProposalDropped):
        node.propose([Entry(data=b"a")])


def test_thesis_3_10_the_transferee_is_brought_up_to_date_first() -> None:
    node = make()
    lead(node, append=(2,))
    node.transfer_leader(3)
    assert all(message.type != MSG_TIMEOUT_NOW for message in pump(node))
    acknowledge(node, 3)
    assert "1->3 TIMEOUT_NOW term=1" in lines(pump(node))


def test_thesis_3_10_a_transfer_is_given_up_after_an_election_timeout() -> None:
    node = make(check_quorum=False)
    lead(node, append=(2,))
    node.transfer_leader(3)
    for _ in range(10):
        assert node.transferee == 3
        node.tick()
    assert node.transferee == 0
    node.propose([Entry(data=b"a")])


@pytest.mark.parametrize("to", [1, 4, 9])
def test_thesis_3_10_only_another_voter_can_take_over(to: int) -> None:
    node = make(learners=(4,))
    lead(node, append=(2, 3, 4))
    node.transfer_leader(to)
    assert node.transferee == 0 and pump(node) == []


def test_thesis_3_10_a_newer_order_replaces_the_older() -> None:
    node = make()
    lead(node)
    node.transfer_leader(2)
    node.transfer_leader(3)
    assert node.transferee == 3


def test_thesis_3_10_a_follower_passes_the_order_on() -> None:
    cluster = Cluster()
    cluster.elect(1)
    cluster[2].transfer_leader(3)
    cluster.settle()
    assert cluster.leader is cluster[3]


def test_thesis_3_10_timeout_now_needs_no_pre_vote_and_says_why() -> None:
    node = make(2, term=1)
    node.step(Message(MSG_HEARTBEAT, from_=1, to=2, term=1))
    pump(node)
    node.step(Message(MSG_TIMEOUT_NOW, from_=1, to=2, term=1))
    assert lines(pump(node)) == [
        "2->1 VOTE term=2 context=CampaignTransfer",
        "2->3 VOTE term=2 context=CampaignTransfer",
    ]
    voter = make(3, term=1)
    voter.step(Message(MSG_HEARTBEAT, from_=1, to=3, term=1))
    pump(voter)
    voter.step(Message(MSG_VOTE, from_=2, to=3, term=2, context=b"CampaignTransfer"))
    assert lines(pump(voter)) == ["3->2 VOTE_RESP term=2"], "although it hears from a leader"


def test_thesis_6_2_a_leader_without_a_quorum_steps_down() -> None:
    node = make(voters=(1, 2, 3, 4, 5))
    lead(node, 2, 3)
    for _ in range(10):
        node.step(Message(MSG_HEARTBEAT_RESP, from_=2, to=1, term=1))
        node.step(Message(MSG_HEARTBEAT_RESP, from_=3, to=1, term=1))
        node.tick()
    assert node.role is LEADER
    for _ in range(10):
        node.step(Message(MSG_HEARTBEAT_RESP, from_=2, to=1, term=1))
        node.tick()
    assert (node.role, node.lead, node.term) == (FOLLOWER, 0, 1)


def test_thesis_6_2_learners_are_no_quorum() -> None:
    node = make(voters=(1, 2), learners=(3, 4))
    lead(node)
    for _ in range(20):
        node.step(Message(MSG_HEARTBEAT_RESP, from_=3, to=1, term=1))
        node.step(Message(MSG_HEARTBEAT_RESP, from_=4, to=1, term=1))
        node.tick()
    assert node.role is FOLLOWER


def test_thesis_6_4_a_read_waits_for_a_round_that_begins_after_it() -> None:
    node = make()
    lead(node, append=(2, 3))
    node.read_index(b"first")
    heartbeats = pump(node)
    assert lines(heartbeats) == [
        "1->2 HEARTBEAT term=1 commit=1 context=0100000000000000",
        "1->3 HEARTBEAT term=1 commit=1 context=0100000000000000",
    ]
    node.read_index(b"second")
    echo(node, heartbeats[0])
    states = node.ready().read_states
    assert [(state.context, state.index) for state in states] == [(b"first", 1)]


def test_thesis_6_4_reads_wait_for_an_entry_of_the_term() -> None:
    node = make(log=(1, 1), commit=1)
    lead(node)
    node.read_index(b"early")
    assert all(message.type != MSG_HEARTBEAT for message in pump(node))
    acknowledge(node, 2)
    heartbeats = [message for message in pump(node) if message.type == MSG_HEARTBEAT]
    echo(node, heartbeats[1])
    (state,) = node.ready().read_states
    assert (state.context, state.index) == (b"early", 3)


def test_thesis_6_4_an_unanswered_round_is_repeated_with_the_heartbeats() -> None:
    node = make()
    lead(node, append=(2, 3))
    node.read_index(b"r")
    pump(node)
    node.tick()
    heartbeats = pump(node)
    assert heartbeats[0].context == (1).to_bytes(8, "little")
    echo(node, heartbeats[0])
    assert len(node.ready().read_states) == 1
    node.tick()
    assert pump(node)[0].context == b""


def test_thesis_6_4_a_learners_echo_confirms_nothing() -> None:
    node = make(learners=(4,))
    lead(node, append=(2, 3))
    node.read_index(b"r")
    heartbeats = pump(node)
    echo(node, heartbeats[2])
    assert heartbeats[2].to == 4
    assert node.ready().read_states == []


def test_thesis_6_4_the_only_voter_needs_no_round() -> None:
    """Nobody else can be elected, so nobody else can have committed anything; learners need not be asked."""
    node = make(1, (1,), learners=(4,))
    lead(node)
    node.read_index(b"r")
    ready = node.ready()
    assert [(state.context, state.index) for state in ready.read_states] == [(b"r", 1)]
    assert [message for message in ready.messages if message.type == MSG_HEARTBEAT] == []
    node.step(Message(MSG_READ_INDEX, from_=4, to=1, entries=[Entry(data=b"far")]))
    (answer,) = [message for message in node.ready().messages if message.type == MSG_READ_INDEX_RESP]
    assert (answer.to, answer.index, answer.entries[0].data) == (4, 1, b"far")


def test_thesis_6_4_the_only_voter_waits_for_an_entry_of_its_term_as_well() -> None:
    node = make(1, (1,), log=(1, 1), commit=1)
    node.campaign()
    while not node.is_leader:
        node.persisted(node.ready().sequence)
    node.read_index(b"early")
    ready = node.ready()
    assert ready.read_states == []
    node.persisted(ready.sequence)
    assert [(state.context, state.index) for state in node.ready().read_states] == [(b"early", 3)]


def test_thesis_6_4_two_voters_are_a_quorum_again() -> None:
    node = make(1, (1,))
    lead(node)
    node.apply_conf_change(ConfChange(node_id=2))
    node.read_index(b"r")
    assert node.ready().read_states == []


def test_thesis_6_4_1_a_lease_answers_at_once() -> None:
    node = make(lease_based_reads=True)
    lead(node, append=(2, 3))
    node.read_index(b"r")
    ready = node.ready()
    assert [(state.context, state.index) for state in ready.read_states] == [(b"r", 1)]
    assert ready.messages == []


def test_thesis_9_6_a_pre_vote_changes_nobodys_term() -> None:
    node = make(term=3)
    node.campaign()
    assert (node.role, node.term, node.vote) == (PRE_CANDIDATE, 3, 0)
    assert lines(pump(node)) == ["1->2 PRE_VOTE term=4", "1->3 PRE_VOTE term=4"]
    voter = make(2, term=3, vote=3)
    voter.step(Message(MSG_PRE_VOTE, from_=1, to=2, term=4))
    assert lines(pump(voter)) == ["2->1 PRE_VOTE_RESP term=4"], (
        "a grant carries the term that was asked about"
    )
    assert (voter.term, voter.vote) == (3, 3)


def test_thesis_9_6_a_refusal_carries_the_voters_term() -> None:
    voter = make(2, log=(5,), term=5)
    voter.step(Message(MSG_PRE_VOTE, from_=1, to=2, term=6, index=9, log_term=4))
    assert lines(pump(voter)) == ["2->1 PRE_VOTE_RESP term=5 reject hint=0"]
    voter.step(Message(MSG_PRE_VOTE, from_=1, to=2, term=4, index=9, log_term=3))
    assert lines(pump(voter)) == ["2->1 PRE_VOTE_RESP term=5 reject hint=0"], "a term that is over, as well"
    node = make(term=3)
    node.campaign()
    node.step(Message(MSG_PRE_VOTE_RESP, from_=2, to=1, term=5, reject=True))
    assert (node.role, node.term) == (FOLLOWER, 5)


def test_thesis_9_6_a_grant_for_another_question_does_not_count() -> None:
    node = make(term=3)
    node.campaign()
    node.step(Message(MSG_PRE_VOTE_RESP, from_=2, to=1, term=6))
    assert node.role is PRE_CANDIDATE
    node.step(Message(MSG_PRE_VOTE_RESP, from_=2, to=1, term=4))
    assert node.role is CANDIDATE


@pytest.mark.parametrize("kind", [MSG_APP, MSG_HEARTBEAT])
def test_thesis_9_6_an_old_leader_learns_of_the_newer_term(kind: int) -> None:
    """Contract 6.3: else a member that came back with a higher term could be stuck for ever."""
    node = make(2, term=5)
    node.step(Message(kind, from_=1, to=2, term=3))
    assert lines(pump(node)) == ["2->1 APP_RESP term=5"]
    quiet = make(2, term=5, pre_vote=False, check_quorum=False)
    quiet.step(Message(kind, from_=1, to=2, term=3))
    assert pump(quiet) == []
