"""Deadlines of many calls behind one timer.

Nearly every call ends long before its deadline. So a new one is only put on a list, and its end is a
deadline of 0.0; what is still there a tick later is filed in buckets of a coarse tick, each a dict of what
falls due in it. Nothing that has ended is kept longer than until the next look. Time is an argument; whoever
owns the timer asks ``pending`` whether one is needed.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

TICK_SECONDS: Final = 0.02


class Expiring(Protocol):
    """Something with a time limit."""

    deadline: float
    """In seconds of the monotonic clock; 0.0 for none, or when it has ended."""
    tick: int
    """The bucket that holds it; 0 at first and for none. Written in this module only."""

    def expire(self) -> None: ...


class Deadlines:
    """Invariant: an item with a tick is in exactly that bucket; one without is young, or not here."""

    __slots__ = ("_buckets", "_young", "on_first")

    def __init__(self) -> None:
        self._buckets: dict[int, dict[Any, None]] = {}
        self._young: list[Any] = []
        """Since the last look, those that ended among them."""
        self.on_first: Any = None
        """Called when an item appears where there was none: arm the timer, unless it runs."""

    @property
    def pending(self) -> bool:
        return bool(self._buckets or self._young)

    def __len__(self) -> int:
        young = sum([1 for item in self._young if item.deadline])
        return young + sum(map(len, self._buckets.values()))

    def add(self, item: Expiring) -> None:
        """``item.deadline`` must not change while it is here."""
        young = self._young
        if not young and not self._buckets and self.on_first is not None:
            self.on_first()
        young.append(item)

    def discard(self, item: Expiring) -> None:
        """It has ended. Where ``item.tick`` is 0, ``item.deadline = 0.0`` is all that this does."""
        item.deadline = 0.0
        tick = item.tick
        if tick:
            item.tick = 0
            bucket = self._buckets[tick]
            del bucket[item]
            if not bucket:
                del self._buckets[tick]

    def clear(self) -> None:
        """Forget everything; nothing here will expire."""
        for bucket in self._buckets.values():
            for item in bucket:
                item.tick = 0
        self._buckets.clear()
        self._young.clear()

    def expire(self, now: float) -> None:
        """Call ``expire`` of everything whose deadline has passed; at most one tick late."""
        buckets = self._buckets
        young, self._young = self._young, []
        for item in young:
            deadline = item.deadline
            if deadline:
                tick = item.tick = int(deadline / TICK_SECONDS) + 1
                bucket = buckets.get(tick)
                if bucket is None:
                    buckets[tick] = {item: None}
                else:
                    bucket[item] = None
        reached = int(now / TICK_SECONDS)
        for tick in sorted([tick for tick in buckets if tick <= reached]):
            late = buckets.pop(tick, ())  # an item may have ended the last one of a later tick
            for item in late:
                item.tick = 0
            for item in late:
                if item.deadline:  # none of the others has ended it
                    item.expire()
