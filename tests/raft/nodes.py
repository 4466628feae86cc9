"""One node on its own, for tests that say exactly what it receives."""

from __future__ import annotations

import random
from collections.abc import Sequence

from petcd.raft import (
    LEADER,
    MSG_APP_RESP,
    MSG_HEARTBEAT_RESP,
    MSG_PRE_VOTE_RESP,
    MSG_VOTE_RESP,
    Config,
    ConfState,
    Entry,
    HardState,
    Message,
    Node,
    Ready,
    SnapshotMetadata,
    describe,
)


def make(
    member: int = 1,
    voters: Sequence[int] = (1, 2, 3),
    *,
    learners: Sequence[int] = (),
    log: Sequence[int] = (),
    term: int | None = None,
    vote: int = 0,
    commit: int = 0,
    seed: int = 7,
    **settings: object,
) -> Node:
    """A node whose log has entries of the terms ``log``."""
    config = Config(id=member, random=random.Random(seed), **settings)  # type: ignore[arg-type]
    entries = [Entry(t, index, data=b"%d/%d" % (t, index)) for index, t in enumerate(log, 1)]
    if term is None:
        term = log[-1] if log else 0
    snapshot = SnapshotMetadata(ConfState(list(voters), list(learners)))
    return Node(config, HardState(term, vote, commit), snapshot, entries)


def pump(node: Node, *, persist: bool = True) -> list[Message]:
    """Take everything that is ready, with a disk that is at once done; returns what was sent."""
    sent: list[Message] = []
    while node.has_ready():
        ready = node.ready()
        sent += ready.messages
        apply(node, ready)
        if persist:
            sent += ready.messages_after_append
            node.persisted(ready.sequence)
        node.check()
    return sent


def apply(node: Node, ready: Ready) -> None:
    if ready.snapshot is not None:
        node.applied_to(ready.snapshot.metadata.index)
    if ready.committed:
        node.applied_to(ready.committed[-1].index)


def lines(messages: Sequence[Message]) -> list[str]:
    return [describe(message) for message in messages]


def lead(node: Node, *voters: int, append: Sequence[int] = ()) -> list[Message]:
    """Make ``node`` leader with the votes of ``voters`` (2 where none is said); ``append`` acknowledge its
    entry."""
    node.campaign()
    pump(node)
    if not node.is_leader:
        for kind in (MSG_PRE_VOTE_RESP, MSG_VOTE_RESP):
            if kind == MSG_PRE_VOTE_RESP and node.role.name != "PRE_CANDIDATE":
                continue
            term = node.term + 1 if kind == MSG_PRE_VOTE_RESP else node.term
            for voter in voters or (2,):
                node.step(Message(kind, from_=voter, to=node.id, term=term))
            if kind == MSG_PRE_VOTE_RESP:
                pump(node)
    assert node.role is LEADER
    sent = pump(node)
    for member in append:
        acknowledge(node, member)
    pump(node)
    return sent


def acknowledge(node: Node, member: int, index: int | None = None) -> None:
    """``member`` has everything up to ``index`` (all)."""
    index = node.last_index if index is None else index
    node.step(Message(MSG_APP_RESP, from_=member, to=node.id, term=node.term, index=index))


def echo(node: Node, heartbeat: Message) -> None:
    """Answer a heartbeat."""
    answer = Message(
        MSG_HEARTBEAT_RESP, from_=heartbeat.to, to=node.id, term=heartbeat.term, context=heartbeat.context
    )
    node.step(answer)


def entries_of(node: Node) -> list[int]:
    """The terms of its log."""
    return [node.term_at(index) for index in range(node.first_index, node.last_index + 1)]
