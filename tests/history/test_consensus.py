"""Consensus: what went wrong in etcd's reads, quorums and snapshots, told again to petcd (contract history,
part 2). ``docs/history.md`` has the list."""

from __future__ import annotations

import asyncio

import pytest
from tests.history.clusterlab import ClusterLab, Seat, cluster, create, together

from petcd.errors import EtcdError
from petcd.pb import etcdserverpb as pb
from petcd.peer.transport import PeerTransport
from petcd.server.config import ConfigError
from petcd.testing.drive import Loss


async def fill(seat: Seat, count: int, prefix: bytes = b"k") -> None:
    """So many entries, each in a batch of its own or not."""
    for answer in await together([seat.put(prefix + b"%d" % number, b"v") for number in range(count)]):
        assert isinstance(answer, int), answer


async def past_the_log(lab: ClusterLab, lead: Seat, follower: Seat, rounds: int = 2) -> None:
    """Write until the leader's log no longer reaches back to where the follower, which is cut off, is."""
    # What was given to a connection before it broke still arrives when the cut is healed.
    await asyncio.sleep(15)
    assert lead.member.peers.active_since(follower.id) is None
    for number in range(60):
        await fill(lead, 15, b"far%d-" % number)
        await asyncio.sleep(0.3)
        if lead.member.node.first_index > follower.member.node.last_index + 1 and number >= rounds:
            return
    raise AssertionError("the log was never compacted")


@cluster()
async def test_20418_stale_linearizable_read_after_pause(lab: ClusterLab) -> None:
    """etcd#20418, #21375, #21399, raft#397: a leader that was stopped woke up and answered reads with what
    it had, because the answer to an earlier round was taken for one of the present."""
    for number in range(8):
        old, other, _ = lab.ranked()
        former, value = b"old %d" % number, b"new %d" % number
        await old.put(b"a", former)
        await old.connection()
        early = [lab.client.spawn(together([old.get(b"a"), old.get(b"a")]))]
        await asyncio.sleep(0.0002 * (number % 4))  # at the member, or its own messages on their way
        old.pause()
        await asyncio.sleep(0.2)
        early += [lab.client.spawn(together([old.get(b"a")])) for _ in range(3)]
        await lab.until(
            lambda old=old: any(one.member.lessor.primary for one in lab.up if one is not old)  # type: ignore[misc]
        )
        await other.put(b"a", value)
        late = [lab.client.spawn(together([old.get(b"a")])) for _ in range(3)]
        await asyncio.sleep(0.1 * number)
        assert old.member.is_leader, "it cannot know better while it is stopped"
        old.resume()
        late += [lab.client.spawn(together([old.get(b"a")])) for _ in range(3)]
        answers = [answer for task in late for answer in await task]
        assert all(answer == value or isinstance(answer, EtcdError) for answer in answers), answers
        assert value in answers
        answers = [answer for task in early for answer in await task]
        assert all(answer in (former, value) or isinstance(answer, EtcdError) for answer in answers)
        await lab.settle()
        assert not old.member.is_leader


@cluster()
async def test_20418_no_read_from_a_leader_that_is_cut_off(lab: ClusterLab) -> None:
    """The same with a partition: until it steps down, the former leader has nothing but its own word. It was
    stopped meanwhile, so it does not even notice that its time is over."""
    old, other, third = lab.ranked()
    await old.put(b"a", b"old")
    lab.isolate(old)
    old.pause()
    await lab.until(lambda: any(one.member.lessor.primary for one in (other, third)))
    await other.put(b"a", b"new")
    waiting = lab.client.spawn(together([old.get(b"a", seconds=20)]))
    await asyncio.sleep(0.1)
    old.resume()
    assert await old.get(b"a", serializable=True) == b"old", "serializable reads may be old"
    await asyncio.sleep(2)
    assert not waiting.done()
    lab.heal()
    (answer,) = await waiting
    assert answer == b"new"


@cluster()
async def test_14140_power_loss_on_all_nodes_at_once(lab: ClusterLab) -> None:
    """etcd#14140, #14143, #14370: what was acknowledged lay in page caches only."""
    for number, seat in enumerate(lab.seats):
        seat.host.drive.faults.sync_seconds = lambda number=number: 0.003 * (number + 1)  # type: ignore[misc]
    told: set[int] = set()

    async def write(number: int) -> None:
        try:
            await lab.seats[number % 3].put(b"k%d" % number, b"v", seconds=5)
        except EtcdError:
            return
        told.add(number)

    for life in range(6):
        tasks = [lab.client.spawn(write(life * 100 + number)) for number in range(60)]
        await asyncio.sleep(0.006 + 0.003 * life)
        for seat in lab.seats:
            seat.crash(Loss.ALL if life % 2 else Loss.SOME)
        acknowledged = set(told)
        await asyncio.gather(*tasks)
        await lab.start_all()
        await lab.leader()
        for number in acknowledged:
            assert await lab.seats[number % 3].get(b"k%d" % number) == b"v", number
    assert 60 < len(told) < 360, "some were acknowledged and some were not"


@cluster()
async def test_14370_no_ack_before_a_quorum_has_synced(lab: ClusterLab) -> None:
    """etcd#14370: a write was acknowledged before the disk had it."""
    lead, *others = lab.ranked()
    for seat in others:
        seat.host.drive.faults.sync_seconds = lambda: 1.0
    began = lab.sim.now
    await lead.put(b"a", b"1")
    assert lab.sim.now - began >= 1.0, "acknowledged with one disk of three"
    others[0].host.drive.faults.sync_seconds = float
    await asyncio.sleep(3)
    began = lab.sim.now
    await lead.put(b"a", b"2")
    assert lab.sim.now - began < 0.1, "two disks of three are a quorum"


@cluster(snapshot_count=20, snapshot_catchup_entries=5)
async def test_18055_two_snapshots_in_short_time(lab: ClusterLab) -> None:
    """etcd#18055: a second snapshot that came close behind the first made the receiver panic."""
    lead, follower, _ = lab.ranked()
    follower.host.drive.faults.sync_seconds = lambda: 0.05
    for number in range(6):
        lab.isolate(follower)
        await past_the_log(lab, lead, follower)
        lab.heal()
        # The first is under way: cut again, so that it, or what follows it, is too old when it has arrived.
        await asyncio.sleep(0.02 + 0.03 * number)
        lab.isolate(follower)
        await fill(lead, 60, b"more")
        await asyncio.sleep(0.3 * (number % 2))
        lab.heal()
        await fill(lead, 30, b"after")
    await lab.settle()
    assert follower.member.installer.count >= 1


@cluster(snapshot_count=20, snapshot_catchup_entries=5)
async def test_18055_a_snapshot_that_nobody_answers(lab: ClusterLab) -> None:
    """Found while testing that: the other side is gone after the last byte and before its answer. Nothing is
    sent any more that would show it, and the log grows for as long as a snapshot is under way."""
    lead, follower, _ = lab.ranked()
    for number in range(2):
        lab.isolate(follower)
        await past_the_log(lab, lead, follower)
        follower.host.drive.faults.sync_seconds = lambda: 2.0
        lab.heal()
        await lab.until(lambda: lead.member.sender.in_flight == 1, what="a snapshot")
        await asyncio.sleep(1)
        if number:  # it has lost its power, and is there again before anybody missed it
            follower.crash(Loss.ALL)
            follower.host.drive.faults.sync_seconds = float
            began = lab.sim.now
            await follower.start()
            await lab.settle()
            assert lab.sim.now - began < 10
        else:
            lab.isolate(follower)
            await lab.until(lambda: lead.member.sender.in_flight == 0, 25, "the end of the snapshot")
            first = lead.member.node.first_index
            await fill(lead, 60)
            await asyncio.sleep(1)
            assert lead.member.node.first_index > first
            follower.host.drive.faults.sync_seconds = float
            await lab.settle()


@pytest.mark.parametrize("loss", list(Loss))
def test_20271_snapshot_receive_crash(loss: Loss) -> None:
    """etcd#20271, etcd#18055: a member that died between receiving a snapshot and opening it did not start
    again ("expected db page to be 5")."""

    @cluster(snapshot_count=20, snapshot_catchup_entries=5, seed=list(Loss).index(loss))
    async def scenario(lab: ClusterLab) -> None:
        lead, follower, _ = lab.ranked()
        points = ["applyBeforeOpenSnapshot", "raftBeforeApplySnap", "raftAfterApplySnap"]
        lab.isolate(follower)
        await past_the_log(lab, lead, follower)
        for name in points:
            hit = [False]

            def die(hit: list[bool] = hit) -> None:
                hit[0] = True
                follower.host.stop_here()

            follower.member.world.failpoints.arm(name, die)
            lab.heal()
            await follower.wait_dead()
            assert hit[0], name
            follower.crash(loss)
            await follower.start()
            await lab.settle()
            lab.isolate(follower)
            await past_the_log(lab, lead, follower)
        # And at every few of the disk's operations between the first byte and the last.
        before = follower.host.drive.operations
        lab.heal()
        await lab.settle()
        await asyncio.sleep(0.3)
        count = follower.host.drive.operations - before
        assert count > 15
        for ahead in range(1 + list(Loss).index(loss), count, 5):
            lab.isolate(follower)
            await past_the_log(lab, lead, follower, rounds=0)
            drive = follower.host.drive
            drive.faults.crash_at = drive.operations + ahead
            lab.heal()
            await follower.wait_dead()
            follower.crash(loss)
            await follower.start()
            await lab.settle()

    scenario()


@cluster(snapshot_count=20, snapshot_catchup_entries=5)
async def test_20650_snapshot_during_defrag(lab: ClusterLab) -> None:
    """etcd#20650, #20659: a snapshot was applied to a database that was being defragmented."""
    lead, follower, _ = lab.ranked()
    follower.host.drive.faults.sync_seconds = lambda: 0.02
    installed = follower.member.installer.count
    for number in range(10):
        lab.isolate(follower)
        await past_the_log(lab, lead, follower, rounds=0)
        lab.heal()
        await asyncio.sleep(0.02 * number)
        (answer,) = await together([follower.call(pb.DefragmentRequest())])
        assert isinstance(answer, pb.DefragmentResponse), answer
        await lab.settle()
        if number % 5 == 4:
            await lab.check()
            await follower.restart(Loss.ALL)
            await lab.check()
    assert follower.member.installer.count or installed == 0


@cluster(snapshot_count=20, snapshot_catchup_entries=5)
async def test_20650_both_at_once(lab: ClusterLab) -> None:
    """The same, with the defragmentation begun at each step of the installation, with and without a crash."""
    lead, follower, _ = lab.ranked()
    follower.host.drive.faults.lane_seconds = lambda: 0.003
    for number, name in enumerate(
        ["applyBeforeOpenSnapshot", "raftBeforeApplySnap", "raftAfterApplySnap"] * 2
    ):
        lab.isolate(follower)
        await past_the_log(lab, lead, follower)
        member = follower.member
        begun: list[bool] = []
        ended: list[object] = []

        def begin(begun: list[bool] = begun, ended: list[object] = ended) -> None:
            begun.append(True)
            clock, defragment = follower.member.clock, follower.member.defragment
            clock.call_soon(defragment, lambda: ended.append(None), ended.append)

        member.world.failpoints.arm(name, begin)
        lab.heal()
        await lab.until(lambda begun=begun: bool(begun), what=name, step=0.0005)  # type: ignore[misc]
        if number >= 3:
            await asyncio.sleep(0.002 * (number - 3))
            await follower.restart(Loss.ALL)
        else:
            await lab.until(lambda ended=ended: bool(ended), what="the end of the defragmentation")  # type: ignore[misc]
            assert ended == [None]
            member.world.failpoints.disarm(name)
        await lab.check()


@cluster()
async def test_14685_crash_in_defrag(lab: ClusterLab) -> None:
    """etcd#14685: a crash during a defragmentation lost what was committed before it."""
    _, follower, _ = lab.ranked()
    await fill(follower, 100)
    await follower.call(pb.DeleteRangeRequest(key=b"k", range_end=b"l"))
    before = follower.host.drive.operations
    await follower.call(pb.DefragmentRequest())
    count = follower.host.drive.operations - before
    for ahead in range(1, count + 1):
        await fill(follower, 5)
        drive = follower.host.drive
        drive.faults.crash_at = drive.operations + ahead
        await together([follower.call(pb.DefragmentRequest(), seconds=2)])
        await follower.wait_dead()
        follower.crash(list(Loss)[ahead % 3])
        await follower.start()
        await lab.settle()
    for name in ("defragBeforeCopy", "defragBeforeRename"):
        follower.member.world.failpoints.arm(name, follower.host.stop_here)
        await together([follower.call(pb.DefragmentRequest(), seconds=2)])
        await follower.wait_dead()
        await follower.restart(Loss.SOME)
    await lab.check()


@cluster(start=False)
async def test_13066_wiped_disk(lab: ClusterLab) -> None:
    """etcd#13066: a member that came back with an empty directory made the leader's messages panic
    ("tocommit is out of range")."""
    await lab.start()
    lead, wiped, _ = lab.ranked()
    await fill(lead, 10)
    await asyncio.sleep(1)  # all is acknowledged: nothing is under way to it that could be lost
    wiped.crash(Loss.ALL)
    wiped.wipe()
    with pytest.raises(ConfigError, match="has already been bootstrapped"):
        await wiped.start()
    await asyncio.sleep(10)  # the leader has seen its streams end, so its next question arrives
    wiped.crash(Loss.NONE)
    wiped.wipe()
    # "existing" is what an operator tries next. It has the id of one who acknowledged what it has forgotten:
    # it is not taken for that one, it says why in words, and nobody is kept busy or fails by it.
    task = wiped.boot(initial_cluster_state="existing")
    transport = lead.member.peers
    assert isinstance(transport, PeerTransport)
    await asyncio.sleep(1)
    await fill(lead, 10)  # so that the leader asks it where it stands
    sent = sum(one.sent_bytes for one in transport.counters.values())
    await asyncio.sleep(3)
    sent = sum(one.sent_bytes for one in transport.counters.values()) - sent
    assert sent < 100_000, "they go on as fast as they can"
    refusals = wiped.messages("failed to process a raft message")
    assert len(refusals) == 1 and "was the data directory lost?" in refusals[0]["error"]
    assert not task.done(), "it waits to be told of the cluster"
    assert all(seat.up for seat in lab.seats if seat is not wiped)
    assert await lead.get(b"k3") == b"v"
    # The way out: remove it, and add it as somebody new.
    wiped.crash(Loss.NONE)
    await lab.connected(20)
    gone = next(one.id for one in lead.member.membership.in_order() if one.name == wiped.name)
    await lead.call(pb.MemberRemoveRequest(ID=gone))
    lab.seats.remove(wiped)
    await lab.join()


@cluster(snapshot_count=20, snapshot_catchup_entries=5)
async def test_15271_watch_across_a_snapshot(lab: ClusterLab) -> None:
    """etcd#15271: after a partition that ended in a snapshot, watches went back in time or missed what lay
    between."""
    lead, follower, _ = lab.ranked()
    watching = await follower.watching()
    late = await follower.watching(start=lead.member.store.rev + 200)
    await fill(follower, 5)
    lab.isolate(follower)
    await past_the_log(lab, lead, follower)
    await lead.delete(b"k1")
    stale = await follower.watching()
    lab.heal()
    await lab.settle()
    assert follower.member.installer.count == 1
    await fill(lead, 200)
    await asyncio.sleep(1)
    check = await lead.watching(start=2)
    await asyncio.sleep(1)
    everything = check.seen
    assert watching.seen == everything
    assert stale.seen == [one for one in everything if one[0] > 6 + 1 - 1], "from where this member was"
    assert late.seen == [one for one in everything if one[0] >= late.start]
    for one in (watching, late, stale, check):
        one.check()


@cluster(snapshot_count=20, snapshot_catchup_entries=5)
async def test_15271_a_compaction_in_the_snapshot_is_told(lab: ClusterLab) -> None:
    """The same where what lies between has been compacted: the watch ends and says so."""
    lead, follower, _ = lab.ranked()
    watching = await follower.watching()
    await fill(follower, 5)
    await asyncio.sleep(0.1)
    seen = list(watching.seen)
    lab.isolate(follower)
    await past_the_log(lab, lead, follower)
    await lead.compact(lead.member.store.rev)
    lab.heal()
    await lab.settle()
    await fill(lead, 5)
    await asyncio.sleep(1)
    assert watching.ended is not None
    assert watching.ended.compact_revision == follower.member.store.compact_rev
    assert watching.seen == seen
    watching.check()
    talk = await follower.watch()
    created = await talk.ask(create(b"a", start_revision=follower.member.store.compact_rev - 1))
    assert created.created
    assert (await talk.receive()).compact_revision == follower.member.store.compact_rev
