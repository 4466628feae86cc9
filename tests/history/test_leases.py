"""Leases through changes of the leader: times that jumped in etcd, told again to petcd (contract history,
part 2). ``docs/history.md`` has the list."""

from __future__ import annotations

import asyncio

from tests.history.clusterlab import ClusterLab, Seat, cluster, together

from petcd import errors
from petcd.pb import etcdserverpb as pb
from petcd.testing.drive import Loss


async def remaining(seat: Seat, lease: int) -> int:
    return int((await seat.call(pb.LeaseTimeToLiveRequest(ID=lease))).TTL)


async def move(lab: ClusterLab) -> Seat:
    """Hand the leadership on."""
    lead, other, *_ = lab.ranked()
    await lead.call(pb.MoveLeaderRequest(targetID=other.id))
    await lab.until(lambda: other.member.lessor.primary)
    return other


@cluster(
    heartbeat_ms=1000,
    election_ms=10_000,
    backend_batch_interval_seconds=1.0,
    features={"LeaseCheckpoint": True},
)
async def test_17132_checkpoints_over_many_leaders(lab: ClusterLab) -> None:
    """etcd#17132: a checkpoint was lost when the leader changed for the third time, and the lease began
    anew."""
    lead = await lab.leader()
    granted = await lead.call(pb.LeaseGrantRequest(TTL=2400))
    await lead.put(b"a", b"1", lease=granted.ID)
    began = lab.sim.now
    left = [2400]
    for number in range(5):
        await asyncio.sleep(310)  # a checkpoint is made every five minutes
        lead = await move(lab)
        if number == 3:
            for seat in lab.seats:
                seat.crash(Loss.ALL)
            await lab.start_all()
            lead = await lab.leader()
        left.append(await remaining(lab.seats[number % 3], granted.ID))
        passed = lab.sim.now - began
        assert 2400 - passed <= left[-1] <= 2400 - passed + 600 + 60, "at most one checkpoint behind"
    assert left == sorted(left, reverse=True), "no change of the leader gave time"
    # It ends, and not before its time.
    await lab.until(lambda: lead.member.lessor.get(granted.ID) is None, 4000, "the end of the lease", 1.0)
    assert lab.sim.now - began >= 2400
    assert await lab.seats[0].get(b"a") is None


@cluster()
async def test_17642_time_to_live_is_never_out_of_range(lab: ClusterLab) -> None:
    """etcd#17642: around a change of the leader TimeToLive answered 9223372036, the greatest duration."""
    lead = await lab.leader()
    lease = int((await lead.call(pb.LeaseGrantRequest(TTL=60))).ID)
    answers: list[object] = []
    stop = False

    async def ask(seat: Seat) -> None:
        while not stop:
            if seat.up:
                answers.extend(
                    await together([seat.call(pb.LeaseTimeToLiveRequest(ID=lease, keys=True), seconds=2)])
                )
            await asyncio.sleep(0.01)

    asking = [lab.client.spawn(ask(seat)) for seat in lab.seats]
    for number in range(6):
        await asyncio.sleep(0.5)
        if number % 2:
            await move(lab)
        else:
            lead = await lab.leader()
            lead.crash(Loss.NONE)
            await lab.leader()
            await lead.start()
        keep = await lab.seats[number % 3].keep_alive()
        answer = await keep.ask(pb.LeaseKeepAliveRequest(ID=lease))
        assert answer.TTL == 60
    stop = True
    await asyncio.gather(*asking)
    told = [answer for answer in answers if isinstance(answer, pb.LeaseTimeToLiveResponse)]
    assert len(told) > 200
    for answer in told:
        assert answer.grantedTTL == 60 and 0 <= answer.TTL <= 60, answer


@cluster()
async def test_14857_the_least_time_to_live(lab: ClusterLab) -> None:
    """etcd#14857: a lease of one second became one of two. The minimum is one and a half elections, rounded
    up to seconds, and everybody is told of it: one second here, two at etcd's defaults."""
    lead = await lab.leader()
    granted = await lead.call(pb.LeaseGrantRequest(TTL=1))
    assert granted.TTL == 1 == lead.member.config.min_lease_ttl_seconds
    assert lead.member.config.replace(heartbeat_ms=100, election_ms=1000).min_lease_ttl_seconds == 2
    began = lab.sim.now
    await lab.until(lambda: lead.member.lessor.get(granted.ID) is None, 10)
    assert 1.0 <= lab.sim.now - began <= 2.6


@cluster()
async def test_leases_end_late_but_never_early(lab: ClusterLab) -> None:
    """Leases renewed by a leader of the past, and ended by one (contract history, part 4): a leader that was
    stopped, cut off or replaced neither ends a lease that somebody renewed nor renews one that has ended."""
    lead, *_ = lab.ranked()
    lease = int((await lead.call(pb.LeaseGrantRequest(TTL=5))).ID)
    await lead.put(b"a", b"1", lease=lease)
    renewed = lab.sim.now
    for number in range(12):
        lead, other, _ = lab.ranked()
        if number % 3 == 0:
            lead.pause()
        elif number % 3 == 1:
            lab.isolate(lead)
        else:
            lead.crash(Loss.ALL)
        await lab.until(
            lambda lead=lead: any(one.member.lessor.primary for one in lab.up if one is not lead)  # type: ignore[misc]
        )
        keep = await other.keep_alive()
        (answer,) = await together([keep.ask(pb.LeaseKeepAliveRequest(ID=lease), 3)])
        if isinstance(answer, pb.LeaseKeepAliveResponse):
            assert answer.TTL == 5, "it has ended too early"
            renewed = lab.sim.now
        await asyncio.sleep(1.5 + number / 4)
        if number % 3 == 0:
            lead.resume()
        elif number % 3 == 1:
            lab.heal()
        else:
            await lead.start()
        await lab.settle()
        present = await lead.get(b"a")
        assert present == b"1" or lab.sim.now - renewed > 5
        keep = await lead.keep_alive()
        answer = await keep.ask(pb.LeaseKeepAliveRequest(ID=lease))
        if answer.TTL:
            renewed = lab.sim.now
    await asyncio.sleep(30)
    for seat in lab.seats:
        assert await seat.refused(pb.LeaseRevokeRequest(ID=lease)) == errors.LeaseNotFound.text
        assert await seat.get(b"a") is None


@cluster()
async def test_a_leader_of_the_past_renews_nothing(lab: ClusterLab) -> None:
    """The same at its sharpest: the lease has been revoked elsewhere, and the former leader, stopped
    and cut off, believes in both the lease and itself."""
    old, other, third = lab.ranked()
    lease = int((await old.call(pb.LeaseGrantRequest(TTL=60))).ID)
    await old.put(b"a", b"1", lease=lease)
    await lab.settle()
    keep = await old.keep_alive()
    assert (await keep.ask(pb.LeaseKeepAliveRequest(ID=lease))).TTL == 60
    old.pause()
    lab.isolate(old)
    await lab.until(lambda: any(one.member.lessor.primary for one in (other, third)))
    await other.call(pb.LeaseRevokeRequest(ID=lease))
    keep.send(pb.LeaseKeepAliveRequest(ID=lease))
    await asyncio.sleep(0.1)
    old.resume()
    (answer,) = await together([keep.receive(3)])
    assert not isinstance(answer, pb.LeaseKeepAliveResponse) or answer.TTL == 0, "renewed what has ended"
    lab.heal()
    await lab.settle()
    assert await old.get(b"a") is None
