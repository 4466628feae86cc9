"""KV/RangeStream: chunks of one revision, at the pace of its reader (contract wire-v3 section 3.5)."""

from __future__ import annotations

import asyncio

import pytest
from tests.server.lab import Lab, simulated

from petcd import errors
from petcd.errors import EtcdError
from petcd.pb import etcdserverpb as pb
from petcd.pb.etcdserverpb import RangeRequest, RangeStreamResponse

PATH = "/etcdserverpb.KV/RangeStream"


async def chunks(lab: Lab, request: RangeRequest) -> list[pb.RangeResponse]:
    talk = lab.stream(PATH, RangeStreamResponse)
    talk.send(request)
    talk.raw.half_close()
    found = []
    while True:
        try:
            found.append((await talk.receive()).range_response)
        except EOFError:
            return found


@simulated()
async def test_the_chunks_are_the_range(lab: Lab) -> None:
    await asyncio.gather(*(lab.put(b"k%04d" % i, b"v%d" % i) for i in range(500)))
    for request in (
        RangeRequest(key=b"k", range_end=b"l"),
        RangeRequest(key=b"k", range_end=b"l", limit=33),
        RangeRequest(key=b"k", range_end=b"l", serializable=True, keys_only=True),
        RangeRequest(key=b"k", range_end=b"l", revision=200),
        RangeRequest(key=b"k", range_end=b"l", count_only=True),
        RangeRequest(key=b"none"),
    ):
        whole = await lab.call(request)
        parts = await chunks(lab, request)
        assert [kv for part in parts for kv in part.kvs] == whole.kvs
        assert all(part.header is None and not part.count for part in parts[:-1])
        last = parts[-1]
        assert (last.header, last.count, last.more) == (whole.header, whole.count, whole.more)
        assert len(parts[0].kvs) <= 10
    assert len(parts) == 1, "nothing in the range: one message with a header"


@simulated()
async def test_refusals(lab: Lab) -> None:
    await lab.put(b"a")
    for request, error in (
        (RangeRequest(), errors.EmptyKey),
        (RangeRequest(key=b"a", sort_order=9), errors.InvalidSortOption),
        (RangeRequest(key=b"a", sort_order=1), errors.RangeStreamSort),
        (RangeRequest(key=b"a", max_mod_revision=1), errors.RangeStreamFilter),
        (RangeRequest(key=b"a", revision=9), errors.FutureRev),
    ):
        with pytest.raises(error):
            await chunks(lab, request)
    talk = lab.stream(PATH, RangeStreamResponse)
    talk.raw.send(b"\xff")
    with pytest.raises(EtcdError, match="unmarshalling"):
        await talk.receive()


@simulated()
async def test_a_reader_sets_the_pace(lab: Lab) -> None:
    """Chunks wait for a reader that does not read; writes meanwhile do not show."""
    await asyncio.gather(*(lab.put(b"k%03d" % i, bytes(20_000)) for i in range(600)))
    talk = lab.stream(PATH, RangeStreamResponse)
    transport = lab.connection._transport
    talk.send(RangeRequest(key=b"k", range_end=b"l"))
    await asyncio.sleep(0.001)
    transport.pause_reading()
    await asyncio.sleep(1)
    waiting = sum(
        one.machine.waiting + one.unwritten_bytes()
        for one in lab.etcd._edge._connections
        if one.machine is not None
    )
    assert waiting < 8_000_000, waiting
    other = await lab.connect()
    await other.unary(b"/etcdserverpb.KV/DeleteRange", pb.DeleteRangeRequest(key=b"k300").encode())
    transport.resume_reading()
    keys = []
    while True:
        part = (await talk.receive()).range_response
        keys += [kv.key for kv in part.kvs]
        if part.header is not None:
            break
    assert keys == [b"k%03d" % i for i in range(600)]
    assert part.count == 600
    assert part.header.revision == 601


@simulated()
async def test_a_reader_that_goes_away(lab: Lab) -> None:
    await asyncio.gather(*(lab.put(b"k%03d" % i, bytes(5_000)) for i in range(300)))
    talk = lab.stream(PATH, RangeStreamResponse)
    talk.send(RangeRequest(key=b"k", range_end=b"l"))
    await talk.receive()
    talk.raw.cancel()
    await asyncio.sleep(1)
    assert await lab.put(b"a") == 302


@simulated()
async def test_a_compaction_overtakes_it(lab: Lab) -> None:
    await asyncio.gather(*(lab.put(b"k%03d" % i, bytes(20_000)) for i in range(600)))
    talk = lab.stream(PATH, RangeStreamResponse)
    talk.send(RangeRequest(key=b"k", range_end=b"l"))
    await asyncio.sleep(0.001)
    transport = lab.connection._transport
    transport.pause_reading()
    other = await lab.connect()
    for key in (b"a", b"b"):
        await other.unary(b"/etcdserverpb.KV/Put", pb.PutRequest(key=key).encode())
    await other.unary(b"/etcdserverpb.KV/Compact", pb.CompactionRequest(revision=603).encode())
    transport.resume_reading()

    async def read_on() -> None:
        while True:
            await talk.receive()

    with pytest.raises(errors.Compacted):
        await read_on()
