"""``python -m tests.cluster.grow --kind petcd``: 3 members become 5 and 3 again, under load.

The fourth and fifth come as learners and are promoted when they have caught up; then the two oldest go, the
leader among them. Each request of the load is tried again, at the next member, until it is acknowledged: one
that fails for ever, or is answered by something that trying again does not cure, is a failure of this test.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.cluster.members import Cluster, Member, cluster, wait_for
from tests.cluster.traffic import Caller, Written, describe, losses, may_have_happened, value_of
from tests.servers import Kind

from petcd.errors import Code, EtcdError
from petcd.net.grpc.client import TransportFailure
from petcd.pb import etcdserverpb as pb

CURABLE = (
    "etcdserver: rpc not supported for learner",
    "etcdserver: leader changed",
    "etcdserver: no leader",
    "etcdserver: request timed out",
    "etcdserver: request timed out, possibly due to previous leader failure",
    "etcdserver: request timed out, possibly due to connection lost",
    "etcdserver: server stopped",
    "etcdserver: too many requests",
    "etcdserver: not capable",
)
"""What etcd's own client tries again, at the next member if need be."""

SECONDS_PER_REQUEST = 30.0


def curable(error: EtcdError) -> bool:
    return (
        isinstance(error, TransportFailure)
        or error.code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)
        or str(error.text) in CURABLE
    )


class PersistentClients:
    """Clients whose every request succeeds in the end; they follow the members as they come and go."""

    def __init__(
        self, endpoints: Sequence[str], *, prefix: bytes = b"w/", clients: int = 6, pause: float = 0.01
    ) -> None:
        self.endpoints = list(endpoints)
        self.written = Written()
        self.retries: Counter[str] = Counter()
        self.failures: list[str] = []
        self.seconds_max = 0.0
        """The longest that one request took with all its retries."""
        self._prefix = prefix
        self._pause = pause
        self._stopping = False
        self._tasks = [asyncio.ensure_future(self._client(number)) for number in range(clients)]

    async def _client(self, number: int) -> None:
        chosen = number
        count = 0
        callers: dict[str, Caller] = {}
        try:
            while not self._stopping:
                key = b"%s%d/%d" % (self._prefix, number, count)
                count += 1
                self.written.sent += 1
                started = time.monotonic()
                request: pb.PutRequest | pb.RangeRequest = pb.PutRequest(key=key, value=value_of(key))
                while True:
                    endpoint = self.endpoints[chosen % len(self.endpoints)]
                    caller = callers.get(endpoint) or callers.setdefault(endpoint, Caller(endpoint))
                    try:
                        answer = await caller.call(request, seconds=3.0)
                    except EtcdError as error:
                        self.retries[describe(error)] += 1
                        chosen += 1
                        if may_have_happened(error):
                            self.written.unknown.add(key)
                        if not curable(error) or time.monotonic() > started + SECONDS_PER_REQUEST:
                            self.failures.append(f"{key!r} at {endpoint}: {describe(error)}")
                            break
                        await asyncio.sleep(0.05)
                        continue
                    assert isinstance(answer, pb.PutResponse) and answer.header is not None
                    self.written.acknowledged[key] = answer.header.revision
                    break
                self.seconds_max = max(self.seconds_max, time.monotonic() - started)
                await asyncio.sleep(self._pause)
        finally:
            for caller in callers.values():
                caller.close()

    async def stop(self) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)


@dataclass
class Report:
    kind: Kind
    steps: list[tuple[str, float]] = field(default_factory=list)
    """What was done, and how long it took until the cluster was whole again."""
    sent: int = 0
    acknowledged: int = 0
    retries: Counter[str] = field(default_factory=Counter)
    request_seconds_max: float = 0.0
    failures: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def describe(self) -> str:
        lines = [f"{self.kind}:"]
        lines += [f"  {seconds:6.2f} s  {step}" for step, seconds in self.steps]
        lines += [
            (
                f"  requests: {self.sent} sent, {self.acknowledged} acknowledged, "
                f"the longest took {self.request_seconds_max:.2f} s"
            ),
            *(f"  tried again {count} times after: {text}" for text, count in self.retries.most_common()),
            f"  failed for good: {len(self.failures)}; acknowledged but lost or wrong: {len(self.wrong)}",
            *(f"    {line}" for line in [*self.failures, *self.wrong][:20]),
        ]
        return "\n".join(lines)


async def grow_and_shrink(
    c: Cluster, *, calm: float = 1.0, say: Callable[[str], object] = lambda _: None
) -> Report:
    report = Report(c.kind)
    clients = PersistentClients(c.endpoints)

    async def step(text: str, action: Callable[[], object]) -> object:
        started = time.monotonic()
        result = await asyncio.to_thread(action)
        report.steps.append((text, time.monotonic() - started))
        say(f"{report.steps[-1][1]:6.2f} s  {text}")
        await asyncio.sleep(calm)
        return result

    def join() -> Member:
        new = c.add(learner=True)
        new.start()
        wait_for(f"{new.name} answering", lambda: c.status(new.host), seconds_max=30)
        return new

    try:
        await asyncio.sleep(calm)
        for _ in range(2):
            new = await step("a learner is added and started", join)
            assert isinstance(new, Member)
            rows = c.etcdctl("member", "list", via=1).stdout.splitlines()
            assert [r.split(", ")[5] for r in rows if r.split(", ")[2] == new.name] == ["true"], rows
            member_id = f"{c.member_id(new.host):x}"
            await step(
                f"{new.name} is promoted",
                lambda member_id=member_id: c.reconfigure("member", "promote", member_id, via=1),
            )
            await asyncio.to_thread(c.wait_healthy)
            clients.endpoints.append(new.endpoint)
        assert len(c.etcdctl("member", "list", via=1).stdout.splitlines()) == 5
        leader = c.leader()
        for host in (leader, min(h for h in c.members if h != leader)):
            clients.endpoints.remove(c[host].endpoint)
            role = "the leader" if host == leader else "a follower"
            await step(f"m{host}, {role}, is removed", lambda host=host: c.remove(host))
            await asyncio.to_thread(c.wait_healthy)
        assert len(c.etcdctl("member", "list").stdout.splitlines()) == 3
    finally:
        await clients.stop()
    report.sent = clients.written.sent
    report.acknowledged = len(clients.written.acknowledged)
    report.retries = clients.retries
    report.failures = clients.failures
    report.request_seconds_max = clients.seconds_max
    report.wrong = await losses(c.endpoints, clients.written, retried=True)
    return report


def run(kind: Kind, *, calm: float = 1.0, say: Callable[[str], object] = lambda _: None) -> Report:
    env = {"ETCD_SNAPSHOT_COUNT": "500", "ETCD_SNAPSHOT_CATCHUP_ENTRIES": "100"}
    with cluster(kind, env=env) as c:
        return asyncio.run(grow_and_shrink(c, calm=calm, say=say))


def main() -> int:
    parser = argparse.ArgumentParser(description="Grow a cluster from 3 to 5 members and back under load.")
    parser.add_argument("--kind", choices=["go", "petcd"], default="petcd")
    parser.add_argument("--calm", type=float, default=5.0, help="seconds of load between two changes")
    args = parser.parse_args()
    report = run(args.kind, calm=args.calm, say=print)
    print(report.describe())
    return 1 if report.failures or report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
