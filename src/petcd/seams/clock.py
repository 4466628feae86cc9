"""Time, and the order in which callbacks run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    def cancel(self) -> None: ...


class Clock(Protocol):
    """The present time and the right to be called later, on the member's one thread."""

    def monotonic(self) -> float:
        """Seconds that never go back; the origin means nothing."""
        ...

    def wall_ns(self) -> int:
        """Unix time in nanoseconds; may jump."""
        ...

    def call_soon(self, callback: Callable[..., object], *args: object) -> None:
        """Run after what is already due; callbacks run in the order they were given."""
        ...

    def call_later(self, delay_seconds: float, callback: Callable[..., object], *args: object) -> Timer: ...
