"""A raft node: messages, ticks, proposals and "persisted" go in, ``Ready`` comes out.

It owns no clock, disk, socket or thread, and equal inputs (with equal random numbers) give equal outputs.
``ready.py`` states the order in which the outside must work; the short form of a member's turn is

    node.propose(entries); node.step(message) ...
    if node.has_ready():
        ready = node.ready()
        send(ready.messages)
        write(ready.snapshot, ready.entries, ready.hard_state)   # asynchronously; when it is durable:
                                                                 #   send(ready.messages_after_append)
                                                                 #   node.persisted(ready.sequence)
        apply(ready.committed); node.applied_to(last index)

Identifying what is durable. Every Ready has a ``sequence``; ``persisted(n)`` means that Readys 1..n are on
disk, in this order. The node remembers for each how far it reached into the log, which term it held and
whether it held the vote for ourselves, and cuts that memory back when entries are replaced. So the outside
needs to know neither index nor term, a vote without entries is acknowledged like everything else, and a late
"persisted" about entries that were overwritten in the meantime claims nothing (``log.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from petcd.raft import follower, leader
from petcd.raft.confchange import AnyConfChange, Configuration, apply_change, encode_conf_change
from petcd.raft.config import Config
from petcd.raft.entry import ENTRY_NORMAL, ConfState, Entry, HardState, Snapshot, SnapshotMetadata
from petcd.raft.errors import ConfChangeError, ProposalDropped, StateError
from petcd.raft.log import Log, Mark
from petcd.raft.messages import MSG_READ_INDEX, MSG_TRANSFER_LEADER, Message
from petcd.raft.progress import ProgressState
from petcd.raft.raft import Raft
from petcd.raft.ready import CANDIDATE, FOLLOWER, LEADER, Ready, Role, SoftState


@dataclass(slots=True)
class ProgressStatus:
    """A member as the leader sees it."""

    match: int
    next: int
    state: ProgressState
    is_learner: bool
    recent_active: bool
    paused: bool
    pending_snapshot: int
    inflight_count: int


@dataclass(slots=True)
class Status:
    """A copy of what a node knows, for reports and tests. ``progress`` is empty unless leading."""

    id: int
    term: int
    vote: int
    commit: int
    applied: int
    lead: int
    role: Role
    transferee: int
    first_index: int
    last_index: int
    conf_state: ConfState
    progress: dict[int, ProgressStatus]


def proven_commit(entries: Sequence[Entry]) -> int:
    """The index of the last but one configuration change: it is committed, whatever the hard state says.

    A leader proposes a change only when it has applied the one before, so a log that holds both proves that
    the first was committed. The hard state says so too, unless a crash tore a batch between the second
    change and the hard state written after it; then this keeps us from campaigning with a configuration two
    steps old.
    """
    changes = [entry.index for entry in entries if entry.type != ENTRY_NORMAL]
    return changes[-2] if len(changes) > 1 else 0


class Node:
    """One member's consensus."""

    __slots__ = ("_config", "_hard_state", "_log", "_raft", "_sequence", "_soft_state")

    def __init__(
        self,
        config: Config,
        hard_state: HardState,
        snapshot: SnapshotMetadata,
        entries: Sequence[Entry] = (),
    ) -> None:
        """Start from what the disk holds: ``entries`` follow ``snapshot`` (index 0 where there is none).

        Committed entries after ``config.applied`` (at least the snapshot's index) are handed out again. A new
        cluster begins with a ConfState in a snapshot of index 0, or with its conf changes as committed
        entries.

        Raises: ``StateError`` where the parts contradict each other; ``ValueError`` for the configuration.
        """
        config.check()
        self._config = config
        commit = max(hard_state.commit, proven_commit(entries))
        self._log = log = Log(snapshot, entries, commit, config.applied)
        self._raft = Raft(config, hard_state, log)
        if hard_state.term < log.last_term:
            # A crash tore a batch between the entries and the hard state. No vote was given in that term.
            self._raft.become_follower(log.last_term, 0)
        conf_state = snapshot.conf_state if config.conf_state is None else config.conf_state
        try:
            configuration = Configuration.from_state(conf_state)
        except ConfChangeError as error:
            raise StateError(f"the configuration to start from is impossible: {error}") from error
        self._raft.tracker.switch(configuration, log.last_index, log.stable)
        self._hard_state = HardState(hard_state.term, hard_state.vote, hard_state.commit)
        self._soft_state = SoftState(0, FOLLOWER)
        self._sequence = 0

    # -- looking ---------------------------------------------------------------------------------------------

    @property
    def id(self) -> int:
        return self._raft.id

    @property
    def term(self) -> int:
        return self._raft.term

    @property
    def vote(self) -> int:
        return self._raft.vote

    @property
    def lead(self) -> int:
        """The leader's id, 0 where none is known."""
        return self._raft.lead

    @property
    def role(self) -> Role:
        return self._raft.role

    @property
    def is_leader(self) -> bool:
        return self._raft.role is LEADER

    @property
    def transferee(self) -> int:
        """Leading: whom the leadership is being handed to, else 0."""
        return self._raft.transferee

    @property
    def first_index(self) -> int:
        return self._log.first_index

    @property
    def last_index(self) -> int:
        return self._log.last_index

    @property
    def commit_index(self) -> int:
        return self._log.committed

    @property
    def applied_index(self) -> int:
        return self._log.applied

    @property
    def stable_index(self) -> int:
        """The last index known to be on our disk."""
        return self._log.stable

    @property
    def configuration(self) -> Configuration:
        return self._raft.tracker.configuration

    @property
    def conf_state(self) -> ConfState:
        return self._raft.tracker.configuration.to_state()

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot: what followers get whose next entry was compacted."""
        return self._log.snapshot

    @property
    def committed_in_term(self) -> bool:
        """Leading: whether an entry of our own term is committed, so that we know all that is."""
        return self._raft.role is LEADER and self._log.term_at(self._log.committed) == self._raft.term

    def term_at(self, index: int) -> int:
        """The term of an entry; 0 where it is compacted or does not exist."""
        return self._log.term_at(index)

    def entries(self, start: int, end: int, bytes_max: int | None = None) -> list[Entry]:
        """Entries of ``[start, end)``, at least one, at most ``bytes_max`` bytes of data.

        Raises: ``CompactedError`` below ``first_index``.
        """
        return self._log.slice(start, end, bytes_max)

    def status(self) -> Status:
        raft = self._raft
        progress: dict[int, ProgressStatus] = {}
        if raft.role is LEADER:
            for member, known in raft.tracker.progress.items():
                progress[member] = ProgressStatus(
                    match=known.match,
                    next=known.next,
                    state=known.state,
                    is_learner=known.is_learner,
                    recent_active=known.recent_active or member == raft.id,
                    paused=known.is_paused,
                    pending_snapshot=known.pending_snapshot,
                    inflight_count=len(known.inflights),
                )
        return Status(
            id=raft.id,
            term=raft.term,
            vote=raft.vote,
            commit=self._log.committed,
            applied=self._log.applied,
            lead=raft.lead,
            role=raft.role,
            transferee=raft.transferee,
            first_index=self._log.first_index,
            last_index=self._log.last_index,
            conf_state=self.conf_state,
            progress=progress,
        )

    # -- input -----------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """One tick (heartbeat interval) has passed."""
        self._raft.tick()

    def campaign(self) -> bool:
        """Stand for election now; False where that is not allowed (see ``Raft.hup``) or we lead already."""
        self._raft.election_elapsed = 0
        return self._raft.hup()

    def hasten(self) -> None:
        """Campaign as if nothing had been heard of a leader for an election timeout, after the random part
        of this node's own: there is evidence that none is there. Timing only; votes are what they are."""
        raft = self._raft
        if raft.role is not LEADER:
            raft.election_elapsed = max(raft.election_elapsed, raft.config.election_ticks - 1)

    def propose(self, entries: Sequence[Entry]) -> None:
        """Propose a batch, all or none.

        The leader appends it and writes term and index into the entries, which are its own from then on; a
        follower forwards type and data to the leader, and forwarding may fail without a word.

        Raises: ``ProposalDropped``; ``ConfChangeError`` for an unreadable configuration change.
        """
        if not entries:
            return
        raft = self._raft
        if raft.role is LEADER:
            leader.propose(raft, entries)
        elif raft.role is FOLLOWER:
            follower.forward_entries(raft, entries, raft.id)
        else:
            raise ProposalDropped("no leader")

    def propose_conf_change(self, change: AnyConfChange, request: object = None) -> None:
        """Propose a change of the membership. While another is unapplied, an empty entry takes its place.

        Raises: ``ProposalDropped``.
        """
        kind, data = encode_conf_change(change)
        self.propose([Entry(type=kind, data=data, request=request)])

    def step(self, message: Message) -> None:
        """Take a message from a peer. Types that are none of a peer's business are ignored.

        Raises: ``MessageError`` where no correct peer would send it: nothing but the term (which may have
        been followed) has changed then. ``ProposalDropped`` for a forwarded proposal.
        """
        self._raft.step(message)

    def read_index(self, context: bytes) -> bool:
        """Ask for an index that a linearizable read must wait for; it comes as a ``ReadState`` with
        ``context``.

        False where no leader is known. True is no promise: messages are lost and leaders change, so ask again
        after a while. The contexts are the caller's own and should not repeat.
        """
        raft = self._raft
        if raft.role is LEADER:
            leader.read_index(raft, raft.id, context)
            return True
        if raft.role is not FOLLOWER or not raft.lead:
            return False
        raft.send(Message(MSG_READ_INDEX, to=raft.lead, entries=[Entry(data=context)]))
        return True

    @property
    def commit_unsaid(self) -> bool:
        """Whether a member has the entries of a commit that it was not told of (``Config.lazy_commit``)."""
        return self._raft.commit_unsaid

    def announce_commit(self) -> None:
        """Tell everybody of the commit index with the next Ready."""
        raft = self._raft
        if raft.commit_unsaid:
            raft.announce = raft.replicate_due = True

    def transfer_leader(self, to: int) -> None:
        """Hand the leadership to ``to`` (asked of the leader when we are not it). Watch ``lead`` for the
        outcome."""
        raft = self._raft
        if raft.role is LEADER:
            leader.transfer(raft, to)
        elif raft.lead and to and to != raft.lead:
            raft.send(Message(MSG_TRANSFER_LEADER, to=raft.lead, from_=to))

    def report_unreachable(self, member: int) -> None:
        """A message to ``member`` could not be sent."""
        if self._raft.role is LEADER:
            leader.unreachable(self._raft, member)

    def report_snapshot(self, member: int, delivered: bool) -> None:
        """What became of the MsgSnap to ``member``. Must be reported for each, or it gets nothing more."""
        if self._raft.role is LEADER:
            leader.snapshot_reported(self._raft, member, delivered)

    def persisted(self, sequence: int) -> None:
        """Readys 1..``sequence`` are durable. Cost: constant for each of them that was outstanding."""
        if not 0 <= sequence <= self._sequence:
            raise ValueError(f"Ready {sequence} was never handed out")
        raft = self._raft
        log = self._log
        marks = log.marks
        own_vote = False
        while marks and marks[0].sequence <= sequence:
            mark = marks.popleft()
            log.stable_to(mark.index)
            assert mark.term >= raft.durable_term
            raft.durable_term = mark.term
            own_vote = own_vote or (mark.own_vote and mark.term == raft.term)
        if own_vote:
            raft.own_vote_persisted()
        if raft.role is LEADER:
            leader.persisted(raft)

    def applied_to(self, index: int) -> None:
        """The state machine holds everything up to ``index``, which was handed out (or is a snapshot's
        index)."""
        self._log.applied_to(index)
        if self._raft.role is LEADER:
            leader.applied(self._raft)

    def apply_conf_change(self, change: AnyConfChange) -> ConfState:
        """Follow a committed change of the membership, in its turn among the entries applied.

        A change the server refused is passed with node id 0 and has no effect.
        Raises: ``ConfChangeError``; then the configuration is what it was, here and on every other member.
        """
        raft = self._raft
        configuration = apply_change(raft.tracker.configuration, change)
        raft.tracker.switch(configuration, self._log.last_index, self._log.stable)
        if raft.role is LEADER:
            leader.configuration_changed(raft)
        return configuration.to_state()

    def create_snapshot(self, index: int, conf_state: ConfState, data: bytes = b"") -> Snapshot:
        """Keep a snapshot of the state after ``index`` for followers that are behind. Replaces the last one.

        Raises: ``ValueError`` beyond what is applied or before the last one.
        """
        log = self._log
        if not log.snapshot.metadata.index <= index <= log.applied:
            raise ValueError(f"no snapshot can be made at {index}, only in [snapshot, applied]")
        term = log.term_at(index) if index != log.snapshot.metadata.index else log.snapshot.metadata.term
        snapshot = Snapshot(data, SnapshotMetadata(conf_state, index, term))
        log.keep_snapshot(snapshot)
        return snapshot

    def compact(self, index: int) -> None:
        """Drop the entries up to ``index``. What should be kept for slow followers is the caller's choice.

        Raises: ``ValueError`` beyond the last snapshot, which must cover what is dropped.
        """
        if index > min(self._log.applied, self._log.snapshot.metadata.index):
            raise ValueError(f"no snapshot covers entry {index}")
        self._log.compact(index)

    # -- output ----------------------------------------------------------------------------------------------

    def has_ready(self) -> bool:
        """Whether ``ready`` would return anything to do."""
        raft = self._raft
        log = self._log
        hard_state = self._hard_state
        soft_state = self._soft_state
        return bool(
            raft.messages
            or raft.after_append
            or log.handed < log.last_index
            or (log.applying < log.committed and log.has_committed())
            or raft.replicate_due
            or raft.heartbeat_due
            or raft.read_only.due
            or raft.read_states
            or log.received is not None
            or hard_state.commit != log.committed
            or hard_state.term != raft.term
            or hard_state.vote != raft.vote
            or soft_state.lead != raft.lead
            or soft_state.role is not raft.role
        )

    def ready(self) -> Ready:
        """Take what is to be done. It counts as handed out: no Ready repeats another's work."""
        raft = self._raft
        log = self._log
        if raft.role is LEADER:
            leader.flush(raft)
        self._sequence += 1
        ready = Ready(self._sequence)
        if self._soft_state.lead != raft.lead or self._soft_state.role is not raft.role:
            ready.soft_state = self._soft_state = SoftState(raft.lead, raft.role)
        last = self._hard_state
        if last.term != raft.term or last.vote != raft.vote:
            ready.must_sync = True
            ready.hard_state = self._hard_state = HardState(raft.term, raft.vote, log.committed)
        elif last.commit != log.committed:
            ready.hard_state = self._hard_state = HardState(raft.term, raft.vote, log.committed)
        if log.received is not None:
            ready.snapshot = log.received
            log.received = None
            ready.must_sync = True
        if log.handed < log.last_index:
            ready.entries = log.hand_out()
            ready.must_sync = True
        if log.applying < log.committed and log.has_committed():
            ready.committed = log.take_committed(self._config.committed_bytes_max)
        if raft.read_states:
            ready.read_states = raft.read_states
            raft.read_states = []
        if ready.must_sync:
            log.marks.append(Mark(self._sequence, log.handed, raft.term, raft.role is CANDIDATE))
        if raft.messages:
            ready.messages = raft.messages
            raft.messages = []
        if raft.after_append:
            if log.marks:
                ready.messages_after_append = raft.after_append
            else:
                ready.messages += raft.after_append  # nothing is on its way to the disk
            raft.after_append = []
        return ready

    def check(self) -> None:
        """Assert the invariants of everything inside (tests and the simulation call it)."""
        raft = self._raft
        self._log.check()
        raft.tracker.check()
        assert raft.term >= raft.durable_term
        assert raft.term >= self._log.last_term
        assert raft.role is not LEADER or raft.lead == raft.id
        assert raft.role in (LEADER, FOLLOWER) or raft.lead == 0
        assert raft.role is LEADER or not (
            raft.read_only.pending or raft.postponed_reads or raft.heartbeat_due or raft.replicate_due
        )
