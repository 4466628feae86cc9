"""What an administrator does to a cluster (docs/operating.md), with clients at work meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import time
from collections.abc import Iterator

import pytest
from tests.cluster.grow import PersistentClients
from tests.cluster.members import Cluster, cluster, wait_for
from tests.cluster.traffic import Writers, losses, read_all
from tests.servers import Kind

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def c(kind: Kind) -> Iterator[Cluster]:
    with cluster(kind) as running:
        yield running


def test_a_leader_that_is_ended_hands_over_first(c: Cluster) -> None:
    async def run() -> float:
        leader = c.leader()
        others = [m.endpoint for m in c.members.values() if m.host != leader]
        writers = Writers(others, pause=0.002, seconds=3.0)
        await asyncio.sleep(0.5)
        stopping = time.monotonic()
        await asyncio.to_thread(c[leader].stop)
        await asyncio.sleep(1.0)
        written = await writers.stop()
        moments = [stopping, *(m for m in writers.moments if m > stopping)]
        gap = max(b - a for a, b in itertools.pairwise(moments))
        c[leader].start()
        assert await losses(c.endpoints, written) == []
        assert '"leadership transfer finished"' in c[leader].log()
        return gap

    # Milliseconds where the machine has nothing else to do.
    assert asyncio.run(run()) < 1.5


def test_a_rolling_restart_fails_no_request_for_good(c: Cluster) -> None:
    async def run() -> None:
        clients = PersistentClients(c.endpoints, prefix=b"r/")
        for host in c.members:
            await asyncio.to_thread(c[host].stop)
            c[host].start()
            await asyncio.to_thread(c.wait_healthy)
        await clients.stop()
        assert clients.failures == []
        assert clients.seconds_max < 10
        assert await losses(c.endpoints, clients.written, b"r/", retried=True) == []

    asyncio.run(run())


def test_a_learner_answers_serializable_reads_only(c: Cluster) -> None:
    c.etcdctl("put", "for the learner", "to read", via=1)
    learner = c.add(learner=True)
    learner.start()
    wait_for("its status", lambda: c.status(learner.host))

    def read() -> str:
        return c.etcdctl("get", "for the learner", "--consistency=s", via=learner.host, check=False).stdout

    wait_for("it to catch up", lambda: read() == "for the learner\nto read\n")
    for words in (["put", "a", "b"], ["get", "a"], ["lease", "grant", "5"], ["member", "list"]):
        refused = c.etcdctl(*words, "--command-timeout=2s", via=learner.host, check=False)
        if words == ["member", "list"] and refused.returncode == 0:
            continue  # etcd 3.4 answers it from the member alone
        assert refused.returncode != 0, words
        assert "etcdserver: rpc not supported for learner" in refused.stderr, words
    status = c.etcdctl("endpoint", "status", "-w", "fields", via=learner.host).stdout
    assert '"IsLearner" : true' in status
    c.remove(learner.host)


def test_a_member_that_lost_its_data_is_not_let_in_as_new(c: Cluster) -> None:
    """It would vote again in terms in which it has voted already."""
    member = c[c.follower()]
    member.kill()
    kept = member.data_dir.rename(member.data_dir.with_suffix(".kept"))
    member.start()
    wait_for("its end", lambda: not member.running)
    assert "has already been bootstrapped" in member.log_tail()
    shutil.rmtree(member.data_dir, ignore_errors=True)
    kept.rename(member.data_dir)
    member.start()
    c.wait_healthy()


def test_a_survivor_becomes_a_cluster_of_its_own(c: Cluster) -> None:
    """``--force-new-cluster``, after a majority is lost for good."""
    c.etcdctl("put", "kept", "by the survivor", via=1)
    # What is committed is on a member's disk with the next entry only, and what is not known to be
    # committed is given up.
    c.etcdctl("put", "the", "next", via=1)
    before = asyncio.run(read_all(c[1].endpoint, b"w/"))
    for member in c.members.values():
        member.kill()
    survivor = c[1]
    survivor.env["ETCD_FORCE_NEW_CLUSTER"] = "true"
    survivor.start()
    c.wait_healthy(1)
    assert c.etcdctl("get", "kept", via=1).stdout == "kept\nby the survivor\n"
    assert asyncio.run(read_all(survivor.endpoint, b"w/")) == before
    assert [row.split(", ")[2] for row in c.etcdctl("member", "list", via=1).stdout.splitlines()] == ["m1"]

    survivor.stop()
    del survivor.env["ETCD_FORCE_NEW_CLUSTER"]
    survivor.start()
    c.wait_healthy(1)
    second = c.add()
    second.start()
    c.wait_healthy(1, second.host)
    c.etcdctl("put", "grown", "again", via=second.host)
    assert c.etcdctl("get", "grown", via=1).stdout == "grown\nagain\n"
