"""``describe.py``: one line for anything."""

from __future__ import annotations

from tests.raft.nodes import make

from petcd.raft import (
    MSG_APP,
    ConfState,
    Entry,
    HardState,
    Message,
    Snapshot,
    SnapshotMetadata,
    describe,
    describe_conf_state,
    describe_entries,
    describe_entry,
    describe_hard_state,
    describe_ready,
)


def test_message() -> None:
    entries = [Entry(3, 18), Entry(3, 19), Entry(3, 20)]
    message = Message(MSG_APP, from_=1, to=2, term=3, log_term=2, index=17, commit=16, entries=entries)
    assert describe(message) == "1->2 APP term=3 log=2/17 commit=16 entries=3"


def test_every_field_of_a_message() -> None:
    snapshot = Snapshot(b"secret", SnapshotMetadata(ConfState([1, 0xAB]), 7, 2))
    message = Message(
        7,
        from_=0xAB,
        to=2,
        term=3,
        snapshot=snapshot,
        reject=True,
        reject_hint=4,
        context=b"CampaignTransfer",
    )
    assert describe(message) == (
        "ab->2 SNAP term=3 reject hint=4 snapshot=2/7 voters=(1 ab) context=CampaignTransfer"
    )
    assert describe(Message(99, context=b"\x01\xff")) == "0->0 TYPE99 context=01ff"


def test_entries_without_their_data() -> None:
    entry = Entry(2, 17, 1, b"secret")
    assert describe_entry(entry) == "2/17 CONF_CHANGE 6B"
    assert describe_entries([entry]) == "2/17"
    assert describe_entries([entry, Entry(3, 18), Entry(3, 19)]) == "2/17..3/19"
    assert describe_entries([]) == "-"


def test_states() -> None:
    assert describe_hard_state(HardState(3, 1, 16)) == "term=3 vote=1 commit=16"
    assert describe_hard_state(HardState(3, 0, 16)) == "term=3 commit=16"
    joint = ConfState([1, 2, 4], [5], [1, 2, 3], [3], auto_leave=True)
    assert describe_conf_state(joint) == "voters=(1 2 4)&(1 2 3) learners=(5) next=(3) auto-leave"


def test_ready() -> None:
    node = make(voters=(1,), pre_vote=False)
    node.campaign()
    assert describe_ready(node.ready()) == "ready 1 CANDIDATE lead=0 term=1 vote=1 commit=0 sync"
    node.persisted(1)
    assert describe_ready(node.ready()) == "ready 2 LEADER lead=1 sync entries=1/1"
    node.persisted(2)
    node.read_index(b"r")
    assert describe_ready(node.ready()) == "ready 3 term=1 vote=1 commit=1 committed=1/1 reads=1"
