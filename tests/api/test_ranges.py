"""Large ranges in slices: the same answers, one revision each, and nobody is held up."""

from __future__ import annotations

import asyncio

import pytest
from tests.server.lab import Lab, simulated

from petcd import errors
from petcd.api.ranges import LARGE_KEYS, is_large
from petcd.mvcc import RangeStream
from petcd.pb import etcdserverpb as pb
from petcd.pb.etcdserverpb import RangeRequest

COUNT = LARGE_KEYS + 500
ALL = RangeRequest(key=b"k", range_end=b"l")


async def fill(lab: Lab, value: bytes = b"") -> None:
    for start in range(0, COUNT, 500):
        await asyncio.gather(*(lab.put(b"k%05d" % i, b"%d" % i + value) for i in range(start, start + 500)))


@simulated()
async def test_the_answer_is_that_of_the_store(lab: Lab) -> None:
    await fill(lab)
    store = lab.member.store
    for request in (
        ALL,
        RangeRequest(key=b"k", range_end=b"l", serializable=True),
        RangeRequest(key=b"\0", range_end=b"\0", limit=LARGE_KEYS + 1),
    ):
        assert is_large(lab.member, request)
        expected = pb.RangeResponse.decode(store.range(request))
        answer = await lab.call(request)
        assert (answer.kvs, answer.count, answer.more) == (expected.kvs, expected.count, expected.more)
        assert answer.header.revision == store.rev
    assert lab.member.range_count == 3
    status, answer = await lab.json("/v3/kv/range", {"key": "aw==", "range_end": "bA=="})
    assert (status, len(answer["kvs"])) == (200, COUNT)


@simulated()
async def test_what_is_not_large(lab: Lab) -> None:
    await fill(lab)
    for options in (
        {"limit": 5},
        {"sort_order": pb.SortOrder.DESCEND},
        {"count_only": True},
        {"keys_only": True},
        {"revision": 2},
        {"min_mod_revision": 2},
        {"range_end": b""},
        {"range_end": b"k01"},
    ):
        assert not is_large(lab.member, RangeRequest(**{"key": b"k", "range_end": b"l", **options}))


@simulated()
async def test_writes_in_between_do_not_show(lab: Lab) -> None:
    await fill(lab, bytes(2000))
    other = await lab.connect()
    reading = [asyncio.ensure_future(lab.call(ALL)) for _ in range(3)]
    revisions = []
    for number in range(30):
        raw = await other.unary(
            b"/etcdserverpb.KV/Put", pb.PutRequest(key=b"k%05d" % number, value=b"later").encode()
        )
        revisions.append(pb.PutResponse.decode(raw).header.revision)
    for answer in await asyncio.gather(*reading):
        assert len(answer.kvs) == COUNT
        assert max(kv.mod_revision for kv in answer.kvs) <= answer.header.revision
        written = sum(kv.value == b"later" for kv in answer.kvs)
        assert written == sum(revision <= answer.header.revision for revision in revisions)


@simulated(compaction_sleep_seconds=0.0)
async def test_a_compaction_that_overtakes_it(lab: Lab) -> None:
    """Who asks for the newest revision never hears that it is compacted."""
    await fill(lab)
    original = RangeStream.next
    steps = 0

    def overtaken(stream: RangeStream) -> bytes:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise errors.Compacted
        return original(stream)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RangeStream, "next", overtaken)
        answer = await lab.call(ALL)
    assert steps == 3
    assert len(answer.kvs) == COUNT


@simulated()
async def test_one_that_fails_does_not_hold_up_those_behind_it(lab: Lab) -> None:
    await fill(lab)
    original = RangeStream.next
    steps = 0

    def broken(stream: RangeStream) -> bytes:
        nonlocal steps
        steps += 1
        if steps == 2:
            raise RuntimeError("a bug")
        return original(stream)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RangeStream, "next", broken)
        first = asyncio.ensure_future(lab.refused(ALL))
        second = asyncio.ensure_future(lab.call(ALL))
        assert await first == (13, "internal error")
        assert len((await second).kvs) == COUNT
    assert lab.messages("read failed") == [{"error": "RuntimeError: a bug"}]


@simulated()
async def test_the_end_amid_a_range(lab: Lab) -> None:
    await fill(lab)
    process = lab.host.process
    assert process is not None
    original = RangeStream.next

    def failing(stream: RangeStream) -> bytes:
        process.run(lab.member.fail, RuntimeError("a disk"))
        return original(stream)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RangeStream, "next", failing)
        answers = await asyncio.gather(lab.refused(ALL), lab.refused(ALL))
    assert answers == [(14, errors.Stopped.text)] * 2


@simulated()
async def test_a_caller_that_gave_up(lab: Lab) -> None:
    await fill(lab)
    calls = [asyncio.ensure_future(lab.call(ALL)) for _ in range(3)]
    await asyncio.sleep(0.0004)
    calls[0].cancel()
    assert len((await calls[2]).kvs) == COUNT
    assert len((await calls[1]).kvs) == COUNT
