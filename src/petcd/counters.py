"""Plain numbers that the request path may touch: a histogram costs two additions and a bisect.

Nothing here knows Prometheus; ``petcd.api.metrics`` collects these on a scrape.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

LATENCY_BUCKETS: Final = tuple(0.001 * 2**i for i in range(14))
"""Seconds, 1 ms to 8.192 s: the buckets of etcd's disk histograms."""


class Histogram:
    """Counts of observations at or below each bound.

    ``counts`` has one more element than ``bounds``: what lies above the last.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = LATENCY_BUCKETS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        return sum(self.counts)
