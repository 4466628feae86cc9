"""The rules in front of a change of the membership (contract peer section 9.2, the form of release 3.7)."""

from __future__ import annotations

import asyncio
import hashlib
from types import SimpleNamespace
from typing import Any

import pytest
from tests.server.fakepeers import FakePeers, use_peers
from tests.server.lab import Lab, simulated

from petcd import errors
from petcd.errors import EtcdError
from petcd.logs import Logger
from petcd.raft import ConfChange, ProgressState
from petcd.raft.node import ProgressStatus
from petcd.server.config import Config
from petcd.server.membership import ClusterMember, Membership
from petcd.server.peering import PeerAnswer
from petcd.server.reconfiguration import Reconfiguration, canonical_urls, wait_applied
from petcd.storage.memory_backend import MemoryBackend

NEW = ClusterMember(0x99, ("http://n:1",))
NEW_LEARNER = ClusterMember(0x99, ("http://n:1",), is_learner=True)
NOW = 100.0


class Stub:
    """As much of a member as the rules look at. It is member 1; conf changes succeed at once."""

    def __init__(self, members: list[ClusterMember], connected: dict[int, float], **settings: Any) -> None:
        self.id, self.cluster_id = 1, 0xC
        self.clock: Any = SimpleNamespace(monotonic=lambda: NOW, wall_ns=lambda: 1_700_000_000 * 10**9)
        self.config = Config(**settings)
        self.logged: list[str] = []
        self.logger = Logger(lambda _level, message, _fields: self.logged.append(message))
        self.membership = Membership(0xC, MemoryBackend())
        for member in members:
            self.membership.add(member)
        self.peers = FakePeers(self.clock)
        self.peers.active = {one: NOW - seconds for one, seconds in connected.items()}
        self.is_leader = True
        self.lead = 1
        self.applied = 10
        self.stopped = self.stopping = False
        self.progress: dict[int, ProgressStatus] = {}
        self.node: Any = SimpleNamespace(
            commit_index=10, status=lambda: SimpleNamespace(progress=self.progress)
        )
        self.proposed: list[ConfChange] = []

    def propose_conf_change(self, change: ConfChange, waiter: Any) -> None:
        self.proposed.append(change)
        waiter.reply(b"")


def reconfiguration(stub: Stub) -> Reconfiguration:
    return Reconfiguration(stub)  # type: ignore[arg-type]


def voters(count: int, unstarted: int = 0) -> list[ClusterMember]:
    """Members 1, 2, …; the last so many have not started."""
    return [
        ClusterMember(one, (f"http://m{one}:1",), "" if one > count - unstarted else f"m{one}")
        for one in range(1, count + 1)
    ]


def outcome(done: list[EtcdError | None]) -> type[EtcdError] | None:
    (error,) = done
    return None if error is None else type(error)


def connected(*others: int, seconds: float = 60.0) -> dict[int, float]:
    return dict.fromkeys(others, seconds)


@pytest.mark.parametrize(
    ("members", "links", "expected"),
    [
        # one member: always, also to a second one that has not started
        (voters(1), {}, None),
        (voters(1, unstarted=1), {}, errors.MemberNotEnoughStarted),
        # two, both started: quorum of three is two, self and one other
        (voters(2), connected(2), None),
        (voters(2), {}, errors.Unhealthy),
        (voters(2, unstarted=1), connected(2), errors.MemberNotEnoughStarted),
        # three: a quorum of four is three, so nobody may be away
        (voters(3), connected(2, 3), None),
        (voters(3), connected(2), errors.Unhealthy),
        (voters(3, unstarted=1), connected(2, 3), errors.MemberNotEnoughStarted),
        # four: a quorum of five is three: one may be down (commit 887c8486d)
        (voters(4), connected(2, 3), None),
        (voters(4), connected(2), errors.Unhealthy),
        (voters(4, unstarted=1), connected(2, 3), None),
        (voters(5), connected(2, 3, 4), None),
        (voters(5), connected(2, 3), errors.Unhealthy),
        # a young connection does not count
        (voters(2), {2: 4.9}, errors.Unhealthy),
        (voters(2), {2: 5.1}, None),
        # learners neither count nor must be reachable
        ([*voters(3), ClusterMember(9, ("http://l:1",), is_learner=True)], connected(2, 3), None),
    ],
)
def test_adding_a_voter(
    members: list[ClusterMember], links: dict[int, float], expected: type[EtcdError] | None
) -> None:
    stub = Stub(members, links)
    done: list[EtcdError | None] = []
    reconfiguration(stub).add(NEW, done.append)
    assert outcome(done) is expected
    assert bool(stub.proposed) == (expected is None)


def test_adding_a_learner_needs_connections_only() -> None:
    for members, links, expected in (
        (voters(3, unstarted=2), connected(2, 3), None),
        (voters(3), connected(2), errors.Unhealthy),
        (voters(1), {}, None),
    ):
        stub = Stub(members, links)
        done: list[EtcdError | None] = []
        reconfiguration(stub).add(NEW_LEARNER, done.append)
        assert outcome(done) is expected


@pytest.mark.parametrize(
    ("members", "links", "removed", "expected"),
    [
        (voters(1), {}, 1, errors.MemberNotEnoughStarted),
        (voters(2), connected(2), 2, None),  # the one that is left is a quorum
        (voters(2), {}, 2, None),
        (voters(3), connected(2, 3), 3, None),
        (voters(3), connected(2), 3, None),  # the one that is down
        (voters(3), connected(2), 2, errors.Unhealthy),
        (voters(3), connected(2), 1, errors.Unhealthy),
        (voters(3, unstarted=1), connected(2), 2, errors.MemberNotEnoughStarted),
        (voters(3, unstarted=1), connected(2), 3, None),
        (voters(5), connected(2, 3, 4), 2, None),
        (voters(5), connected(2, 3), 2, errors.Unhealthy),
        (voters(5), connected(2, 3), 5, None),
        ([*voters(3), ClusterMember(9, ("http://l:1",), is_learner=True)], {}, 9, None),
    ],
)
def test_removing(
    members: list[ClusterMember], links: dict[int, float], removed: int, expected: type[EtcdError] | None
) -> None:
    stub = Stub(members, links)
    done: list[EtcdError | None] = []
    reconfiguration(stub).remove(removed, done.append)
    assert outcome(done) is expected


def test_without_strict_checks_the_log_decides() -> None:
    stub = Stub(voters(3, unstarted=2), {}, strict_reconfig_check=False)
    done: list[EtcdError | None] = []
    operations = reconfiguration(stub)
    operations.add(NEW, done.append)
    operations.remove(1, done.append)
    assert done == [None, None]
    assert [(change.type, change.node_id) for change in stub.proposed] == [(0, 0x99), (1, 1)]


def progress(match: int, *, is_learner: bool = False) -> ProgressStatus:
    return ProgressStatus(match, match + 1, ProgressState.REPLICATE, is_learner, True, False, 0, 0)


@pytest.mark.parametrize(
    ("members", "match", "expected"),
    [
        (voters(1), 90, None),
        (voters(1), 89, errors.LearnerNotReady),
        (voters(3, unstarted=1), 100, None),
        (voters(3, unstarted=2), 100, errors.MemberNotEnoughStarted),
    ],
)
def test_promoting(members: list[ClusterMember], match: int, expected: type[EtcdError] | None) -> None:
    stub = Stub([*members, NEW_LEARNER], {})
    stub.progress = {1: progress(100), NEW_LEARNER.id: progress(match, is_learner=True)}
    done: list[EtcdError | None] = []
    operations = reconfiguration(stub)
    operations.promote(NEW_LEARNER.id, "", done.append)
    assert outcome(done) is expected
    if expected is None:
        (change,) = stub.proposed
        assert change.context == b'{"id":153,"peerURLs":null,"isPromote":true}'
        assert stub.membership.promotions == 1
    else:
        assert stub.membership.failed_promotions == {expected.text: 1}


def test_promoting_whom_raft_does_not_know() -> None:
    stub = Stub(voters(1), {})
    stub.progress = {1: progress(100)}
    done: list[EtcdError | None] = []
    reconfiguration(stub).promote(5, "", done.append)
    assert outcome(done) is errors.MemberNotFound
    stub.progress = {}
    reconfiguration(stub).promote_here(5, done.append)
    assert type(done[-1]) is errors.NotLeader


def test_an_update_carries_the_learner() -> None:
    stub = Stub([*voters(1), NEW_LEARNER], {})
    done: list[EtcdError | None] = []
    operations = reconfiguration(stub)
    operations.update(NEW_LEARNER.id, ["http://b:1", "http://a:1"], done.append)
    operations.update(1, ["http://a:1"], done.append)
    operations.update(1, ["a:1"], done.append)
    operations.update(1, [], done.append)
    assert [error and type(error) for error in done] == [
        None,
        None,
        errors.MemberBadURLs,
        errors.MemberBadURLs,
    ]
    assert [change.context for change in stub.proposed] == [
        b'{"id":153,"peerURLs":["http://b:1","http://a:1"],"isLearner":true}',
        b'{"id":1,"peerURLs":["http://a:1"]}',
    ]


def test_urls_are_sorted_and_checked() -> None:
    assert canonical_urls([" http://b:1", "http://a:1"]) == ("http://a:1", "http://b:1")
    for bad in ([], ["a:1"], ["http://a"], ["http://a:1/path"], ["ftp://a:1"], ["http://a:1", ""]):
        with pytest.raises(errors.MemberBadURLs):
            canonical_urls(bad)


def test_a_new_member_has_an_id_of_its_second() -> None:
    """SHA-1 of the sorted URLs and the Unix seconds, its first eight bytes."""
    stub = Stub(voters(1), {})
    member = reconfiguration(stub).new_member(["http://b:1", "http://a:1"], is_learner=True)
    digest = hashlib.sha1(b"http://a:1http://b:11700000000", usedforsecurity=False).digest()
    assert member == ClusterMember(
        int.from_bytes(digest[:8], "big"), ("http://a:1", "http://b:1"), is_learner=True
    )


# -- passed on to the leader -------------------------------------------------------------------------------


def forward(
    lab: Lab, answers: list[PeerAnswer], *, lead: int = 7
) -> tuple[FakePeers, list[EtcdError | None]]:
    """Ask a follower whose leader gives these answers, the last one again and again."""
    member = lab.member
    member.membership.members[7] = ClusterMember(7, ("http://leader:1",), "leader")
    peers = use_peers(lab, lambda _: answers.pop(0) if len(answers) > 1 else answers[0])
    member.lead = lead
    done: list[EtcdError | None] = []
    Reconfiguration(member).promote(5, "the token", done.append)
    return peers, done


@simulated()
async def test_a_follower_passes_a_promotion_on(lab: Lab) -> None:
    no_answer = PeerAnswer(0, {}, b"connection refused")
    peers, done = forward(lab, [no_answer, PeerAnswer(500, {}, b"{}"), PeerAnswer(200, {}, b"[]\n")])
    await asyncio.sleep(1)
    assert done == [None]
    assert len(peers.asked) == 3
    asked = peers.asked[0]
    assert (asked.urls, asked.method, asked.path) == (("http://leader:1",), "POST", "/members/promote/5")
    assert asked.headers == {"Authorization": "the token"}


@simulated()
async def test_what_the_leader_refuses_for_good(lab: Lab) -> None:
    for status, text, expected in (
        (404, b"membership: ID not found\n", errors.MemberNotFound),
        (412, b"membership: can only promote a learner member\n", errors.MemberNotLearner),
        (412, errors.LearnerNotReady.text.encode() + b"\n", errors.LearnerNotReady),
    ):
        peers, done = forward(lab, [PeerAnswer(status, {}, text)])
        await asyncio.sleep(1)
        assert outcome(done) is expected
        assert len(peers.asked) == 1


@simulated()
async def test_passing_on_ends(lab: Lab) -> None:
    _, done = forward(lab, [PeerAnswer(500, {}, b"{}")])
    await asyncio.sleep(6.9)
    assert done == []
    await asyncio.sleep(0.3)
    assert outcome(done) is errors.RequestTimeout
    peers, done = forward(lab, [PeerAnswer(200, {}, b"[]")], lead=0)
    await asyncio.sleep(7.3)
    assert outcome(done) is errors.NoLeader
    assert peers.asked == []


@simulated()
async def test_waiting_for_what_is_committed(lab: Lab) -> None:
    heard: list[str] = []
    member: Any = SimpleNamespace(
        clock=lab.member.clock, applied=9, stopped=False, node=SimpleNamespace(commit_index=10)
    )

    def wait() -> None:
        heard.clear()
        wait_applied(member, lambda: heard.append("applied"), lambda: heard.append("late"))

    wait()
    await asyncio.sleep(0.5)
    assert heard == []
    member.applied = 10
    await asyncio.sleep(0.1)
    assert heard == ["applied"]
    wait()
    assert heard == ["applied"]
    member.applied = 9
    wait()
    await asyncio.sleep(1.1)
    assert heard == ["late"]
