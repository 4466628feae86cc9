"""When a call may be made again: what an error says of the attempt before, and how long to wait."""

from __future__ import annotations

import asyncio
import random
from enum import Enum
from typing import Final

from petcd.errors import Code, EtcdError, NoLeader, NotSupportedForLearner
from petcd.net.grpc.client import TransportFailure

_PAUSE_FIRST: Final = 0.025
_PAUSE_MAX: Final = 1.0


class Backoff:
    """Pauses that double up to a bound, each between half and all of its length."""

    __slots__ = ("_next",)

    def __init__(self) -> None:
        self._next = _PAUSE_FIRST

    async def pause(self, most: float | None = None) -> None:
        seconds = self._next * (0.5 + random.random() / 2)
        self._next = min(self._next * 2, _PAUSE_MAX)
        await asyncio.sleep(seconds if most is None else max(0.0, min(seconds, most)))


class Fate(Enum):
    """What became of a call that ended with an error."""

    UNTOUCHED = "nothing was done, and another attempt may pass"
    UNKNOWN = "something may have been done"
    FINAL = "the error is the answer"


def fate(error: EtcdError, *, asked: bool, loner: bool) -> Fate:
    """``asked``: the call itself was begun, and not only what must come before it. ``loner``: there is one
    endpoint only."""
    if isinstance(error, TransportFailure):
        if error.code != Code.UNAVAILABLE:
            return Fate.FINAL
        return Fate.UNKNOWN if asked and error.sent else Fate.UNTOUCHED
    if isinstance(error, NoLeader):
        return Fate.UNTOUCHED
    if isinstance(error, NotSupportedForLearner):
        return Fate.FINAL if loner else Fate.UNTOUCHED
    if error.code == Code.UNAVAILABLE:
        return Fate.UNKNOWN if asked else Fate.UNTOUCHED
    return Fate.FINAL


def left(deadline: float | None) -> float | None:
    """Seconds until a moment of the loop's clock."""
    return None if deadline is None else deadline - asyncio.get_running_loop().time()


def expired(cause: EtcdError | None = None) -> TransportFailure:
    """Time is up before anything was sent; the text keeps what stood in the way."""
    text = "context deadline exceeded" + (f", latest error: {cause.text}" if cause is not None else "")
    return TransportFailure(Code.DEADLINE_EXCEEDED, text, sent=False)
