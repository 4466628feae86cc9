"""The primary's rounds over its leases."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tests.server.fakepeers import FakePeers
from tests.server.lab import Lab, simulated

from petcd.pb import etcdserverpb as pb
from petcd.raft import MSG_HEARTBEAT, MSG_PROP, Message
from petcd.seams import Clock


async def grants(lab: Lab, count: int, ttl: int) -> None:
    await asyncio.gather(*(lab.call(pb.LeaseGrantRequest(TTL=ttl)) for _ in range(count)))


@simulated()
async def test_sixteen_at_a_time(lab: Lab) -> None:
    await grants(lab, 100, 2)
    lab.host.drive.faults.sync_seconds = lambda: 0.01
    most = 0
    for _ in range(400):
        await asyncio.sleep(0.01)
        most = max(most, lab.etcd._leases._in_flight)
    assert most == 16
    assert len(lab.member.lessor) == 0
    assert lab.etcd._leases._in_flight == 0
    assert lab.member.lessor.expired == lab.member.lessor.revoked == 100


@simulated()
async def test_a_lease_that_somebody_else_revoked(lab: Lab) -> None:
    """Its end was proposed, and came to nothing because it was gone: nobody asks again."""
    await grants(lab, 1, 2)
    lease = lab.member.lessor.by_remaining()[0].id
    lab.host.drive.faults.sync_seconds = lambda: 0.7
    await asyncio.sleep(1.8)
    await lab.call(pb.LeaseRevokeRequest(ID=lease))
    await asyncio.sleep(3)
    assert len(lab.member.lessor) == 0
    assert lab.etcd._leases._in_flight == 0


@simulated()
async def test_nothing_expires_where_nobody_leads(lab: Lab) -> None:
    await grants(lab, 3, 2)
    rounds = lab.etcd._leases
    rounds._due.extend([1, 2])
    lab.member.lessor.demote()
    await asyncio.sleep(10)
    assert len(lab.member.lessor) == 3
    assert not rounds._due
    lab.member.lessor.promote(lab.sim.now, 1.0)
    await asyncio.sleep(4)
    assert len(lab.member.lessor) == 0


@simulated(features={"LeaseCheckpoint": True})
async def test_checkpoints_in_batches_of_a_thousand(lab: Lab) -> None:
    await grants(lab, 1100, 3600)
    entries = lab.member.node.last_index
    await asyncio.sleep(301)
    assert lab.member.node.last_index == entries + 2
    assert {lease.remaining_ttl > 0 for lease in lab.member.lessor.by_remaining()} == {True}


class Overheard(FakePeers):
    """Peers that keep what they are to send."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.sent: list[Message] = []

    def send(self, messages: Sequence[Message]) -> None:
        self.sent += messages


@simulated(features={"LeaseCheckpoint": True})
async def test_a_leader_that_has_just_been_deposed_hands_nothing_on(lab: Lab) -> None:
    """The next leader gave every lease its whole time again, so it must not be asked to end one."""
    await grants(lab, 20, 2)
    await grants(lab, 5, 3600)
    member, rounds = lab.member, lab.etcd._leases
    await asyncio.sleep(1.4)
    rounds.stop()
    await asyncio.sleep(1)
    assert len(member.lessor.take_expired(member.clock.monotonic(), 1)) == 1
    rounds._next_checkpoint = 0.0
    peers = member.peers = Overheard(member.clock)
    heartbeat = Message(MSG_HEARTBEAT, to=member.id, from_=7, term=member.node.term + 1)
    process = lab.host.process
    assert process is not None

    def depose() -> None:
        member.receive([heartbeat])
        rounds._round()

    process.run(depose)
    await asyncio.sleep(0.3)
    assert member.lead == 7
    assert [message for message in peers.sent if message.type == MSG_PROP] == []
    assert len(member.lessor) == 25
    rounds.stop()
