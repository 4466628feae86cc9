"""Give the same history to two servers and list every difference between their answers.

python -m tests.differential --operations 20000 --seed 1
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from tests.differential.compare import canonical
from tests.differential.history import Generator
from tests.differential.watching import Watching
from tests.rpc import Rpc, Status

from petcd.pb import etcdserverpb as pb
from petcd.pb.message import Message

STREAMS = 3
WATCHERS_MAX = 12
DIFFERENCES_MAX = 25


@dataclass
class Report:
    """What a run found."""

    seed: int
    operations: int = 0
    errors: int = 0
    """Operations both servers refused in the same words."""
    hashes: int = 0
    watchers: int = 0
    events: int = 0
    compactions: int = 0
    revision: int = 0
    seconds: float = 0.0
    differences: list[str] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)
    error_kinds: dict[str, int] = field(default_factory=dict)

    def describe(self) -> str:
        what = f"seed {self.seed}: {self.operations} operations, {self.errors} of them errors"
        how = f"revision {self.revision}, {self.compactions} compactions, {self.hashes} hashes"
        seen = f"{self.watchers} watchers with {self.events} events, {self.seconds:.1f} s"
        lines = [
            f"{what}, {how}, {seen}",
            "requests: " + ", ".join(f"{name} {count}" for name, count in sorted(self.kinds.items())),
            "errors: " + ", ".join(f"{name!r} {count}" for name, count in sorted(self.error_kinds.items())),
            f"differences: {len(self.differences)}",
        ]
        return "\n".join(lines + self.differences[:DIFFERENCES_MAX])


class _Side:
    """One of the two servers."""

    def __init__(self, name: str, endpoint: str) -> None:
        self.rpc = Rpc(endpoint)
        self.keep_alive = self.rpc.keep_alive()
        self.watching = Watching(name, self.rpc, STREAMS)

    def ask(self, request: Message) -> Message | Status:
        try:
            if isinstance(request, pb.LeaseKeepAliveRequest):
                return self.keep_alive.ask(request)
            answer: Message = self.rpc.call(request)
            return answer
        except Status as status:
            return status

    def close(self) -> None:
        self.watching.close()
        self.keep_alive.cancel()
        self.rpc.close()


class Differential:
    """One run over two servers that were empty when it began."""

    def __init__(self, reference: str, subject: str, seed: int) -> None:
        self.reference = _Side("reference", reference)
        self.subject = _Side("subject", subject)
        self.generator = Generator(seed)
        self.report = Report(seed)

    def run(self, operations: int, *, hashes: int = 20) -> Report:
        report, rng = self.report, self.generator.random
        started = time.monotonic()
        try:
            for number in range(operations):
                report.operations = number + 1
                if rng.random() < 0.02:
                    self._watch_operation()
                else:
                    self._one(self.generator.next())
                if number % max(1, operations // hashes) == 0:
                    self._hash()
                if number % 500 == 499:
                    self._settle()
                if len(report.differences) > DIFFERENCES_MAX:
                    break
            self._finish()
        except Exception as error:
            error.add_note(f"after {report.operations} operations of seed {report.seed}")
            raise
        finally:
            report.revision = self.generator.known.revision
            report.seconds = time.monotonic() - started
            self.reference.close()
            self.subject.close()
        return report

    def _differ(self, what: str, expected: Any, found: Any) -> None:
        number = self.report.operations
        self.report.differences.append(
            f"[{number}] {_short(what)}\n    reference: {_short(expected)}\n    subject:   {_short(found)}"
            f"{_where(expected, found)}"
        )

    def _one(self, request: Message) -> None:
        report = self.report
        if isinstance(request, pb.CompactionRequest):
            self._settle()
            for side in (self.reference, self.subject):
                side.watching.wait_caught_up()
            report.compactions += 1
        expected, found = self.reference.ask(request), self.subject.ask(request)
        name = type(request).__name__.removesuffix("Request")
        report.kinds[name] = report.kinds.get(name, 0) + 1
        if isinstance(expected, Status) or isinstance(found, Status):
            if expected != found:
                self._differ(repr(request), expected, found)
            else:
                assert isinstance(expected, Status)
                report.errors += 1
                report.error_kinds[expected.text] = report.error_kinds.get(expected.text, 0) + 1
            self.generator.observe(request, None if isinstance(expected, Status) else expected)
            return
        self.generator.observe(request, expected)
        before, after = canonical(request, expected), canonical(request, found)
        if before != after:
            self._differ(repr(request), before, after)
        for side in (self.reference, self.subject):
            side.watching.compacted = self.generator.known.compacted

    def _hash(self) -> None:
        known, rng = self.generator.known, self.generator.random
        if known.revision <= known.compacted:
            return
        self.report.hashes += 1
        self._one(pb.HashKVRequest(revision=rng.randint(known.compacted + 1, known.revision)))

    def _watch_operation(self) -> None:
        rng = self.generator.random
        stream = rng.randrange(STREAMS)
        watching = self.reference.watching
        live = [one for one in watching.live(stream) if watching.watchers[stream][one] is not watching.all]
        draw = rng.random()
        if draw < 0.2 and live:
            self._settle()
            chosen = rng.choice(live)
            for side in (self.reference, self.subject):
                if chosen in side.watching.live(stream):
                    side.watching.cancel(stream, chosen)
        elif draw < 0.3 and self._all_synced(watching, stream):
            self._settle()
            for side in (self.reference, self.subject):
                side.watching.wait_caught_up()
            if watching.live(stream):
                revisions = [side.watching.ask_progress(stream) for side in (self.reference, self.subject)]
                if revisions[0] != revisions[1]:
                    self._differ("progress request", revisions[0], revisions[1])
        elif len(live) < WATCHERS_MAX:
            request = self.generator.watch()
            if rng.random() < 0.1:
                request.watch_id = rng.choice([7, -3, 100, *live])
            taken = watching.watchers[stream].get(request.watch_id)
            if request.watch_id and taken is not None and taken.ended:
                request.watch_id = 0  # what came before under this id is being compared still
            expected, found = (
                side.watching.create(stream, request) for side in (self.reference, self.subject)
            )
            self.report.watchers += 1
            if expected != found:
                self._differ(repr(request), expected, found)

    def _all_synced(self, watching: Watching, stream: int) -> bool:
        """No watcher waits for a revision to come, and none was ended by a compaction (it stays unsynced)."""
        watchers = watching.watchers[stream].values()
        return all(
            not one.compacted and (one.ended or one.start <= self.generator.known.revision)
            for one in watchers
        )

    def _settle(self) -> None:
        """Let all watchers get what they are due, then compare what they got since the last time."""
        for name, side in (("reference", self.reference), ("subject", self.subject)):
            for missing in side.watching.settle(self.generator.known.revision):
                self.report.differences.append(f"[{self.report.operations}] {name}: {missing}")
        for stream in range(STREAMS):
            watchers, others = (side.watching.watchers[stream] for side in (self.reference, self.subject))
            for watch_id, watcher in watchers.items():
                other = others.get(watch_id)
                if other is None:
                    continue
                what = f"stream {stream} watcher {watch_id} {watcher.create}"
                start = watcher.compared
                if watcher.events[start:] != other.events[start:]:
                    self._differ(f"{what} events from {start}", watcher.events[start:], other.events[start:])
                if watcher.control != other.control:
                    self._differ(f"{what} control", watcher.control, other.control)
                    other.control = list(watcher.control)  # said once
                for side_name, one in (("reference", watcher), ("subject", other)):
                    self.report.differences += [f"{side_name}: {what}: {fault}" for fault in one.faults]
                    one.faults.clear()
                self.report.events += len(watcher.events) - start
                watcher.compared = len(watcher.events)

    def _finish(self) -> None:
        """At the end: everything at many revisions, every lease, and the hash of all of it."""
        self._settle()
        known = self.generator.known
        span = known.revision - known.compacted
        for step in range(21):
            revision = known.compacted + 1 + step * (span - 1) // 20 if span > 1 else known.revision
            self._one(pb.RangeRequest(key=b"\x00", range_end=b"\x00", revision=revision))
            self._one(pb.HashKVRequest(revision=revision))
            self.report.hashes += 1
        for lease in list(known.leases):
            self._one(pb.LeaseTimeToLiveRequest(ID=lease, keys=True))
        for lease in list(known.leases):
            self._one(pb.LeaseRevokeRequest(ID=lease))
        self._one(pb.DeleteRangeRequest(key=b"\x00", range_end=b"\x00", prev_kv=True))
        self._one(pb.HashKVRequest())
        self._settle()


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 1500 else f"{text[:900]} … {text[-500:]}"


def _where(expected: Any, found: Any) -> str:
    """The first place at which two long descriptions part."""
    one, other = repr(expected), repr(found)
    if len(one) <= 300:
        return ""
    at = next(
        (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    start = max(0, at - 60)
    return f"\n    they part at …{one[start : at + 80]!r} / …{other[start : at + 80]!r}"
