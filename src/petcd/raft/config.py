"""What a node is told once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from petcd.raft.entry import ConfState


class Random(Protocol):
    """The part of ``random.Random`` that elections need."""

    def randrange(self, start: int, stop: int, /) -> int: ...


@dataclass(slots=True)
class Config:
    """Parameters of one node; defaults are etcd's (contract page "peer", 6.2)."""

    id: int
    """This member; never 0."""
    random: Random
    """Draws the election timeouts."""
    election_ticks: int = 10
    """A follower that hears nothing campaigns after ``[election_ticks, 2 * election_ticks)`` ticks."""
    heartbeat_ticks: int = 1
    pre_vote: bool = True
    """Ask whether an election could be won before disturbing anybody with a new term (thesis 9.6)."""
    check_quorum: bool = True
    """A leader that does not hear from a quorum steps down; voters that hear a leader ignore candidates
    (6.2)."""
    max_message_bytes: int = 1 << 20
    """Data of one MsgApp or forwarded MsgProp; a single larger entry still travels."""
    inflight_max: int = 512
    """MsgApps sent ahead of one follower's acknowledgements."""
    uncommitted_bytes_max: int = 1 << 30
    """Proposals are dropped while more than this is uncommitted (one batch may exceed it)."""
    committed_bytes_max: int = 1 << 20
    """Data of the committed entries in one Ready; at least one entry."""
    applied: int = 0
    """Last index the state machine holds already; what is after it is handed out again."""
    conf_state: ConfState | None = None
    """The configuration at ``applied``, where that is later than the snapshot's."""
    lease_based_reads: bool = False
    """Answer reads from the leader's lease instead of a round of heartbeats: trusts every clock (thesis
    6.4.1)."""

    lazy_commit: bool = False
    """Leading: tell a member of a commit with its next entries, and at once only where it waits for it (an
    entry it proposed, a configuration change). The outside must call ``announce_commit`` soon after.

    Following: do not answer a MsgApp that brings nothing but that news, until the next heartbeat."""

    def check(self) -> None:
        """Raises: ``ValueError``."""
        if self.id <= 0:
            raise ValueError("a member id is positive")
        if not 0 < self.heartbeat_ticks < self.election_ticks:
            raise ValueError("an election takes more ticks than a heartbeat")
        if self.inflight_max <= 0 or self.max_message_bytes <= 0 or self.committed_bytes_max <= 0:
            raise ValueError("a limit is positive")
        if self.uncommitted_bytes_max <= 0:
            raise ValueError("a limit is positive")
        if self.lease_based_reads and not self.check_quorum:
            raise ValueError("a lease needs check_quorum")
