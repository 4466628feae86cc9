"""What was measured, and the report that etcd's tool prints of it.

Everything is kept in nanoseconds, eight bytes a request, and reckoned when the text is asked for.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, fsum, sqrt
from typing import Final

from petcd.cli.benchmark.numbers import four_places, shortest
from petcd.cli.benchmark.seconds import Seconds

PERCENTILES: Final = (10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9)
_BUCKETS: Final = 10
_BAR_COLUMNS: Final = 40
_BAR: Final = "∎"
_SECOND: Final = 1e9


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """The first of the sorted values before which at least ``percent`` of all come; None: there is none.

    So 99.9 % of fewer than a thousand values is not known.
    """
    count = len(ordered)
    # The product may be off by a rounding; the comparison that counts is the one below.
    at = max(0, ceil(percent * count / 100.0) - 1)
    while at < count and at * 100.0 / count < percent:
        at += 1
    return ordered[at] if at < count else None


def histogram(ordered: Sequence[float]) -> list[tuple[float, int]]:
    """Upper bounds and counts of eleven buckets: up to the fastest value, then ten of equal width."""
    fastest, slowest = ordered[0], ordered[-1]
    width = (slowest - fastest) / _BUCKETS
    bounds = [fastest + width * step for step in range(_BUCKETS)] + [slowest]
    rows = []
    before = 0
    for bound in bounds:
        upto = bisect_right(ordered, bound, before)
        rows.append((bound, upto - before))
        before = upto
    return rows


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a report; times in seconds."""

    total: float
    slowest: float
    fastest: float
    average: float
    deviation: float
    """Standard deviation of the latencies, of the whole population."""
    per_second: float


class Report:
    """The requests of one kind: how long each took, and what became of those that failed."""

    __slots__ = (
        "_began",
        "_epoch",
        "_latencies",
        "_precise",
        "_seconds",
        "_took",
        "errors",
        "operation",
        "sum",
    )

    def __init__(
        self, operation: str, *, precise: bool = False, sample: bool = False, epoch: int = 0
    ) -> None:
        """``epoch``: nanoseconds since 1970 when the clock that ``add`` is told showed 0."""
        self.operation = operation
        self.errors: dict[str, int] = {}
        self.sum = 0
        """Of all latencies, nanoseconds."""
        self._precise = precise
        self._seconds = Seconds() if sample else None
        self._epoch = epoch
        self._latencies = array("q")
        self._began = 0
        self._took = 0

    def begin(self, now: int) -> None:
        self._began = now

    def end(self, now: int) -> None:
        self._took = now - self._began

    def add(self, began: int, ended: int) -> None:
        """One request that was answered; both in nanoseconds of one clock."""
        latency = ended - began
        self._latencies.append(latency)
        self.sum += latency
        if self._seconds is not None:
            self._seconds.add(self._epoch + began, latency)

    def fail(self, text: str) -> None:
        """One request that was not."""
        self.errors[text] = self.errors.get(text, 0) + 1

    @property
    def answered(self) -> int:
        return len(self._latencies)

    @property
    def failed(self) -> int:
        return sum(self.errors.values())

    def ordered(self) -> list[float]:
        """The latencies in seconds, the fastest first."""
        return [latency / _SECOND for latency in sorted(self._latencies)]

    def summary(self, ordered: Sequence[float]) -> Summary:
        """Raises ValueError when nothing was answered."""
        if not ordered:
            raise ValueError("a summary of nothing")
        average = fsum(ordered) / len(ordered)
        deviation = sqrt(fsum((latency - average) ** 2 for latency in ordered) / len(ordered))
        total = self._took / _SECOND
        per_second = len(ordered) / total if total else float("inf")
        return Summary(total, ordered[-1], ordered[0], average, deviation, per_second)

    def text(self) -> str:
        """The whole report; empty when there was neither an answer nor an error."""
        ordered = self.ordered()
        out = self._answers(ordered) if ordered else ""
        if self.errors:
            rows = sorted(self.errors.items(), key=lambda item: (-item[1], item[0]))
            out += "\nError distribution:\n" + "".join(f"  [{count}]\t{text}\n" for text, count in rows)
        return out

    def _answers(self, ordered: Sequence[float]) -> str:
        number = shortest if self._precise else four_places
        summary = self.summary(ordered)
        out = ["\nSummary:\n"]
        for name, value in (
            ("Total", summary.total),
            ("Slowest", summary.slowest),
            ("Fastest", summary.fastest),
            ("Average", summary.average),
            ("Stddev", summary.deviation),
        ):
            out.append(f"  {name}:\t{number(value)} secs.\n")
        out.append(f"  Requests/sec:\t{number(summary.per_second)}\n")
        out.append("\nResponse time histogram:\n")
        rows = histogram(ordered)
        most = max(count for _, count in rows)
        for bound, count in rows:
            out.append(f"  {number(bound)} [{count}]\t|{_BAR * (count * _BAR_COLUMNS // most)}\n")
        out.append("\nLatency distribution:\n")
        for percent in PERCENTILES:
            value_there = percentile(ordered, percent)
            if value_there:
                out.append(f"  {shortest(percent)}% in {number(value_there)} secs.\n")
        if self._seconds is not None:
            out.append(f"{self._seconds}\n")
        return "".join(out)
