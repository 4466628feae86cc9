"""Leases asked of the leader by a member that is not (contract peer section 8.4)."""

from __future__ import annotations

import asyncio

import pytest
from tests.server.fakepeers import Asked, FakePeers, use_peers
from tests.server.lab import Lab, simulated

from petcd import errors
from petcd.errors import EtcdError
from petcd.pb import etcdserverpb as pb
from petcd.pb.leasepb import LeaseInternalRequest, LeaseInternalResponse
from petcd.server.membership import ClusterMember
from petcd.server.peering import PeerAnswer

LEADER = 7


def follow(lab: Lab, *answers: PeerAnswer) -> FakePeers:
    """Make the lab's member a follower of one that gives these answers, the last one again and again."""
    member = lab.member
    left = list(answers)
    peers = use_peers(lab, lambda _: left.pop(0) if len(left) > 1 else left[0])
    member.membership.members[LEADER] = ClusterMember(LEADER, ("http://leader:1", "http://leader:2"), "l")
    member.lead = LEADER
    member.lessor.demote()
    return peers


def renewed(lease: int, ttl: int) -> PeerAnswer:
    return PeerAnswer(200, {}, pb.LeaseKeepAliveResponse(ID=lease, TTL=ttl).encode())


def described(**fields: object) -> PeerAnswer:
    response = pb.LeaseTimeToLiveResponse(header=pb.ResponseHeader(), **fields)  # type: ignore[arg-type]
    return PeerAnswer(200, {}, LeaseInternalResponse(LeaseTimeToLiveResponse=response).encode())


BUSY = PeerAnswer(400, {}, b"not a primary lessor\n")
UNKNOWN = PeerAnswer(404, {}, b"lease not found\n")
LATE = PeerAnswer(408, {}, b"waiting for node to catch up its applied index has timed out\n")
SILENT = PeerAnswer(0, {}, b"connection refused")


@simulated()
async def test_renewals_are_the_leaders(lab: Lab) -> None:
    await lab.put(b"a")
    peers = follow(lab, SILENT, BUSY, LATE, renewed(6, 9), renewed(5, 30), UNKNOWN, renewed(8, 60))
    talk = lab.keep_alive()
    for lease in (5, 6, 8):
        talk.send(pb.LeaseKeepAliveRequest(ID=lease))
    before = lab.sim.now
    for lease, ttl in ((5, 30), (6, 0), (8, 60)):
        answer = await talk.receive()
        assert (lease, ttl) == (answer.ID, answer.TTL)
        assert answer.header.revision == 2
        assert answer.header.member_id == lab.member.id
    assert 0.2 <= lab.sim.now - before < 0.3  # four times 50 ms
    assert len(peers.asked) == 7
    assert peers.asked[0] == Asked(
        ("http://leader:1", "http://leader:2"),
        "POST",
        "/leases",
        pb.LeaseKeepAliveRequest(ID=5).encode(),
        {"Content-Type": "application/protobuf"},
    )
    talk.raw.half_close()
    with pytest.raises(EOFError):
        await talk.receive()


@simulated()
async def test_a_leader_that_never_answers(lab: Lab) -> None:
    for lead, error in ((LEADER, errors.RequestTimeout), (0, errors.NoLeader)):
        follow(lab, SILENT)
        lab.member.lead = lead
        talk = lab.keep_alive()
        talk.send(pb.LeaseKeepAliveRequest(ID=5))
        before = lab.sim.now
        with pytest.raises(error):
            await talk.receive()
        assert 7.0 <= lab.sim.now - before < 7.2
        assert await lab.refused(pb.LeaseTimeToLiveRequest(ID=5)) == (int(error.code), error.text)
    lab.member.lead = lab.member.id


@simulated()
async def test_leadership_comes_here_while_a_request_waits(lab: Lab) -> None:
    lease = (await lab.call(pb.LeaseGrantRequest(TTL=20))).ID
    follow(lab, SILENT)
    talk = lab.keep_alive()
    talk.send(pb.LeaseKeepAliveRequest(ID=lease))
    asking = asyncio.ensure_future(lab.call(pb.LeaseTimeToLiveRequest(ID=lease)))
    assert await talk.silent(1)
    lab.member.lead = lab.member.id
    lab.member.lessor.promote(lab.member.clock.monotonic(), 1.0)
    assert (await talk.receive()).TTL == 20
    assert (await asking).grantedTTL == 20


@simulated()
async def test_a_stream_that_ends_asks_no_more(lab: Lab) -> None:
    peers = follow(lab, SILENT)
    talk = lab.keep_alive()
    talk.send(pb.LeaseKeepAliveRequest(ID=5))
    await asyncio.sleep(1)
    talk.raw.cancel()
    await asyncio.sleep(1)
    count = len(peers.asked)
    assert count > 10
    await asyncio.sleep(5)
    assert len(peers.asked) == count


@simulated()
async def test_what_the_leader_knows_of_a_lease(lab: Lab) -> None:
    await lab.put(b"a")
    peers = follow(
        lab,
        BUSY,
        described(ID=6, TTL=1, grantedTTL=2),
        described(ID=5, TTL=29, grantedTTL=30, keys=[b"x", b"y"]),
        UNKNOWN,
    )
    answer = await lab.call(pb.LeaseTimeToLiveRequest(ID=5, keys=True))
    assert (answer.ID, answer.TTL, answer.grantedTTL, answer.keys) == (5, 29, 30, [b"x", b"y"])
    assert (answer.header.revision, answer.header.member_id) == (2, lab.member.id)
    assert len(peers.asked) == 3
    question = pb.LeaseTimeToLiveRequest(ID=5, keys=True)
    assert (peers.asked[0].path, peers.asked[0].body) == (
        "/leases/internal",
        LeaseInternalRequest(LeaseTimeToLiveRequest=question).encode(),
    )
    answer = await lab.call(pb.LeaseTimeToLiveRequest(ID=5))
    assert (answer.ID, answer.TTL, answer.grantedTTL) == (5, -1, 0)


@simulated()
async def test_garbage_from_the_leader_is_asked_again(lab: Lab) -> None:
    follow(lab, PeerAnswer(200, {}, b"\xff"), PeerAnswer(200, {}, b""), renewed(5, 30))
    assert (await lab.keep_alive().ask(pb.LeaseKeepAliveRequest(ID=5))).TTL == 30
    follow(lab, PeerAnswer(200, {}, b"\xff"), PeerAnswer(200, {}, b""), described(ID=5, TTL=3))
    assert (await lab.call(pb.LeaseTimeToLiveRequest(ID=5))).TTL == 3


@simulated()
async def test_a_stop_ends_the_asking(lab: Lab) -> None:
    follow(lab, SILENT)
    asking = asyncio.ensure_future(lab.refused(pb.LeaseTimeToLiveRequest(ID=5)))
    await asyncio.sleep(0.5)
    lab.member.stopping = True
    assert await asking == (int(errors.Stopped.code), errors.Stopped.text)
    lab.member.stopping = False


# -- the leader's own doubts -------------------------------------------------------------------------------


@simulated()
async def test_a_leader_that_slept_asks_before_it_renews(lab: Lab) -> None:
    """It may be a leader of the past: others may have ended the lease meanwhile."""
    lease = (await lab.call(pb.LeaseGrantRequest(TTL=100))).ID
    talk = lab.keep_alive()
    assert (await talk.ask(pb.LeaseKeepAliveRequest(ID=lease))).TTL == 100
    process = lab.host.process
    assert process is not None
    process.pause()
    await asyncio.sleep(5)
    asked: list[object] = []
    lab.member.read = lambda _answer, waiter, _request: asked.append(waiter)  # type: ignore[method-assign]
    process.resume()
    talk.send(pb.LeaseKeepAliveRequest(ID=lease))
    assert await talk.silent(2)
    assert asked
    del lab.member.read
    for waiter in asked:
        waiter.reply(b"")  # type: ignore[attr-defined]
    assert (await talk.receive(1)).TTL == 100


@simulated()
async def test_a_leader_that_slept_ends_no_lease(lab: Lab) -> None:
    lease = (await lab.call(pb.LeaseGrantRequest(TTL=3))).ID
    process = lab.host.process
    assert process is not None
    asked: list[object] = []
    lab.member.read = lambda _answer, waiter, _request: asked.append(waiter)  # type: ignore[method-assign]
    process.pause()
    await asyncio.sleep(5)
    process.resume()
    await asyncio.sleep(3)
    assert lab.member.lessor.exists(lease)
    del lab.member.read
    for waiter in asked:
        waiter.reply(b"")  # type: ignore[attr-defined]
    await asyncio.sleep(2)
    assert not lab.member.lessor.exists(lease)


@simulated()
async def test_a_doubt_that_is_not_cleared_ends_the_stream(lab: Lab) -> None:
    lease = (await lab.call(pb.LeaseGrantRequest(TTL=100))).ID
    process = lab.host.process
    assert process is not None
    lab.member.read = lambda _answer, waiter, _request: waiter.fail(14, "late")  # type: ignore[method-assign]
    process.pause()
    await asyncio.sleep(1)
    process.resume()
    talk = lab.keep_alive()
    talk.send(pb.LeaseKeepAliveRequest(ID=lease))
    with pytest.raises(EtcdError, match="not a primary lessor"):
        await talk.receive(20)
