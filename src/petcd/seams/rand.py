"""Randomness: election timeouts, ids and tokens draw from this."""

from __future__ import annotations

from typing import Protocol


class Random(Protocol):
    """The part of ``random.Random`` that members use."""

    def getrandbits(self, k: int, /) -> int: ...

    def randrange(self, start: int, stop: int, /) -> int: ...

    def random(self) -> float: ...

    def randbytes(self, n: int, /) -> bytes: ...
