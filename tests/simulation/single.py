"""One member in the simulated world: the same history with and without a crash must end the same.

The history is run once without faults and the state is kept after each request. A run with a fault gives the
requests in the same order, several in flight. The log is in that order too, so whatever survives a crash is a
prefix: after the restart the state must be the one after k requests, where k is at least the number that was
acknowledged in a row and at most the number that was sent. From there the rest is given, and the end must be
the same end, down to the backend's rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.history import history

from petcd.logs import Logger
from petcd.pb import etcdserverpb as pb
from petcd.pb.message import Message
from petcd.seams import Failpoints, World
from petcd.server import applier
from petcd.server.bootstrap import open_member
from petcd.server.config import Config
from petcd.server.member import Member
from petcd.storage import schema
from petcd.storage.backend import Backend
from petcd.storage.datadir import DataDir
from petcd.storage.memory_backend import MemoryBackend
from petcd.storage.wal import Wal
from petcd.testing.clock import SimCrash
from petcd.testing.drive import Loss
from petcd.testing.world import Host, Simulation

KINDS: dict[type[Message], int] = {
    pb.PutRequest: applier.PUT,
    pb.DeleteRangeRequest: applier.DELETE_RANGE,
    pb.TxnRequest: applier.TXN,
    pb.CompactionRequest: applier.COMPACTION,
    pb.LeaseGrantRequest: applier.LEASE_GRANT,
    pb.LeaseRevokeRequest: applier.LEASE_REVOKE,
}

IN_FLIGHT = 4
SEGMENT_BYTES = 2048

State = tuple[Any, ...]


@contextlib.contextmanager
def small_segments(size: int = SEGMENT_BYTES) -> Iterator[None]:
    """Segments so small that cuts and purges are common."""
    functions = [Wal.create.__func__, Wal.open.__func__]  # type: ignore[attr-defined]
    before = [function.__kwdefaults__["segment_bytes"] for function in functions]
    for function in functions:
        function.__kwdefaults__["segment_bytes"] = size
    try:
        yield
    finally:
        for function, former in zip(functions, before, strict=True):
            function.__kwdefaults__["segment_bytes"] = former


def configuration() -> Config:
    """Everything that happens rarely happens often."""
    return Config(
        name="m",
        data_dir="data",
        snapshot_count=12,
        snapshot_catchup_entries=5,
        max_snapshots=2,
        max_wals=2,
        backend_batch_limit=10,
        backend_batch_interval_seconds=0.02,
        compaction_batch_limit=3,
        compaction_sleep_seconds=0.001,
    )


def memory_backend(data: DataDir, world: World, config: Config, logger: Logger) -> Backend:
    """LMDB's twin on the simulated disk."""
    return MemoryBackend(
        disk=world.disk,
        path=data.backend_path,
        clock=world.clock,
        lane=world.disk.lane("backend"),
        failpoints=world.failpoints,
    )


class Answers:
    """Waits for one request."""

    def __init__(self, run: Run, number: int) -> None:
        self._run = run
        self._number = number

    def reply(self, message: bytes, /) -> None:
        self._run.answer(self._number, message)

    def fail(self, code: int, text: str, /) -> None:
        self._run.refuse(self._number, code, text)


@dataclass
class Run:
    """One member's life over one history, through as many processes as it takes."""

    sim: Simulation
    requests: Sequence[Message]
    host: Host
    sent: int = 0
    answered: dict[int, bytes | str | None] = field(default_factory=dict)
    """Answers by request; None for one that was found applied after a crash."""
    member: Member | None = None
    data: DataDir | None = None
    failure: BaseException | None = None
    logged: list[str] = field(default_factory=list)
    prepare: Callable[[World], object] = lambda _: None
    """Called with the world of each new process, to arm failpoints."""

    # What the waiters report.

    def answer(self, number: int, message: bytes) -> None:
        self.answered[number] = message

    def refuse(self, number: int, code: int, text: str) -> None:
        # A request that the member gave up is one whose answer never came.
        if text not in ("etcdserver: server stopped", "etcdserver: request timed out"):
            self.answered[number] = f"{code} {text}"

    @property
    def acknowledged(self) -> int:
        """How many requests are surely applied: those up to the last one answered."""
        return max(self.answered, default=-1) + 1

    # Life.

    def boot(self) -> bool:
        """Start a process; False when it died or failed while starting."""
        self.failure = None
        self.member = None
        world = self.host.boot()
        self.prepare(world)
        process = self.host.process
        assert process is not None
        try:
            process.run(self._start, world)
        except SimCrash:
            return False
        except Exception as error:  # noqa: BLE001 - a start that is refused is an outcome of a faulty disk
            self.failure = error
            return False
        with contextlib.suppress(TimeoutError):
            self.sim.run_until(lambda: self.ended or self._is_ready(), seconds_max=30)
        assert self.ended or self._is_ready(), "the member neither leads nor ends"
        return not self.ended

    def _start(self, world: World) -> None:
        logger = Logger(lambda level, message, fields: self.logged.append(f"{level.name} {message} {fields}"))
        config = configuration()
        self.data = DataDir(world.disk, config.data_dir, logger=logger)
        parts = open_member(world, config, logger, memory_backend, self.data)
        self.member = Member(world, config, parts, logger, flush_edges=lambda: None, failed=self._failed)
        self.member.start()

    def _failed(self, reason: BaseException) -> None:
        self.failure = reason

    @property
    def ended(self) -> bool:
        return not self.host.running or self.failure is not None

    def _is_ready(self) -> bool:
        member = self.member
        return (
            member is not None
            and member.is_leader
            and member.lessor.primary
            and member.applied == member.node.last_index
        )

    def die(self, loss: Loss) -> None:
        """End the process, whatever it is doing, and lose what this loses."""
        faults = self.host.drive.faults
        faults.crash_at, faults.crash_keeps = 0, None
        faults.fail_at.clear()
        self.host.crash(loss)

    def give(self, until: int) -> None:
        """Give requests in order, a few in flight, until that many are answered or the process ends."""
        sim = self.sim
        while not self.ended and self.acknowledged < until:
            while self.sent < until and self.sent - self.acknowledged < IN_FLIGHT and not self.ended:
                self._send(self.sent)
            sim.run_for(0.002)
        if not self.ended:
            sim.run_for(0.05)

    def _send(self, number: int) -> None:
        request = self.requests[number]
        member, process = self.member, self.host.process
        assert member is not None and process is not None
        self.sent = number + 1
        waiter = Answers(self, number)
        with contextlib.suppress(SimCrash):
            process.run(member.propose, KINDS[type(request)], request.encode(), request, waiter)

    # What it holds.

    def state(self) -> State:
        """The whole of what clients can see, at every revision."""
        member = self.member
        assert member is not None
        store = member.store
        first = max(1, store.compact_rev)
        ranges = [
            store.range(pb.RangeRequest(key=b"\x00", range_end=b"\x00", revision=revision))
            for revision in range(first, store.rev + 1)
        ]
        leases = sorted(
            (lease.id, lease.ttl, tuple(sorted(lease.keys))) for lease in member.lessor.by_remaining()
        )
        return store.rev, store.compact_rev, tuple(ranges), tuple(leases)

    def rows(self) -> dict[str, list[tuple[bytes, bytes]]]:
        """The backend's contents when all is settled, without where it stands in the log."""
        member = self.member
        assert member is not None
        self.sim.run_until(lambda: not member.store.compaction_due, seconds_max=30)
        self.sim.run_for(0.5)
        found: dict[str, list[tuple[bytes, bytes]]] = {}
        for bucket in schema.BUCKETS:
            found[repr(bucket)] = [
                (key, value)
                for key, value in member.backend.range(bucket, b"", None)
                if not (bucket == schema.META and key in (schema.CONSISTENT_INDEX, schema.TERM))
            ]
        return found


@dataclass
class Golden:
    """The run without faults: the state after each number of requests, and what it took to get there."""

    requests: Sequence[Message]
    states: list[State]
    rows: dict[str, list[tuple[bytes, bytes]]]
    operations: int
    """Disk operations of the same run with several requests in flight."""
    failpoints: dict[str, int]
    """Failpoints it hits, and how often."""
    answers: dict[int, bytes | str | None]


def new_run(
    sim: Simulation, requests: Sequence[Message], prepare: Callable[[World], object] = lambda _: None
) -> Run:
    host = sim.host("m")
    faults = host.drive.faults
    rng = host.drive._rng
    faults.sync_seconds = lambda: rng.random() * 0.004
    faults.lane_seconds = lambda: rng.random() * 0.001
    faults.lane_at_once = lambda: rng.random() < 0.3
    return Run(sim, requests, host, prepare=prepare)


def golden_run(requests: Sequence[Message], seed: int) -> Golden:
    """Run the history twice without faults: one by one for the states, then as the others will run it."""
    with Simulation(seed) as sim:
        run = new_run(sim, requests)
        assert run.boot(), run.failure
        states = [run.state()]
        for number in range(len(requests)):
            run._send(number)
            sim.run_until(lambda number=number: number in run.answered, seconds_max=30)  # type: ignore[misc]
            states.append(run.state())
        answers = dict(run.answered)
        rows = run.rows()
    hits: dict[str, int] = {}
    with Simulation(seed) as sim:
        run = new_run(sim, requests, lambda world: count_hits(world, hits))
        assert run.boot()
        run.give(len(requests))
        assert run.state() == states[-1], "several in flight end elsewhere than one by one"
        assert run.rows() == rows
        operations = run.host.drive.operations
    return Golden(requests, states, rows, operations, hits, answers)


def count_hits(world: World, hits: dict[str, int]) -> None:
    """Count how often each failpoint is hit, by name."""

    class Counting(Failpoints):
        __slots__ = ()

        def hit(self, name: str) -> None:
            hits[name] = hits.get(name, 0) + 1
            super().hit(name)

    counting = Counting()
    counting.armed = True
    counting.seen = set()
    world.failpoints = counting


def crash_at_failpoint(run: Run, name: str, number: int) -> Callable[[World], object]:
    """Die at the ``number``-th hit of ``name``, counted over the first process only."""
    hits = 0

    def action() -> None:
        nonlocal hits
        hits += 1
        if hits == number:
            run.host.stop_here()

    return lambda world: world.failpoints.arm(name, action)


def check_recovery(run: Run, golden: Golden, loss: Loss, *, again: Loss | None = None) -> None:
    """Kill what is left, start again, and hold it against the run without faults.

    ``again`` kills the restarted process at once and starts a third: recovering must itself be safe.
    """
    acknowledged, sent = run.acknowledged, run.sent
    run.prepare = lambda _: None
    run.die(loss)
    assert run.boot(), f"the restart ended: {run.failure!r}"
    if again is not None:
        run.die(again)
        assert run.boot(), f"the second restart ended: {run.failure!r}"
    state = run.state()
    fits = [k for k in range(acknowledged, sent + 1) if golden.states[k] == state]
    assert fits, (
        f"revision {state[0]} after the restart is no state after {acknowledged} to {sent} requests, "
        f"whose revisions are {[golden.states[k][0] for k in range(acknowledged, sent + 1)]}"
    )
    for number, answer in run.answered.items():
        if answer is None:
            continue
        expected = golden.answers[number]
        assert _body(answer) == _body(expected), f"request {number}: {answer!r}, else {expected!r}"
    run.sent = fits[-1]
    run.answered = dict.fromkeys(range(fits[-1]))
    run.give(len(golden.requests))
    assert not run.ended, f"it ended after its recovery: {run.failure!r}"
    assert run.state() == golden.states[-1]
    assert run.rows() == golden.rows


def _body(answer: bytes | str | None) -> bytes | str | None:
    """An answer without its header, whose term may differ."""
    if not isinstance(answer, bytes):
        return answer
    assert answer[0] == 0x0A
    assert answer[1] < 0x80
    return answer[2 + answer[1] :]


def random_crashes(seed: int, count: int, crashes: int = 6) -> int:
    """Several crashes in one random history, at random operations, with random losses; the last revision."""
    golden = golden_run(history(seed, count), seed)
    with Simulation(seed) as sim:
        run = new_run(sim, golden.requests)
        assert run.boot(), run.failure
        for _ in range(crashes):
            run.host.drive.faults.crash_at = run.host.drive.operations + 1 + sim.rng.randrange(60)
            run.give(min(count, run.acknowledged + sim.rng.randrange(1, 20)))
            acknowledged, sent = run.acknowledged, run.sent
            run.die(sim.rng.choice(list(Loss)))
            assert run.boot(), f"the restart ended: {run.failure!r}"
            state = run.state()
            fits = [k for k in range(acknowledged, sent + 1) if golden.states[k] == state]
            assert fits, f"revision {state[0]} is none of those after {acknowledged} to {sent} requests"
            run.sent = fits[-1]
            run.answered = dict.fromkeys(range(fits[-1]))
        check_recovery(run, golden, Loss.SOME)
    revision: int = golden.states[-1][0]
    return revision
