"""The Maintenance service of one member (contract wire-v3 sections 8.4, 8.5 and 10)."""

from __future__ import annotations

import asyncio

from tests.server.lab import Lab, simulated

from petcd import ETCD_VERSION, errors
from petcd.api.maintenance import describe_alarm
from petcd.errors import EtcdError
from petcd.pb import etcdserverpb as pb
from petcd.pb.etcdserverpb import AlarmRequest, HashKVRequest, HashRequest, MoveLeaderRequest, StatusRequest

ACTIVATE, DEACTIVATE = pb.AlarmAction.ACTIVATE, pb.AlarmAction.DEACTIVATE


def row(error: type[EtcdError]) -> tuple[int, str]:
    return int(error.code), error.text


@simulated()
async def test_status(lab: Lab) -> None:
    await lab.put(b"a", b"1")
    status = await lab.call(StatusRequest())
    member = lab.member
    assert status.header.revision == 2
    assert status.version == ETCD_VERSION
    assert status.storageVersion == "3.7.0"
    assert status.leader == member.id
    assert (status.raftIndex, status.raftTerm) == (member.node.commit_index, member.node.term)
    assert status.raftAppliedIndex == member.applied == status.raftIndex
    assert (status.errors, status.isLearner) == ([], False)
    assert status.dbSize >= status.dbSizeInUse > 0
    assert status.dbSizeQuota == 2 * 1024**3
    assert status.downgradeInfo == pb.DowngradeInfo()
    member.lead = 0
    status = await lab.call(StatusRequest())
    assert (status.leader, status.errors) == (0, ["etcdserver: no leader"])


@simulated()
async def test_alarms(lab: Lab) -> None:
    async def ask(**fields: object) -> list[tuple[int, int]]:
        answer = await lab.call(AlarmRequest(**fields))  # type: ignore[arg-type]
        assert answer.header.revision == 1
        return [(one.memberID, one.alarm) for one in answer.alarms]

    assert await ask() == []
    assert await ask(action=ACTIVATE) == [], "NONE is not an alarm"
    assert await ask(action=ACTIVATE, memberID=0, alarm=1) == [(0, 1)]
    assert await ask(action=ACTIVATE, memberID=5, alarm=2) == [(5, 2)]
    assert await ask(action=ACTIVATE, memberID=5, alarm=2) == [(5, 2)], "it existed"
    assert sorted(await ask(memberID=99)) == [(0, 1), (5, 2)], "GET ignores the member"
    assert await ask(alarm=2) == [(5, 2)]
    assert await ask(action=DEACTIVATE, memberID=5, alarm=1) == []
    assert await ask(action=DEACTIVATE, memberID=5) == []
    assert await ask(action=DEACTIVATE, memberID=0, alarm=1) == [(0, 1)]
    await lab.crash()
    assert await ask() == [(5, 2)]
    assert await ask(action=DEACTIVATE, memberID=5, alarm=2) == [(5, 2)]
    await lab.crash()
    assert await ask() == []


def test_alarms_in_words() -> None:
    assert describe_alarm(12, 1) == "memberID:12 alarm:NOSPACE"
    assert describe_alarm(0, 2) == "alarm:CORRUPT"
    assert describe_alarm(3, 7) == "memberID:3 alarm:7"


@simulated()
async def test_defragment(lab: Lab) -> None:
    for number in range(50):
        await lab.put(b"k%d" % number, bytes(1000))
    await asyncio.sleep(1)
    await lab.call(pb.DeleteRangeRequest(key=b"k", range_end=b"l"))
    await lab.call(pb.CompactionRequest(revision=52, physical=True))
    await asyncio.sleep(1)
    before = lab.member.backend.size()
    raw = await lab.connection.unary(b"/etcdserverpb.Maintenance/Defragment", b"")
    assert raw == b"", "no header at all"
    assert lab.member.backend.size() < before
    assert not lab.member.jobs.defragmenting
    assert lab.messages("finished defragmenting directory")[0]["current-db-size-bytes"] < before
    await lab.put(b"a", b"1")
    await lab.crash()
    assert await lab.value(b"a") == b"1"


@simulated()
async def test_a_defragmentation_that_fails(lab: Lab) -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device")

    lab.member.world.failpoints.arm("defragBeforeCopy", fail)
    code, text = await lab.refused(pb.DefragmentRequest())
    assert (code, "No space left" in text) == (2, True)
    assert not lab.member.jobs.defragmenting
    await lab.put(b"a", b"1")
    assert len(lab.messages("failed to defragment")) == 1


@simulated()
async def test_hash_kv_of_the_contract(lab: Lab) -> None:
    """The test vector of contract 8.4."""
    await lab.put(b"a", b"1")
    await lab.put(b"a", b"2")
    ops = [pb.PutRequest(key=b"x"), pb.PutRequest(key=b"y", value=b"q")]
    await lab.call(pb.TxnRequest(success=[pb.RequestOp(request_put=op) for op in ops]))
    await lab.call(pb.DeleteRangeRequest(key=b"a"))
    await lab.call(pb.LeaseGrantRequest(TTL=60, ID=99))
    await lab.put(b"y", b"z", lease=99)
    await lab.put(b"a", b"9")

    async def hashes(*revisions: int) -> list[int]:
        found = []
        for revision in revisions:
            answer = await lab.call(HashKVRequest(revision=revision))
            assert (answer.header.revision, answer.hash_revision) == (7, revision or 7)
            found.append(answer.hash)
        return found

    fresh = [1084519789, 2587454935, 535221974, 548246512, 337674203, 568531718, 1138148878]
    assert await hashes(1, 2, 3, 4, 5, 6, 7) == fresh
    assert await hashes(0) == fresh[-1:]
    assert (await lab.call(HashKVRequest())).compact_revision == -1
    await lab.call(pb.CompactionRequest(revision=3, physical=True))
    assert await hashes(4, 5, 6, 7) == [4207702920, 3812145559, 191670790, 2783496026]
    assert (await lab.call(HashKVRequest())).compact_revision == 3
    assert await lab.refused(HashKVRequest(revision=2)) == row(errors.Compacted)
    assert await lab.refused(HashKVRequest(revision=8)) == row(errors.FutureRev)


@simulated()
async def test_a_hash_in_slices_is_that_of_its_revision(lab: Lab) -> None:
    """Thousands of records take several slices; writes and a compaction in between change nothing."""
    member = lab.member
    for start in range(0, 3000, 500):
        await asyncio.gather(*(lab.put(b"k%d" % ((start + i) % 700), b"v%d" % i) for i in range(500)))
    revision = member.store.rev
    alone = await lab.call(HashKVRequest(revision=revision))
    hashing = asyncio.ensure_future(lab.call(HashKVRequest(revision=revision)))
    await asyncio.gather(*(lab.put(b"k%d" % i, b"later") for i in range(100)))
    await lab.call(pb.CompactionRequest(revision=revision - 10))
    assert (await hashing).hash == alone.hash
    assert member.store.hashing == 0
    again = lab.connection.stream(b"/etcdserverpb.Maintenance/HashKV")
    again.send(HashKVRequest().encode())
    again.half_close()
    again.cancel()
    await asyncio.sleep(1)
    assert member.store.hashing == 0, "a call that was given up holds back the compactor"
    assert member.store.finished_compact_rev == revision - 10


@simulated()
async def test_hash(lab: Lab) -> None:
    await lab.put(b"a", b"1")
    first = await lab.call(HashRequest())
    assert first.header.revision == 2
    await lab.put(b"a", b"2")
    assert (await lab.call(HashRequest())).hash != first.hash
    await asyncio.gather(*(lab.put(b"k%d" % i) for i in range(2500)))
    large, same = await asyncio.gather(lab.call(HashRequest()), lab.call(HashRequest()))
    assert large.hash == same.hash


@simulated()
async def test_the_end_amid_long_jobs(lab: Lab) -> None:
    """Neither goes on, nor answers, nor holds anything back."""
    await asyncio.gather(*(lab.put(b"k%d" % i) for i in range(2500)))
    await asyncio.sleep(1)
    member, process = lab.member, lab.host.process
    assert process is not None
    answers: list[object] = []
    process.run(member.hash_kv, 0, answers.append)
    process.run(member.hash, answers.append)
    assert member.store.hashing == 1
    process.run(member.fail, RuntimeError("a disk"))
    await asyncio.sleep(1)
    assert (answers, member.store.hashing) == ([], 0)
    await lab.restart()
    assert await lab.value(b"k1") == b""


@simulated()
async def test_move_leader(lab: Lab) -> None:
    raw = await lab.connection.unary(
        b"/etcdserverpb.Maintenance/MoveLeader", MoveLeaderRequest(targetID=lab.member.id).encode()
    )
    assert raw == b""
    assert await lab.refused(MoveLeaderRequest(targetID=5)) == row(errors.BadLeaderTransferee)
    assert await lab.refused(MoveLeaderRequest()) == row(errors.BadLeaderTransferee)
    lab.member.lead = 0
    assert await lab.refused(MoveLeaderRequest(targetID=lab.member.id)) == row(errors.NotLeader)
