"""Deadlines of many calls behind one timer: buckets of a coarse tick, each a dict of what falls due in it.

Adding and discarding are two dictionary operations and nothing is left behind, because almost every call
ends before its deadline. Time is an argument; whoever owns the timer asks ``pending`` whether one is
needed.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

TICK_SECONDS: Final = 0.02


class Expiring(Protocol):
    """Something with a time limit, in seconds of the monotonic clock."""

    @property
    def deadline(self) -> float: ...

    def expire(self) -> None: ...


class Deadlines:
    """Invariant: an item is in exactly the bucket of its deadline, which must not change while it is here."""

    __slots__ = ("_buckets", "on_first")

    def __init__(self) -> None:
        self._buckets: dict[int, dict[Any, None]] = {}
        self.on_first: Any = None
        """Called when an item appears where there was none: arm the timer, unless it runs."""

    @property
    def pending(self) -> bool:
        return bool(self._buckets)

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values()))

    def add(self, item: Expiring) -> None:
        tick = int(item.deadline / TICK_SECONDS) + 1
        buckets = self._buckets
        if not buckets and self.on_first is not None:
            self.on_first()
        bucket = buckets.get(tick)
        if bucket is None:
            buckets[tick] = {item: None}
        else:
            bucket[item] = None

    def discard(self, item: Expiring) -> None:
        tick = int(item.deadline / TICK_SECONDS) + 1
        bucket = self._buckets.get(tick)
        if bucket is not None:
            bucket.pop(item, None)
            if not bucket:
                del self._buckets[tick]

    def expire(self, now: float) -> None:
        """Call ``expire`` of everything whose deadline has passed; at most one tick late."""
        buckets = self._buckets
        reached = int(now / TICK_SECONDS)
        for tick in sorted(tick for tick in buckets if tick <= reached):
            for item in buckets.pop(tick, ()):
                item.expire()
