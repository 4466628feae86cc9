"""The drive loop: what is answered, what ends the member, what waits for what."""

from __future__ import annotations

import asyncio
import errno
import time
from typing import Any

import pytest
from tests.server.lab import Lab, simulated

from petcd import errors
from petcd.errors import EtcdError
from petcd.pb import etcdserverpb as pb
from petcd.pb.etcdserverpb import PutRequest, RangeRequest
from petcd.raft import Entry
from petcd.server import member as member_module
from petcd.server.applier import PUT, UnknownRequest, decode_request
from petcd.testing.drive import Loss


class Heard:
    """A waiter that keeps what it hears."""

    def __init__(self) -> None:
        self.answers: list[bytes | str] = []

    def reply(self, message: bytes, /) -> None:
        self.answers.append(message)

    def fail(self, _code: int, text: str, /) -> None:
        self.answers.append(text)


def inside(lab: Lab, function: Any, *args: Any) -> Any:
    process = lab.host.process
    assert process is not None
    return process.run(function, *args)


def hang(lab: Lab) -> None:
    """From now on the disk takes everything and says nothing."""
    lab.host.drive.faults.sync_seconds = lambda: 1e6


@simulated()
async def test_a_start_reaches_a_settled_member(lab: Lab) -> None:
    member = lab.member
    assert member.is_leader
    assert member.lessor.primary
    assert member.applied == member.node.last_index == member.node.commit_index
    assert member.leader.changes == 1
    assert not member.proposals.by_id
    for text in (
        "starting local member",
        "starting etcd server",
        "added member",
        "started as single-node; fast-forwarding election ticks",
        f"{member.id:x} became leader at term {member.node.term}",
        f"raft.node: {member.id:x} elected leader {member.id:x} at term {member.node.term}",
        "published local member to cluster through raft",
        "setting up initial cluster version using v3 API",
        "set initial cluster version",
        "enabled capabilities for version",
        "ready to serve client requests",
        "serving client traffic insecurely; this is strongly discouraged!",
        "now serving peer/client/metrics",
    ):
        assert len(lab.messages(text)) == 1, text
    assert lab.messages("set initial cluster version")[0]["cluster-version"] == "3.7"
    assert lab.sim.now < 0.3


@simulated()
async def test_a_batch_shares_one_sync(lab: Lab) -> None:
    lab.host.drive.faults.sync_seconds = lambda: 0.01
    before = lab.host.drive.syncs
    await asyncio.gather(*(lab.put(b"k%d" % i) for i in range(200)))
    assert lab.host.drive.syncs - before < 10


@simulated()
async def test_nothing_is_answered_before_it_is_durable(lab: Lab) -> None:
    hang(lab)
    put = asyncio.ensure_future(lab.put(b"a", b"1"))
    read = asyncio.ensure_future(lab.value(b"a"))
    await asyncio.sleep(1)
    assert not put.done()
    assert await read is None, "a read does not wait for writes that nobody was told of"
    with pytest.raises(errors.RequestTimeout):
        await put
    assert 7.0 <= lab.sim.now < 7.8
    assert lab.member.proposals.failed == 1
    lab.host.crash(Loss.ALL)
    lab.host.drive.faults.sync_seconds = float
    await lab.start()


@simulated()
async def test_a_late_commit_after_the_timeout(lab: Lab) -> None:
    """Who was told of a timeout hears nothing more; what he asked for may happen all the same."""
    lab.host.drive.faults.sync_seconds = lambda: 10.0
    with pytest.raises(errors.RequestTimeout):
        await lab.put(b"a", b"1")
    await asyncio.sleep(5)
    lab.host.drive.faults.sync_seconds = float
    assert await lab.value(b"a") == b"1"


@simulated()
async def test_too_much_committed_and_not_applied(lab: Lab) -> None:
    member = lab.member
    heard = Heard()
    member.applied -= member_module.APPLY_GAP_MAX + 1
    inside(lab, member.turn)
    inside(lab, member.propose, PUT, b"", PutRequest(key=b"a"), heard)
    member.applied += member_module.APPLY_GAP_MAX + 1
    inside(lab, member.turn)
    assert heard.answers == ["etcdserver: too many requests"]
    assert await lab.put(b"a") == 2
    assert int(errors.RequestTooManyRequests.code) == 2


@simulated()
async def test_entries_of_an_earlier_life_are_decoded(lab: Lab) -> None:
    await lab.put(b"a", b"1")
    entry = lab.member.node.entries(lab.member.node.last_index, lab.member.node.last_index + 1)[0]
    assert entry.request is None, "the log must not keep answered calls alive"
    request_id, kind, request = decode_request(entry.data)
    assert (kind, request) == (PUT, PutRequest(key=b"a", value=b"1"))
    assert request_id
    with pytest.raises(UnknownRequest):
        decode_request(b"")


@simulated()
async def test_an_entry_from_the_future_stops_the_member(lab: Lab) -> None:
    """Applying on without it would diverge."""
    inside(lab, lab.member.node.propose, [Entry(0, 0, 0, pb.InternalRaftRequest(ID=7).encode(), None)])
    inside(lab, lab.member.turn)
    with pytest.raises(UnknownRequest):
        await asyncio.wait_for(asyncio.shield(lab.etcd.failed), 5)
    assert lab.messages("member cannot go on")
    assert await lab.refused(PutRequest(key=b"a")) == (14, errors.Stopped.text)
    assert await lab.refused(RangeRequest(key=b"a")) == (14, errors.Stopped.text)
    await inside(lab, lab.sim.loop.create_task, lab.etcd.stop())
    lab.host.crash(Loss.NONE)


@simulated()
async def test_a_failing_log_stops_the_member_loudly(lab: Lab) -> None:
    """Who waits is told; nothing is acknowledged; the next start has everything that was."""
    await lab.put(b"a", b"1")
    drive = lab.host.drive
    for number in range(drive.operations + 1, drive.operations + 50):
        drive.faults.fail_at[number] = errno.EIO
    waiting = await asyncio.gather(*(lab.refused(PutRequest(key=b"b%d" % i)) for i in range(5)))
    assert waiting == [(14, errors.Stopped.text)] * 5
    assert lab.etcd.failed.done()
    assert "Input/output error" in lab.messages("member cannot go on")[0]["error"]
    drive.faults.fail_at.clear()
    await lab.restart()
    assert await lab.value(b"a") == b"1"
    assert await lab.put(b"a", b"2") >= 3


@simulated(backend_batch_interval_seconds=0.5)
async def test_a_full_disk_at_a_backend_commit_stops_the_member(lab: Lab) -> None:
    await asyncio.sleep(0.6)
    await lab.put(b"a", b"1")
    drive = lab.host.drive
    for number in range(drive.operations + 1, drive.operations + 50):
        drive.faults.fail_at[number] = errno.ENOSPC
    await asyncio.sleep(1)
    assert lab.etcd.failed.done()
    assert "No space left" in lab.messages("member cannot go on")[0]["error"]
    assert lab.member.stopped
    drive.faults.fail_at.clear()
    await lab.restart()
    assert await lab.value(b"a") == b"1", "it was acknowledged, so it is in the log"


@simulated()
async def test_a_failing_tick_stops_the_member(lab: Lab) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            return getattr(node, name)

        def tick(self) -> None:
            raise RuntimeError("a bug")

    node = lab.member.node
    lab.member.node = Broken()  # type: ignore[assignment]
    await asyncio.sleep(1)
    assert lab.messages("member cannot go on") == [{"error": "a bug"}]
    assert lab.member.stopped


@simulated()
async def test_a_failure_with_many_revocations_due(lab: Lab) -> None:
    """Each refusal at once is heard within the proposing; that must not go a thousand calls deep."""
    await asyncio.gather(*(lab.call(pb.LeaseGrantRequest(TTL=2)) for _ in range(500)))
    rounds = lab.etcd._leases
    rounds.stop()
    await asyncio.sleep(3)
    hang(lab)
    inside(lab, rounds._round)
    await asyncio.sleep(0.001)
    assert rounds._in_flight == 16
    inside(lab, lab.member.fail, RuntimeError("a disk"))
    assert lab.member.stopped
    assert isinstance(lab.etcd.failed.exception(), RuntimeError)


@simulated()
async def test_a_stop_tells_who_waits(lab: Lab) -> None:
    lab.host.drive.faults.sync_seconds = lambda: 2.0
    calls = [asyncio.ensure_future(lab.refused(PutRequest(key=b"a"))) for _ in range(3)]
    reads = [asyncio.ensure_future(lab.value(b"a"))]
    await asyncio.sleep(0.1)
    heard = Heard()
    done: list[None] = []
    inside(lab, lab.member.stop, lambda: done.append(None))
    inside(lab, lab.member.propose, PUT, b"", PutRequest(key=b"x"), heard)
    inside(lab, lab.member.read, lambda *_: None, heard, None)
    assert heard.answers == [errors.Stopped.text] * 2
    assert await asyncio.gather(*calls) == [(14, errors.Stopped.text)] * 3
    await asyncio.gather(*reads)
    await asyncio.sleep(20)
    assert done == [None]
    inside(lab, lab.member.stop, lambda: done.append(None))
    assert len(done) == 2, "a second stop has nothing to wait for"
    inside(lab, lab.member.close)
    lab.host.crash(Loss.ALL)
    lab.host.drive.faults.sync_seconds = float
    await lab.start()
    assert await lab.value(b"a") == b"", "it was on its way to the log; the answer said nothing about it"


@simulated()
async def test_calls_in_the_air_are_answered_before_the_end(lab: Lab) -> None:
    """A stop drains: what is under way is finished, new calls are not taken."""
    lab.host.drive.faults.sync_seconds = lambda: 0.5
    put = asyncio.ensure_future(lab.put(b"a", b"1"))
    await asyncio.sleep(0.01)
    stopping = asyncio.ensure_future(lab.stop())
    assert await put == 2
    await stopping
    with pytest.raises(EtcdError):
        await lab.put(b"b")
    lab.host.drive.faults.sync_seconds = float
    await lab.start()
    assert await lab.value(b"a") == b"1"


@simulated(warning_apply_seconds=0.01)
async def test_slow_batches_are_logged(lab: Lab) -> None:
    handlers = lab.member.applier.handlers
    original = handlers[PUT]

    def slowly(request: PutRequest) -> bytes:
        lab.sim.loop.now += 0.02
        return original(request)

    handlers[PUT] = slowly
    await lab.put(b"foo", b"secret")
    line = lab.messages("apply request took too long")[0]
    assert line["took"].startswith("20")
    assert (line["expected-duration"], line["prefix"], line["response"]) == ("10ms", "", "")
    assert 'put:<key:"foo" value_size:6 >' in line["request"]
    assert "secret" not in str(line)
    assert lab.member.slow_applies == 1
    handlers[PUT] = original

    store_range = lab.member.store.range

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def range(self, request: RangeRequest) -> bytes:
            lab.sim.loop.now += 0.02
            return store_range(request)

    store = lab.member.store
    lab.member.store = Slow()  # type: ignore[assignment]
    await lab.value(b"foo")
    lab.member.store = store
    line = lab.messages("apply request took too long")[1]
    assert (line["prefix"], line["request"]) == ("read-only ", 'key:"foo"')
    for number in range(5):
        await lab.put(b"k%d" % number)
    assert lab.member.slow_applies == 2


@simulated()
async def test_a_slow_start_of_time(lab: Lab) -> None:
    """Real time does not matter here: a day of ticks leaves nothing behind."""
    began = time.process_time()
    await asyncio.sleep(60)
    assert lab.member.tick_count >= 590
    assert len(lab.member._timers) == 2
    assert time.process_time() - began < 20
