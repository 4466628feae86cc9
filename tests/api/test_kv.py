"""The KV service: order of checks, texts, headers, quota (contract wire-v3 sections 3 and 8.3)."""

from __future__ import annotations

import asyncio

import pytest
from tests.server.lab import Lab, simulated

from petcd import errors
from petcd.errors import EtcdError
from petcd.pb import etcdserverpb as pb
from petcd.pb.etcdserverpb import (
    CompactionRequest,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)
from petcd.pb.wire import varint
from petcd.server.quota import Quota

REQUEST_BYTES = 1_572_864


def row(error: type[EtcdError]) -> tuple[int, str]:
    return int(error.code), error.text


def puts(*keys: bytes) -> list[RequestOp]:
    return [RequestOp(request_put=PutRequest(key=key)) for key in keys]


def reads(*keys: bytes, **options: object) -> list[RequestOp]:
    return [RequestOp(request_range=RangeRequest(key=key, **options)) for key in keys]  # type: ignore[arg-type]


@simulated()
async def test_headers(lab: Lab) -> None:
    """Who answers, and the revision each kind of answer carries."""
    ids = (lab.member.cluster_id, lab.member.id, lab.member.node.term)

    def check(header: pb.ResponseHeader, revision: int) -> None:
        assert (header.cluster_id, header.member_id, header.raft_term, header.revision) == (*ids, revision)

    check((await lab.call(RangeRequest(key=b"a"))).header, 1)
    check((await lab.call(PutRequest(key=b"a"))).header, 2)
    check((await lab.call(DeleteRangeRequest(key=b"b"))).header, 2)
    check((await lab.call(DeleteRangeRequest(key=b"a"))).header, 3)
    check((await lab.call(TxnRequest(success=puts(b"c", b"d")))).header, 4)
    check((await lab.call(TxnRequest())).header, 4)
    check((await lab.call(TxnRequest(success=reads(b"c")))).header, 4)
    check((await lab.call(RangeRequest(key=b"c", revision=4, serializable=True))).header, 4)
    check((await lab.call(CompactionRequest(revision=3))).header, 4)


@simulated()
async def test_what_a_request_says_of_itself_is_refused_at_the_door(lab: Lab) -> None:
    entries = lab.member.node.last_index
    refused = lab.refused
    assert await refused(RangeRequest()) == row(errors.EmptyKey)
    assert await refused(RangeRequest(sort_order=9)) == row(errors.EmptyKey)
    assert await refused(RangeRequest(key=b"a", sort_order=9, sort_target=9)) == row(errors.InvalidSortOption)
    assert await refused(RangeRequest(key=b"a", revision=9)) == row(errors.FutureRev)
    assert await refused(PutRequest(ignore_value=True, value=b"v")) == row(errors.EmptyKey)
    put = PutRequest(key=b"a", ignore_value=True, value=b"v", ignore_lease=True, lease=1)
    assert await refused(put) == row(errors.ValueProvided)
    assert await refused(PutRequest(key=b"a", ignore_lease=True, lease=1)) == row(errors.LeaseProvided)
    assert await refused(DeleteRangeRequest(range_end=b"z")) == row(errors.EmptyKey)
    many = puts(*[b"%d" % i for i in range(129)])
    assert await refused(TxnRequest(success=many)) == row(errors.TooManyOps)
    assert await refused(TxnRequest(compare=[pb.Compare()], success=puts(b""))) == row(errors.EmptyKey)
    assert await refused(TxnRequest(success=puts(b"a", b"a"))) == row(errors.DuplicateKey)
    assert await refused(TxnRequest(success=[RequestOp()])) == row(errors.KeyNotFound)
    assert lab.member.node.last_index == entries, "a refused request went through the log"


@simulated()
async def test_what_the_state_refuses(lab: Lab) -> None:
    refused = lab.refused
    assert await refused(PutRequest(key=b"a", lease=5)) == row(errors.LeaseNotFound)
    assert await refused(PutRequest(key=b"a", ignore_value=True)) == row(errors.KeyNotFound)
    assert await refused(PutRequest(key=b"a", ignore_value=True, lease=5)) == row(errors.LeaseNotFound)
    op = RequestOp(request_put=PutRequest(key=b"a", lease=5))
    assert await refused(TxnRequest(success=[*puts(b"b"), op])) == row(errors.LeaseNotFound)
    assert await lab.value(b"b") is None, "half a transaction was applied"
    for value in range(4):
        await lab.put(b"a", b"%d" % value)
    await lab.call(CompactionRequest(revision=4))
    assert await refused(CompactionRequest(revision=4)) == row(errors.Compacted)
    assert await refused(CompactionRequest(revision=6)) == row(errors.FutureRev)
    assert await refused(CompactionRequest(revision=-1)) == row(errors.Compacted)
    assert await refused(RangeRequest(key=b"a", revision=3)) == row(errors.Compacted)
    assert (await lab.call(RangeRequest(key=b"a", revision=4))).kvs[0].value == b"2"
    assert await refused(TxnRequest(success=reads(b"a", revision=3))) == row(errors.Compacted)
    assert await refused(TxnRequest(success=[*puts(b"c"), *reads(b"a", revision=9)])) == row(errors.FutureRev)


@simulated()
async def test_the_largest_put(lab: Lab) -> None:
    """Contract 3.7: with a key of one byte the largest value has 1,572,839 bytes, where the request's id
    takes ten bytes."""
    largest = 1_572_839 + 10 - len(varint(lab.member.ids.next()))
    assert await lab.put(b"k", bytes(largest)) == 2
    assert await lab.refused(PutRequest(key=b"k", value=bytes(largest + 1))) == row(errors.RequestTooLarge)
    size = len(PutRequest(key=b"k", value=bytes(2_097_150)).encode())
    assert size > REQUEST_BYTES + 524_288
    code, text = await lab.refused(PutRequest(key=b"k", value=bytes(2_097_150)))
    assert (code, text) == (8, f"grpc: received message larger than max ({size} vs. 2097152)")


@simulated()
async def test_metadata_is_looked_at_after_the_message(lab: Lab) -> None:
    bad = [(b"client-api-version", b"\xff")]
    wants = [(b"hasleader", b"true")]
    assert await lab.refused(PutRequest(), metadata=bad) == row(errors.InvalidClientAPIVersion)
    assert await lab.call(PutRequest(key=b"a"), metadata=wants)
    assert await lab.call(PutRequest(key=b"a"), metadata=[(b"client-api-version", b"3.7")])
    assert await lab.call(PutRequest(key=b"a"), metadata=[(b"token", b"ignored while auth is off")])
    with pytest.raises(EtcdError, match="grpc: error unmarshalling request: ") as caught:
        await lab.connection.unary(b"/etcdserverpb.KV/Put", b"\xff", metadata=bad)
    assert caught.value.code == errors.Code.INTERNAL
    lab.member.lead = 0
    assert await lab.refused(PutRequest(), metadata=[*wants]) == row(errors.NoLeader)
    assert await lab.refused(PutRequest(), metadata=[*wants, *bad]) == row(errors.InvalidClientAPIVersion)
    assert await lab.refused(PutRequest(), metadata=[(b"hasleader", b"True")]) == row(errors.EmptyKey)


@simulated()
async def test_every_method_reads_its_message_first(lab: Lab) -> None:
    """Garbage is answered INTERNAL by all of them, and none stops the member."""
    for path in lab.etcd._edge.service.router.methods:
        method = lab.etcd._edge.service.router.methods[path]
        if method.unary is not None:
            with pytest.raises(EtcdError, match="grpc: error unmarshalling request: "):
                await lab.connection.unary(path, b"\x0a\xff")
            continue
        stream = lab.connection.stream(path)
        stream.send(b"\x0a\xff")
        with pytest.raises(EtcdError, match="grpc: error unmarshalling request: "):
            await stream.recv()
    assert await lab.put(b"a") == 2


@simulated()
async def test_every_method_asks_for_a_leader_that_is_wanted(lab: Lab) -> None:
    lab.member.lead = 0
    wants = [(b"hasleader", b"true")]
    for path, method in lab.etcd._edge.service.router.methods.items():
        if path.startswith(b"/grpc.health"):
            continue
        if method.unary is not None:
            with pytest.raises(errors.NoLeader):
                await lab.connection.unary(path, b"", metadata=wants)
        else:
            with pytest.raises(errors.NoLeader):
                await lab.connection.stream(path, metadata=wants).recv()


@simulated()
async def test_a_read_sees_every_acknowledged_write(lab: Lab) -> None:
    """Reads and writes given at once, over two connections."""
    other = await lab.connect()
    for number in range(20):
        writing = asyncio.gather(*(lab.put(b"k%d" % i, b"%d" % number) for i in range(5)))
        await writing
        raw = await other.unary(b"/etcdserverpb.KV/Range", RangeRequest(key=b"k0", range_end=b"l").encode())
        assert [kv.value for kv in pb.RangeResponse.decode(raw).kvs] == [b"%d" % number] * 5


@simulated()
async def test_read_only_transactions_do_not_go_through_the_log(lab: Lab) -> None:
    await lab.put(b"a", b"1")
    before = lab.member.node.last_index
    answer = await lab.call(
        TxnRequest(
            compare=[pb.Compare(key=b"a", target=pb.CompareTarget.VALUE, value=b"1")],
            success=reads(b"a"),
            failure=reads(b"b"),
        )
    )
    assert answer.succeeded
    assert answer.responses[0].response_range.kvs[0].value == b"1"
    assert answer.responses[0].response_range.header == pb.ResponseHeader(revision=2)
    await lab.call(TxnRequest(success=reads(b"a", serializable=True)))
    await lab.call(TxnRequest())
    assert lab.member.node.last_index == before
    await lab.call(TxnRequest(success=[RequestOp(request_txn=TxnRequest())]))
    assert lab.member.node.last_index == before + 1, "a nested transaction counts as a write"


@simulated(compaction_batch_limit=5, compaction_sleep_seconds=1.0)
async def test_a_physical_compaction_is_answered_when_it_is_done(lab: Lab) -> None:
    for number in range(50):
        await lab.put(b"a", b"%d" % number)
    before = lab.sim.now
    await lab.call(CompactionRequest(revision=30))
    assert lab.sim.now - before < 0.5, "a logical compaction waits for nothing"
    before = lab.sim.now
    assert lab.member.store.compaction_due
    answer = await lab.call(CompactionRequest(revision=40, physical=True))
    assert lab.sim.now - before > 5
    assert answer.header.revision == 51
    assert lab.member.store.finished_compact_rev == 40
    await lab.call(CompactionRequest(revision=45))
    again = lab.refused(CompactionRequest(revision=45, physical=True))
    assert await again == row(errors.Compacted)
    assert lab.member.store.finished_compact_rev == 45, "refused, yet it waits for the work"
    future = CompactionRequest(revision=99, physical=True)
    await lab.call(CompactionRequest(revision=50))
    before = lab.sim.now
    assert await lab.refused(future) == row(errors.FutureRev)
    assert lab.sim.now - before < 0.5
    await lab.call(CompactionRequest(revision=51, physical=True))
    before = lab.sim.now
    assert await lab.refused(CompactionRequest(revision=51, physical=True)) == row(errors.Compacted)
    assert lab.sim.now - before < 0.5, "there is nothing left to wait for"


@simulated(quota_backend_bytes=40_000)
async def test_the_quota_and_its_alarm(lab: Lab) -> None:
    """Front end, alarm, what still works, disarm (contract 3.7, 10.2; config-metrics 9.2)."""
    member = lab.member
    no_space = row(errors.NoSpace)
    lease = (await lab.call(pb.LeaseGrantRequest(TTL=60))).ID
    assert await lab.refused(PutRequest(key=b"", value=bytes(40_000))) == no_space, "before the empty key"
    alarms = await lab.call(pb.AlarmRequest())
    assert [(one.memberID, one.alarm) for one in alarms.alarms] == [(member.id, 1)]
    assert alarms.header.revision == 1

    assert await lab.refused(PutRequest(key=b"a")) == no_space
    assert await lab.refused(TxnRequest(failure=puts(b"a"))) == no_space
    nested = RequestOp(request_txn=TxnRequest(failure=puts(b"a")))
    assert await lab.refused(TxnRequest(success=[nested])) == no_space
    assert await lab.refused(pb.LeaseGrantRequest(TTL=60)) == no_space
    assert await lab.value(b"a") is None
    await lab.call(DeleteRangeRequest(key=b"a"))
    await lab.call(TxnRequest(success=[RequestOp(request_delete_range=DeleteRangeRequest(key=b"a"))]))
    await lab.call(TxnRequest(success=reads(b"a")))
    await lab.call(pb.LeaseRevokeRequest(ID=lease))
    await lab.call(CompactionRequest(revision=1))
    await lab.call(pb.DefragmentRequest())
    status = await lab.call(pb.StatusRequest())
    assert status.errors == [f"memberID:{member.id} alarm:NOSPACE"]
    assert status.dbSizeQuota == 40_000
    assert (await lab.http("GET", "/health"))[0] == 503
    assert (await lab.http("GET", "/health?exclude=NOSPACE"))[0] == 200
    assert (await lab.http("GET", "/readyz"))[0] == 200

    disarm = pb.AlarmRequest(action=pb.AlarmAction.DEACTIVATE, memberID=member.id, alarm=pb.AlarmType.NOSPACE)
    assert len((await lab.call(disarm)).alarms) == 1
    assert (await lab.call(disarm)).alarms == []
    await lab.put(b"a", b"small enough")
    await lab.restart()
    await lab.put(b"a", b"small enough")
    assert await lab.refused(PutRequest(key=b"b", value=bytes(40_000))) == no_space
    await lab.restart()
    assert await lab.refused(PutRequest(key=b"a")) == no_space, "the alarm is persistent"
    assert len(lab.messages("alarm raised")) == 2


@simulated(quota_backend_bytes=40_000)
async def test_many_writes_beyond_the_quota_raise_one_alarm(lab: Lab) -> None:
    entries = lab.member.node.last_index
    big = PutRequest(key=b"a", value=bytes(40_000))
    answers = await asyncio.gather(*(lab.refused(big) for _ in range(20)))
    assert answers == [row(errors.NoSpace)] * 20
    assert lab.member.node.last_index == entries + 1
    assert (await lab.http("GET", "/health"))[0] == 503, "up before the first answer"


@simulated(quota_backend_bytes=100_000, backend_batch_interval_seconds=0.02)
async def test_a_write_over_the_quota_when_it_is_applied_stands(lab: Lab) -> None:
    """It was accepted while there was room: it is written, and its answer is NoSpace (contract 3.3)."""
    connection = lab.connection
    first = [lab.put(b"k%d" % i, bytes(8000)) for i in range(11)]
    await asyncio.gather(*first)
    await asyncio.sleep(0.2)
    assert 88_000 < lab.member.backend.size() < 99_700
    big = PutRequest(key=b"big", value=bytes(100))
    tight = Quota(lab.member.backend.size() + 100)
    lab.member.applier._quota = tight  # as if it had filled up since the front end looked
    assert lab.member.applier.quota_is_near
    assert await lab.refused(big) == row(errors.NoSpace)
    assert await lab.value(b"big") == bytes(100)
    assert len((await lab.call(pb.AlarmRequest())).alarms) == 1
    assert connection.usable


@simulated(quota_backend_bytes=-1)
async def test_without_a_quota(lab: Lab) -> None:
    for number in range(5):
        await lab.put(b"%d" % number, bytes(100_000))
    assert (await lab.call(pb.StatusRequest())).dbSizeQuota == -1


@simulated()
async def test_a_corrupt_cluster_refuses_writes_before_anything_else(lab: Lab) -> None:
    """Contract 10.2: with CORRUPT, reads, maintenance and membership go on."""
    await lab.put(b"a", b"1")
    activate = pb.AlarmAction.ACTIVATE
    for kind in (pb.AlarmType.NOSPACE, pb.AlarmType.CORRUPT):
        answer = await lab.call(pb.AlarmRequest(action=activate, memberID=7, alarm=kind))
        assert [(one.memberID, one.alarm) for one in answer.alarms] == [(7, kind)]
    corrupt = row(errors.Corrupt)
    for request in (
        PutRequest(key=b"a"),
        PutRequest(key=b"a", lease=9),
        DeleteRangeRequest(key=b"a"),
        TxnRequest(success=puts(b"a")),
        CompactionRequest(revision=99),
        pb.LeaseGrantRequest(TTL=1 << 60),
        pb.LeaseRevokeRequest(ID=4),
    ):
        assert await lab.refused(request) == corrupt, request
    assert await lab.value(b"a") == b"1"
    await lab.call(TxnRequest(success=reads(b"a")))
    await lab.call(pb.HashKVRequest())
    await lab.call(pb.MemberListRequest())
    assert (await lab.http("GET", "/readyz"))[0] == 503
    assert (await lab.http("GET", "/health?exclude=NOSPACE"))[2] == (
        b'{"health":"false","reason":"ALARM CORRUPT"}\n'
    )
    errors_told = (await lab.call(pb.StatusRequest())).errors
    assert sorted(errors_told) == ["memberID:7 alarm:CORRUPT", "memberID:7 alarm:NOSPACE"]


@simulated()
async def test_a_bug_in_one_read_costs_one_read(lab: Lab) -> None:
    await lab.put(b"a", b"1")
    member = lab.member
    failing = asyncio.get_running_loop().create_future()

    class Waiter:
        def reply(self, message: bytes, /) -> None:
            raise AssertionError(message)

        def fail(self, code: int, text: str, /) -> None:
            failing.set_result((code, text))

    def broken(_waiter: object, _request: object) -> None:
        raise RuntimeError("a bug")

    process = lab.host.process
    assert process is not None
    process.run(member.read, broken, Waiter(), RangeRequest(key=b"a"))
    assert await lab.value(b"a") == b"1"
    assert await failing == (13, "internal error")
    assert lab.messages("read failed") == [{"error": "RuntimeError: a bug"}]
