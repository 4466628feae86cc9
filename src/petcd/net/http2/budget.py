"""A budget for frames that cost the receiver work and the sender nothing.

Every flood that took HTTP/2 servers down (rapid reset, "MadeYouReset", ping, settings, empty-frame and
window-update floods) is a legal frame repeated. A connection may send a burst of them and then so many a
second; whoever exceeds it is told ENHANCE_YOUR_CALM and loses the connection, at a cost to us of one float
a frame.
"""

from __future__ import annotations


class Budget:
    """A token bucket: ``burst`` tokens at first, ``per_second`` more each second, never above ``burst``."""

    __slots__ = ("_at", "_burst", "_left", "_per_second")

    def __init__(self, burst: float, per_second: float, now: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._left = burst
        self._at = now

    def spend(self, now: float, cost: float = 1.0) -> bool:
        """Take ``cost`` tokens; False when they are not there."""
        left = self._left + (now - self._at) * self._per_second
        self._at = now
        if left > self._burst:
            left = self._burst
        self._left = left - cost
        return self._left >= 0.0

    def earn(self, tokens: float) -> None:
        """Useful work done in between raises what may be spent."""
        self._left = min(self._burst, self._left + tokens)
