"""Terms, roles and elections: the part of a node that is the same in every role.

    Follower --timeout--> PreCandidate --majority would vote--> Candidate --majority voted--> Leader
        ^                      |                                    |                           |
        +------ a leader, a higher term, or a majority that refuses; no quorum heard of --------+

``become_*`` are the only transitions. ``step`` settles what a message's term means and then asks the role.
What the leader does is in ``leader.py``, what the others do in ``follower.py``.

A node that stands alone takes the same way: its own vote is a majority of one, counted when it is on disk.

Source: Raft paper 5.1, 5.2, 5.4; thesis 3, 4.2.3 (leases against disturbing servers), 6.2 (check quorum), 9.6
(pre-vote); contract page "peer", 6.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from petcd.raft import follower, leader
from petcd.raft.config import Config
from petcd.raft.entry import ENTRY_NORMAL, Entry, HardState
from petcd.raft.errors import MessageError
from petcd.raft.log import Log
from petcd.raft.messages import (
    AFTER_APPEND_TYPES,
    CAMPAIGN_TRANSFER,
    FORWARDED_TYPES,
    LEADER_TYPES,
    MSG_APP,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_PRE_VOTE,
    MSG_PRE_VOTE_RESP,
    MSG_PROP,
    MSG_SNAP,
    MSG_VOTE,
    MSG_VOTE_RESP,
    NETWORK_TYPES,
    RESPONSE_TYPES,
    TERMLESS_TYPES,
    Message,
)
from petcd.raft.quorum import VOTE_LOST, VOTE_WON
from petcd.raft.readonly import PendingRead, ReadOnly, ReadState
from petcd.raft.ready import CANDIDATE, FOLLOWER, LEADER, PRE_CANDIDATE, Role
from petcd.raft.tracker import Tracker

NUMBER_MAX: Final = 1 << 62
"""Terms and indexes beyond this cannot have come about; a cluster at 10^9 a second takes a century to get
there."""


class Raft:
    """The state of one node. ``Node`` is its public face.

    Invariants: ``term`` never falls; ``vote`` changes at most once in a term; ``lead`` is a member of the
    role's story: ourselves when leading, 0 when campaigning.
    """

    __slots__ = (
        "acknowledged",
        "after_append",
        "announce",
        "answer_owed",
        "commit_unsaid",
        "config",
        "durable_term",
        "election_elapsed",
        "election_timeout",
        "heartbeat_due",
        "heartbeat_elapsed",
        "id",
        "lead",
        "log",
        "messages",
        "pending_conf_index",
        "postponed_reads",
        "read_only",
        "read_states",
        "replicate_due",
        "role",
        "term",
        "tracker",
        "transferee",
        "vote",
    )

    def __init__(self, config: Config, hard_state: HardState, log: Log) -> None:
        self.config = config
        self.id = config.id
        self.log = log
        self.tracker = Tracker(config.id, config.inflight_max)
        self.term = hard_state.term
        self.vote = hard_state.vote
        self.durable_term = hard_state.term
        """The term that is on our disk. Messages of a later one wait for it."""
        self.role: Role = FOLLOWER
        self.lead = 0
        self.election_elapsed = 0
        """Ticks since the leader was heard of, or (leading) since the last check of the quorum."""
        self.election_timeout = 0
        self.heartbeat_elapsed = 0
        self.transferee = 0
        """Whom the leadership is being handed to, else 0."""
        self.pending_conf_index = 0
        """Leading: a configuration change may be unapplied up to here, so no other is accepted until it is
        applied."""
        self.read_only = ReadOnly()
        self.postponed_reads: list[PendingRead] = []
        """Leading: reads that came before anything was committed in this term (thesis 6.4, step 1)."""
        self.read_states: list[ReadState] = []
        self.acknowledged = 0
        """Following: the highest index that this term's leader has been told we have."""
        self.answer_owed = False
        """Following: a MsgApp without entries was not answered (``Config.lazy_commit``)."""
        self.messages: list[Message] = []
        self.after_append: list[Message] = []
        self.heartbeat_due = False
        """Leading: send heartbeats at the end of the turn."""
        self.announce = False
        """Leading: tell everybody of the commit index at the end of the turn (``Config.lazy_commit``)."""
        self.commit_unsaid = False
        """Leading: somebody has not been told of the commit index yet."""
        self.replicate_due = False
        """Leading: see at the end of the turn who can be sent entries or a commit index."""
        self._draw_timeout()

    # -- sending ---------------------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Queue ``message``, behind the disk if it promises something that is not there yet.

        Everything said in a term waits until the term itself is on disk, not only votes: nothing of us can be
        in a term that a crash would make us forget.
        """
        if message.from_ == 0:
            message.from_ = self.id  # else it is forwarded, and its answer goes to whom it came from
        kind = message.type
        if message.term == 0 and kind not in TERMLESS_TYPES:
            message.term = self.term
        if kind in AFTER_APPEND_TYPES or self.term > self.durable_term:
            self.after_append.append(message)
        else:
            self.messages.append(message)

    def acknowledge(self, to: int, index: int) -> None:
        """Tell ``to`` that our log matches its own up to ``index``; one answer serves all of a turn's
        messages."""
        self.answer_owed = False
        if index > self.acknowledged:
            self.acknowledged = index
        waiting = self.after_append
        if waiting:
            last = waiting[-1]
            if (
                last.type == MSG_APP_RESP
                and last.to == to
                and last.term == self.term
                and not last.reject
                and last.index <= index
            ):
                last.index = index
                return
        self.send(Message(MSG_APP_RESP, to=to, index=index))

    # -- transitions -----------------------------------------------------------------------------------------

    def _draw_timeout(self) -> None:
        ticks = self.config.election_ticks
        self.election_timeout = self.config.random.randrange(ticks, 2 * ticks)

    def _reset(self, term: int) -> None:
        """Begin a role: nothing that belonged to the last one stays."""
        assert term >= self.term
        if term != self.term:
            self.term = term
            self.vote = 0
        self.lead = 0
        self.acknowledged = 0
        self.answer_owed = False
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self._draw_timeout()
        self.transferee = 0
        self.pending_conf_index = 0
        self.tracker.reset(self.log.last_index, self.log.stable)
        self.read_only.clear()
        self.postponed_reads.clear()
        self.heartbeat_due = False
        self.replicate_due = False
        self.announce = self.commit_unsaid = False

    def become_follower(self, term: int, lead: int) -> None:
        self._reset(term)
        self.role = FOLLOWER
        self.lead = lead

    def become_pre_candidate(self) -> None:
        """Ask for votes in the next term without entering it; term and vote stay."""
        assert self.role is not LEADER
        self.tracker.votes.clear()
        self._draw_timeout()
        self.election_elapsed = 0
        self.role = PRE_CANDIDATE
        self.lead = 0

    def become_candidate(self) -> None:
        assert self.role is not LEADER
        self._reset(self.term + 1)
        self.role = CANDIDATE
        self.vote = self.id

    def become_leader(self) -> None:
        """Lead ``term``, beginning with an empty entry: only entries of its own term can be counted (paper
        5.4.2)."""
        assert self.role is CANDIDATE
        self._reset(self.term)
        self.role = LEADER
        self.lead = self.id
        progress = self.tracker.progress.get(self.id)
        if progress is not None:
            progress.become_replicate()
        # An unapplied change may be anywhere in what we inherited.
        self.pending_conf_index = self.log.last_index
        self.append_own(ENTRY_NORMAL, b"")

    def append_own(self, kind: int, data: bytes) -> None:
        """Append an entry of the leader's own making; limits on proposals do not concern it."""
        log = self.log
        log.append([Entry(self.term, log.last_index + 1, kind, data)])
        self.replicate_due = True

    # -- elections -------------------------------------------------------------------------------------------

    @property
    def promotable(self) -> bool:
        """Whether we may campaign: a voter by what we have applied, with no snapshot waiting to be
        applied."""
        return self.tracker.is_voter and not self.log.received_index

    def _has_unapplied_conf_change(self) -> bool:
        log = self.log
        entries = log.slice(log.applied + 1, log.committed + 1)
        return any(entry.type != ENTRY_NORMAL for entry in entries)

    def hup(self, *, transfer: bool = False) -> bool:
        """Campaign if we may; ``transfer`` is an order of the old leader, which needs no pre-vote.

        Refused while a configuration change is committed but not applied: we would count by the old
        membership.
        """
        if self.role is LEADER or not self.promotable or self._has_unapplied_conf_change():
            return False
        if self.config.pre_vote and not transfer:
            self._pre_campaign()
        else:
            self._campaign(transfer)
        return True

    def _pre_campaign(self) -> None:
        self.become_pre_candidate()
        self._request_votes(MSG_PRE_VOTE, self.term + 1, b"")
        self.poll(self.id, granted=True)

    def _campaign(self, transfer: bool) -> None:
        """Enter the next term. Our own vote is counted by ``own_vote_persisted``."""
        self.become_candidate()
        self._request_votes(MSG_VOTE, self.term, CAMPAIGN_TRANSFER if transfer else b"")

    def _request_votes(self, kind: int, term: int, context: bytes) -> None:
        tracker = self.tracker
        log = self.log
        for member in tracker.peers:
            if tracker.votes_in(member):
                self.send(
                    Message(
                        kind,
                        to=member,
                        term=term,
                        index=log.last_index,
                        log_term=log.last_term,
                        context=context,
                    )
                )

    def own_vote_persisted(self) -> None:
        """The term we campaign in and our vote for ourselves are on disk."""
        if self.role is CANDIDATE:
            self.poll(self.id, granted=True)

    def poll(self, member: int, *, granted: bool) -> None:
        """Count an answer, and move on if it decides."""
        tracker = self.tracker
        tracker.record_vote(member, granted)
        result = tracker.tally()
        if result is VOTE_WON:
            if self.role is PRE_CANDIDATE:
                self._campaign(transfer=False)
            else:
                self.become_leader()
        elif result is VOTE_LOST:
            self.become_follower(self.term, 0)

    def _answer_vote(self, message: Message) -> None:
        """Grant a vote, at most one a term, to a log at least as new as ours (paper 5.2, 5.4.1).

        Learners answer as well: the candidate may know of a promotion that we have not applied yet.
        """
        pre_vote = message.type == MSG_PRE_VOTE
        can_vote = (
            self.vote == message.from_
            or (self.vote == 0 and self.lead == 0)
            or (pre_vote and message.term > self.term)
        )
        kind = MSG_PRE_VOTE_RESP if pre_vote else MSG_VOTE_RESP
        if can_vote and self.log.is_up_to_date(message.index, message.log_term):
            # A granted pre-vote carries the candidate's future term: ours would look stale to it.
            self.send(Message(kind, to=message.from_, term=message.term))
            if not pre_vote:
                self.election_elapsed = 0
                self.vote = message.from_
        else:
            self.send(Message(kind, to=message.from_, term=self.term, reject=True))

    # -- messages --------------------------------------------------------------------------------------------

    def step(self, message: Message) -> None:
        """Take a peer's message. Raises: ``MessageError`` where no correct peer would send it."""
        kind = message.type
        if kind not in NETWORK_TYPES:
            return  # another member's private matter, or of a later release
        check_message(self, message)
        if kind in RESPONSE_TYPES and message.from_ not in self.tracker.progress:
            return
        term = message.term
        if term == 0 and kind in TERMLESS_TYPES:
            pass
        elif term > self.term:
            if not self._enter_term(message):
                return
        elif term < self.term:
            self._answer_stale(message)
            return
        if kind in (MSG_VOTE, MSG_PRE_VOTE):
            self._answer_vote(message)
        elif self.role is LEADER:
            leader.step(self, message)
        elif self.role is FOLLOWER:
            follower.step(self, message)
        else:
            follower.step_candidate(self, message)

    def _enter_term(self, message: Message) -> bool:
        """Follow a higher term; False where the message is to be ignored."""
        kind = message.type
        if kind in (MSG_VOTE, MSG_PRE_VOTE):
            in_lease = (
                self.config.check_quorum
                and self.lead != 0
                and self.election_elapsed < self.config.election_ticks
            )
            if in_lease and message.context != CAMPAIGN_TRANSFER:
                return False
        if kind == MSG_PRE_VOTE:
            return True  # a future term, which the sender has not entered either
        if kind == MSG_PRE_VOTE_RESP and not message.reject:
            return True  # the future term of our own question
        self.become_follower(message.term, message.from_ if kind in LEADER_TYPES else 0)
        return True

    def _answer_stale(self, message: Message) -> None:
        """A lower term. Its leader must learn of ours, else a member that came back ahead could be stuck:
        it would ignore the leader for ever, and be ignored as a candidate by all who hear the leader."""
        kind = message.type
        if kind in (MSG_APP, MSG_HEARTBEAT):
            if self.config.check_quorum or self.config.pre_vote:
                self.send(Message(MSG_APP_RESP, to=message.from_))
        elif kind == MSG_PRE_VOTE:
            self.send(Message(MSG_PRE_VOTE_RESP, to=message.from_, reject=True))

    # -- time ------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """One tick has passed."""
        self.election_elapsed += 1
        if self.role is LEADER:
            leader.tick(self)
        elif self.election_elapsed >= self.election_timeout and self.promotable:
            self.election_elapsed = 0
            self.hup()


def check_message(raft: Raft, message: Message) -> None:
    """Refuse what is malformed in itself, before it can change anything. Raises: ``MessageError``."""
    sender = message.from_
    kind = message.type
    # A forwarded request keeps its sender's name, so that our own may find us leading when it arrives.
    if sender == 0 or (sender == raft.id and kind not in FORWARDED_TYPES):
        raise MessageError(f"a message from {sender} cannot have come from a peer")
    if message.to != raft.id and message.to != 0:
        raise MessageError(f"a message for {message.to} arrived at {raft.id}")
    term = message.term
    if not (
        0 <= term < NUMBER_MAX
        and 0 <= message.index < NUMBER_MAX
        and 0 <= message.commit < NUMBER_MAX
        and 0 <= message.reject_hint < NUMBER_MAX
        and 0 <= message.log_term < NUMBER_MAX
    ):
        raise MessageError("a number is out of range")
    if kind == MSG_APP:
        if message.log_term > term:
            raise MessageError(f"a previous entry of term {message.log_term} in a message of term {term}")
        if message.index == 0 and message.log_term:
            raise MessageError("there is no entry 0")
        _check_entries(message.entries, message.index, message.log_term, term)
    elif kind == MSG_SNAP:
        snapshot = message.snapshot
        if snapshot is None or snapshot.metadata.index == 0 or snapshot.metadata.term == 0:
            raise MessageError("a MsgSnap without a snapshot")
        if snapshot.metadata.term > term or snapshot.metadata.index >= NUMBER_MAX:
            raise MessageError("a snapshot from the future")
        if not snapshot.metadata.conf_state.voters:
            raise MessageError("a snapshot without voters")
    elif kind == MSG_PROP and not message.entries:
        raise MessageError("a proposal of nothing")
    if term == 0 and kind not in TERMLESS_TYPES:
        raise MessageError("a message without a term")


def _check_entries(entries: Sequence[Entry], index: int, term: int, term_max: int) -> None:
    for entry in entries:
        index += 1
        if entry.index != index:
            raise MessageError(f"entry {entry.index} stands where {index} belongs")
        if entry.term < term:
            raise MessageError(f"the term falls from {term} to {entry.term} at entry {index}")
        term = entry.term
    if term > term_max:
        raise MessageError(f"an entry of term {term} in a message of term {term_max}")
