"""State and its files: divergence, lost revisions and databases that could not be opened again in etcd, told
again to petcd (contract history, part 2). ``docs/history.md`` has the list."""

from __future__ import annotations

import asyncio

from tests.history.clusterlab import ClusterLab, cluster, together

from petcd import errors
from petcd.pb import etcdserverpb as pb
from petcd.storage import schema
from petcd.testing.drive import Loss

COMMIT_POINTS = (
    "beforeStartDBTxn",
    "afterStartDBTxn",
    "beforeWritebackBuf",
    "afterWritebackBuf",
    "beforeCommit",
    "afterCommit",
)
COMPACT_POINTS = (
    "compactBeforeCommitScheduledCompact",
    "compactAfterCommitScheduledCompact",
    "compactBeforeCommitBatch",
    "compactAfterCommitBatch",
    "compactBeforeSetFinishedCompact",
    "compactAfterSetFinishedCompact",
)


def put_op(key: bytes, value: bytes = b"") -> pb.RequestOp:
    return pb.RequestOp(request_put=pb.PutRequest(key=key, value=value))


def range_op(key: bytes, revision: int = 0) -> pb.RequestOp:
    return pb.RequestOp(request_range=pb.RangeRequest(key=key, revision=revision))


@cluster(backend_batch_interval_seconds=0.01, snapshot_count=50, snapshot_catchup_entries=20)
async def test_13766_consistent_index_with_its_effects(lab: ClusterLab) -> None:
    """etcd#13766, #13514, #13654, #13937: the consistent index was saved before the effects of its entry; a
    crash in between skipped the entry, and the members differed from then on without a word."""
    for number, name in enumerate(COMMIT_POINTS * 3):
        lead, victim, _ = lab.ranked()
        if number % 3 == 0:
            victim = lead
        survivor = next(seat for seat in lab.seats if seat is not victim)
        hits = [0]

        def die(hits: list[int] = hits, victim: object = victim, number: int = number) -> None:
            hits[0] += 1
            if hits[0] == 1 + number % 4:
                next(seat for seat in lab.seats if seat is victim).host.stop_here()

        victim.member.world.failpoints.arm(name, die)
        for one in range(60):
            await together([survivor.put(b"k%d" % (one % 9), b"%d" % number, seconds=5)])
            if not victim.host.running and one > 20:
                break
            await asyncio.sleep(0.003)
        await victim.wait_dead()
        victim.crash(list(Loss)[number % len(Loss)])
        await victim.start()
        await lab.check()


@cluster(features={"InitialCorruptCheck": True})
async def test_13766_who_could_not_be_compared_is_not_equal(lab: ClusterLab) -> None:
    """The other half of it: a member whose data differs does not come up as if it did not."""
    lead, follower, _ = lab.ranked()
    await lead.put(b"a", b"1")
    await lab.settle()

    # One value in the backend of one member is another one now.
    backend = follower.member.backend
    ((revision, kv),) = backend.range(schema.KEY, b"", None)
    assert kv.count(b"\x01" + b"1") == 1
    backend.put(schema.KEY, revision, kv.replace(b"\x01" + b"1", b"\x01" + b"2"))
    follower.member.flush_backend()
    await asyncio.sleep(1)
    await lead.put(b"b", b"1")
    await asyncio.sleep(1)
    follower.crash(Loss.NONE)
    task = follower.boot()
    await lab.until(task.done, what="a start that is refused")
    problem = task.exception()
    assert problem is not None
    assert str(problem).endswith("found data inconsistency with peers"), problem
    follower.crash(Loss.NONE)


@cluster(compaction_batch_limit=3, compaction_sleep_seconds=0.001)
async def test_17780_revision_never_decreases_after_a_crash_in_compaction(lab: ClusterLab) -> None:
    """etcd#17780: where the newest revision was a deletion that a compaction had just removed, a member that
    died in it came back with an older revision than it had told."""
    lead, follower, _ = lab.ranked()
    for number, name in enumerate(COMPACT_POINTS * 2):
        for key in range(8):
            await lead.put(b"k%d" % key)
        await lead.call(pb.DeleteRangeRequest(key=b"k", range_end=b"l"))
        await lab.settle()
        highest = await follower.revision()
        victim = follower if number % 2 else lead
        victim.member.world.failpoints.arm(name, victim.host.stop_here)
        await together([lead.call(pb.CompactionRequest(revision=highest, physical=True), seconds=3)])
        await victim.wait_dead()
        victim.crash(list(Loss)[number % len(Loss)])
        await victim.start()
        assert victim.member.store.rev >= highest - (0 if victim is follower else 1)
        await lab.settle()
        for seat in lab.seats:
            assert await seat.revision() == highest
        lead, follower, _ = lab.ranked()


@cluster(compaction_batch_limit=3)
async def test_18667_txn_range_at_compacted_revision(lab: ClusterLab) -> None:
    """etcd#18667, #21432: a range at an old revision inside a transaction was evaluated when it was applied,
    by members that had compacted and members that had not."""
    lead, follower, other = lab.ranked()
    for number in range(30):
        await lead.put(b"a", b"%d" % number)
    # Transactions and compactions that pass each other, through different members: each was proposed when the
    # revision it reads was still there.
    answers: dict[bytes, object] = {}
    for revision in range(5, 30, 5):
        keys = [b"t%d-%d" % (revision, one) for one in range(4)]
        txns = [
            seat.call(pb.TxnRequest(success=[put_op(key), range_op(b"a", revision - 1 + one % 2)]))
            for one, (key, seat) in enumerate(zip(keys, (follower, other) * 2, strict=True))
        ]
        compacted, *told = await together([lead.compact(revision), *txns])
        assert compacted is None
        answers.update(zip(keys, told, strict=True))
    refused = {key: answer for key, answer in answers.items() if isinstance(answer, errors.EtcdError)}
    assert {answer.text for answer in refused.values()} == {errors.Compacted.text}
    assert len(refused) < len(answers)
    for key in answers:
        assert (await lead.get(key) is None) == (key in refused), "all or nothing"
    await lab.check()
    # The same on every member, and again from the log.
    for seat in lab.seats:
        await seat.restart(Loss.ALL)
    await lab.leader()
    assert (
        await lead.refused(pb.TxnRequest(success=[put_op(b"z"), range_op(b"a", 3)])) == errors.Compacted.text
    )
    assert (
        await other.refused(pb.TxnRequest(success=[put_op(b"z"), range_op(b"a", 999)]))
        == errors.FutureRev.text
    )
    for seat in lab.seats:
        assert await seat.get(b"z") is None


@cluster(snapshot_count=30, snapshot_catchup_entries=5, quota_backend_bytes=300_000)
async def test_21636_nospace_and_indexes(lab: ClusterLab) -> None:
    """etcd#21636: while NOSPACE was up, refused writes moved the applied index but not the consistent one,
    until a member could not be started."""
    lead, follower, other = lab.ranked()
    number = 0
    while not lead.member.alarms.nospace:
        await together([lead.put(b"k%d" % number, b"x" * 10_000)])
        number += 1
        assert number < 200
    await lab.settle()
    assert all(seat.member.alarms.nospace for seat in lab.seats)
    before = lead.member.applied
    small = [seat.put(b"k%d" % one, b"y") for one in range(100) for seat in lab.seats]
    answers = await together(small)
    assert {answer.text for answer in answers} == {errors.NoSpace.text}
    # Requests that do reach the log while it is up: deletions, empty leases, alarms asked for again.
    for one in range(100):
        await follower.call(pb.DeleteRangeRequest(key=b"none%d" % one))
    await lab.settle()
    assert lead.member.applied >= before + 100
    assert lead.member.snapshot_index > before, "snapshots go on"
    for loss in Loss:
        for seat in lab.seats:
            seat.crash(loss)
        await lab.start_all()
        await lab.leader()
        await lab.check()
        assert all(seat.member.alarms.nospace for seat in lab.seats)
    # A member that gets the alarm in a snapshot.
    lead, follower, other = lab.ranked()
    lab.isolate(follower)
    await asyncio.sleep(15)
    for one in range(80):
        await other.call(pb.DeleteRangeRequest(key=b"k%d" % one))
    lab.heal()
    await lab.settle()
    assert follower.member.installer.count == 1 and follower.member.alarms.nospace
    await follower.restart(Loss.ALL)
    await other.compact(other.member.store.rev, physical=True)
    await asyncio.sleep(1)  # physical there; the others do it at their own pace
    for seat in lab.seats:
        await seat.call(pb.DefragmentRequest())
    for alarm in lead.member.alarms.get():
        await other.call(pb.AlarmRequest(action=2, memberID=alarm[0], alarm=alarm[1]))
    await lab.settle()
    for seat in lab.seats:
        await seat.put(b"after", b"v")


@cluster(snapshot_count=20, snapshot_catchup_entries=5)
async def test_14098_every_crash_while_segments_are_cut(lab: ClusterLab) -> None:
    """etcd#14098: a lost tail of the log made its reader stop at a length that was none, for good."""
    lead, follower, _ = lab.ranked()
    for number in range(45):
        drive = follower.host.drive
        drive.faults.crash_at = drive.operations + 2 + number * 3
        one = 0
        while follower.host.running:
            await together([lead.put(b"k%d" % (one % 20), b"x" * 400, seconds=5)])
            one += 1
            assert one < 2000
        follower.crash(list(Loss)[number % len(Loss)])
        await follower.start()
        await lab.settle()
        lead = await lab.leader()
        if lead is follower:
            lead = lab.ranked()[1]
    assert follower.member.node.first_index > 1


@cluster()
async def test_hashes_are_equal_while_members_compact_apart(lab: ClusterLab) -> None:
    """The invariant behind several rows: HashKV at equal revision and compaction is equal, whatever a member
    has been through."""
    lead, follower, other = lab.ranked()
    for number in range(40):
        await lead.put(b"k%d" % (number % 6), b"%d" % number)
        if number % 9 == 4:
            await lead.delete(b"k%d" % (number % 6))
        if number % 13 == 7:
            await follower.compact(lead.member.store.rev - 3)
        if number == 20:
            await other.restart(Loss.SOME)
            await lab.settle()
    await lab.settle()
    for revision in range(lead.member.store.compact_rev, lead.member.store.rev + 1):
        found = {
            (answer.hash, answer.compact_revision, answer.hash_revision)
            for answer in [await seat.call(pb.HashKVRequest(revision=revision)) for seat in lab.seats]
        }
        assert len(found) == 1, revision
