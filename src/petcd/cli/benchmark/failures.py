"""How a run ends other than by being done."""

from __future__ import annotations

from typing import Final

DONE: Final = 0
FAILED: Final = 1
"""It could not begin, had to give up, or not one request was answered."""
BAD_LINE: Final = 255
"""No such command or flag; the status of etcd's tool."""


class Failure(Exception):
    """The run is over, for a reason the operator is told in one line."""

    def __init__(self, text: str, status: int = FAILED) -> None:
        super().__init__(text)
        self.status = status


class Stopped(Exception):
    """A signal ended the run."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal
