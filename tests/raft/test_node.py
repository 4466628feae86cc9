"""``node.py``: what a Ready holds, in which order it may be confirmed, starting, snapshots, membership."""

from __future__ import annotations

import random

import pytest
from tests.raft.nodes import acknowledge, apply, entries_of, lead, lines, make, pump

from petcd.raft import (
    ADD_LEARNER_NODE,
    ENTRY_CONF_CHANGE,
    ENTRY_CONF_CHANGE_V2,
    FOLLOWER,
    LEADER,
    MSG_APP,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_PRE_VOTE,
    MSG_PROP,
    MSG_SNAP,
    REMOVE_NODE,
    CompactedError,
    ConfChange,
    ConfChangeError,
    ConfChangeV2,
    Config,
    ConfState,
    Entry,
    HardState,
    Message,
    Node,
    ProgressState,
    ProposalDropped,
    Snapshot,
    SnapshotMetadata,
    StateError,
    decode_conf_change,
)
from petcd.raft.confchange import ConfChangeSingle
from petcd.raft.node import proven_commit


class TestReady:
    def test_nothing_to_do(self) -> None:
        node = make()
        assert not node.has_ready()
        ready = node.ready()
        assert (ready.must_sync, ready.entries, ready.committed, ready.messages) == (False, [], [], [])
        assert ready.soft_state is ready.hard_state is ready.snapshot is None

    def test_nothing_twice(self) -> None:
        node = make(voters=(1,))
        lead(node)
        node.propose([Entry(data=b"a")])
        ready = node.ready()
        assert [entry.data for entry in ready.entries] == [b"a"]
        assert not node.has_ready()
        node.persisted(ready.sequence)
        ready = node.ready()
        assert [entry.data for entry in ready.committed] == [b"a"]
        assert ready.hard_state == HardState(1, 1, 2)
        assert not ready.must_sync, "only the commit index moved"
        assert not node.has_ready()
        node.applied_to(2)
        assert not node.has_ready()

    def test_sequences_have_no_gaps(self) -> None:
        node = make()
        assert [node.ready().sequence for _ in range(3)] == [1, 2, 3]

    def test_soft_state_when_it_changes(self) -> None:
        node = make(2)
        node.step(Message(MSG_HEARTBEAT, from_=1, to=2, term=1))
        ready = node.ready()
        assert ready.soft_state is not None
        assert (ready.soft_state.lead, ready.soft_state.role) == (1, FOLLOWER)
        node.step(Message(MSG_HEARTBEAT, from_=1, to=2, term=1))
        assert node.ready().soft_state is None

    def test_committed_entries_come_in_portions(self) -> None:
        node = make(voters=(1,), committed_bytes_max=4)
        lead(node)
        node.propose([Entry(data=b"abc") for _ in range(3)])
        node.persisted(node.ready().sequence)
        portions = []
        while node.has_ready():
            ready = node.ready()
            portions.append(len(ready.committed))
            apply(node, ready)
        assert portions == [1, 1, 1]

    def test_all_messages_of_a_turn_get_one_acknowledgement(self) -> None:
        node = make(2)
        for index in range(4):
            node.step(
                Message(
                    MSG_APP,
                    from_=1,
                    to=2,
                    term=1,
                    index=index,
                    log_term=min(index, 1),
                    entries=[Entry(1, index + 1)],
                )
            )
        assert lines(node.ready().messages_after_append) == ["2->1 APP_RESP term=1 log=0/4"]

    def test_all_of_a_turn_is_one_message_per_follower(self) -> None:
        node = make()
        lead(node, append=(2, 3))
        node.propose([Entry(data=b"a")])
        node.propose([Entry(data=b"b")])
        assert lines(node.ready().messages) == [
            "1->2 APP term=1 log=1/1 commit=1 entries=2",
            "1->3 APP term=1 log=1/1 commit=1 entries=2",
        ]


class TestPersisted:
    def test_several_readys_may_be_outstanding(self) -> None:
        node = make(voters=(1,))
        lead(node)
        sequences = []
        for data in (b"a", b"b", b"c"):
            node.propose([Entry(data=data)])
            sequences.append(node.ready().sequence)
        node.persisted(sequences[0])
        assert (node.stable_index, node.commit_index) == (2, 2)
        node.persisted(sequences[2])
        assert (node.stable_index, node.commit_index) == (4, 4)
        node.persisted(sequences[1])
        assert node.stable_index == 4, "old news"

    def test_what_was_never_handed_out_cannot_be_durable(self) -> None:
        node = make()
        with pytest.raises(ValueError, match="never handed out"):
            node.persisted(1)

    def test_overwritten_entries_do_not_become_stable(self) -> None:
        node = make(2, log=(1,))
        first = [Entry(2, 2, data=b"x"), Entry(2, 3, data=b"y")]
        node.step(Message(MSG_APP, from_=1, to=2, term=2, index=1, log_term=1, entries=first))
        old = node.ready()
        node.step(
            Message(MSG_APP, from_=3, to=2, term=3, index=1, log_term=1, entries=[Entry(3, 2, data=b"z")])
        )
        node.persisted(old.sequence)
        assert (node.last_index, node.stable_index) == (2, 1)
        new = node.ready()
        assert [entry.data for entry in new.entries] == [b"z"]
        node.persisted(new.sequence)
        assert node.stable_index == 2
        node.check()

    def test_not_even_where_the_same_entries_come_back(self) -> None:
        """The disk has the old batch, but the one that replaces it is still to come."""
        node = make(2, log=(1,))
        entry = Entry(2, 2, data=b"x")
        node.step(Message(MSG_APP, from_=1, to=2, term=2, index=1, log_term=1, entries=[entry]))
        first = node.ready()
        node.step(Message(MSG_APP, from_=3, to=2, term=3, index=1, log_term=1, entries=[Entry(3, 2)]))
        second = node.ready()
        node.step(
            Message(
                MSG_APP,
                from_=1,
                to=2,
                term=4,
                index=1,
                log_term=1,
                entries=[Entry(2, 2, data=b"x"), Entry(4, 3)],
            )
        )
        third = node.ready()
        node.persisted(first.sequence)
        assert node.stable_index == 1
        node.persisted(second.sequence)
        assert node.stable_index == 1
        node.persisted(third.sequence)
        assert node.stable_index == 3

    def test_a_vote_of_an_earlier_term_elects_nobody(self) -> None:
        node = make(pre_vote=False, check_quorum=False, voters=(1,))
        node.campaign()
        first = node.ready()
        node.step(Message(MSG_HEARTBEAT, from_=9, to=1, term=5))
        assert node.term == 5
        node.persisted(first.sequence)
        assert node.role is FOLLOWER

    def test_after_append_is_free_when_nothing_is_being_written(self) -> None:
        node = make(2, log=(1,), term=1)
        node.step(Message(MSG_APP, from_=1, to=2, term=1, index=1, log_term=1))
        ready = node.ready()
        assert lines(ready.messages) == ["2->1 APP_RESP term=1 log=0/1"]
        assert ready.messages_after_append == []


class TestStart:
    def test_the_configuration_is_checked(self) -> None:
        draw = random.Random(1)
        for broken in (
            Config(0, draw),
            Config(1, draw, election_ticks=1),
            Config(1, draw, heartbeat_ticks=0),
            Config(1, draw, inflight_max=0),
            Config(1, draw, committed_bytes_max=0),
            Config(1, draw, uncommitted_bytes_max=0),
            Config(1, draw, lease_based_reads=True, check_quorum=False),
        ):
            with pytest.raises(ValueError):
                Node(broken, HardState(), SnapshotMetadata())

    def test_an_impossible_configuration_is_refused(self) -> None:
        with pytest.raises(StateError, match="both voter and learner"):
            make(voters=(1,), learners=(1,))

    def test_committed_entries_are_handed_out_again(self) -> None:
        node = make(log=(1, 1, 2), commit=2)
        assert [entry.index for entry in node.ready().committed] == [1, 2]

    def test_but_not_what_was_applied(self) -> None:
        node = make(log=(1, 1, 2), commit=3, applied=2)
        assert [entry.index for entry in node.ready().committed] == [3]

    def test_what_was_applied_is_committed_whatever_the_hard_state_says(self) -> None:
        node = make(log=(1, 1, 2), commit=1, applied=3)
        ready = node.ready()
        assert ready.committed == []
        assert ready.hard_state == HardState(2, 0, 3)

    def test_the_configuration_at_applied(self) -> None:
        node = make(log=(1, 1), commit=2, applied=2, conf_state=ConfState([1, 2], [3]))
        assert node.conf_state == ConfState([1, 2], [3])

    def test_bootstrap_by_committed_changes(self) -> None:
        """Contract 7.3: entries of term 1 add the members, the first election is for term 2."""
        entries = []
        for index, member in enumerate((7, 8, 9), 1):
            kind, data = ENTRY_CONF_CHANGE, bytes.fromhex(f"18{member:02x}")
            entries.append(Entry(1, index, kind, data))
        node = Node(Config(8, random.Random(1)), HardState(1, 0, 3), SnapshotMetadata(), entries)
        assert not node.campaign(), "nothing is applied yet"
        ready = node.ready()
        for entry in ready.committed:
            node.apply_conf_change(decode_conf_change(entry))
            node.applied_to(entry.index)
        assert node.conf_state == ConfState([7, 8, 9])
        assert node.campaign()
        assert lines(pump(node)) == ["8->7 PRE_VOTE term=2 log=1/3", "8->9 PRE_VOTE term=2 log=1/3"]

    def test_a_torn_hard_state_is_made_up_for(self) -> None:
        """The crash came between the entries and the hard state of one batch."""
        node = make(log=(1, 3), term=2, vote=3)
        assert (node.term, node.vote) == (3, 0)
        node.step(Message(MSG_HEARTBEAT, from_=2, to=1, term=3))
        ready = node.ready()
        assert ready.must_sync and ready.hard_state == HardState(3, 0, 0)
        assert ready.messages == [], "the term is not on disk yet"

    def test_two_changes_in_the_log_prove_the_first(self) -> None:
        changes = [Entry(1, i, kind) for i, kind in enumerate((1, 0, 1, 0, 2, 0), 1)]
        assert proven_commit(changes) == 3
        assert proven_commit(changes[:2]) == 0
        assert proven_commit([]) == 0


class TestSnapshots:
    def leader(self) -> Node:
        node = make(voters=(1, 2))
        lead(node, append=(2,))
        node.propose([Entry(data=b"%d" % i) for i in range(9)])
        pump(node)
        acknowledge(node, 2)
        pump(node)
        assert node.applied_index == node.last_index == 10
        return node

    def test_compaction_needs_a_snapshot(self) -> None:
        node = self.leader()
        with pytest.raises(ValueError, match="no snapshot covers"):
            node.compact(5)
        made = node.create_snapshot(8, ConfState([1, 2]), b"data")
        assert made.metadata == SnapshotMetadata(ConfState([1, 2]), 8, 1)
        with pytest.raises(ValueError, match="no snapshot covers"):
            node.compact(9)
        node.compact(8)
        assert (node.first_index, node.last_index) == (9, 10)
        assert node.term_at(8) == 1 and node.term_at(7) == 0
        with pytest.raises(CompactedError):
            node.entries(8, 9)
        node.check()

    def test_a_snapshot_is_made_of_what_is_applied_and_never_goes_back(self) -> None:
        node = self.leader()
        for index in (11, 99):
            with pytest.raises(ValueError, match="no snapshot can be made"):
                node.create_snapshot(index, ConfState([1, 2]))
        node.create_snapshot(6, ConfState([1, 2]))
        node.compact(6)
        with pytest.raises(ValueError, match="no snapshot can be made"):
            node.create_snapshot(5, ConfState([1, 2]))
        node.create_snapshot(6, ConfState([1, 2]), b"again")
        assert node.snapshot.data == b"again" and node.snapshot.metadata.term == 1

    def test_sent_to_who_needs_compacted_entries(self) -> None:
        node = self.leader()
        node.create_snapshot(10, ConfState([1, 2]), b"data")
        node.compact(10)
        node.apply_conf_change(ConfChange(type=ADD_LEARNER_NODE, node_id=3))
        (probe,) = [message for message in pump(node) if message.to == 3]
        assert (probe.type, probe.index) == (MSG_APP, 10)
        node.step(Message(4, from_=3, to=1, term=1, index=10, reject=True))
        (sent,) = pump(node)
        assert sent.type == MSG_SNAP and sent.snapshot is node.snapshot
        assert node.status().progress[3].state is ProgressState.SNAPSHOT
        node.propose([Entry(data=b"later")])
        assert all(message.to != 3 for message in pump(node)), "nothing until its fate is known"
        acknowledge(node, 3, 10)
        assert lines([m for m in pump(node) if m.to == 3]) == ["1->3 APP term=1 log=1/10 commit=10 entries=1"]

    def test_not_to_who_was_not_heard_of(self) -> None:
        node = self.leader()
        node.create_snapshot(10, ConfState([1, 2]))
        node.compact(10)
        node.apply_conf_change(ConfChange(type=ADD_LEARNER_NODE, node_id=3))
        pump(node)
        for _ in range(10):
            node.step(Message(9, from_=2, to=1, term=1))
            node.tick()
        node.step(Message(4, from_=3, to=1, term=1, index=10, reject=True))
        assert [m.type for m in pump(node) if m.to == 3 and m.type != MSG_HEARTBEAT] == [MSG_SNAP]
        node.report_snapshot(3, delivered=False)
        for _ in range(10):
            node.step(Message(9, from_=2, to=1, term=1))
            node.tick()
        pump(node)
        node.propose([Entry(data=b"x")])
        assert all(m.to != 3 for m in pump(node))

    def test_back_to_back(self) -> None:
        """etcd issue 18055: a second snapshot arrives while the first is being written."""
        node = make(2, log=(1,), commit=1)
        pump(node)
        for index in (5, 8):
            snapshot = Snapshot(b"%d" % index, SnapshotMetadata(ConfState([1, 2]), index, 1))
            node.step(Message(MSG_SNAP, from_=1, to=2, term=1, snapshot=snapshot))
            if index == 5:
                first = node.ready()
        second = node.ready()
        assert first.snapshot is not None and second.snapshot is not None
        assert (first.snapshot.data, second.snapshot.data) == (b"5", b"8")
        node.persisted(first.sequence)
        node.applied_to(5)
        assert not node.campaign(), "the second is still to come"
        node.persisted(second.sequence)
        node.applied_to(8)
        node.check()
        assert (node.first_index, node.stable_index, node.applied_index) == (9, 8, 8)
        assert node.campaign()


class TestChanges:
    def leader(self, *voters: int) -> Node:
        node = make(voters=voters or (1, 2, 3))
        lead(node, append=voters[1:] or (2, 3))
        return node

    def test_one_at_a_time(self) -> None:
        """Contract 6.7: while one is not applied, an empty entry takes the place of the next."""
        node = self.leader()
        node.propose_conf_change(ConfChange(1, node_id=4), request="first")
        node.propose_conf_change(ConfChange(2, node_id=5), request="second")
        first, second = node.ready().entries
        assert (first.type, first.request) == (ENTRY_CONF_CHANGE, "first")
        assert (second.type, second.data, second.request) == (0, b"", None)

    def test_two_in_one_batch(self) -> None:
        node = self.leader()
        batch = [Entry(type=1, data=b"\x18\x04"), Entry(data=b"x"), Entry(type=1, data=b"\x18\x05")]
        node.propose(batch)
        assert [entry.type for entry in batch] == [1, 0, 0]

    def test_the_next_after_the_first_is_applied(self) -> None:
        node = self.leader()
        node.propose_conf_change(ConfChange(1, node_id=4))
        pump(node)
        acknowledge(node, 2)
        ready = node.ready()
        node.apply_conf_change(ConfChange(1, node_id=4))
        node.applied_to(ready.committed[-1].index)
        node.propose_conf_change(ConfChange(2, node_id=5))
        assert [entry.type for entry in node.ready().entries] == [ENTRY_CONF_CHANGE]

    def test_a_new_leader_waits_for_what_it_inherited(self) -> None:
        node = make(log=(1, 1), commit=0)
        lead(node)
        node.propose_conf_change(ConfChange(1, node_id=4))
        assert [entry.type for entry in node.ready().entries] == [0]

    def test_leaving_needs_a_joint_configuration(self) -> None:
        node = self.leader()
        node.propose_conf_change(ConfChangeV2())
        assert [entry.type for entry in node.ready().entries] == [0]

    def test_a_joint_configuration_is_left_when_it_is_applied(self) -> None:
        node = self.leader()
        change = ConfChangeV2(1, [ConfChangeSingle(0, 4)])
        node.propose_conf_change(change)
        pump(node, persist=True)
        acknowledge(node, 2)
        ready = node.ready()
        node.apply_conf_change(change)
        assert node.configuration.joint
        node.applied_to(ready.committed[-1].index)
        (entry,) = node.ready().entries
        assert (entry.type, entry.data) == (ENTRY_CONF_CHANGE_V2, b"")

    def test_fewer_voters_may_mean_a_commit(self) -> None:
        node = self.leader(1, 2)
        node.propose([Entry(data=b"x")])
        pump(node)
        assert node.commit_index == 1
        node.apply_conf_change(ConfChange(type=REMOVE_NODE, node_id=2))
        assert node.commit_index == 2

    def test_fewer_voters_may_mean_an_answer_to_a_read(self) -> None:
        node = self.leader(1, 2)
        node.read_index(b"r")
        pump(node)
        node.apply_conf_change(ConfChange(type=REMOVE_NODE, node_id=2))
        assert [state.context for state in node.ready().read_states] == [b"r"]

    def test_a_read_of_the_last_moment_before_the_other_voter_is_gone(self) -> None:
        node = self.leader(1, 2)
        node.read_index(b"r")
        node.apply_conf_change(ConfChange(type=REMOVE_NODE, node_id=2))
        assert [state.context for state in node.ready().read_states] == [b"r"]

    def test_a_transfer_to_who_is_removed_is_given_up(self) -> None:
        node = self.leader()
        node.transfer_leader(3)
        node.apply_conf_change(ConfChange(type=REMOVE_NODE, node_id=3))
        assert node.transferee == 0

    def test_a_removed_leader_takes_no_proposals(self) -> None:
        node = self.leader()
        node.apply_conf_change(ConfChange(type=REMOVE_NODE, node_id=1))
        assert node.role is LEADER
        with pytest.raises(ProposalDropped, match="removed"):
            node.propose([Entry(data=b"x")])
        node.read_index(b"r")
        pump(node)
        node.check()

    def test_a_refused_change_changes_nothing(self) -> None:
        node = self.leader(1)
        with pytest.raises(ConfChangeError):
            node.apply_conf_change(ConfChange(type=REMOVE_NODE, node_id=1))
        assert node.conf_state == ConfState([1])
        assert node.apply_conf_change(ConfChange(type=REMOVE_NODE, node_id=0)) == ConfState([1])

    def test_messages_of_a_removed_member_do_nothing(self) -> None:
        node = self.leader()
        node.apply_conf_change(ConfChange(type=REMOVE_NODE, node_id=3))
        pump(node)
        acknowledge(node, 3)
        node.report_unreachable(3)
        node.report_snapshot(3, delivered=True)
        assert pump(node) == []

    def test_unreadable_changes_are_refused(self) -> None:
        node = self.leader()
        with pytest.raises(ConfChangeError):
            node.propose([Entry(data=b"good"), Entry(type=1, data=b"\xff")])
        with pytest.raises(ConfChangeError):
            node.propose([Entry(type=7)])
        assert node.last_index == 1, "all or none"


class TestProposals:
    def test_terms_and_indexes_are_given(self) -> None:
        node = make(voters=(1,), log=(1, 1))
        lead(node)
        batch = [Entry(data=b"a", request=object()), Entry(data=b"b")]
        node.propose(batch)
        assert [(entry.term, entry.index) for entry in batch] == [(2, 4), (2, 5)]
        assert node.entries(4, 6) == batch and node.entries(4, 5)[0] is batch[0]
        assert entries_of(node) == [1, 1, 2, 2, 2]

    def test_nothing_is_nothing(self) -> None:
        node = make()
        node.propose([])
        assert not node.has_ready()

    def test_dropped_without_a_leader(self) -> None:
        node = make()
        with pytest.raises(ProposalDropped, match="no leader"):
            node.propose([Entry(data=b"a")])
        node.campaign()
        with pytest.raises(ProposalDropped, match="no leader"):
            node.propose([Entry(data=b"a")])

    def test_dropped_while_too_much_is_uncommitted(self) -> None:
        node = make(uncommitted_bytes_max=10)
        lead(node, append=(2, 3))
        node.propose([Entry(data=b"x" * 50)])  # a first batch always fits
        with pytest.raises(ProposalDropped, match="uncommitted"):
            node.propose([Entry(data=b"y")])
        node.propose([Entry()])  # what has no data is always taken
        pump(node)
        acknowledge(node, 2)
        node.propose([Entry(data=b"y")])

    def test_forwarded_in_messages_of_bounded_size(self) -> None:
        node = make(2, max_message_bytes=10)
        node.step(Message(MSG_HEARTBEAT, from_=1, to=2, term=1))
        pump(node)
        request = object()
        node.propose([Entry(data=b"12345", request=request) for _ in range(5)])
        messages = pump(node)
        assert [len(message.entries) for message in messages] == [2, 2, 1]
        assert all((m.from_, m.to, m.term) == (2, 1, 0) for m in messages)
        assert all(entry.request is None for m in messages for entry in m.entries)

    def test_forwarded_again_by_who_leads_no_longer(self) -> None:
        node = make(2)
        node.step(Message(MSG_HEARTBEAT, from_=3, to=2, term=1))
        pump(node)
        node.step(Message(2, from_=1, to=2, entries=[Entry(data=b"a")]))
        assert lines(pump(node)) == ["1->3 PROP entries=1"], "in the name of the first sender"


class TestReads:
    def test_a_quorum_of_one_answers_in_the_next_ready(self) -> None:
        node = make(voters=(1,))
        lead(node)
        assert node.read_index(b"r")
        assert node.has_ready()
        assert [(state.context, state.index) for state in node.ready().read_states] == [(b"r", 1)]

    def test_nobody_to_ask(self) -> None:
        node = make()
        assert not node.read_index(b"r")
        node.campaign()
        assert not node.read_index(b"r")

    def test_forwarded_and_answered(self) -> None:
        node = make(2)
        node.step(Message(MSG_HEARTBEAT, from_=1, to=2, term=1))
        pump(node)
        assert node.read_index(b"context!")
        (question,) = pump(node)
        assert lines([question]) == ["2->1 READ_INDEX entries=1"]
        assert question.entries[0].data == b"context!"
        node.step(Message(16, from_=1, to=2, term=1, index=7, entries=[Entry(data=b"context!")]))
        assert [(s.context, s.index) for s in node.ready().read_states] == [(b"context!", 7)]

    def test_waiting_reads_are_forgotten_by_who_steps_down(self) -> None:
        node = make()
        lead(node, append=(2, 3))
        node.read_index(b"r")
        pump(node)
        node.step(Message(MSG_HEARTBEAT, from_=2, to=1, term=5))
        node.check()
        assert pump(node) and not node.ready().read_states


def test_status() -> None:
    node = make(learners=(4,))
    lead(node, append=(2,))
    status = node.status()
    assert (status.id, status.term, status.lead, status.role, status.commit) == (1, 1, 1, LEADER, 1)
    assert status.progress[2].match == 1 and status.progress[4].is_learner
    assert status.conf_state == ConfState([1, 2, 3], [4])
    assert make(2).status().progress == {}


class TestLazyCommit:
    """``Config.lazy_commit``: who needs no word of a commit at once is told with the next entries."""

    def leader(self) -> Node:
        node = make(lazy_commit=True)
        lead(node, append=(2, 3))
        node.announce_commit()
        pump(node)
        return node

    def test_the_next_entries_carry_it(self) -> None:
        node = self.leader()
        node.propose([Entry(data=b"a")])
        pump(node)
        acknowledge(node, 2)
        assert pump(node) == []
        assert node.commit_unsaid
        node.propose([Entry(data=b"b")])
        assert [(m.to, m.commit, len(m.entries)) for m in pump(node)] == [(2, 2, 1), (3, 2, 1)]
        assert not node.commit_unsaid

    def test_it_is_announced_when_asked(self) -> None:
        node = self.leader()
        node.propose([Entry(data=b"a")])
        pump(node)
        acknowledge(node, 2)
        pump(node)
        node.announce_commit()
        assert [(m.to, m.commit, len(m.entries)) for m in pump(node)] == [(2, 2, 0), (3, 2, 0)]
        assert not node.commit_unsaid
        node.announce_commit()
        assert pump(node) == [], "there is nothing to say"

    def test_a_proposer_is_told_at_once(self) -> None:
        node = self.leader()
        node.step(Message(MSG_PROP, from_=3, to=1, entries=[Entry(data=b"a")]))
        pump(node)
        acknowledge(node, 2)
        assert [(m.to, m.commit) for m in pump(node)] == [(3, 2)]

    def follower(self) -> Node:
        node = make(2, lazy_commit=True)
        entries = [Entry(1, 1, data=b"a"), Entry(1, 2, data=b"b")]
        node.step(Message(MSG_APP, from_=1, to=2, term=1, entries=entries))
        assert [m.index for m in pump(node)] == [2]
        return node

    def tell(self, node: Node, commit: int, index: int = 2) -> list[Message]:
        node.step(Message(MSG_APP, from_=1, to=2, term=1, log_term=1, index=index, commit=commit))
        return pump(node)

    def test_news_of_a_commit_is_answered_with_the_next_heartbeat(self) -> None:
        node = self.follower()
        assert self.tell(node, 1) == []
        assert node.commit_index == 1
        node.step(Message(MSG_HEARTBEAT, from_=1, to=2, term=1, commit=1))
        assert sorted((m.type, m.index) for m in pump(node)) == [(MSG_APP_RESP, 2), (MSG_HEARTBEAT_RESP, 0)]
        node.step(Message(MSG_HEARTBEAT, from_=1, to=2, term=1, commit=1))
        assert [m.type for m in pump(node)] == [MSG_HEARTBEAT_RESP], "once"

    def test_or_with_the_next_entries(self) -> None:
        node = self.follower()
        self.tell(node, 1)
        more = [Entry(1, 3, data=b"c")]
        node.step(Message(MSG_APP, from_=1, to=2, term=1, log_term=1, index=2, commit=1, entries=more))
        assert [(m.type, m.index) for m in pump(node)] == [(MSG_APP_RESP, 3)]
        node.step(Message(MSG_HEARTBEAT, from_=1, to=2, term=1, commit=1))
        assert [m.type for m in pump(node)] == [MSG_HEARTBEAT_RESP]

    def test_a_probe_without_news_is_answered(self) -> None:
        node = self.follower()
        self.tell(node, 1)
        assert [(m.type, m.index) for m in self.tell(node, 1)] == [(MSG_APP_RESP, 2)]

    def test_what_was_never_acknowledged_in_this_term_is_answered(self) -> None:
        node = make(2, lazy_commit=True, log=(1, 1))
        assert [(m.type, m.index) for m in self.tell(node, 1)] == [(MSG_APP_RESP, 2)]

    def test_a_new_leader_owes_nothing_to_the_last_answer(self) -> None:
        node = self.follower()
        self.tell(node, 1)
        node.step(Message(MSG_APP, from_=3, to=2, term=2, log_term=1, index=2, commit=2))
        assert [(m.type, m.to, m.index) for m in pump(node)] == [(MSG_APP_RESP, 3, 2)]


class TestHasten:
    """Evidence that no leader is there shortens the wait; it changes no vote."""

    def test_the_random_part_is_still_waited_for(self) -> None:
        node = make(2)
        node.hasten()
        assert not node.has_ready()
        ticks = 0
        while node.role is FOLLOWER:
            node.tick()
            ticks += 1
        assert 1 <= ticks <= 11
        assert [m.type for m in pump(node)] == [MSG_PRE_VOTE, MSG_PRE_VOTE]

    def test_a_leader_that_is_heard_after_all_is_followed(self) -> None:
        node = make(2)
        node.hasten()
        node.step(Message(MSG_HEARTBEAT, from_=1, to=2, term=1))
        for _ in range(9):
            node.tick()
        assert node.role is FOLLOWER

    def test_a_leader_is_left_alone(self) -> None:
        node = make()
        lead(node)
        node.hasten()
        for _ in range(3):
            node.tick()
        assert node.role is LEADER
