"""What clients see while one member of three has a fault, as the table of docs/operating.md says it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from tests.cluster.faults import Report, Seen, prepared, suffer
from tests.cluster.members import HAS_STRACE, Cluster, wait_for
from tests.cluster.traffic import ask_until
from tests.servers import Kind

from petcd.pb import etcdserverpb as pb

pytestmark = pytest.mark.slow

WAIT_SECONDS = 1.5
"""How long the asking client waits; less than the server itself does (7 s)."""
ELECTION_MAX = 4.5
"""Detection, two rounds of votes, a client that waits a second for its answer before it goes elsewhere."""

NO_ANSWER = (
    "DEADLINE_EXCEEDED",
    "UNAVAILABLE etcdserver: request timed out",
    "UNAVAILABLE connection failed",
)
GONE = "UNAVAILABLE connection"
REQUESTS = ("put", "get", "serializable get", "watch", "watch with require-leader")


@pytest.fixture(scope="module")
def c(kind: Kind) -> Iterator[Cluster]:
    with prepared(kind) as running:
        yield running


def endure(c: Cluster, fault: str, role: str) -> Report:
    report = asyncio.run(suffer(c, fault, role, host=3, seconds=WAIT_SECONDS))  # type: ignore[arg-type]
    print(report.describe())
    assert report.wrong == []
    assert report.recovery_seconds < 15
    assert len(report.written.acknowledged) > 100
    return report


def unanswered(seen: Seen) -> bool:
    return seen.outcome.startswith(NO_ANSWER)


def others_serve(report: Report) -> None:
    for other in report.others:
        assert {request: other[request].outcome for request in REQUESTS} == dict.fromkeys(REQUESTS, "ok")


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_paused(c: Cluster, role: str) -> None:
    report = endure(c, "paused", role)
    others_serve(report)
    assert all(unanswered(report.affected[r]) for r in ("put", "get", "serializable get"))
    assert report.affected["watch"].outcome == "open and silent"
    assert report.leader_moved == (role == "leader")
    assert report.gap_seconds < (ELECTION_MAX if role == "leader" else 1.0)


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_partitioned(c: Cluster, role: str) -> None:
    """A minority of one: it answers serializable reads only, and says that it has no leader."""
    report = endure(c, "partitioned", role)
    others_serve(report)
    assert unanswered(report.affected["put"])
    assert unanswered(report.affected["get"])
    assert report.affected["serializable get"].ok
    assert report.affected["watch"].outcome == "open and silent"
    assert report.leader_moved == (role == "leader")
    assert report.gap_seconds < (ELECTION_MAX if role == "leader" else 1.0)


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_full_disk(c: Cluster, role: str) -> None:
    """The member ends itself rather than acknowledge what it cannot keep; with room again it catches up."""
    report = endure(c, "full disk", role)
    others_serve(report)
    assert report.ended
    assert all(report.affected[r].outcome.startswith(GONE) for r in REQUESTS)
    assert report.leader_moved == (role == "leader")
    assert report.gap_seconds < (ELECTION_MAX if role == "leader" else 1.0)


@pytest.mark.skipif(not HAS_STRACE, reason="strace is not installed (Debian: strace); it makes syncs slow")
def test_slow_syncs_of_a_follower(c: Cluster) -> None:
    """A majority is fast, so nobody notices, but who writes through that member."""
    report = endure(c, "slow syncs", "follower")
    others_serve(report)
    assert not report.leader_moved
    assert report.gap_seconds < 1.0
    assert report.affected["serializable get"].ok


@pytest.mark.skipif(not HAS_STRACE, reason="strace is not installed (Debian: strace); it makes syncs slow")
def test_slow_syncs_of_the_leader(c: Cluster) -> None:
    report = endure(c, "slow syncs", "leader")
    assert all(other["serializable get"].ok for other in report.others)
    assert report.recovery_seconds < 5


def test_without_a_majority(c: Cluster) -> None:
    """Two of three are gone: the third answers serializable reads, and nothing else until one is back."""
    c.etcdctl("put", "before", "the fault", via=3)
    c[1].kill()
    c[2].kill()
    put = c.etcdctl("put", "a", "b", "--command-timeout=2s", via=3, check=False)
    assert put.returncode != 0
    assert "request timed out" in put.stderr or "context deadline exceeded" in put.stderr
    assert c.etcdctl("get", "before", "--consistency=s", via=3).stdout == "before\nthe fault\n"
    assert c.etcdctl("endpoint", "health", "--command-timeout=2s", via=3, check=False).returncode != 0
    wait_for("it to say that there is no leader", lambda: c.leader_seen_by(3) == 0)
    c[1].start()
    asyncio.run(ask_until(c[3].endpoint, pb.PutRequest(key=b"a", value=b"c")))
    c[2].start()
    c.wait_healthy()
