"""What a node wants done.

The order that keeps the cluster safe, for one ``Ready``:

1. send ``messages`` (they promise nothing about the disk);
2. if ``must_sync``: write ``snapshot``, ``entries`` and ``hard_state``, in this order, after those of every
   earlier ``Ready``, and sync;
3. then send ``messages_after_append``, and call ``node.persisted(ready.sequence)``;
4. apply ``snapshot`` if there is one (when it is stored), then ``committed``, and call ``node.applied_to``.
   Entries to apply wait for nothing: they are on our own disk before they are handed out.

Several Readys may be outstanding: the next one can be taken while the disk still works. ``sequence`` counts
them from 1, without gaps. ``persisted(n)`` says that Readys 1..n are durable, so one call after a group
commit serves all its members. A Ready without ``must_sync`` need not be reported, but its
``messages_after_append`` must wait for the Readys before it; if none is outstanding the node puts them into
``messages`` itself.

A Ready whose ``hard_state`` differs only in ``commit`` has ``must_sync`` False: it may be written without a
sync, together with the next batch, but it must not be left out. Configurations take effect when they are
applied, so whoever acknowledges the second of two changes must remember after a crash that the first is
committed; else it could campaign with a configuration two steps old, and win beside another leader.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from petcd.raft.entry import Entry, HardState, Snapshot
from petcd.raft.messages import Message
from petcd.raft.readonly import ReadState


class Role(IntEnum):
    """What a node is."""

    FOLLOWER = 0
    CANDIDATE = 1
    LEADER = 2
    PRE_CANDIDATE = 3


FOLLOWER: Final = Role.FOLLOWER
CANDIDATE: Final = Role.CANDIDATE
LEADER: Final = Role.LEADER
PRE_CANDIDATE: Final = Role.PRE_CANDIDATE


@dataclass(slots=True)
class SoftState:
    """What need not survive a crash. ``lead`` is 0 when no leader is known."""

    lead: int
    role: Role


@dataclass(slots=True)
class Ready:
    """The work of one turn. Whoever takes it owns the lists."""

    sequence: int
    soft_state: SoftState | None = None
    """Set when the leader or our role changed."""
    hard_state: HardState | None = None
    """Set when any of its fields changed."""
    must_sync: bool = False
    """Whether anything here must be durable: entries, a snapshot, a term or a vote."""
    entries: list[Entry] = field(default_factory=list)
    """To append to the log on disk; they replace everything there from the first one's index on."""
    snapshot: Snapshot | None = None
    """To store and to install in the state machine, before ``entries`` and ``committed``."""
    committed: list[Entry] = field(default_factory=list)
    """To apply, in order. Each is handed out once."""
    messages: list[Message] = field(default_factory=list)
    """To send at once."""
    messages_after_append: list[Message] = field(default_factory=list)
    """To send when this Ready and all before it are durable."""
    read_states: list[ReadState] = field(default_factory=list)
    """Reads that may be served once their index is applied."""
