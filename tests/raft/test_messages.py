"""What peers may send: garbage is ignored or refused with ``MessageError``, and never moves what was
promised."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.raft.nodes import acknowledge, entries_of, lead, make, pump

from petcd.raft import (
    LEADER,
    MSG_APP,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_READ_INDEX_RESP,
    MSG_SNAP,
    MSG_VOTE,
    ConfState,
    Entry,
    Message,
    MessageError,
    MessageType,
    Node,
    RaftError,
    Snapshot,
    SnapshotMetadata,
)
from petcd.raft.messages import NETWORK_TYPES


def snapshot(**changes: object) -> Snapshot:
    return Snapshot(b"", replace(SnapshotMetadata(ConfState([1, 2]), 9, 1), **changes))


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (Message(MSG_HEARTBEAT, from_=0, to=2, term=1), "cannot have come from a peer"),
        (Message(MSG_HEARTBEAT, from_=2, to=2, term=1), "cannot have come from a peer"),
        (Message(MSG_HEARTBEAT, from_=1, to=3, term=1), "a message for 3 arrived at 2"),
        (Message(MSG_HEARTBEAT, from_=1, to=2), "without a term"),
        (Message(MSG_HEARTBEAT, from_=1, to=2, term=1 << 63), "out of range"),
        (Message(MSG_VOTE, from_=1, to=2, term=1, index=-1), "out of range"),
        (Message(MSG_HEARTBEAT, from_=1, to=2, term=1, commit=4), "was the data directory lost"),
        (Message(MSG_APP, from_=1, to=2, term=1, log_term=2, index=1), "a previous entry of term 2"),
        (Message(MSG_APP, from_=1, to=2, term=1, log_term=1, index=0), "no entry 0"),
        (Message(MSG_APP, from_=1, to=2, term=1, entries=[Entry(1, 2)]), "entry 2 stands where 1"),
        (
            Message(MSG_APP, from_=1, to=2, term=1, entries=[Entry(1, 1), Entry(1, 3)]),
            "entry 3 stands where 2",
        ),
        (Message(MSG_APP, from_=1, to=2, term=2, entries=[Entry(2, 1), Entry(1, 2)]), "falls from 2 to 1"),
        (Message(MSG_APP, from_=1, to=2, term=1, entries=[Entry(2, 1)]), "an entry of term 2"),
        (Message(MSG_SNAP, from_=1, to=2, term=1), "without a snapshot"),
        (Message(MSG_SNAP, from_=1, to=2, term=1, snapshot=snapshot(index=0)), "without a snapshot"),
        (Message(MSG_SNAP, from_=1, to=2, term=1, snapshot=snapshot(term=2)), "from the future"),
        (
            Message(MSG_SNAP, from_=1, to=2, term=1, snapshot=snapshot(conf_state=ConfState())),
            "without voters",
        ),
        (
            Message(MSG_SNAP, from_=1, to=2, term=1, snapshot=snapshot(conf_state=ConfState([1, 2], [2]))),
            "impossible configuration",
        ),
        (Message(MSG_PROP, from_=1, to=2), "a proposal of nothing"),
        (Message(MSG_READ_INDEX_RESP, from_=1, to=2, term=1, index=1), "carries 0 contexts"),
    ],
)
def test_refused(message: Message, words: str) -> None:
    node = make(2, log=(1, 1), commit=1)
    with pytest.raises(MessageError, match=words):
        node.step(message)
    node.check()
    assert (entries_of(node), node.commit_index) == ([1, 1], 1)


def test_refused_by_a_leader() -> None:
    node = make()
    lead(node)
    for message in (
        Message(MSG_APP_RESP, from_=2, to=1, term=1, index=99),
        Message(MSG_READ_INDEX, from_=2, to=1),
        Message(MSG_PROP, from_=2, to=1, entries=[Entry(type=1, data=b"\xff")]),
        Message(MSG_PROP, from_=2, to=1, entries=[Entry(type=44)]),
    ):
        with pytest.raises(MessageError):
            node.step(message)
        node.check()
    assert (node.role, node.commit_index, node.last_index) == (LEADER, 0, 1)


@pytest.mark.parametrize("kind", sorted(set(range(64)) - NETWORK_TYPES))
def test_local_and_unknown_types_are_ignored(kind: int) -> None:
    """Contract 6.1: 0, 1, 10, 11, 12, 19 to 22 are a member's own; what is beyond 23 is of a later
    release."""
    node = make(2)
    node.step(Message(kind, from_=1, to=2, term=9))
    assert node.term == 0 and not node.has_ready()


def test_answers_of_strangers_are_ignored() -> None:
    node = make(voters=(1, 2))
    lead(node)
    for kind in (MSG_APP_RESP, 6, 9, 16, 18):
        node.step(Message(kind, from_=9, to=1, term=7, index=1))
    assert (node.role, node.term, node.commit_index) == (LEADER, 1, 0)


def test_a_wiped_member_is_not_taken_for_alive() -> None:
    """etcd issue 13066: it answers nothing, so a leader that checks its quorum notices."""
    node = make(2)
    with pytest.raises(MessageError, match="data directory"):
        node.step(Message(MSG_HEARTBEAT, from_=1, to=2, term=1, commit=5))
    assert [message for message in pump(node) if message.to == 1] == []
    assert node.lead == 1, "and it does not campaign either"


numbers = st.one_of(st.integers(0, 6), st.sampled_from([1 << 40, (1 << 64) - 1]))
entries = st.lists(st.builds(Entry, numbers, numbers, st.integers(0, 3), st.binary(max_size=3)), max_size=3)
states = st.builds(
    ConfState,
    st.lists(st.integers(0, 4), max_size=3),
    st.lists(st.integers(0, 4), max_size=2),
    st.lists(st.integers(0, 4), max_size=2),
    st.lists(st.integers(0, 4), max_size=2),
    st.booleans(),
)
snapshots = st.none() | st.builds(
    Snapshot, st.binary(max_size=3), st.builds(SnapshotMetadata, states, numbers, numbers)
)
messages = st.builds(
    Message,
    st.sampled_from([*map(int, MessageType), 99]),
    to=st.sampled_from([0, 1]),
    from_=st.integers(0, 4),
    term=numbers,
    log_term=numbers,
    index=numbers,
    entries=entries,
    commit=numbers,
    snapshot=snapshots,
    reject=st.booleans(),
    reject_hint=numbers,
    context=st.binary(max_size=9),
)


def begin(role: str) -> Node:
    node = make(log=(1, 1, 2), commit=1, pre_vote=role != "candidate")
    if role == "leader":
        lead(node)
        acknowledge(node, 2)
    elif role != "follower":
        node.campaign()
    pump(node)
    return node


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["follower", "pre-candidate", "candidate", "leader"]), st.lists(messages, max_size=12))
def test_garbage(role: str, garbage: list[Message]) -> None:
    """Whatever arrives: no exception but the typed ones, no invariant broken, nothing committed undone."""
    node = begin(role)
    for message in garbage:
        term, commit = node.term, node.commit_index
        committed = [node.term_at(index) for index in range(node.first_index, commit + 1)]
        first = node.first_index
        with suppress(RaftError):
            node.step(message)
        node.check()
        assert node.term >= term and node.commit_index >= commit
        if node.first_index == first:
            assert [node.term_at(index) for index in range(first, commit + 1)] == committed
        pump(node)
        node.tick()


def test_plenty_of_garbage() -> None:
    """The same in bulk, with members and terms that often fit."""
    draw = random.Random(5)

    def number() -> int:
        return draw.choice((0, 1, 1, 2, 2, 3, 4, 5, 8, 1 << 64))

    outcomes = {"taken": 0, "refused": 0}
    for run in range(150):
        node = begin(("follower", "pre-candidate", "candidate", "leader")[run % 4])
        for _ in range(40):
            index = number()
            message = Message(
                draw.choice((2, 3, 3, 3, 4, 4, 5, 6, 7, 8, 9, 13, 14, 15, 16, 17, 18, 23)),
                to=1,
                from_=draw.choice((2, 2, 3, 9)),
                term=node.term + draw.choice((-1, 0, 0, 0, 0, 1)),
                log_term=number(),
                index=index,
                entries=[
                    Entry(number(), index + 1 + i, draw.choice((0, 0, 0, 1, 2)))
                    for i in range(draw.randrange(3))
                ],
                commit=number(),
                snapshot=draw.choice((None, snapshot(), snapshot(index=3, term=2))),
                reject=draw.random() < 0.3,
                reject_hint=number(),
                context=draw.choice((b"", (1).to_bytes(8, "little"), b"junk")),
            )
            if message.type in (2, 15):
                message.term = 0
            try:
                node.step(message)
                outcomes["taken"] += 1
            except RaftError:
                outcomes["refused"] += 1
            node.check()
            pump(node)
            if draw.random() < 0.3:
                node.tick()
    assert min(outcomes.values()) > 500, "a test that refuses or takes everything shows nothing"
