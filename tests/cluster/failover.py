"""``python -m tests.cluster.failover --kind petcd --kills 100``: kill -9 the leader under load, repeatedly.

For each kill: how long until another member says that it leads, and until a write that was sent after the
kill is acknowledged. The killed member is started again before the next one. At the end every member must
hold every acknowledged write, and all must have equal hashes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.cluster.members import Cluster, cluster
from tests.cluster.traffic import Caller, Writers, Written, ask_until, losses
from tests.servers import Kind

from petcd.errors import EtcdError
from petcd.pb import etcdserverpb as pb


@dataclass
class Report:
    kind: Kind
    leader_seconds: list[float] = field(default_factory=list)
    """From each kill until another member said that it leads."""
    write_seconds: list[float] = field(default_factory=list)
    """From each kill until a write sent after it was acknowledged."""
    restart_seconds: list[float] = field(default_factory=list)
    written: Written = field(default_factory=Written)
    wrong: list[str] = field(default_factory=list)

    def describe(self) -> str:
        written = self.written
        errors = ", ".join(f"{count} of {text}" for text, count in written.errors.most_common(8))
        return "\n".join(
            [
                f"{self.kind}: {len(self.leader_seconds)} kills of the leader",
                f"  new leader after     {spread(self.leader_seconds)}",
                f"  next write done      {spread(self.write_seconds)}",
                f"  member serves again  {spread(self.restart_seconds)}",
                f"  writes: {written.sent} sent, {len(written.acknowledged)} acknowledged",
                f"  failed writes: {errors or 'none'}; of unknown fate {len(written.unknown)}",
                f"  acknowledged writes lost or wrong: {len(self.wrong)}",
                *(f"    {line}" for line in self.wrong[:20]),
            ]
        )


def spread(seconds: list[float]) -> str:
    if not seconds:
        return "-"
    ordered = sorted(seconds)
    ninth = ordered[min(len(ordered) - 1, len(ordered) * 9 // 10)]
    return f"median {statistics.median(ordered):.2f} s, nine of ten {ninth:.2f} s, max {ordered[-1]:.2f} s"


async def leader_among(endpoints: list[str], *, other_than: int = 0, seconds_max: float = 30.0) -> int:
    """The id of the leader, as soon as the member that leads says so itself."""
    found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def poll(endpoint: str) -> None:
        caller = Caller(endpoint)
        try:
            while not found.done():
                try:
                    status = await caller.call(pb.StatusRequest(), seconds=1.0)
                except EtcdError:
                    await asyncio.sleep(0.01)
                    continue
                assert isinstance(status, pb.StatusResponse) and status.header is not None
                own = status.header.member_id
                if own == status.leader and own != other_than and not found.done():
                    found.set_result(own)
                await asyncio.sleep(0.01)
        finally:
            caller.close()

    polls = [asyncio.ensure_future(poll(endpoint)) for endpoint in endpoints]
    try:
        return await asyncio.wait_for(asyncio.shield(found), seconds_max)
    finally:
        found.cancel()
        for task in polls:
            task.cancel()
        await asyncio.gather(*polls, return_exceptions=True)


async def first_write(endpoints: list[str], *, seconds_max: float = 30.0) -> None:
    """Return when a write is acknowledged; a new one is sent every 20 ms, whatever became of those before."""
    callers = [Caller(endpoint) for endpoint in endpoints]
    done = asyncio.Event()
    tasks: set[asyncio.Task[None]] = set()

    async def write(caller: Caller) -> None:
        with contextlib.suppress(EtcdError):
            await caller.call(pb.PutRequest(key=b"probe", value=b""), seconds=1.0)
            done.set()

    async def keep_writing() -> None:
        for caller in itertools.cycle(callers):
            task = asyncio.ensure_future(write(caller))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            await asyncio.sleep(0.02)

    writing = asyncio.ensure_future(keep_writing())
    try:
        await asyncio.wait_for(done.wait(), seconds_max)
    finally:
        for task in [writing, *tasks]:
            task.cancel()
        await asyncio.gather(writing, *tasks, return_exceptions=True)
        for caller in callers:
            caller.close()


async def serves(endpoint: str, *, seconds_max: float = 30.0, pause: float = 0.1) -> None:
    """Wait until this member answers a linearizable read."""
    await ask_until(endpoint, pb.RangeRequest(key=b"\x00"), seconds_max=seconds_max, pause=pause)


async def kill_leaders(
    c: Cluster, kills: int, *, seed: int = 1, clients: int = 6, say: Callable[[str], object] = lambda _: None
) -> Report:
    report = Report(c.kind)
    rng = random.Random(seed)
    by_id = {c.member_id(host): host for host in c.members}
    writers = Writers(c.endpoints, clients=clients, pause=0.005, seconds=1.0)
    report.written = writers.written
    try:
        for number in range(1, kills + 1):
            leader_id = await leader_among(c.endpoints)
            leader = c[by_id[leader_id]]
            await asyncio.sleep(0.3 + rng.random() * 0.7)
            others = [m.endpoint for m in c.running if m is not leader]
            killed = time.monotonic()
            leader.kill()
            waiting = asyncio.ensure_future(first_write(others))
            waiting.add_done_callback(
                lambda _, killed=killed: report.write_seconds.append(time.monotonic() - killed)
            )
            new = await leader_among(others, other_than=leader_id)
            report.leader_seconds.append(time.monotonic() - killed)
            await waiting
            restarted = time.monotonic()
            leader.start()
            await serves(leader.endpoint)
            report.restart_seconds.append(time.monotonic() - restarted)
            times = (report.leader_seconds[-1], report.write_seconds[-1], report.restart_seconds[-1])
            say(
                f"kill {number}: {leader.name}; m{by_id[new]} leads after {times[0]:.2f} s, "
                f"a write after {times[1]:.2f} s, {leader.name} is back in {times[2]:.2f} s"
            )
    finally:
        await writers.stop()
    report.wrong = await losses(c.endpoints, report.written)
    return report


def run(kind: Kind, kills: int, *, seed: int = 1, say: Callable[[str], object] = lambda _: None) -> Report:
    with cluster(kind) as c:
        return asyncio.run(kill_leaders(c, kills, seed=seed, say=say))


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Kill the leader of three members under load; look for losses."
    )
    parser.add_argument("--kind", choices=["go", "petcd"], default="petcd")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quiet", action="store_true")
    args = parser.parse_args()
    report = run(args.kind, args.kills, seed=args.seed, say=(lambda _: None) if args.quiet else print)
    print(report.describe())
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
