"""The log's entry and the small records that travel with it: hard state, configuration state, snapshot.

Source: contract page "peer", 6.1, 6.7 and 7.

Types are plain integers bound once as module names: reaching a member through an enum class cost 60 ns on
CPython 3.11, a module name under 2 ns. The enums exist for names in describing and for users.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final


class EntryType(IntEnum):
    """What an entry's data is."""

    NORMAL = 0
    CONF_CHANGE = 1
    CONF_CHANGE_V2 = 2


ENTRY_NORMAL: Final = 0
ENTRY_CONF_CHANGE: Final = 1
ENTRY_CONF_CHANGE_V2: Final = 2


@dataclass(slots=True)
class Entry:
    """One slot of the log. Once it is in a log it is never changed, only replaced."""

    term: int = 0
    index: int = 0
    type: int = ENTRY_NORMAL
    data: bytes = b""
    request: object = field(default=None, compare=False, repr=False)
    """The proposer's own decoded request: local to the member that proposed, never encoded, never sent.

    The log keeps the entry for thousands of others, so whoever has served the request should forget it here.
    """
    encoded: bytes | None = field(default=None, compare=False, repr=False)
    """Free for the outside: the entry's wire form, encoded once for the write-ahead log and every
    follower."""


@dataclass(slots=True)
class HardState:
    """What must survive a crash beside the log. ``vote`` is 0 when no vote was given in ``term``."""

    term: int = 0
    vote: int = 0
    commit: int = 0


@dataclass(slots=True)
class ConfState:
    """A configuration as it is stored and sent; lists are sorted and free of repetitions.

    ``voters_outgoing`` is empty outside of joint consensus. ``learners_next`` are voters of the outgoing half
    that become learners when the joint configuration is left.
    """

    voters: list[int] = field(default_factory=list)
    learners: list[int] = field(default_factory=list)
    voters_outgoing: list[int] = field(default_factory=list)
    learners_next: list[int] = field(default_factory=list)
    auto_leave: bool = False


@dataclass(slots=True)
class SnapshotMetadata:
    """Where a snapshot stands in the log, and the configuration there."""

    conf_state: ConfState = field(default_factory=ConfState)
    index: int = 0
    term: int = 0


@dataclass(slots=True)
class Snapshot:
    """The state machine's state after ``metadata.index``; ``data`` is opaque to raft."""

    data: bytes = b""
    metadata: SnapshotMetadata = field(default_factory=SnapshotMetadata)
