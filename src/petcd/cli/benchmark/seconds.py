"""How each second of a run went: the table of ``--sample``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from petcd.cli.etcdctl.golang import duration

_SECOND: Final = 1_000_000_000
_HEAD: Final = "UNIX-SECOND,MIN-LATENCY-MS,AVG-LATENCY-MS,MAX-LATENCY-MS,AVG-THROUGHPUT"


@dataclass(slots=True)
class _Second:
    """The requests that began in one second; latencies in nanoseconds."""

    fastest: int = 0
    slowest: int = 0
    total: int = 0
    count: int = 0

    def line(self, at: int) -> str:
        """Go's durations carry their unit, whatever the head of the column says."""
        average = self.total // self.count if self.count else 0
        times = ",".join(duration(value) for value in (self.fastest, average, self.slowest))
        return f"{at},{times},{self.count}"


class Seconds:
    """Latencies by the second in which their requests began."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds: dict[int, _Second] = {}

    def add(self, began: int, latency: int) -> None:
        """One request; nanoseconds since the epoch, and nanoseconds."""
        second = self._seconds.get(began // _SECOND)
        if second is None:
            self._seconds[began // _SECOND] = _Second(latency, latency, latency, 1)
            return
        second.fastest = min(second.fastest, latency)
        second.slowest = max(second.slowest, latency)
        second.total += latency
        second.count += 1

    def __str__(self) -> str:
        """CSV from the first second to the last, those without a request too."""
        lines = ["", "Sample in one second (unix latency throughput):", _HEAD]
        if self._seconds:
            nothing = _Second()
            every = range(min(self._seconds), max(self._seconds) + 1)
            lines += [self._seconds.get(at, nothing).line(at) for at in every]
        return "\n".join(lines) + "\n"
