"""The Watch service over a real connection (contract wire-v3 section 4); the hub has tests of its own."""

from __future__ import annotations

import asyncio

import pytest
from tests.server.lab import Lab, Talk, connect_slowly, simulated

from petcd import errors
from petcd.api import watch as watch_module
from petcd.errors import EtcdError
from petcd.mvcc.watch import hub as hub_module
from petcd.pb import etcdserverpb as pb
from petcd.pb.etcdserverpb import (
    CompactionRequest,
    WatchCancelRequest,
    WatchCreateRequest,
    WatchProgressRequest,
    WatchRequest,
)


def create(key: bytes = b"a", **options: object) -> WatchRequest:
    return WatchRequest(create_request=WatchCreateRequest(key=key, **options))  # type: ignore[arg-type]


def cancel(watch_id: int) -> WatchRequest:
    return WatchRequest(cancel_request=WatchCancelRequest(watch_id=watch_id))


PROGRESS = WatchRequest(progress_request=WatchProgressRequest())


def values(response: pb.WatchResponse) -> list[bytes]:
    return [event.kv.value for event in response.events if event.kv is not None]


@simulated()
async def test_events_of_the_future_and_the_past(lab: Lab) -> None:
    watch = lab.watch()
    created = await watch.ask(create())
    assert (created.created, created.watch_id, created.header.revision) == (True, 0, 1)
    assert created.header.member_id == lab.member.id
    for number in range(3):
        await lab.put(b"a", b"%d" % number)
        event = await watch.receive()
        assert (values(event), event.header.revision, event.watch_id) == ([b"%d" % number], number + 2, 0)
    await lab.put(b"b", b"unwatched")
    again = await watch.ask(create(start_revision=3, prev_kv=True))
    assert (again.watch_id, again.header.revision) == (1, 5)
    past = await watch.receive()
    assert (values(past), past.watch_id, past.header.revision) == ([b"1", b"2"], 1, 5)
    assert [event.prev_kv.value for event in past.events] == [b"0", b"1"]
    await lab.call(pb.DeleteRangeRequest(key=b"a"))
    both = [await watch.receive(), await watch.receive()]
    assert sorted(one.watch_id for one in both) == [0, 1]
    for one in both:
        assert one.events[0].type == 1
        assert (one.events[0].kv.key, one.events[0].kv.mod_revision) == (b"a", 6)


@simulated()
async def test_a_transaction_is_one_response(lab: Lab) -> None:
    watch = lab.watch()
    await watch.ask(create(b"\0", range_end=b"\0"))
    ops = [pb.RequestOp(request_put=pb.PutRequest(key=key)) for key in (b"x", b"a", b"m")]
    await lab.call(pb.TxnRequest(success=ops))
    answer = await watch.receive()
    assert [event.kv.key for event in answer.events] == [b"x", b"a", b"m"]


@simulated()
async def test_ids(lab: Lab) -> None:
    watch = lab.watch()
    assert (await watch.ask(create(watch_id=1))).watch_id == 1
    assert (await watch.ask(create())).watch_id == 0
    assert (await watch.ask(create())).watch_id == 2
    assert (await watch.ask(create(watch_id=-7))).watch_id == -7
    taken = await watch.ask(create(watch_id=2))
    assert (taken.watch_id, taken.created, taken.canceled) == (-1, True, True)
    assert taken.cancel_reason == "mvcc: duplicate watch ID provided on the WatchStream"
    empty = await watch.ask(create(b"b", range_end=b"a"))
    assert (empty.watch_id, empty.cancel_reason) == (-1, "mvcc: watcher range is empty")
    past = await watch.ask(create(start_revision=-1))
    assert (past.watch_id, past.cancel_reason) == (-1, errors.Compacted.text)
    gone = await watch.ask(cancel(2))
    assert (gone.watch_id, gone.canceled, gone.cancel_reason) == (2, True, "")
    watch.send(cancel(2))
    watch.send(WatchRequest())
    assert await watch.silent(5), "an unknown id and an empty request have no answer"
    assert (await watch.ask(create(watch_id=2))).watch_id == 2
    assert lab.member.hub.watcher_count == 4


@simulated()
async def test_compacted_start(lab: Lab) -> None:
    for number in range(5):
        await lab.put(b"a", b"%d" % number)
    await lab.call(CompactionRequest(revision=4))
    watch = lab.watch()
    assert (await watch.ask(create(start_revision=2))).created
    over = await watch.receive()
    assert (over.canceled, over.compact_revision, over.cancel_reason, over.events) == (True, 4, "", [])
    assert over.header.revision == 0
    assert (await watch.ask(cancel(0))).canceled
    assert (await watch.ask(create(start_revision=4))).created
    assert values(await watch.receive()) == [b"2", b"3", b"4"]
    assert (await watch.ask(create(start_revision=9))).created
    await lab.put(b"a", b"7")
    assert (await watch.receive()).watch_id == 1
    assert await watch.silent(1), "a watcher of the future saw an earlier event"


@simulated(watch_progress_notify_seconds=10.0)
async def test_progress(lab: Lab) -> None:
    watch = lab.watch()
    watch.send(PROGRESS)
    assert await watch.silent(1), "a stream without watchers has no progress"
    await watch.ask(create(progress_notify=True))
    told = await watch.ask(PROGRESS)
    assert (told.watch_id, told.header.revision, told.events) == (-1, 1, [])
    await lab.put(b"b")
    first = await watch.receive(25)
    assert (first.watch_id, first.header.revision, first.events) == (0, 2, [])
    began = lab.sim.now
    await watch.receive(25)
    assert 10 <= lab.sim.now - began <= 11.01
    await asyncio.sleep(5)
    await lab.put(b"a")
    assert values(await watch.receive(1)) == [b""]
    began = lab.sim.now
    await watch.receive(25)
    assert lab.sim.now - began > 10, "an event in the interval makes the notice needless"
    await watch.ask(create(start_revision=99))
    watch.send(PROGRESS)
    assert await watch.silent(1), "one watcher has not started"


@simulated(max_request_bytes=10_000)
async def test_fragments(lab: Lab) -> None:
    watch = lab.watch()
    await watch.ask(create(b"k", range_end=b"l", fragment=True))
    await watch.ask(create(b"k", range_end=b"l"))
    lab.member.hub.message_bytes_max = 20_000
    for number in range(10):
        await lab.put(b"k%d" % number, bytes(9000))
    for _ in range(20):
        await watch.receive()
    past = lab.watch()
    await past.ask(create(b"k", range_end=b"l", fragment=True, start_revision=2))
    parts = [await past.receive()]
    while sum(len(part.events) for part in parts) < 10:
        parts.append(await past.receive())
    assert any(part.fragment for part in parts)
    assert not parts[-1].fragment
    assert [event.kv.key for part in parts for event in part.events] == [b"k%d" % i for i in range(10)]


@simulated()
async def test_the_end_of_a_stream(lab: Lab) -> None:
    """A half-close ends nothing; a cancel or a lost connection lets all watchers go."""
    watch = lab.watch()
    await watch.ask(create())
    watch.raw.half_close()
    await lab.put(b"a", b"1")
    assert values(await watch.receive()) == [b"1"]
    assert lab.member.hub.stream_count == 1
    watch.raw.cancel()
    await asyncio.sleep(1)
    assert (lab.member.hub.stream_count, lab.member.hub.watcher_count) == (0, 0)

    streams = []
    for _ in range(50):
        talk = lab.watch()
        await talk.ask(create(progress_notify=True))
        await talk.ask(create(b"", range_end=b"\0"))
        streams.append(talk)
    assert lab.member.hub.watcher_count == 100
    lab.connection.close()
    await asyncio.sleep(1)
    assert (lab.member.hub.stream_count, lab.member.hub.watcher_count) == (0, 0)
    assert not lab.member.hub.active
    lab.connection = await lab.connect()
    await lab.put(b"a", b"2")


@simulated()
async def test_garbage_ends_the_stream_and_its_watchers(lab: Lab) -> None:
    watch = lab.watch()
    await watch.ask(create(progress_notify=True))
    watch.raw.send(b"\xff")
    with pytest.raises(EtcdError, match="error unmarshalling request"):
        await watch.receive()
    assert lab.member.hub.watcher_count == 0


@simulated()
async def test_streams_are_checked_when_they_open(lab: Lab) -> None:
    bad = lab.watch(metadata=[(b"client-api-version", b"\xff")])
    with pytest.raises(errors.InvalidClientAPIVersion):
        await bad.receive()
    lab.member.lead = 0
    for talk in (lab.watch, lab.keep_alive):
        with pytest.raises(errors.NoLeader):
            await talk(metadata=[(b"hasleader", b"true")]).receive()
    assert (await lab.watch(metadata=[(b"hasleader", b"no")]).ask(create())).created


@simulated()
async def test_a_slow_reader_costs_no_memory_and_misses_nothing(lab: Lab) -> None:
    """Its watcher is parked and goes on from the store; others are not held up."""
    connection = await connect_slowly(lab, 65_536)
    stream = connection.stream(b"/etcdserverpb.Watch/Watch")
    slow, quick = Talk(stream, pb.WatchResponse), lab.watch()
    await slow.ask(create(b"k", range_end=b"l"))
    await quick.ask(create(b"k", range_end=b"l"))
    transport = connection._transport
    transport.pause_reading()
    total = 400
    for number in range(total):
        await lab.put(b"k%03d" % (number % 10), b"%d:" % number + bytes(10_000))
        assert values(await quick.receive())[0].startswith(b"%d:" % number)
    assert lab.member.hub.slow_watcher_count == 1
    waiting = sum(
        owner.machine.waiting + owner.unwritten_bytes()
        for owner in lab.etcd._edge._connections
        if owner.machine is not None
    )
    assert waiting < 1_000_000, f"{waiting} bytes wait for a client that reads nothing"
    transport.resume_reading()
    seen: list[bytes] = []
    while len(seen) < total:
        seen += [value.partition(b":")[0] for value in values(await slow.receive())]
    assert seen == [b"%d" % number for number in range(total)]
    assert lab.member.hub.slow_watcher_count == 0
    connection.close()


@simulated()
async def test_a_slow_reader_overtaken_by_a_compaction_is_told(lab: Lab) -> None:
    connection = await connect_slowly(lab, 65_536)
    slow = Talk(connection.stream(b"/etcdserverpb.Watch/Watch"), pb.WatchResponse)
    await slow.ask(create(b"k", range_end=b"l"))
    connection._transport.pause_reading()
    for number in range(100):
        await lab.put(b"k", b"%d" % number + bytes(10_000))
    await lab.call(CompactionRequest(revision=101))
    connection._transport.resume_reading()
    while not (answer := await slow.receive()).canceled:
        assert answer.events
    assert answer.compact_revision == 101
    connection.close()


@simulated()
async def test_a_long_history_comes_in_batches(lab: Lab) -> None:
    assert hub_module.BATCH_REVISIONS == 1000
    for start in range(0, 1505, 215):
        await asyncio.gather(*(lab.put(b"a", b"%d" % (start + i)) for i in range(215)))
    watch = lab.watch()
    await watch.ask(create(start_revision=1))
    first, second = await watch.receive(), await watch.receive()
    assert (len(first.events), len(second.events)) == (1000, 505)
    assert first.header.revision == second.header.revision == 1506


@simulated()
async def test_a_restart_ends_streams_and_a_new_one_goes_on(lab: Lab) -> None:
    watch = lab.watch()
    await watch.ask(create())
    await lab.put(b"a", b"1")
    await watch.receive()
    await lab.stop()
    with pytest.raises(errors.Stopped):
        await watch.receive()
    await lab.start()
    again = lab.watch()
    await again.ask(create(start_revision=2))
    assert values(await again.receive()) == [b"1"]


@simulated()
async def test_asking_on_and_on_without_reading(lab: Lab) -> None:
    connection = await connect_slowly(lab, 65_536)
    talk = Talk(connection.stream(b"/etcdserverpb.Watch/Watch"), pb.WatchResponse)
    await talk.ask(create(b"k"))
    connection._transport.pause_reading()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch_module, "UNREAD_BYTES_MAX", 100_000)
        for _ in range(5000):
            talk.send(PROGRESS)
        await asyncio.sleep(1)
    assert lab.member.hub.stream_count == 0
    connection._transport.resume_reading()

    async def read_on() -> None:
        while True:
            await talk.receive()

    with pytest.raises(EtcdError, match="not being read") as caught:
        await read_on()
    assert caught.value.code == errors.Code.RESOURCE_EXHAUSTED
    connection.close()
