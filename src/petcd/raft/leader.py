"""What a leader does: propose, replicate, commit, confirm reads, hand the leadership over.

Nothing is sent from inside a step. Steps only note that something is due, and ``flush`` sends at the end of
the turn: so all proposals of a turn and the commit index they arrive together with make one MsgApp per
follower, and all reads of a turn share one round of heartbeats.

A leader sends entries before its own disk has them (thesis 10.2.1); it counts itself for them only when they
are there, as it counts every other member.

Source: Raft paper 5.3, 5.4.2, 6; thesis 3.10, 4, 6.2, 6.4, 10.2.1; contract page "peer", 6.4 to 6.7.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

from petcd.raft.confchange import decode_conf_change
from petcd.raft.entry import ENTRY_CONF_CHANGE_V2, ENTRY_NORMAL, Entry
from petcd.raft.errors import ConfChangeError, MessageError, ProposalDropped
from petcd.raft.messages import (
    LEADER_TYPES,
    MSG_APP,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_READ_INDEX_RESP,
    MSG_SNAP,
    MSG_TIMEOUT_NOW,
    MSG_TRANSFER_LEADER,
    Message,
)
from petcd.raft.progress import PROBE, REPLICATE, SNAPSHOT, Progress
from petcd.raft.readonly import PendingRead, ReadState

if TYPE_CHECKING:
    from petcd.raft.raft import Raft

_type_of = attrgetter("type")
_data_of = attrgetter("data")


def step(raft: Raft, message: Message) -> None:
    """A message of our term, or without a term."""
    kind = message.type
    if kind == MSG_APP_RESP:
        handle_append_response(raft, message)
    elif kind == MSG_HEARTBEAT_RESP:
        handle_heartbeat_response(raft, message)
    elif kind == MSG_PROP:
        try:
            propose(raft, message.entries)
        except ConfChangeError as error:
            raise MessageError(f"{message.from_} proposes no configuration change: {error}") from error
        proposer = raft.tracker.progress.get(message.from_)
        if proposer is not None:
            proposer.proposed = raft.log.last_index
    elif kind == MSG_READ_INDEX:
        if len(message.entries) != 1:
            raise MessageError(f"one read with {len(message.entries)} contexts")
        read_index(raft, message.from_, message.entries[0].data)
    elif kind == MSG_TRANSFER_LEADER:
        transfer(raft, message.from_)
    elif kind in LEADER_TYPES:
        raise MessageError(f"{message.from_} leads term {raft.term}, but so do we")


def tick(raft: Raft) -> None:
    """One tick has passed; ``election_elapsed`` is counted already."""
    config = raft.config
    raft.heartbeat_elapsed += 1
    if raft.election_elapsed >= config.election_ticks:
        raft.election_elapsed = 0
        raft.transferee = 0  # it had one election timeout (thesis 3.10)
        if config.check_quorum and not raft.tracker.quorum_active():
            raft.become_follower(raft.term, 0)
            return
    if raft.heartbeat_elapsed >= config.heartbeat_ticks:
        raft.heartbeat_elapsed = 0
        raft.heartbeat_due = True


# -- proposals -----------------------------------------------------------------------------------------------


def propose(raft: Raft, entries: Sequence[Entry]) -> None:
    """Append ``entries``, all or none. Cost: two passes over them, both small.

    The terms and indexes are written into the entries. A configuration change that may not be proposed now is
    replaced by an empty normal entry.

    Raises: ``ProposalDropped``; ``ConfChangeError`` where an entry's change cannot be read.
    """
    log = raft.log
    if raft.id not in raft.tracker.progress:
        raise ProposalDropped("removed from the cluster")
    if raft.transferee:
        raise ProposalDropped("the leadership is being transferred")
    uncommitted = log.uncommitted_bytes
    if uncommitted:
        size = sum(map(len, map(_data_of, entries)))
        if size and uncommitted + size > raft.config.uncommitted_bytes_max:
            raise ProposalDropped("too many uncommitted bytes")
    if any(map(_type_of, entries)):
        _admit_conf_changes(raft, entries)
    term = raft.term
    index = log.last_index
    for entry in entries:
        index += 1
        entry.term = term
        entry.index = index
    log.append(entries)
    raft.replicate_due = True


def _admit_conf_changes(raft: Raft, entries: Sequence[Entry]) -> None:
    """At most one change may be unapplied, and a joint configuration may only be left."""
    leaves = {
        position: decode_conf_change(entry).as_v2().leaves_joint
        for position, entry in enumerate(entries)
        if entry.type != ENTRY_NORMAL
    }
    joint = raft.tracker.configuration.joint
    for position, leaves_joint in leaves.items():
        if raft.pending_conf_index > raft.log.applied or joint != leaves_joint:
            entry = entries[position]
            entry.type = ENTRY_NORMAL
            entry.data = b""
            entry.request = None
            entry.encoded = None
        else:
            raft.pending_conf_index = raft.log.last_index + position + 1


def applied(raft: Raft) -> None:
    """The state machine got further: a joint configuration that leaves by itself does so now."""
    if raft.tracker.configuration.auto_leave and raft.log.applied >= raft.pending_conf_index:
        raft.append_own(ENTRY_CONF_CHANGE_V2, b"")
        raft.pending_conf_index = raft.log.last_index


def configuration_changed(raft: Raft) -> None:
    """Another set of members counts: something may be committed by it, and a newcomer wants entries.

    A leader that is no voter any more goes on leading without counting itself, though it drops proposals
    when it is removed: if it stepped down before the others heard that the change is committed, they could
    still need its vote and it would not campaign. Its server stops it after a while.
    """
    tracker = raft.tracker
    maybe_commit(raft)
    advance_reads(raft)
    raft.replicate_due = True
    if raft.transferee and not tracker.votes_in(raft.transferee):
        raft.transferee = 0


# -- replication ---------------------------------------------------------------------------------------------


def persisted(raft: Raft) -> None:
    """Our own disk has everything up to ``log.stable``: an acknowledgement like any other."""
    progress = raft.tracker.progress.get(raft.id)
    if progress is not None and progress.maybe_update(raft.log.stable):
        maybe_commit(raft)


def maybe_commit(raft: Raft) -> None:
    """Commit what a quorum has, if it ends in an entry of our own term (paper 5.4.2, Figure 8)."""
    log = raft.log
    index = raft.tracker.committed()
    if index > log.committed and log.term_at(index) == raft.term:
        log.commit_to(index)
        raft.replicate_due = True
        if raft.postponed_reads:
            _admit_postponed_reads(raft)


def handle_append_response(raft: Raft, message: Message) -> None:
    member = message.from_
    progress = raft.tracker.progress[member]
    log = raft.log
    progress.recent_active = True
    index = message.index
    if message.reject:
        hint = message.reject_hint
        if message.log_term:
            # Its entry at the hint has that term; ours may match at the latest where the term is no later.
            hint, _ = log.find_conflict_by_term(hint, message.log_term)
        if progress.maybe_decrease(index, hint):
            if progress.state is REPLICATE:
                progress.become_probe()
            progress.due = True
            raft.replicate_due = True
        return
    if index > log.last_index:
        raise MessageError(f"{member} acknowledges entry {index}, but the log ends at {log.last_index}")
    if not progress.maybe_update(index) and (
        progress.state is not PROBE or progress.match != index or index < log.offset
    ):
        # Not news, nor the answer to a probe. Below the offset it may be that of a member that could not use
        # our snapshot: it is tried again after the next heartbeat.
        return
    if progress.state is PROBE:
        progress.become_replicate()
    elif progress.state is SNAPSHOT:
        # Whatever became of the snapshot, the log reaches what the member has.
        if progress.match + 1 >= log.first_index:
            progress.become_replicate()
    else:
        progress.inflights.free_to(index)
    raft.replicate_due = True
    maybe_commit(raft)
    if member == raft.transferee and progress.match == log.last_index:
        raft.send(Message(MSG_TIMEOUT_NOW, to=member))


def handle_heartbeat_response(raft: Raft, message: Message) -> None:
    """The member lives: it may be probed again, and perhaps it confirms reads."""
    member = message.from_
    progress = raft.tracker.progress[member]
    progress.recent_active = True
    progress.paused = False
    if progress.match < raft.log.last_index or progress.state is PROBE:
        # Even with a full window: the messages that filled it may all be lost.
        progress.due = True
        raft.replicate_due = True
    if message.context and raft.read_only.echoed(member, message.context):
        advance_reads(raft)


def unreachable(raft: Raft, member: int) -> None:
    """A message to ``member`` was not delivered; in Replicate more than one may be lost."""
    progress = raft.tracker.progress.get(member)
    if progress is not None and progress.state is REPLICATE:
        progress.become_probe()


def snapshot_reported(raft: Raft, member: int, delivered: bool) -> None:
    """The snapshot under way to ``member`` arrived or was lost.

    Probing waits for the next sign of life: after success for the acknowledgement, after failure a moment.
    """
    progress = raft.tracker.progress.get(member)
    if progress is None or progress.state is not SNAPSHOT:
        return
    if not delivered:
        progress.snapshot_failed()
    progress.become_probe()
    progress.paused = True


def flush(raft: Raft) -> None:
    """Send what the turn made due."""
    if raft.read_only.due:
        raft.read_only.begin_round(raft.id)
        raft.heartbeat_due = True
        advance_reads(raft)  # a quorum of one has confirmed
    if raft.heartbeat_due:
        raft.heartbeat_due = False
        _send_heartbeats(raft)
    if raft.replicate_due:
        raft.replicate_due = False
        lazy = raft.config.lazy_commit and not raft.announce
        raft.announce = raft.commit_unsaid = False
        committed = raft.log.committed
        progress_of = raft.tracker.progress
        for member in raft.tracker.peers:
            progress = progress_of[member]
            if progress.due:
                progress.due = False
                _maybe_send_append(raft, member, progress, send_empty=True)
            while _maybe_send_append(raft, member, progress, send_empty=False):
                pass
            if progress.can_bump_commit(committed):
                if lazy and progress.sent_commit >= max(progress.proposed, raft.pending_conf_index):
                    raft.commit_unsaid = True
                else:
                    _maybe_send_append(raft, member, progress, send_empty=True)


def _send_heartbeats(raft: Raft) -> None:
    context = raft.read_only.context
    committed = raft.log.committed
    for member in raft.tracker.peers:
        # A member must not be told of more than it is known to have.
        commit = min(raft.tracker.progress[member].match, committed)
        raft.send(Message(MSG_HEARTBEAT, to=member, commit=commit, context=context))


def _maybe_send_append(raft: Raft, member: int, progress: Progress, *, send_empty: bool) -> bool:
    """Send the next MsgApp, or a snapshot where the entries are gone; False if nothing was sent."""
    if progress.is_paused:
        return False
    log = raft.log
    start = progress.next
    prev_index = start - 1
    if prev_index < log.offset:
        return _maybe_send_snapshot(raft, member, progress)
    entries: list[Entry] = []
    if start <= log.last_index and not progress.inflights.full:
        entries = log.slice(start, log.last_index + 1, raft.config.max_message_bytes)
    if not entries and not send_empty:
        return False
    raft.send(
        Message(
            MSG_APP,
            to=member,
            log_term=log.term_at(prev_index),
            index=prev_index,
            entries=entries,
            commit=log.committed,
        )
    )
    progress.sent(prev_index + len(entries), log.committed, empty=not entries)
    return True


def _maybe_send_snapshot(raft: Raft, member: int, progress: Progress) -> bool:
    """Snapshots are large: only who was heard of lately gets one."""
    if not progress.recent_active:
        return False
    snapshot = raft.log.snapshot
    assert snapshot.metadata.index >= raft.log.offset
    raft.send(Message(MSG_SNAP, to=member, snapshot=snapshot))
    progress.become_snapshot(snapshot.metadata.index)
    return True


# -- reads ---------------------------------------------------------------------------------------------------


def read_index(raft: Raft, member: int, context: bytes) -> None:
    """``member`` (perhaps ourselves) wants to read."""
    read = PendingRead(member, context, raft.log.committed)
    if raft.log.term_at(raft.log.committed) != raft.term:
        # Until an entry of our own is committed we may not know all that is (thesis 6.4, step 1).
        raft.postponed_reads.append(read)
    else:
        _admit_read(raft, read)


def _admit_postponed_reads(raft: Raft) -> None:
    reads = raft.postponed_reads
    raft.postponed_reads = []
    for read in reads:
        read.index = raft.log.committed
        _admit_read(raft, read)


def _admit_read(raft: Raft, read: PendingRead) -> None:
    if raft.tracker.is_alone or raft.config.lease_based_reads:  # nobody else can lead
        _answer_read(raft, read)
    else:
        raft.read_only.add(read)


def advance_reads(raft: Raft) -> None:
    """Answer the reads whose round a quorum has confirmed."""
    reads = raft.read_only
    if reads.pending:
        for read in reads.release(raft.tracker.agreed(reads.confirmed)):
            _answer_read(raft, read)


def _answer_read(raft: Raft, read: PendingRead) -> None:
    if read.member == raft.id:
        raft.read_states.append(ReadState(read.index, read.context))
    else:
        raft.send(
            Message(MSG_READ_INDEX_RESP, to=read.member, index=read.index, entries=[Entry(data=read.context)])
        )


# -- handing over --------------------------------------------------------------------------------------------


def transfer(raft: Raft, member: int) -> None:
    """Hand the leadership to ``member``, a voter, within one election timeout (thesis 3.10).

    Proposals are dropped meanwhile. A second order for another member replaces the first.
    """
    if member in (raft.id, raft.transferee) or not raft.tracker.votes_in(member):
        return
    raft.election_elapsed = 0
    raft.transferee = member
    progress = raft.tracker.progress[member]
    if progress.match == raft.log.last_index:
        raft.send(Message(MSG_TIMEOUT_NOW, to=member))
    else:
        progress.due = True
        raft.replicate_due = True
