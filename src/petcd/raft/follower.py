"""What a node does that does not lead: it answers a leader, and forwards what is asked of it.

Source: Raft paper 5.2, 5.3, 7; contract page "peer", 6.4 to 6.6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from petcd.raft.confchange import Configuration
from petcd.raft.entry import Entry, Snapshot
from petcd.raft.errors import ConfChangeError, MessageError, ProposalDropped
from petcd.raft.messages import (
    LEADER_TYPES,
    MSG_APP,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_PRE_VOTE_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_READ_INDEX_RESP,
    MSG_TIMEOUT_NOW,
    MSG_TRANSFER_LEADER,
    MSG_VOTE_RESP,
    Message,
)
from petcd.raft.readonly import ReadState
from petcd.raft.ready import PRE_CANDIDATE

if TYPE_CHECKING:
    from petcd.raft.raft import Raft


def step(raft: Raft, message: Message) -> None:
    """A message of our term, or without a term, for a follower."""
    kind = message.type
    if kind in LEADER_TYPES:
        if raft.lead == 0:
            raft.lead = message.from_
        elif raft.lead != message.from_:
            raise MessageError(f"{message.from_} leads term {raft.term}, but so does {raft.lead}")
        raft.election_elapsed = 0
        if kind == MSG_APP:
            handle_append(raft, message)
        elif kind == MSG_HEARTBEAT:
            handle_heartbeat(raft, message)
        else:
            handle_snapshot(raft, message)
    elif kind == MSG_PROP:
        forward_entries(raft, message.entries, message.from_)
    elif kind == MSG_READ_INDEX:
        forward(raft, message)
    elif kind == MSG_READ_INDEX_RESP:
        if len(message.entries) != 1:
            raise MessageError(f"the answer to one read carries {len(message.entries)} contexts")
        raft.read_states.append(ReadState(message.index, message.entries[0].data))
    elif kind == MSG_TIMEOUT_NOW:
        raft.hup(transfer=True)
    elif kind == MSG_TRANSFER_LEADER:
        forward(raft, message)


def step_candidate(raft: Raft, message: Message) -> None:
    """A message of our term, or without a term, while we campaign."""
    kind = message.type
    if kind in LEADER_TYPES:
        # Somebody else won this term, or (pre-candidate) the leader of this term is still there.
        raft.become_follower(raft.term, message.from_)
        step(raft, message)
    elif kind == (MSG_PRE_VOTE_RESP if raft.role is PRE_CANDIDATE else MSG_VOTE_RESP):
        # A pre-vote is granted for the term that was asked about, which may have been another one.
        if message.reject or kind == MSG_VOTE_RESP or message.term == raft.term + 1:
            raft.poll(message.from_, granted=not message.reject)
    elif kind == MSG_PROP:
        raise ProposalDropped("no leader")


def forward(raft: Raft, message: Message) -> None:
    """Pass a request on to the leader, in the name of whoever sent it.

    Requests cannot circle: whoever we take for the leader of our term has at least that term, so if it
    follows somebody, it does so in a later one.
    """
    if raft.lead:
        raft.send(Message(message.type, to=raft.lead, from_=message.from_, entries=message.entries))


def forward_entries(raft: Raft, entries: Sequence[Entry], proposer: int) -> None:
    """Send proposals to the leader, in messages of bounded size. Raises: ``ProposalDropped`` without a
    leader."""
    if not raft.lead:
        raise ProposalDropped("no leader")
    bytes_max = raft.config.max_message_bytes
    chunk: list[Entry] = []
    size = 0
    for entry in entries:
        size += len(entry.data)
        if chunk and size > bytes_max:
            raft.send(Message(MSG_PROP, to=raft.lead, from_=proposer, entries=chunk))
            chunk = []
            size = len(entry.data)
        # Term and index are the leader's to give; the request stays here.
        chunk.append(Entry(type=entry.type, data=entry.data))
    raft.send(Message(MSG_PROP, to=raft.lead, from_=proposer, entries=chunk))


def handle_append(raft: Raft, message: Message) -> None:
    """Take the leader's entries, or tell it where our log may match (paper 5.3)."""
    log = raft.log
    leader = message.from_
    if message.index < log.committed:
        raft.acknowledge(leader, log.committed)
        return
    committed = log.committed
    reached = log.maybe_append(message.index, message.log_term, message.commit, message.entries)
    if reached is not None:
        if (
            raft.config.lazy_commit
            and log.committed > committed
            and not message.entries
            and reached <= raft.acknowledged
        ):
            # It only tells of a commit, and the leader knows what we have. If it is a probe after all, the
            # next heartbeat brings the answer.
            raft.answer_owed = True
            return
        raft.acknowledge(leader, reached)
        return
    # Skip every entry of ours whose term is beyond the leader's entry there: none of them can match.
    hint, hint_term = log.find_conflict_by_term(min(message.index, log.last_index), message.log_term)
    raft.send(
        Message(
            MSG_APP_RESP,
            to=leader,
            index=message.index,
            reject=True,
            reject_hint=hint,
            log_term=hint_term,
        )
    )


def handle_heartbeat(raft: Raft, message: Message) -> None:
    """Learn what is committed, echo the context.

    A leader never says more than we acknowledged from our disk. If it does, our disk has lost what we
    promised, and the leader gets no answer: such a member must not count as alive.
    """
    log = raft.log
    if message.commit > log.last_index:
        raise MessageError(
            f"{message.from_} says that entry {message.commit} is committed and was acknowledged here, but "
            f"the log ends at {log.last_index}: was the data directory lost?"
        )
    log.commit_to(message.commit)
    if raft.answer_owed:
        raft.acknowledge(message.from_, raft.acknowledged)
    raft.send(Message(MSG_HEARTBEAT_RESP, to=message.from_, context=message.context))


def handle_snapshot(raft: Raft, message: Message) -> None:
    """Replace the log by the leader's snapshot, if that is news (paper 7)."""
    snapshot = message.snapshot
    assert snapshot is not None
    if restore(raft, snapshot):
        raft.acknowledge(message.from_, raft.log.last_index)
    else:
        raft.acknowledge(message.from_, raft.log.committed)


def restore(raft: Raft, snapshot: Snapshot) -> bool:
    """Install ``snapshot``; False where it is old, not about us, or covered by the log we have.

    Raises: ``MessageError`` where its configuration is none.
    """
    log = raft.log
    metadata = snapshot.metadata
    if metadata.index <= log.committed:
        return False
    try:
        configuration = Configuration.from_state(metadata.conf_state)
    except ConfChangeError as error:
        raise MessageError(f"a snapshot with an impossible configuration: {error}") from error
    if raft.id not in configuration.members:
        return False
    if log.matches(metadata.index, metadata.term):
        log.commit_to(metadata.index)  # we have all of it as entries
        return False
    log.restore(snapshot)
    raft.tracker.switch(configuration, log.last_index, log.stable)
    return True
