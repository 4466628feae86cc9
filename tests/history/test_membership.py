"""Membership: learners that became voters, members that came back, changes that were refused without need in
etcd, told again to petcd (contract history, part 2). ``docs/history.md`` has the list."""

from __future__ import annotations

import asyncio

import pytest
from tests.history.clusterlab import ClusterLab, Seat, cluster, together

from petcd import errors
from petcd.pb import etcdserverpb as pb
from petcd.server.member import MemberRemoved
from petcd.server.membership import ClusterMember
from petcd.testing.drive import Loss


def known(seat: Seat) -> list[ClusterMember]:
    return seat.member.membership.in_order()


def learners(seat: Seat) -> set[int]:
    told = {one.id for one in known(seat) if one.is_learner}
    assert told == set(seat.member.node.conf_state.learners), "raft and the membership disagree"
    return told


async def promote(lab: ClusterLab, through: Seat, learner: Seat) -> None:
    """As soon as it is ready."""
    for _ in range(100):
        (answer,) = await together([through.call(pb.MemberPromoteRequest(ID=learner.id))])
        if not isinstance(answer, errors.EtcdError):
            return
        assert answer.text == errors.LearnerNotReady.text, answer
        await asyncio.sleep(0.2)
    raise AssertionError("the learner was never ready")


@cluster(snapshot_count=20, snapshot_catchup_entries=5)
async def test_19557_promotion_survives_crashes_and_snapshots(lab: ClusterLab) -> None:
    """etcd#19557, #20793: a promotion was not written to the store that snapshots are made of, so the voter
    was a learner again after a restart, and for everybody who received the snapshot."""
    learner = await lab.join(learner=True)
    everybody = lab.seats
    lead = await lab.leader()
    await lab.settle()
    assert all(learners(seat) == {learner.id} for seat in everybody)
    await promote(lab, lead, learner)
    promoted = learner.id
    await lab.settle()
    assert all(learners(seat) == set() for seat in everybody)
    await asyncio.sleep(1)  # its effects are in the backends: nothing brings them again from the log
    # Then from the snapshots, once the log has forgotten it.
    for round_number in range(2):
        for loss in Loss:
            for seat in everybody:
                seat.crash(loss)
            await lab.start_all()
            lead = await lab.leader()
            await lab.check()
            assert all(learners(seat) == set() for seat in everybody)
            assert all(promoted in seat.member.node.conf_state.voters for seat in everybody)
        if not round_number:
            for number in range(80):
                await lead.put(b"k%d" % number)
            await asyncio.sleep(1)
            assert all(seat.member.snapshot_index > 60 for seat in everybody)
    # Somebody new, who learns of it from a snapshot alone.
    another = await lab.join()
    await lab.settle()
    assert another.member.installer.count == 1
    assert learners(another) == set()
    assert promoted in another.member.node.conf_state.voters
    await another.restart(Loss.ALL)
    await lab.settle()
    assert learners(another) == set()


@cluster(snapshot_count=20, snapshot_catchup_entries=5)
async def test_19557_promotion_and_a_crash_at_once(lab: ClusterLab) -> None:
    """The same with each member dying at a different moment around the promotion."""
    learner = await lab.join(learner=True)
    await lab.settle()
    victims = list(lab.seats)
    for number, victim in enumerate(victims):
        drive = victim.host.drive
        drive.faults.crash_at = drive.operations + 1 + number
    await together([seat.call(pb.MemberPromoteRequest(ID=learner.id), seconds=3) for seat in victims])
    for number in range(40):
        await together([seat.put(b"k%d" % number, seconds=0.2) for seat in victims if seat.host.running])
        if not any(seat.host.running for seat in victims):
            break
    for number, seat in enumerate(victims):
        seat.host.drive.faults.crash_at = 0
        if not seat.host.running:
            seat.crash(list(Loss)[number % len(Loss)])
    await lab.start_all()
    lead = await lab.leader()
    await lab.check()
    if learners(lead):
        await lab.connected()
        await promote(lab, lead, learner)
    await lab.check()
    assert learners(lead) == set()


@cluster(snapshot_count=20, snapshot_catchup_entries=5)
async def test_zombie_members_do_not_come_back(lab: ClusterLab) -> None:
    """The zombies of December 2025: members that had been removed were there again after a restart or an
    import, because one of two stores still knew them."""
    lead, gone, other = lab.ranked()
    gone_id = gone.id
    await lab.connected()
    await lead.call(pb.MemberRemoveRequest(ID=gone_id))
    assert gone.etcd is not None
    await lab.until(lambda: gone.member.stopped, what="the end of the removed member")
    with pytest.raises(MemberRemoved):
        gone.etcd.failed.result()
    lab.seats.remove(gone)
    for number in range(80):
        await lead.put(b"k%d" % number)
    for loss in Loss:
        for seat in lab.seats:
            seat.crash(loss)
        await lab.start_all()
        lead = await lab.leader()
        for seat in lab.seats:
            assert gone_id not in {one.id for one in known(seat)}
            assert seat.member.is_removed(gone_id)
    fresh = await lab.join()
    await lab.settle()
    assert fresh.member.installer.count == 1
    assert gone_id not in {one.id for one in known(fresh)} and fresh.member.is_removed(gone_id)
    # Its process is started again with what it had: it learns what happened and ends; nobody counts it.
    gone.crash(Loss.NONE)
    task = gone.boot()
    await lab.until(lambda: task.done(), what="the end of the start")
    with pytest.raises(MemberRemoved):
        task.result()
    assert len(lead.member.node.conf_state.voters) == 3
    gone.crash(Loss.NONE)
    assert other.up


@cluster(snapshot_count=20, snapshot_catchup_entries=5)
async def test_7c528e856_an_updated_learner_stays_a_learner(lab: ClusterLab) -> None:
    """Commit 7c528e856: MemberUpdate on a learner wrote it back without the mark, and raft and the
    membership differed about who votes."""
    learner = await lab.join(learner=True)
    await lab.settle()
    lead, follower, *_ = lab.ranked()
    for number, through in enumerate([lead, follower] * 2):
        urls = [learner.peer_url, f"http://10.0.0.4:{3000 + number}"]
        await through.call(pb.MemberUpdateRequest(ID=learner.id, peerURLs=urls))
        await lab.settle()
        for seat in lab.seats:
            assert learners(seat) == {learner.id}
            (one,) = [one for one in known(seat) if one.id == learner.id]
            assert list(one.peer_urls) == urls
        listed = await follower.call(pb.MemberListRequest(linearizable=True))
        assert {one.ID: one.isLearner for one in listed.members}[learner.id]
    for number in range(60):
        await lead.put(b"k%d" % number)
    for loss in Loss:
        for seat in lab.seats:
            seat.crash(loss)
        await lab.start_all()
        lead = await lab.leader()
        await lab.settle()
        assert all(learners(seat) == {learner.id} for seat in lab.seats)
    assert (await learner.refused(pb.RangeRequest(key=b"k1"))) == errors.NotSupportedForLearner.text
    await lab.connected()
    await promote(lab, lead, learner)
    await lab.settle()
    assert all(learners(seat) == set() for seat in lab.seats)


@cluster(members=5)
async def test_887c8486d_add_a_member_while_one_is_down(lab: ClusterLab) -> None:
    """Commit 887c8486d: while one of the members was down, none could be added, although those that were up
    were a quorum of the new configuration. The truth table is in tests/server/test_reconfiguration.py."""
    lead, down, another, *_ = lab.ranked()
    await lab.connected()
    down.crash(Loss.NONE)
    await lab.connected(20)
    fresh = await lab.join()
    await lab.settle()
    assert len(lead.member.node.conf_state.voters) == 6
    # With two of six down the new configuration of seven would stand on its quorum of four: still allowed.
    another.crash(Loss.NONE)
    await lab.connected(20)
    await (await lab.leader()).put(b"a", b"1")
    last = await lab.join()
    # With three of seven down it would not stand.
    last.crash(Loss.NONE)
    await lab.connected(20)
    lead = await lab.leader()
    refused = await lead.refused(pb.MemberAddRequest(peerURLs=["http://10.0.0.99:2380"]))
    assert refused == errors.Unhealthy.text
    await last.start()
    await down.start()
    await another.start()
    await lab.check()
    assert len(fresh.member.node.conf_state.voters) == 7


@cluster(members=1, snapshot_count=20, snapshot_catchup_entries=5)
async def test_from_one_to_five_and_back(lab: ClusterLab) -> None:
    """Every size between, each step while clients write, and each newcomer through a snapshot."""
    written: dict[bytes, bytes] = {}
    stop = False

    async def write() -> None:
        number = 0
        while not stop:
            key, value = b"k%d" % (number % 20), b"%d" % number
            number += 1
            for _ in range(50):
                seat = lab.up[number % len(lab.up)]
                (answer,) = await together([seat.put(key, value, seconds=2)])
                if isinstance(answer, int):
                    written[key] = value
                    break
                await asyncio.sleep(0.05)
            else:
                raise AssertionError(answer)
            await asyncio.sleep(0.03)

    writing = lab.client.spawn(write())
    await asyncio.sleep(1)
    for number in range(4):
        seat = await lab.join(learner=number % 2 == 1)
        if number % 2 == 1:
            await promote(lab, lab.seats[0], seat)
    assert len((await lab.leader()).member.node.conf_state.voters) == 5
    for _ in range(4):
        await lab.connected()
        await lab.leader()
        victim = lab.seats[0]
        through = next(seat for seat in lab.up if seat is not victim)
        (answer,) = await together([through.call(pb.MemberRemoveRequest(ID=victim.id))])
        assert isinstance(answer, pb.MemberRemoveResponse), answer
        await lab.until(lambda victim=victim: victim.member.stopped)  # type: ignore[misc]
        lab.seats.remove(victim)
        victim.crash(Loss.NONE)
        await lab.leader()
    stop = True
    await writing
    (last,) = lab.seats
    assert last.member.node.conf_state.voters == [last.id]
    for key, value in written.items():
        assert await last.get(key) == value
