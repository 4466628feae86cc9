"""``tracker.py``: who is followed, and what a quorum of them says."""

from __future__ import annotations

from petcd.raft import Configuration
from petcd.raft.quorum import VOTE_LOST, VOTE_PENDING, VOTE_WON
from petcd.raft.tracker import Tracker


def tracker(*voters: int, outgoing: tuple[int, ...] = (), learners: tuple[int, ...] = ()) -> Tracker:
    made = Tracker(1, inflight_max=8)
    made.switch(Configuration(frozenset(voters), frozenset(outgoing), frozenset(learners)), 10, 7)
    made.check()
    return made


def test_a_newcomer_is_probed_from_the_end_and_counts_as_heard_of() -> None:
    t = tracker(1, 2)
    t.progress[2].match = 4
    t.progress[2].recent_active = False
    t.switch(Configuration(frozenset({1, 2, 3})), 12, 9)
    t.check()
    assert (t.progress[2].match, t.progress[2].recent_active) == (4, False), "who stays keeps its progress"
    assert (t.progress[3].match, t.progress[3].next, t.progress[3].recent_active) == (0, 13, True)
    assert t.peers == (2, 3)


def test_we_count_ourselves_as_far_as_our_disk_is() -> None:
    t = tracker(1, 2, 3)
    assert t.progress[1].match == 7
    t.reset(12, 9)
    assert t.progress[1].match == 9
    assert t.progress[1].next == 13


def test_learners_do_not_count() -> None:
    t = tracker(1, 2, learners=(3, 4))
    t.progress[3].match = t.progress[4].match = 10
    assert t.committed() == 0
    assert t.peers == (2, 3, 4)
    assert t.progress[3].is_learner and not t.progress[2].is_learner
    assert not t.votes_in(3)


def test_both_halves_count() -> None:
    t = tracker(1, 4, 5, outgoing=(1, 2, 3))
    for member, match in {1: 9, 2: 3, 3: 2, 4: 8, 5: 7}.items():
        t.progress[member].match = match
    assert t.committed() == 3
    assert t.votes_in(2) and t.votes_in(5)


def test_the_first_vote_of_a_member_counts() -> None:
    t = tracker(1, 2, 3)
    assert t.tally() is VOTE_PENDING
    t.record_vote(2, granted=False)
    t.record_vote(2, granted=True)
    t.record_vote(1, granted=True)
    assert t.tally() is VOTE_PENDING
    t.record_vote(3, granted=False)
    assert t.tally() is VOTE_LOST


def test_votes_of_strangers_do_not_count() -> None:
    t = tracker(1, 2, 3)
    t.record_vote(9, granted=True)
    t.record_vote(1, granted=True)
    assert t.tally() is VOTE_PENDING
    t.record_vote(3, granted=True)
    assert t.tally() is VOTE_WON


def test_a_quorum_must_be_heard_of_in_each_period() -> None:
    t = tracker(1, 2, 3)
    assert t.quorum_active(), "newcomers count"
    assert not t.quorum_active()
    t.progress[2].recent_active = True
    assert t.quorum_active()
    assert not t.quorum_active()
