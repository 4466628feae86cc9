"""``python -m tests.cluster.linearizability --kind petcd --minutes 10 --clients 20 --seed 1``

Clients read and write a few keys at three real members, each request at a member drawn anew, while members
are killed, paused and cut off. What they were told is then checked twice:

- by search (``tests.linearizability``): an order of the operations exists that explains every answer and
  agrees with real time, and the revisions of the answers agree with real time over the whole store;
- by replay: the history of all events, read from each member, is the same, holds every acknowledged write at
  its revision and nothing that was not asked for, and every read, serializable ones included, is the state
  at the revision of its header.

Keys change their names every few seconds, which keeps the search small.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tests.cluster.members import Cluster, cluster
from tests.cluster.nemesis import Fault, Nemesis
from tests.cluster.traffic import Caller, ask_until, describe, may_have_happened, unequal_hashes
from tests.linearizability import operations as ops
from tests.linearizability.registers import check
from tests.servers import Kind

from petcd.errors import EtcdError
from petcd.pb import etcdserverpb as pb
from petcd.pb import mvccpb
from petcd.pb.message import Message

EPOCH_SECONDS = 4.0
REGISTERS = 4
PAIRS = 2
OPERATION_SECONDS = 1.5
PREFIX = b"l/"

Told = tuple[int, bytes, bytes | None, int]
"""Of a read: revision of the header, key, value or None, mod revision."""


class Answered(NamedTuple):
    invoke: float
    complete: float
    answer: Any


@dataclass
class Recorded:
    """All that the clients did and were told."""

    history: list[ops.Operation] = field(default_factory=list)
    reads: list[Told] = field(default_factory=list)
    writes: dict[int, dict[bytes, bytes | None]] = field(default_factory=dict)
    """Revision: what was acknowledged to be written (None: deleted) at it."""
    asked: set[tuple[bytes, bytes]] = field(default_factory=set)
    """Every pair that any client ever asked to write."""
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def wrote(self, revision: int, key: bytes, value: bytes | None) -> None:
        if key in self.writes.setdefault(revision, {}):
            self.failures.append(f"{key!r} was twice acknowledged to be written at revision {revision}")
        self.writes[revision][key] = value


class RegisterClient:
    """One client: one operation at a time, on keys of the present epoch, at a random member."""

    def __init__(
        self, number: int, endpoints: list[str], seed: int, recorded: Recorded, *, cheat: bool = False
    ) -> None:
        self._number = number
        self._endpoints = endpoints
        self._rng = random.Random(seed * 1000 + number)
        self._recorded = recorded
        self._cheat = cheat
        self._callers: dict[str, Caller] = {}
        self._count = 0
        self._known: dict[bytes, bytes | None] = {}
        """Values last seen, to compare with."""

    async def run(self, end: float, pause: float) -> None:
        rng = self._rng
        steps = [
            (self._get, 30),
            (self._put, 22),
            (self._cas, 16),
            (self._serializable, 10),
            (self._pair_swap, 10),
            (self._pair_read, 7),
            (self._delete, 5),
        ]
        actions, weights = [s[0] for s in steps], [s[1] for s in steps]
        try:
            while time.monotonic() < end:
                action = rng.choices(actions, weights)[0]
                endpoint = rng.choice(self._endpoints)
                caller = self._callers.get(endpoint) or self._callers.setdefault(endpoint, Caller(endpoint))
                name = action.__name__.strip("_")
                try:
                    await action(caller)
                    self._recorded.outcomes[f"{name}: ok"] += 1
                except EtcdError as error:
                    self._recorded.outcomes[f"{name}: {describe(error)}"] += 1
                await asyncio.sleep(rng.uniform(0, 2 * pause))
        finally:
            for caller in self._callers.values():
                caller.close()

    # Keys and values.

    def _register(self) -> bytes:
        epoch = int(time.monotonic() / EPOCH_SECONDS)
        return b"%s%d/r%d" % (PREFIX, epoch, self._rng.randrange(REGISTERS))

    def _pair(self) -> tuple[bytes, bytes]:
        epoch = int(time.monotonic() / EPOCH_SECONDS)
        number = self._rng.randrange(PAIRS)
        return b"%s%d/p%da" % (PREFIX, epoch, number), b"%s%d/p%db" % (PREFIX, epoch, number)

    def _value(self, *keys: bytes) -> bytes:
        self._count += 1
        value = b"%d-%d" % (self._number, self._count)
        self._recorded.asked.update((key, value) for key in keys)
        return value

    async def _write(
        self, caller: Caller, request: Message, lost: Callable[[float], ops.Operation]
    ) -> Answered:
        """Ask for something that may write; when no answer tells its fate, ``lost`` is recorded."""
        invoke = time.monotonic()
        try:
            answer = await caller.call(request, seconds=OPERATION_SECONDS)
        except EtcdError as error:
            if may_have_happened(error):
                self._recorded.history.append(lost(invoke))
            raise
        return Answered(invoke, time.monotonic(), answer)

    def _saw(self, revision: int, key: bytes, kvs: list[mvccpb.KeyValue]) -> ops.Read:
        kv = kvs[0] if kvs else None
        read = ops.Read(kv.value if kv else None, kv.mod_revision if kv else 0)
        self._recorded.reads.append((revision, key, read.value, read.mod_revision or 0))
        self._known[key] = kv.value if kv else None
        return read

    # Operations.

    async def _get(self, caller: Caller) -> None:
        key = self._register()
        invoke = time.monotonic()
        answer: Any = await caller.call(
            pb.RangeRequest(key=key, serializable=self._cheat), seconds=OPERATION_SECONDS
        )
        complete = time.monotonic()
        revision = answer.header.revision
        read = self._saw(revision, key, answer.kvs)
        self._recorded.history.append(
            ops.get(
                self._number,
                invoke,
                complete,
                key,
                read.value,
                mod_revision=read.mod_revision,
                revision=revision,
            )
        )

    async def _serializable(self, caller: Caller) -> None:
        """May be old, but must have been true at its revision."""
        key = self._register()
        request = pb.RangeRequest(key=key, serializable=True)
        answer: Any = await caller.call(request, seconds=OPERATION_SECONDS)
        kv = answer.kvs[0] if answer.kvs else None
        self._recorded.reads.append(
            (answer.header.revision, key, kv.value if kv else None, kv.mod_revision if kv else 0)
        )

    async def _put(self, caller: Caller) -> None:
        key = self._register()
        value = self._value(key)
        invoke, complete, answer = await self._write(
            caller,
            pb.PutRequest(key=key, value=value),
            lambda invoke: ops.put(self._number, invoke, None, key, value),
        )
        revision = answer.header.revision
        self._recorded.wrote(revision, key, value)
        self._known[key] = value
        self._recorded.history.append(ops.put(self._number, invoke, complete, key, value, revision=revision))

    async def _delete(self, caller: Caller) -> None:
        key = self._register()
        invoke, complete, answer = await self._write(
            caller,
            pb.DeleteRangeRequest(key=key),
            lambda invoke: ops.delete(self._number, invoke, None, key),
        )
        revision = answer.header.revision
        if answer.deleted:
            self._recorded.wrote(revision, key, None)
        self._recorded.history.append(
            ops.delete(self._number, invoke, complete, key, deleted=answer.deleted, revision=revision)
        )

    async def _cas(self, caller: Caller) -> None:
        key = self._register()
        expected = self._known.get(key)
        value = self._value(key)
        request = pb.TxnRequest(
            compare=[_equals(key, expected)],
            success=[pb.RequestOp(request_put=pb.PutRequest(key=key, value=value))],
        )
        invoke, complete, answer = await self._write(
            caller,
            request,
            lambda invoke: ops.cas(self._number, invoke, None, key, expected, value),
        )
        revision = answer.header.revision
        if answer.succeeded:
            self._recorded.wrote(revision, key, value)
            self._known[key] = value
        else:
            self._known.pop(key, None)
        self._recorded.history.append(
            ops.cas(
                self._number,
                invoke,
                complete,
                key,
                expected,
                value,
                succeeded=answer.succeeded,
                revision=revision,
            )
        )

    async def _pair_swap(self, caller: Caller) -> None:
        """Both keys are written if the first is as it was last seen; else both are read."""
        a, b = self._pair()
        expected = self._known.get(a)
        value = self._value(a, b)
        compares = [ops.Compare(a, expected)]
        success = [ops.Put(a, value), ops.Put(b, value)]
        failure = [ops.Get(a), ops.Get(b)]
        request = pb.TxnRequest(
            compare=[_equals(a, expected)],
            success=[pb.RequestOp(request_put=pb.PutRequest(key=key, value=value)) for key in (a, b)],
            failure=[pb.RequestOp(request_range=pb.RangeRequest(key=key)) for key in (a, b)],
        )
        invoke, complete, answer = await self._write(
            caller,
            request,
            lambda invoke: ops.txn(self._number, invoke, None, compares, success, failure),
        )
        revision = answer.header.revision
        reads: list[ops.Read] = []
        if answer.succeeded:
            for key in (a, b):
                self._recorded.wrote(revision, key, value)
                self._known[key] = value
        else:
            reads = self._both(revision, a, b, answer)
        self._recorded.history.append(
            ops.txn(
                self._number,
                invoke,
                complete,
                compares,
                success,
                failure,
                succeeded=answer.succeeded,
                reads=reads,
                revision=revision,
            )
        )

    async def _pair_read(self, caller: Caller) -> None:
        a, b = self._pair()
        request = pb.TxnRequest(
            success=[pb.RequestOp(request_range=pb.RangeRequest(key=key)) for key in (a, b)]
        )
        invoke = time.monotonic()
        answer: Any = await caller.call(request, seconds=OPERATION_SECONDS)
        complete = time.monotonic()
        revision = answer.header.revision
        reads = self._both(revision, a, b, answer)
        steps = [ops.Get(a), ops.Get(b)]
        self._recorded.history.append(
            ops.txn(self._number, invoke, complete, [], steps, reads=reads, revision=revision)
        )

    def _both(self, revision: int, a: bytes, b: bytes, answer: pb.TxnResponse) -> list[ops.Read]:
        reads = []
        for key, response in zip((a, b), answer.responses, strict=True):
            assert response.response_range is not None
            reads.append(self._saw(revision, key, response.response_range.kvs))
        if reads[0].value != reads[1].value:
            self._recorded.failures.append(f"half of a transaction was seen at {revision}: {a!r} {reads}")
        return reads


def _equals(key: bytes, value: bytes | None) -> pb.Compare:
    """Holds when the key has this value; None: when there is no such key."""
    if value is None:
        return pb.Compare(key=key, target=pb.CompareTarget.CREATE, create_revision=0)
    return pb.Compare(key=key, target=pb.CompareTarget.VALUE, value=value)


# -- the replay ----------------------------------------------------------------------------------------------


async def all_events(endpoint: str, revision: int) -> list[mvccpb.Event]:
    """Everything that ever happened below PREFIX, as this member tells it, at least up to ``revision``."""
    caller = Caller(endpoint)
    try:
        connection = await caller.connected(10.0)
        stream = connection.stream(b"/etcdserverpb.Watch/Watch")
        create = pb.WatchCreateRequest(key=PREFIX, range_end=PREFIX[:-1] + b"0", start_revision=1)
        stream.send(pb.WatchRequest(create_request=create).encode())
        events: list[mvccpb.Event] = []
        while not events or events[-1].kv is None or events[-1].kv.mod_revision < revision:
            body = await asyncio.wait_for(stream.recv(), 30.0)
            assert body is not None, "the watch ended"
            response = pb.WatchResponse.decode(body)
            assert not response.canceled, response
            events += response.events
        return events
    finally:
        caller.close()


def replay(events: list[mvccpb.Event], recorded: Recorded) -> list[str]:
    """What contradicts the history of events, in words."""
    wrong: list[str] = []
    by_key: dict[bytes, list[tuple[int, bytes | None]]] = {}
    acknowledged = {(r, k): v for r, changes in recorded.writes.items() for k, v in changes.items()}
    previous = 0
    for event in events:
        kv = event.kv
        assert kv is not None
        if kv.mod_revision < previous:
            wrong.append(f"events out of order: {kv.mod_revision} after {previous}")
        previous = kv.mod_revision
        value = None if event.type == mvccpb.EventType.DELETE else kv.value
        by_key.setdefault(kv.key, []).append((kv.mod_revision, value))
        told = acknowledged.pop((kv.mod_revision, kv.key), value)
        if told != value:
            wrong.append(f"{kv.key!r} at {kv.mod_revision} is {value!r}, acknowledged was {told!r}")
        if value is not None and (kv.key, value) not in recorded.asked:
            wrong.append(f"{kv.key!r} = {value!r} at {kv.mod_revision} was never asked for")
        recorded.asked.discard((kv.key, value or b""))  # a second time would be one too many
    wrong += [f"{k!r} = {v!r} of revision {r} is lost" for (r, k), v in acknowledged.items()]
    for revision, key, value, mod_revision in recorded.reads:
        state: tuple[int, bytes | None] = (0, None)
        changes = by_key.get(key, [])
        place = bisect.bisect_right(changes, revision, key=lambda change: change[0])
        if place:
            state = changes[place - 1]
        if state[1] is None:
            state = (0, None)
        if state != (mod_revision, value):
            wrong.append(f"{key!r} read at {revision}: {value!r} of {mod_revision}, it was {state}")
    return wrong


# -- the run -------------------------------------------------------------------------------------------------


@dataclass
class Report:
    kind: Kind
    seed: int
    recorded: Recorded
    faults: list[Fault]
    seconds: float
    events: int = 0
    check_seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def describe(self) -> str:
        outcomes = self.recorded.outcomes
        answered = sum(n for text, n in outcomes.items() if text.endswith(": ok"))
        unknown = sum(operation.complete is None for operation in self.recorded.history)
        failed: Counter[str] = Counter()
        for text, count in outcomes.items():
            if not text.endswith(": ok"):
                failed[text.split(": ", 1)[1]] += count
        done = Counter(text.split(":")[0] for text in outcomes.elements() if text.endswith(": ok"))
        faults = Counter(fault.what for fault in self.faults)
        lines = [
            f"{self.kind}, seed {self.seed}, {self.seconds:.0f} s: {answered} operations answered,",
            f"  {outcomes.total() - answered} not; {unknown} writes of unknown fate; {self.events} events",
            "  answered: " + _listed(done),
            "  errors: " + _listed(failed),
            f"  faults: {len(self.faults)}: " + _listed(faults),
            f"  checked in {self.check_seconds:.1f} s: "
            + ("no violation" if not self.wrong else f"{len(self.wrong)} VIOLATIONS"),
        ]
        return "\n".join([*lines, *self.wrong[:20]])


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {text}" for text, count in counts.most_common()) or "none"


async def torment(
    c: Cluster,
    *,
    seconds: float,
    clients: int,
    seed: int,
    pause: float,
    cheat: bool,
    say: Callable[[str], object],
) -> Report:
    recorded = Recorded()
    nemesis = Nemesis(c, seed, say=say)
    end = time.monotonic() + seconds
    started = time.monotonic()
    workers = [
        RegisterClient(n, c.endpoints, seed, recorded, cheat=cheat).run(end, pause) for n in range(clients)
    ]
    await asyncio.gather(nemesis.run(seconds - 2), *workers)
    report = Report(c.kind, seed, recorded, nemesis.faults, time.monotonic() - started)
    report.wrong += recorded.failures + nemesis.dead()
    if nemesis.dead():
        return report
    for endpoint in c.endpoints:
        last = await ask_until(endpoint, pb.PutRequest(key=PREFIX + b"end", value=endpoint.encode()))
        recorded.asked.add((PREFIX + b"end", endpoint.encode()))
    assert isinstance(last, pb.PutResponse) and last.header is not None
    report.wrong += await unequal_hashes(c.endpoints)
    histories = [await all_events(endpoint, last.header.revision) for endpoint in c.endpoints]
    report.events = len(histories[0])
    checking = time.monotonic()
    report.wrong += [
        f"the events of {endpoint} are not those of {c.endpoints[0]}"
        for endpoint, events in zip(c.endpoints, histories, strict=True)
        if events != histories[0]
    ]
    report.wrong += replay(histories[0], recorded)
    problem = check(recorded.history)
    if problem is not None:
        report.wrong.append(problem)
    report.check_seconds = time.monotonic() - checking
    return report


def run(
    kind: Kind,
    *,
    seconds: float,
    clients: int = 20,
    seed: int = 1,
    pause: float = 0.04,
    cheat: bool = False,
    say: Callable[[str], object] = lambda _: None,
) -> Report:
    # Few entries are kept, so that who was away is brought back by snapshots too.
    env = {"ETCD_SNAPSHOT_COUNT": "1000", "ETCD_SNAPSHOT_CATCHUP_ENTRIES": "200"}
    with cluster(kind, env=env) as c:
        report = asyncio.run(
            torment(c, seconds=seconds, clients=clients, seed=seed, pause=pause, cheat=cheat, say=say)
        )
        if report.wrong:
            kept = Path(tempfile.mkdtemp(prefix="violation-"))
            for member in c.members.values():
                shutil.copy(member.log_path, kept / f"{member.name}.log")
            (kept / "history").write_text("\n".join(map(str, report.recorded.history)))
            report.wrong.append(f"logs and history are in {kept}")
        return report


def main() -> int:
    parser = argparse.ArgumentParser(description="Is a tormented cluster linearizable?")
    parser.add_argument("--kind", choices=["go", "petcd"], default="petcd")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--pause", type=float, default=0.04, help="mean seconds between a client's operations"
    )
    parser.add_argument(
        "--cheat",
        action="store_true",
        help="pass serializable reads off as linearizable ones, which must be found out",
    )
    parser.add_argument("--quiet", action="store_true")
    args = parser.parse_args()
    report = run(
        args.kind,
        seconds=args.minutes * 60,
        clients=args.clients,
        seed=args.seed,
        pause=args.pause,
        cheat=args.cheat,
        say=(lambda _: None) if args.quiet else print,
    )
    print(report.describe())
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
