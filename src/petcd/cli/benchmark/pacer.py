"""Requests at a chosen rate, evenly spaced."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

_SLACK_SECONDS: Final = 0.010
"""A loop's timers come up to a millisecond late, and a busy loop later: so much is made up for, so that the
rate is met; more is given up, so that a pause of the server is not followed by a burst."""


class Pacer:
    """Hands out moments that lie ``1 / per_second`` apart; 0 is no limit."""

    __slots__ = ("_clock", "_next", "_step")

    def __init__(self, per_second: float, clock: Callable[[], float] = monotonic) -> None:
        self._step = 1 / per_second if per_second else 0.0
        self._clock = clock
        self._next = clock()

    def delay(self) -> float:
        """Take the next moment; seconds until it comes, 0 or less when it is there."""
        now = self._clock()
        moment = max(self._next, now - _SLACK_SECONDS)
        self._next = moment + self._step
        return moment - now

    async def wait(self) -> None:
        if self._step:
            delay = self.delay()
            if delay > 0:
                await asyncio.sleep(delay)
