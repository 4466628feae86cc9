"""What the leader knows of one member's log, and how fast it may send to it.

    Probe ------- acknowledged --------> Replicate
      ^  ^                                  |
      |  +--- rejected or unreachable ------+
      |                                     |
      +-- sent and reported --- Snapshot <--+-- (from either) the entries needed are compacted

Probe sends one message and waits for a heartbeat's answer; Replicate sends ahead, bounded by the window;
Snapshot sends nothing.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from petcd.raft.inflights import Inflights


class ProgressState(IntEnum):
    """How the leader sends to a member."""

    PROBE = 0
    REPLICATE = 1
    SNAPSHOT = 2


PROBE: Final = ProgressState.PROBE
REPLICATE: Final = ProgressState.REPLICATE
SNAPSHOT: Final = ProgressState.SNAPSHOT


class Progress:
    """One member's replication state, as its leader sees it (the leader's own entry included).

    Invariant: 0 <= match < next.
    In Snapshot, next == pending_snapshot + 1.
    Source: thesis 3.5 and 10.2.1.
    """

    __slots__ = (
        "due",
        "inflights",
        "is_learner",
        "match",
        "next",
        "paused",
        "pending_snapshot",
        "proposed",
        "recent_active",
        "sent_commit",
        "state",
    )

    def __init__(self, next_index: int, inflight_max: int, is_learner: bool, match: int = 0) -> None:
        self.match = match
        """Highest index the member has acknowledged, that is: has on its disk."""
        self.next = next_index
        """First index not sent yet; ``[match + 1, next)`` is in flight."""
        self.state: ProgressState = PROBE
        self.paused = False
        """Probe: one message is out. Replicate: the window was full at the last send."""
        self.pending_snapshot = 0
        """Snapshot: index of the snapshot that is under way."""
        self.recent_active = False
        """Heard of since the last check of the quorum."""
        self.inflights = Inflights(inflight_max)
        self.is_learner = is_learner
        self.sent_commit = 0
        """Highest commit index in a MsgApp sent to it since it was last probed."""
        self.proposed = 0
        """Index of the last entry that it proposed in this term: it waits to hear of its commit."""
        self.due = False
        """A MsgApp is to be sent at the end of the turn even if it carries no entries."""

    @property
    def is_paused(self) -> bool:
        """Whether MsgApps must wait."""
        return self.paused or self.state is SNAPSHOT

    def reset(self, next_index: int, match: int) -> None:
        """A new term: nothing is known any more but what is our own."""
        self.match = match
        self.next = next_index
        self.recent_active = False
        self.proposed = 0
        self.due = False
        self._enter(PROBE)

    def become_probe(self) -> None:
        """Find out where the member stands, one message at a time."""
        if self.state is SNAPSHOT:
            pending = self.pending_snapshot
            self.next = max(self.match + 1, pending + 1)
        else:
            self.next = self.match + 1
        self._enter(PROBE)

    def become_replicate(self) -> None:
        """The member's log is known to match at ``match``: send ahead of its answers."""
        self.next = self.match + 1
        self._enter(REPLICATE)

    def become_snapshot(self, snapshot_index: int) -> None:
        """A snapshot is on its way; nothing else may be sent until its fate is known."""
        self._enter(SNAPSHOT)
        self.pending_snapshot = snapshot_index
        self.next = snapshot_index + 1
        self.sent_commit = snapshot_index

    def _enter(self, state: ProgressState) -> None:
        self.state = state
        self.paused = False
        self.pending_snapshot = 0
        self.inflights.clear()
        self.sent_commit = min(self.sent_commit, self.next - 1)

    def snapshot_failed(self) -> None:
        """Forget the snapshot, so that probing starts from what was acknowledged."""
        self.pending_snapshot = 0

    def sent(self, last_index: int, commit: int, *, empty: bool) -> None:
        """A MsgApp that ends at ``last_index`` and carries ``commit`` was sent."""
        assert self.state is not SNAPSHOT
        if self.state is REPLICATE:
            if not empty:
                self.next = last_index + 1
                self.inflights.add(last_index)
            self.paused = self.inflights.full
        else:
            self.paused = True
        self.sent_commit = commit
        self.due = False

    def can_bump_commit(self, commit: int) -> bool:
        """Whether an empty MsgApp would tell the member of a commit that it has the entries for."""
        return self.state is REPLICATE and self.sent_commit < commit and self.sent_commit < self.next - 1

    def maybe_update(self, index: int) -> bool:
        """The member has everything up to ``index``; False if that is not news."""
        if index <= self.match:
            return False
        self.match = index
        if self.next <= index:
            self.next = index + 1
        self.paused = False
        return True

    def maybe_decrease(self, rejected: int, hint: int) -> bool:
        """The member refused the MsgApp after ``rejected`` and may match at ``hint``; False if that is stale.

        In Replicate an answer below ``match`` is stale, and so is one beyond what was sent. In Probe only the
        answer to the one message that is out counts; not where the member refuses what it had acknowledged,
        for then it has lost its disk, and to ask it again would go on as fast as it answers.
        """
        if self.state is REPLICATE:
            if rejected <= self.match or rejected >= self.next:
                return False
            self.next = self.match + 1
            self.sent_commit = min(self.sent_commit, self.next - 1)
            return True
        if self.next - 1 != rejected or rejected <= self.match:
            return False
        self.next = max(min(rejected, hint + 1), self.match + 1)
        self.sent_commit = min(self.sent_commit, self.next - 1)
        self.paused = False
        return True

    def check(self) -> None:
        """Assert what this class promises."""
        assert 0 <= self.match < self.next
        assert (self.state is SNAPSHOT) == (self.pending_snapshot > 0)
        assert self.state is REPLICATE or not len(self.inflights)
        if self.inflights.last_indexes:
            assert self.inflights.last_indexes[0] > self.match
            assert self.inflights.last_indexes[-1] == self.next - 1
