"""Linearizable reads without a log entry: the read index (thesis 6.4).

A read remembers the commit index of its arrival. It may be answered once a quorum confirmed, in a round of
heartbeats that *began after* the arrival, that the leader still leads. Rounds are numbered by a counter that
never repeats within a term, and an answer confirms every round up to its own, so one echo serves all older
reads and an echo of an earlier round can never serve a later one (etcd issues 20418, 21375). A leader that is
the only voter needs no round: nobody else can lead.

The round travels as the heartbeats' context: eight bytes, little-endian, as in release 3.7; followers only
echo.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from struct import Struct

_ROUND = Struct("<Q")


@dataclass(slots=True)
class ReadState:
    """A read that may be served as soon as ``index`` is applied."""

    index: int
    context: bytes


@dataclass(slots=True)
class PendingRead:
    """A read on its way; ``member`` asked for it (it may be ourselves)."""

    member: int
    context: bytes
    index: int
    round: int = 0


class ReadOnly:
    """Reads that wait for their round. Only a leader has any.

    Invariant: the rounds of ``pending`` do not decrease; none is beyond ``round + 1``, and one that is equal
    to it has ``due`` set, so that the round will begin.
    """

    __slots__ = ("confirmed", "due", "pending", "round")

    def __init__(self) -> None:
        self.round = 0
        """The latest round that began."""
        self.confirmed: dict[int, int] = {}
        """Member -> the latest round it has echoed."""
        self.pending: deque[PendingRead] = deque()
        self.due = False
        """A new round is to begin at the end of the turn."""

    def clear(self) -> None:
        """We lead no longer, or anew: nothing that was asked or echoed before counts."""
        self.pending.clear()
        self.confirmed.clear()
        self.due = False

    def add(self, read: PendingRead) -> None:
        """``read`` waits for a round that has not begun."""
        read.round = self.round + 1
        self.pending.append(read)
        self.due = True

    def begin_round(self, own_id: int) -> None:
        """Heartbeats with ``context`` are about to be sent; we confirm to ourselves."""
        self.round += 1
        self.due = False
        self.confirmed[own_id] = self.round

    @property
    def context(self) -> bytes:
        """What heartbeats carry: the latest round while any read waits, nothing otherwise."""
        return _ROUND.pack(self.round) if self.pending else b""

    def echoed(self, member: int, context: bytes) -> bool:
        """``member`` answered a heartbeat; False if that confirms nothing new."""
        if len(context) != _ROUND.size:
            return False
        (echo,) = _ROUND.unpack(context)
        if not self.confirmed.get(member, 0) < echo <= self.round:
            return False
        self.confirmed[member] = echo
        return True

    def release(self, agreed: int) -> list[PendingRead]:
        """The reads whose round a quorum has confirmed, in the order of their arrival."""
        released = []
        pending = self.pending
        while pending and pending[0].round <= agreed:
            released.append(pending.popleft())
        return released
