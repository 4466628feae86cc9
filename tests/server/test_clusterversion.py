"""The version of the cluster (contract peer section 10)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from tests.server.fakepeers import Asked, FakePeers, use_peers
from tests.server.lab import Lab, simulated

from petcd.logs import NULL, Logger
from petcd.server.clusterversion import (
    BadDowngradeTarget,
    ClusterVersionMonitor,
    InvalidDowngrade,
    check_server_version,
    decide,
    lowest_version,
)
from petcd.server.joining import Versions
from petcd.server.membership import ClusterMember
from petcd.server.peering import PeerAnswer


@pytest.mark.parametrize(
    ("now", "lowest", "target", "expected"),
    [
        ("", (3, 7), "", (3, 7)),
        ("", (3, 4), "", (3, 4)),
        ("", None, "", (3, 0)),
        ("3.0.0", (3, 7), "", (3, 7)),
        ("3.6.0", (3, 7), "", (3, 7)),
        ("3.6.0", None, "", None),
        ("3.7.0", (3, 7), "", None),
        ("3.7.0", (3, 6), "", None),  # it does not fall by itself
        ("3.7.0", (3, 7), "3.6.0", (3, 6)),
        ("3.6.0", (3, 6), "3.6.0", None),
        ("3.6.0", (3, 7), "3.6.0", None),
        ("3.7.0", None, "3.6.0", None),
        ("3.9.0", (4, 0), "", None),
    ],
)
def test_decisions(
    now: str, lowest: tuple[int, int] | None, target: str, expected: tuple[int, int] | None
) -> None:
    assert decide(now, lowest, target) == expected


@pytest.mark.parametrize(("now", "lowest"), [("3.8.0", (3, 7)), ("3.7.0", (3, 6)), ("3.5.0", (3, 7))])
def test_downgrades_go_one_step(now: str, lowest: tuple[int, int]) -> None:
    with pytest.raises(BadDowngradeTarget):
        decide(now, lowest, "3.6.0")


def test_the_lowest_version() -> None:
    lines: list[str] = []
    logger = Logger(lambda _level, message, _fields: lines.append(message))

    def lowest(*servers: str | None) -> tuple[int, int] | None:
        answers = {
            number: None if server is None else Versions(server, "3.0.0")
            for number, server in enumerate(servers)
        }
        return lowest_version(answers, logger, local_version="3.7.1")

    assert lowest("3.7.1", "3.6.14", "3.6.2") == (3, 6)
    assert lowest("3.7.1", None) is None
    assert lines == []
    assert lowest("3.7.1", "nonsense") is None
    assert lines == ["failed to parse server version of remote member"]
    assert lowest("3.7.1", "3.8.0") == (3, 7)
    assert lines[1:] == ["leader found higher-versioned member"]


def test_a_release_below_the_clusters_version_stops() -> None:
    for fits in ("", "3.7.0", "3.6.0"):
        check_server_version(fits, NULL, local_version="3.7.1")
    with pytest.raises(InvalidDowngrade, match="server version is lower than determined cluster version"):
        check_server_version("3.8.0", NULL, local_version="3.7.1")


# -- the monitor -------------------------------------------------------------------------------------------


def versions(server: str) -> PeerAnswer:
    return PeerAnswer(200, {}, f'{{"etcdserver":"{server}","etcdcluster":"not_decided"}}'.encode())


def monitored(lab: Lab, answer: Callable[[Asked], PeerAnswer]) -> FakePeers:
    """A cluster without a version, whose other member answers so."""
    member = lab.member
    member.membership.members[7] = ClusterMember(7, ("http://other:1",), "other")
    member.membership.version = ""
    peers = use_peers(lab, answer)
    lab.logged.clear()
    ClusterVersionMonitor(member).start()
    return peers


@simulated()
async def test_the_first_version_is_the_minimum(lab: Lab) -> None:
    peers = monitored(lab, lambda _: versions("3.6.14"))
    await asyncio.sleep(0.3)
    assert lab.member.membership.version == "3.6.0"
    assert (peers.asked[0].method, peers.asked[0].path) == ("GET", "/version")
    assert lab.messages("setting up initial cluster version using v3 API")[-1] == {"cluster-version": "3.6"}
    peers.answer = lambda _: versions("3.7.0")
    await asyncio.sleep(4.1)
    assert lab.member.membership.version == "3.7.0"
    assert lab.messages("updating cluster version using v3 API") == [{"from": "3.6", "to": "3.7"}]
    assert lab.messages("cluster version is updated") == [
        {"cluster-version": "3.6"},
        {"cluster-version": "3.7"},
    ]


@simulated()
async def test_without_an_answer_it_is_the_lowest_there_is(lab: Lab) -> None:
    peers = monitored(lab, lambda _: PeerAnswer(0, {}, b"connection refused"))
    await asyncio.sleep(0.3)
    assert lab.member.membership.version == "3.0.0"
    assert lab.messages("failed to get version") == [{"remote-member-id": "7", "error": "connection refused"}]
    peers.answer = lambda _: PeerAnswer(200, {}, b"[]")
    await asyncio.sleep(8)
    assert lab.member.membership.version == "3.0.0"
    assert len(lab.messages("failed to get version")) == 3


@simulated()
async def test_only_the_leader_asks(lab: Lab) -> None:
    lab.member.lessor.demote()
    peers = monitored(lab, lambda _: versions("3.6.14"))
    await asyncio.sleep(10)
    assert peers.asked == []
    assert lab.member.membership.version == ""
    lab.member.lessor.promote(lab.member.clock.monotonic(), 1.0)
    await asyncio.sleep(0.3)
    assert lab.member.membership.version == "3.6.0"


@simulated()
async def test_a_downgrade_ends_when_everybody_runs_its_target(lab: Lab) -> None:
    peers = monitored(lab, lambda _: versions("3.7.1"))
    await asyncio.sleep(1)
    member = lab.member
    member.membership.set_downgrade(enabled=True, target="3.6.0")
    await asyncio.sleep(4)
    assert member.membership.version == "3.6.0"
    await asyncio.sleep(10)
    assert member.membership.downgrade_target == "3.6.0"
    assert lab.messages("remotes server has mismatching etcd version")
    assert not lab.messages("the cluster has been downgraded")
    peers.answer = lambda _: versions("3.7.4")
    member.membership.version = "3.7.0"
    member.membership.set_downgrade(enabled=True, target="3.7.0")
    await asyncio.sleep(6)
    assert member.membership.downgrade_target == ""
    assert lab.messages("the cluster has been downgraded") == [{"cluster-version": "3.7.0"}]


@simulated()
async def test_it_stops(lab: Lab) -> None:
    member = lab.member
    peers = use_peers(lab, lambda _: versions("3.6.14"))
    member.membership.members[7] = ClusterMember(7, ("http://other:1",), "other")
    monitor = ClusterVersionMonitor(member)
    monitor.start()
    await asyncio.sleep(1)
    count = len(peers.asked)
    monitor.stop()
    await asyncio.sleep(10)
    assert len(peers.asked) == count


@simulated()
async def test_a_cluster_that_goes_on_without_this_release(lab: Lab) -> None:
    lab.member.membership.set_version("3.8.0")
    await asyncio.sleep(0.2)
    assert lab.member.stopped
    with pytest.raises(InvalidDowngrade):
        lab.etcd.failed.result()
    (line,) = lab.messages("invalid downgrade; server version is lower than determined cluster version")
    assert line == {"current-server-version": "3.7.1", "determined-cluster-version": "3.8"}


@simulated()
async def test_a_start_below_the_clusters_version(lab: Lab) -> None:
    lab.etcd._monitors[1].stop()
    lab.member.membership.set_version("3.8.0")
    with pytest.raises(InvalidDowngrade):
        await lab.restart()
