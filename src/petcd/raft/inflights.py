"""The window of MsgApps that were sent to one follower and not acknowledged yet (thesis 10.2.1)."""

from __future__ import annotations

from collections import deque


class Inflights:
    """Last indexes of the messages in flight, ascending; at most ``inflight_max`` of them.

    An acknowledgement of an index acknowledges every message that ended at or before it.
    """

    __slots__ = ("inflight_max", "last_indexes")

    def __init__(self, inflight_max: int) -> None:
        assert inflight_max > 0
        self.inflight_max = inflight_max
        self.last_indexes: deque[int] = deque()

    def __len__(self) -> int:
        return len(self.last_indexes)

    @property
    def full(self) -> bool:
        return len(self.last_indexes) >= self.inflight_max

    def add(self, last_index: int) -> None:
        """A message that ended at ``last_index`` was sent."""
        indexes = self.last_indexes
        assert len(indexes) < self.inflight_max
        assert not indexes or indexes[-1] < last_index
        indexes.append(last_index)

    def free_to(self, index: int) -> None:
        """Everything up to ``index`` has arrived."""
        indexes = self.last_indexes
        while indexes and indexes[0] <= index:
            indexes.popleft()

    def clear(self) -> None:
        self.last_indexes.clear()
