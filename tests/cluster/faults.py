"""``python -m tests.cluster.faults --kind petcd``: what clients see of each fault (docs/operating.md).

Every fault befalls one member of three under load. Once it has lasted for three election timeouts, each
member is asked a few things at once; then the fault is taken away, and it is measured how long the member
takes to serve again. Nothing acknowledged may be lost.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from tests.cluster.failover import leader_among, serves
from tests.cluster.members import HAS_STRACE, Cluster, Member, cluster, wait_for
from tests.cluster.traffic import Caller, Writers, Written, describe, losses
from tests.servers import Kind

from petcd.errors import EtcdError
from petcd.pb import etcdserverpb as pb
from petcd.pb.message import Message

Role = Literal["leader", "follower"]
REQUESTS = ("put", "get", "serializable get", "watch", "watch with require-leader")
SMALL_DISK_BYTES = 400 << 20
SYNC_SECONDS = 1.0

Fault = Callable[[Cluster, int], "contextlib.AbstractContextManager[None]"]


@contextlib.contextmanager
def killed(c: Cluster, host: int) -> Iterator[None]:
    c[host].kill()
    yield
    c[host].start()


@contextlib.contextmanager
def paused(c: Cluster, host: int) -> Iterator[None]:
    c[host].pause()
    yield
    c[host].resume()


@contextlib.contextmanager
def partitioned(c: Cluster, host: int) -> Iterator[None]:
    """The member and its peers do not reach each other; clients reach all."""
    c.network.isolate(host)
    yield
    c.network.heal()


@contextlib.contextmanager
def mute(c: Cluster, host: int) -> Iterator[None]:
    """What the member sends to its peers is lost; it still hears them."""
    c.network.cut_one_way([host], [other for other in c.members if other != host])
    yield
    c.network.heal()


@contextlib.contextmanager
def deaf(c: Cluster, host: int) -> Iterator[None]:
    """What its peers send to the member is lost; they still hear it."""
    c.network.cut_one_way([other for other in c.members if other != host], [host])
    yield
    c.network.heal()


@contextlib.contextmanager
def full_disk(c: Cluster, host: int) -> Iterator[None]:
    """No room for one more byte: the member ends itself when it notices. It is started when there is room."""
    member = c[host]
    member.fill_disk()
    yield
    member.free_disk()
    with contextlib.suppress(TimeoutError):
        wait_for("the end of the process", lambda: not member.running, seconds_max=1.0)
    if not member.running:
        member.start()


@contextlib.contextmanager
def slow_syncs(c: Cluster, host: int) -> Iterator[None]:
    with c[host].slow_syncs(SYNC_SECONDS):
        yield


FAULTS: dict[str, Fault] = {
    "killed": killed,
    "paused": paused,
    "partitioned": partitioned,
    "mute": mute,
    "deaf": deaf,
    "full disk": full_disk,
    "slow syncs": slow_syncs,
}


@dataclass
class Seen:
    """One answer to one request during a fault."""

    outcome: str
    """``ok``, or the code and text of the error."""
    seconds: float

    @property
    def ok(self) -> bool:
        return self.outcome == "ok"

    def __str__(self) -> str:
        return f"{self.outcome} ({self.seconds:.1f} s)"


@dataclass
class Report:
    fault: str
    role: Role
    affected: dict[str, Seen]
    """At the member that has the fault, by request."""
    others: list[dict[str, Seen]]
    gap_seconds: float
    """The longest time within the fault in which none of the writing clients was answered."""
    recovery_seconds: float
    """From the end of the fault until the member answered a linearizable read."""
    leader_moved: bool
    ended: bool
    """The affected process ended because of the fault."""
    written: Written = field(default_factory=Written)
    wrong: list[str] = field(default_factory=list)

    def describe(self) -> str:
        leader = "moved" if self.leader_moved else "stayed"
        lines = [
            f"{self.fault}, {self.role}: leader {leader}{', the process ended' if self.ended else ''}",
            f"    no write for {self.gap_seconds:.1f} s; back {self.recovery_seconds:.1f} s after the fault",
        ]
        lines += [f"    at the member    {request}: {seen}" for request, seen in self.affected.items()]
        for other in self.others:
            lines += [f"    at another       {request}: {seen}" for request, seen in other.items()]
        lines += [
            f"    writers were told {count} times: {text}" for text, count in self.written.errors.items()
        ]
        return "\n".join(lines + [f"    WRONG {text}" for text in self.wrong])


async def _timed(caller: Caller, request: Message, seconds: float) -> Seen:
    started = time.monotonic()
    try:
        await caller.call(request, seconds=seconds)
        outcome = "ok"
    except EtcdError as error:
        outcome = describe(error)
    return Seen(outcome, time.monotonic() - started)


class OpenWatch:
    """A watch opened before the fault: does it still tell of new writes, or does it end?"""

    def __init__(self, endpoint: str, *, require_leader: bool) -> None:
        self._caller = Caller(endpoint)
        self._require_leader = require_leader
        self._last_event = 0.0
        self._ended: Seen | None = None
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        connection = await self._caller.connected(5.0)
        metadata = ((b"hasleader", b"true"),) if self._require_leader else ()
        stream = connection.stream(b"/etcdserverpb.Watch/Watch", metadata=metadata)
        stream.send(
            pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"w/", range_end=b"w0")).encode()
        )
        await stream.recv()

        async def receive() -> None:
            try:
                while (body := await stream.recv()) is not None:
                    message = pb.WatchResponse.decode(body)
                    if message.canceled:
                        self._ended = Seen(f"canceled: {message.cancel_reason}", 0.0)
                    if message.events:
                        self._last_event = time.monotonic()
            except EtcdError as error:
                self._ended = Seen(describe(error), 0.0)

        self._task = asyncio.ensure_future(receive())

    def seen(self, since: float) -> Seen:
        if self._ended is not None:
            return self._ended
        now = time.monotonic()
        return Seen("ok" if self._last_event > since else "open and silent", now - since)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._caller.close()


async def look(member: Member, seconds: float) -> dict[str, Seen]:
    """A put, a get and a serializable get at the same time, each on a connection of its own."""
    requests: dict[str, Message] = {
        "put": pb.PutRequest(key=b"look", value=member.name.encode()),
        "get": pb.RangeRequest(key=b"look"),
        "serializable get": pb.RangeRequest(key=b"look", serializable=True),
    }
    callers = [Caller(member.endpoint) for _ in requests]
    answers = await asyncio.gather(
        *(
            _timed(caller, request, seconds)
            for caller, request in zip(callers, requests.values(), strict=True)
        )
    )
    for caller in callers:
        caller.close()
    return dict(zip(requests, answers, strict=True))


@contextlib.asynccontextmanager
async def _watches(c: Cluster) -> AsyncIterator[dict[int, dict[str, OpenWatch]]]:
    opened = {
        host: {
            "watch": OpenWatch(member.endpoint, require_leader=False),
            "watch with require-leader": OpenWatch(member.endpoint, require_leader=True),
        }
        for host, member in c.members.items()
    }
    try:
        for pair in opened.values():
            for watch in pair.values():
                await watch.open()
        yield opened
    finally:
        for pair in opened.values():
            for watch in pair.values():
                await watch.close()


async def make_leader(c: Cluster, host: int) -> None:
    wanted = c.member_id(host)
    for _ in range(20):
        leader = c.leader()
        if leader == host:
            return
        result = await asyncio.to_thread(c.etcdctl, "move-leader", f"{wanted:x}", via=leader, check=False)
        if result.returncode != 0:
            await asyncio.sleep(0.3)
    raise TimeoutError(f"m{host} does not become the leader")


async def suffer(
    c: Cluster, fault: str, role: Role, *, host: int, seconds: float, settle: float = 3.0
) -> Report:
    """One fault from beginning to end at ``host``, which is made a leader or follower first."""
    await make_leader(c, host if role == "leader" else next(h for h in c.members if h != host))
    leader_id = await leader_among(c.endpoints)
    others = [member for h, member in c.members.items() if h != host]
    prefix = b"w/%s/%s/" % (fault.encode(), role.encode())
    writers = Writers(c.endpoints, prefix=prefix, clients=6, seconds=1.0)
    member = c[host]
    async with _watches(c) as watches:
        await asyncio.sleep(0.3)
        started = time.monotonic()
        effect = FAULTS[fault](c, host)
        with effect:
            await asyncio.sleep(settle)
            half = time.monotonic()
            looks = await asyncio.gather(*(look(m, seconds) for m in [member, *others]))
            for m, seen in zip([member, *others], looks, strict=True):
                for name, watch in watches[m.host].items():
                    seen[name] = watch.seen(half - 0.5)
            now_leading = await leader_among(
                [m.endpoint for m in others]
                + ([member.endpoint] if member.running and not member.paused else [])
            )
            ended_by_itself = fault != "killed" and not member.running
            stopped = time.monotonic()
        recovering = time.monotonic()
        await serves(member.endpoint)
        recovery = time.monotonic() - recovering
    written = await writers.stop()
    report = Report(
        fault,
        role,
        looks[0],
        looks[1:],
        longest_gap(writers.moments, started, stopped),
        recovery,
        now_leading != leader_id,
        ended_by_itself,
        written,
    )
    report.wrong = await losses(c.endpoints, written, prefix)
    return report


def longest_gap(moments: list[float], start: float, end: float) -> float:
    """The longest time between two neighbours of ``moments`` in ``[start, end)``, the ends included."""
    inside = [start, *(m for m in moments if start <= m < end), end]
    return max(b - a for a, b in itertools.pairwise(inside))


@contextlib.contextmanager
def prepared(kind: Kind) -> Iterator[Cluster]:
    """Three members, the third on a small disk."""
    with cluster(kind, started=False) as c:
        c[3].mount_small_disk(SMALL_DISK_BYTES)
        yield c.start()


def main() -> int:
    parser = argparse.ArgumentParser(description="What clients see of each fault.")
    parser.add_argument("--kind", choices=["go", "petcd"], default="petcd")
    parser.add_argument("--fault", choices=list(FAULTS), action="append")
    parser.add_argument("--role", choices=["leader", "follower"], action="append")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long a client waits for an answer")
    args = parser.parse_args()
    wrong = 0
    with prepared(args.kind) as c:
        for fault in args.fault or FAULTS:
            if fault == "slow syncs" and not HAS_STRACE:
                print("slow syncs: strace is not installed")
                continue
            for role in args.role or ("leader", "follower"):
                report = asyncio.run(suffer(c, fault, role, host=3, seconds=args.seconds))
                print(report.describe(), flush=True)
                wrong += len(report.wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
