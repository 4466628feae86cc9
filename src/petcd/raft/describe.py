"""One line for anything, shared by logs, scenario files and failures. Data of entries stays out of it."""

from __future__ import annotations

from petcd.raft.entry import ConfState, Entry, EntryType, HardState, Snapshot
from petcd.raft.messages import Message, MessageType
from petcd.raft.ready import Ready

_MESSAGE_NAMES = {int(kind): kind.name for kind in MessageType}
_ENTRY_NAMES = {int(kind): kind.name for kind in EntryType}


def describe(message: Message) -> str:
    """``1->2 APP term=3 log=2/17 commit=16 entries=3``; fields that are zero are left out.

    ``log`` is log_term/index: of the entry before ``entries``, of a candidate's last entry, of an answer.
    """
    name = _MESSAGE_NAMES.get(message.type, f"TYPE{message.type}")
    parts = [f"{message.from_:x}->{message.to:x} {name}"]
    if message.term:
        parts.append(f"term={message.term}")
    if message.log_term or message.index:
        parts.append(f"log={message.log_term}/{message.index}")
    if message.commit:
        parts.append(f"commit={message.commit}")
    if message.entries:
        parts.append(f"entries={len(message.entries)}")
    if message.reject:
        parts.append(f"reject hint={message.reject_hint}")
    if message.snapshot is not None:
        parts.append(f"snapshot={describe_snapshot(message.snapshot)}")
    if message.context:
        parts.append(f"context={describe_context(message.context)}")
    return " ".join(parts)


def describe_context(context: bytes) -> str:
    """Readable words as they are, everything else in hexadecimal."""
    text = context.decode("ascii", "replace")
    return text if text.isalnum() else context.hex()


def describe_entry(entry: Entry) -> str:
    """``2/17 NORMAL 31B``."""
    return f"{entry.term}/{entry.index} {_ENTRY_NAMES.get(entry.type, entry.type)} {len(entry.data)}B"


def describe_entries(entries: list[Entry]) -> str:
    """``17..19`` with the terms of both ends: ``2/17..3/19``."""
    if not entries:
        return "-"
    first = f"{entries[0].term}/{entries[0].index}"
    if len(entries) == 1:
        return first
    return f"{first}..{entries[-1].term}/{entries[-1].index}"


def describe_snapshot(snapshot: Snapshot) -> str:
    """``2/17 voters=(1 2 3)``."""
    metadata = snapshot.metadata
    return f"{metadata.term}/{metadata.index} {describe_conf_state(metadata.conf_state)}"


def describe_conf_state(state: ConfState) -> str:
    """``voters=(1 2 3)``, joint ``voters=(1 2 4)&(1 2 3) learners=(5) next=(3) auto-leave``."""

    def ids(members: list[int]) -> str:
        return "(" + " ".join(f"{member:x}" for member in members) + ")"

    text = f"voters={ids(state.voters)}"
    if state.voters_outgoing:
        text += f"&{ids(state.voters_outgoing)}"
    if state.learners:
        text += f" learners={ids(state.learners)}"
    if state.learners_next:
        text += f" next={ids(state.learners_next)}"
    if state.auto_leave:
        text += " auto-leave"
    return text


def describe_hard_state(state: HardState) -> str:
    """``term=3 vote=1 commit=16``."""
    text = f"term={state.term}"
    if state.vote:
        text += f" vote={state.vote:x}"
    return f"{text} commit={state.commit}"


def describe_ready(ready: Ready) -> str:
    """Everything a Ready asks for, messages by their number."""
    parts = [f"ready {ready.sequence}"]
    if ready.soft_state is not None:
        parts.append(f"{ready.soft_state.role.name} lead={ready.soft_state.lead:x}")
    if ready.hard_state is not None:
        parts.append(describe_hard_state(ready.hard_state))
    if ready.must_sync:
        parts.append("sync")
    if ready.snapshot is not None:
        parts.append(f"snapshot={describe_snapshot(ready.snapshot)}")
    if ready.entries:
        parts.append(f"entries={describe_entries(ready.entries)}")
    if ready.committed:
        parts.append(f"committed={describe_entries(ready.committed)}")
    if ready.messages:
        parts.append(f"messages={len(ready.messages)}")
    if ready.messages_after_append:
        parts.append(f"after-append={len(ready.messages_after_append)}")
    if ready.read_states:
        parts.append(f"reads={len(ready.read_states)}")
    return " ".join(parts)
