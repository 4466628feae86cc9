"""Calls and streams that want a leader (contract wire-v3 section 6)."""

from __future__ import annotations

import asyncio

import pytest
from tests.server.lab import Lab, simulated

from petcd import errors
from petcd.pb import etcdserverpb as pb

HAS_LEADER = ((b"hasleader", b"true"),)


def create(key: bytes) -> pb.WatchRequest:
    return pb.WatchRequest(create_request=pb.WatchCreateRequest(key=key))


@simulated()
async def test_streams_end_when_the_leader_stays_away(lab: Lab) -> None:
    watch = lab.watch(metadata=HAS_LEADER)
    other = lab.watch(metadata=((b"hasleader", b"yes"),))
    keeping = lab.keep_alive(metadata=HAS_LEADER)
    plain = lab.watch()
    for talk in (watch, other, plain):
        assert (await talk.ask(create(b"a"))).created
    await keeping.ask(pb.LeaseKeepAliveRequest(ID=1))
    await asyncio.sleep(10)
    lab.member.lead = 0
    before = lab.sim.now
    for talk in (watch, keeping):
        with pytest.raises(errors.NoLeader):
            await talk.receive(5)
    assert 2.0 <= lab.sim.now - before <= 3.1
    assert await plain.silent(1)
    assert await other.silent(1)
    assert lab.member.hub.watcher_count == 2
    lab.member.lead = lab.member.id


@simulated()
async def test_a_short_absence_is_overlooked(lab: Lab) -> None:
    watch = lab.watch(metadata=HAS_LEADER)
    assert (await watch.ask(create(b"a"))).created
    for _ in range(3):
        lab.member.lead = 0
        assert await watch.silent(1.9)
        lab.member.lead = lab.member.id
        assert await watch.silent(1.1)
    await lab.put(b"a")
    assert len((await watch.receive()).events) == 1


@simulated()
async def test_nothing_opens_without_a_leader(lab: Lab) -> None:
    lab.member.lead = 0
    for talk in (lab.watch(metadata=HAS_LEADER), lab.keep_alive(metadata=HAS_LEADER)):
        with pytest.raises(errors.NoLeader):
            await talk.receive(1)
    expected = (int(errors.NoLeader.code), errors.NoLeader.text)
    for request in (
        pb.PutRequest(key=b"a"),
        pb.RangeRequest(key=b"a", serializable=True),
        pb.StatusRequest(),
    ):
        assert await lab.refused(request, metadata=HAS_LEADER) == expected
    lab.member.lead = lab.member.id


@simulated()
async def test_streams_that_ended_are_forgotten(lab: Lab) -> None:
    for _ in range(3):
        watch = lab.watch(metadata=HAS_LEADER)
        assert (await watch.ask(create(b"a"))).created
        watch.raw.cancel()
        await asyncio.sleep(2)
    lab.member.lead = 0
    await asyncio.sleep(10)
    lab.member.lead = lab.member.id
    again = lab.watch(metadata=HAS_LEADER)
    assert (await again.ask(create(b"a"))).created
    assert await again.silent(10)


@simulated()
async def test_a_stream_of_the_gateway_ends_too(lab: Lab) -> None:
    talk = await lab.http_open(
        "POST", "/v3/watch", b'{"create_request":{"key":"YQ=="}}', [("Grpc-Metadata-Hasleader", "true")]
    )
    assert await talk.head() == 200
    assert (await talk.line())["result"]["created"]
    lab.member.lead = 0
    assert await talk.line() == {"error": {"code": 14, "message": errors.NoLeader.text}}
    lab.member.lead = lab.member.id
    talk.close()
