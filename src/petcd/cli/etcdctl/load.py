"""Many calls in flight at a chosen rate, for the checks: one thread, a few connections, no loop."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from petcd.client.blocking import BlockingCall, BlockingConnection, Broken


@dataclass(slots=True)
class Report:
    """What a run of calls measured."""

    latencies: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    @property
    def slowest(self) -> float:
        return max(self.latencies, default=0.0)

    @property
    def deviation(self) -> float:
        count = len(self.latencies)
        if not count:
            return 0.0
        mean = sum(self.latencies) / count
        return float((sum((latency - mean) ** 2 for latency in self.latencies) / count) ** 0.5)


def drive(
    connections: list[BlockingConnection],
    metadata: list[tuple[bytes, bytes]],
    method: str,
    messages: Iterator[bytes],
    *,
    in_flight: int,
    per_second: float = 0.0,
    seconds: float = 0.0,
    tick: Callable[[float, int], None] | None = None,
) -> Report:
    """Send ``messages`` with at most ``in_flight`` unanswered, at most ``per_second``, for ``seconds``.

    0 lifts a bound. ``tick`` hears elapsed seconds and answers so far, a few times a second.
    """
    report = Report()
    began = time.monotonic()
    end = began + seconds if seconds else float("inf")
    open_calls: list[dict[BlockingCall, float]] = [{} for _ in connections]
    sent = ticked = turn = waiting = 0
    exhausted = False
    while True:
        now = time.monotonic()
        allowed = int((now - began) * per_second) + 1 if per_second else 1 << 62
        while not exhausted and waiting < in_flight and sent < allowed and now < end:
            message = next(messages, None)
            if message is None:
                exhausted = True
                break
            at = turn = (turn + 1) % len(connections)
            try:
                call = connections[at].open(method, metadata)
                connections[at].send(call, message, end=True)
            except Broken as broken:
                _count(report, str(broken))
                exhausted = True
                break
            open_calls[at][call] = time.monotonic()
            sent += 1
            waiting += 1
        if now >= end:
            exhausted = True
        if exhausted and not waiting:
            break
        pause = 0.2
        if per_second and not exhausted:
            pause = min(pause, max(0.0, began + sent / per_second - time.monotonic()))
        ready, _, _ = select.select([c for c in connections if c.fileno() >= 0], [], [], pause)
        for at, connection in enumerate(connections):
            if connection not in ready and not connection.ready():
                continue
            lost = ""
            try:
                connection.step(0.0)
            except TimeoutError:
                continue
            except Broken as broken:
                lost = str(broken)
            now = time.monotonic()
            done = [call for call in open_calls[at] if call.ended or lost]
            for call in done:
                started = open_calls[at].pop(call)
                waiting -= 1
                if lost or call.broken or call.status:
                    _count(report, lost or str(call.broken or call.text))
                else:
                    report.latencies.append(now - started)
            exhausted = exhausted or bool(lost)
        if tick is not None and int((time.monotonic() - began) * 5) > ticked:
            ticked = int((time.monotonic() - began) * 5)
            tick(time.monotonic() - began, len(report.latencies))
    report.seconds = time.monotonic() - began
    return report


def _count(report: Report, text: str) -> None:
    report.errors[text] = report.errors.get(text, 0) + 1
