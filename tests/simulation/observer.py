"""What is asserted while a cluster runs: the invariants of consensus and of its disks.

Source: contract/history.md part 4. ``watching`` puts taps at three places: where raft hands out work
(``Node.ready``), where a batch becomes durable (``Wal.write``), where a message leaves.

- at most one leader per term; term, commit and applied index of a process never go back;
- every member is handed the same entries in the same order, over all its lives;
- an entry is committed only when a quorum has synced it; what a member promises (a vote, entries up to an
  index) is on its disk; what was on its disk is there after every crash.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from petcd.raft import (
    ENTRY_NORMAL,
    LEADER,
    MSG_APP_RESP,
    MSG_VOTE,
    MSG_VOTE_RESP,
    Message,
    Node,
    Ready,
)
from petcd.storage.wal import Wal, WalWrite
from petcd.storage.wal.reader import parse_entry, parse_snapshot, parse_state

if TYPE_CHECKING:
    from tests.simulation.cluster import Seat


class Violation(AssertionError):
    """The cluster did what it must not."""


class Committed(NamedTuple):
    """One entry of the cluster's log, as the first member that was handed it had it."""

    term: int
    type: int
    data: bytes
    time: float


class Durable:
    """What a member's disk is known to hold of its log."""

    __slots__ = ("entries", "last", "snapshot", "term", "vote")

    def __init__(self) -> None:
        self.entries: dict[int, int] = {}
        """Index to term."""
        self.last = 0
        self.snapshot = 0
        self.term = 0
        self.vote = 0

    def has(self, index: int, term: int) -> bool:
        return index <= self.snapshot or self.entries.get(index) == term

    def append(self, index: int, term: int) -> None:
        for old in range(index, self.last + 1):
            self.entries.pop(old, None)
        self.entries[index] = term
        self.last = index


class Observer:
    """One run's taps and what they have seen."""

    def __init__(self) -> None:
        self.log: dict[int, Committed] = {}
        self.leaders: dict[int, int] = {}
        self.nodes: dict[int, Seat] = {}
        """By the identity of the node, which lives as long as its seat's process."""
        self.wals: dict[int, Seat] = {}
        self._writes: dict[int, tuple[WalWrite, Any]] = {}
        self.now = lambda: 0.0
        self.violation: Violation | None = None
        self.leader_changes = 0
        self.founding_count = 0
        """Entries that every founding member begins with."""

    def fail(self, text: str) -> None:
        """Keep the first violation: the member that broke the rule may catch what is raised into it."""
        violation = Violation(text)
        if self.violation is None:
            self.violation = violation
        raise violation

    # -- raft ------------------------------------------------------------------------------------------

    def started(self, seat: Seat, node: Node, wal: Wal) -> None:
        """A process has opened its disk: what was durable must be there."""
        self.nodes[id(node)] = seat
        self.wals[id(wal)] = seat
        before, seat.durable = seat.durable, Durable()
        durable = seat.durable
        durable.snapshot = node.first_index - 1
        for index in range(node.first_index, node.last_index + 1):
            durable.append(index, node.term_at(index))
        durable.term, durable.vote = node.term, node.vote
        if before.term > node.term or (before.term == node.term and before.vote not in (0, node.vote)):
            self.fail(
                f"{seat.name} had voted for {before.vote:x} in term {before.term} on its disk, and starts "
                f"with {node.vote:x} in term {node.term}"
            )
        overwritten = 0
        for index, term in before.entries.items():
            if index <= durable.snapshot:
                continue
            found = durable.entries.get(index, 0)
            overwritten = max(overwritten, found)
            if found != term and max(found, overwritten, node.term_at(node.last_index)) <= term:
                self.fail(
                    f"{seat.name} had entry {index} of term {term} on its disk, and starts with term {found}"
                )
        seat.handed = node.applied_index
        seat.commit = node.commit_index
        seat.term = node.term

    def on_ready(self, node: Node, ready: Ready) -> None:
        seat = self.nodes.get(id(node))
        if seat is None:
            return
        term, commit = node.term, node.commit_index
        if term < seat.term or commit < seat.commit:
            self.fail(f"{seat.name} goes back from term {seat.term} commit {seat.commit} to {term}, {commit}")
        seat.term, seat.commit = term, commit
        voters = frozenset(node.configuration.voters)
        if voters != seat.voters[-1]:
            seat.voters = (*seat.voters[-2:], voters)
        soft = ready.soft_state
        if soft is not None and soft.role is LEADER:
            other = self.leaders.setdefault(term, node.id)
            self.leader_changes += 1
            if other != node.id:
                self.fail(f"term {term} has two leaders, {other:x} and {node.id:x}")
        if ready.snapshot is not None:
            seat.handed = ready.snapshot.metadata.index
        if ready.committed:
            self._on_committed(seat, node, ready)

    def _on_committed(self, seat: Seat, node: Node, ready: Ready) -> None:
        log = self.log
        handed = seat.handed
        for entry in ready.committed:
            handed += 1
            if entry.index != handed:
                self.fail(f"{seat.name} is handed entry {entry.index} after {handed - 1}")
            known = log.get(handed)
            if known is None:
                log[handed] = Committed(entry.term, entry.type, entry.data, self.now())
                if handed > self.founding_count:
                    self._check_quorum(seat, node, handed, entry.term)
            elif known.term != entry.term or known.data != entry.data or known.type != entry.type:
                self.fail(
                    f"entry {handed} is of term {known.term} elsewhere and of term {entry.term} on "
                    f"{seat.name}: {known.data!r} and {entry.data!r}"
                )
        seat.handed = handed

    def _check_quorum(self, seat: Seat, node: Node, index: int, term: int) -> None:
        """A majority of the configuration has the entry on disk, under the one before or after a change."""
        if self._is_durable(seat, node.configuration.voters, index, term):
            return
        # What was committed before a change was applied was counted without it.
        if any(self._is_durable(seat, voters, index, term) for voters in seat.voters if voters):
            return
        have = [s.name for s in seat.cluster.seats.values() if s.durable.has(index, term)]
        self.fail(
            f"{seat.name} counts entry {index} of term {term} as committed, but only {have} have it on disk"
        )

    def _is_durable(self, seat: Seat, voters: Any, index: int, term: int) -> bool:
        wire = seat.cluster.wire
        count = 0
        for one in voters:
            other = wire.seats.get(one)
            if other is not None and other.durable.has(index, term):
                count += 1
        return count * 2 > len(voters)

    # -- disks -----------------------------------------------------------------------------------------

    def on_encode(self, wal: Wal, write: WalWrite, info: Any) -> None:
        if id(wal) in self.wals:
            self._writes[id(write)] = (write, info)

    def on_written(self, wal: Wal, write: WalWrite) -> None:
        known = self._writes.pop(id(write), None)
        seat = self.wals.get(id(wal))
        if known is None or seat is None or not write.must_sync:
            return
        for _, file in wal._segments:
            if file._inode.pending:  # type: ignore[attr-defined]
                self.fail(f"{seat.name} counts a write to {file.path} as durable that was not synced")
        entries, hard_state, snapshot = known[1]
        durable = seat.durable
        if snapshot is not None:
            index = parse_snapshot(snapshot).index
            durable.snapshot = max(durable.snapshot, index)
        for index, data in entries:
            durable.append(index, parse_entry(data).term)
        if hard_state is not None:
            state = parse_state(hard_state)
            durable.term, durable.vote = state.term, state.vote

    # -- messages --------------------------------------------------------------------------------------

    def on_send(self, seat: Seat, messages: Sequence[Message]) -> None:
        durable = seat.durable
        for message in messages:
            kind = message.type
            if kind == MSG_APP_RESP:
                if message.reject:
                    continue
                if message.term < durable.term:
                    # What was acknowledged may have been replaced since, even in the same batch: that is as
                    # if the answer had been long on its way.
                    continue
                if message.index > durable.snapshot and message.index not in durable.entries:
                    self.fail(f"{seat.name} acknowledges entry {message.index}, which is not on its disk")
                if message.term > durable.term:
                    self.fail(f"{seat.name} answers in term {message.term}, which is not on its disk")
            elif kind == MSG_VOTE_RESP:
                if not message.reject and not (
                    durable.term > message.term
                    or (durable.term == message.term and durable.vote == message.to)
                ):
                    self.fail(
                        f"{seat.name} gives its vote in term {message.term} to {message.to:x}, but its disk "
                        f"says term {durable.term}, vote {durable.vote:x}"
                    )
            elif kind == MSG_VOTE and not (
                durable.term > message.term or (durable.term == message.term and durable.vote == seat.id)
            ):
                self.fail(f"{seat.name} asks for votes in term {message.term}, which is not on its disk")

    # -- at the end ------------------------------------------------------------------------------------

    def normal_entries(self) -> Iterator[tuple[int, Committed]]:
        for index in range(1, len(self.log) + 1):
            entry = self.log[index]
            if entry.type == ENTRY_NORMAL and entry.data:
                yield index, entry


@contextlib.contextmanager
def watching(observer: Observer) -> Iterator[Observer]:
    """Put the taps in."""
    ready, encode, write = Node.ready, Wal.encode, Wal.write

    def tapped_ready(node: Node) -> Ready:
        result = ready(node)
        observer.on_ready(node, result)
        return result

    def tapped_encode(wal: Wal, entries: Any, state: Any, must_sync: bool, snapshot: Any = None) -> WalWrite:
        result = encode(wal, entries, state, must_sync, snapshot)
        observer.on_encode(wal, result, (entries, state, snapshot))
        return result

    def tapped_write(wal: Wal, batch: WalWrite) -> None:
        write(wal, batch)
        observer.on_written(wal, batch)

    Node.ready = tapped_ready  # type: ignore[method-assign]
    Wal.encode = tapped_encode  # type: ignore[method-assign]
    Wal.write = tapped_write  # type: ignore[method-assign]
    try:
        yield observer
    finally:
        Node.ready = ready  # type: ignore[method-assign]
        Wal.encode = encode  # type: ignore[method-assign]
        Wal.write = write  # type: ignore[method-assign]
