"""The Lease service on virtual time (contract wire-v3 section 5)."""

from __future__ import annotations

import asyncio

import pytest
from tests.server.lab import Lab, Talk, connect_slowly, simulated

from petcd import errors
from petcd.api import lease as lease_module
from petcd.errors import EtcdError
from petcd.pb import etcdserverpb as pb
from petcd.pb.etcdserverpb import (
    LeaseGrantRequest,
    LeaseKeepAliveRequest,
    LeaseLeasesRequest,
    LeaseRevokeRequest,
    LeaseTimeToLiveRequest,
)
from petcd.testing.drive import Loss


def row(error: type[EtcdError]) -> tuple[int, str]:
    return int(error.code), error.text


async def grant(lab: Lab, ttl: int, lease_id: int = 0) -> int:
    return int((await lab.call(LeaseGrantRequest(TTL=ttl, ID=lease_id))).ID)


async def left(lab: Lab, lease_id: int, keys: bool = False) -> pb.LeaseTimeToLiveResponse:
    answer: pb.LeaseTimeToLiveResponse = await lab.call(LeaseTimeToLiveRequest(ID=lease_id, keys=keys))
    return answer


@simulated()
async def test_grants(lab: Lab) -> None:
    for ttl, granted in ((10, 10), (1, 2), (0, 2), (-5, 2), (9_000_000_000, 9_000_000_000)):
        answer = await lab.call(LeaseGrantRequest(TTL=ttl))
        assert (answer.TTL, answer.error, answer.header.revision) == (granted, "", 1)
        assert 0 < answer.ID < 1 << 63
    answer = await lab.call(LeaseGrantRequest(TTL=10, ID=-12))
    assert answer.ID == -12
    assert await lab.refused(LeaseGrantRequest(TTL=10, ID=-12)) == row(errors.LeaseExist)
    too_large = LeaseGrantRequest(TTL=9_000_000_001, ID=-12)
    assert await lab.refused(too_large) == row(errors.LeaseTTLTooLarge), "before the id is looked at"
    assert await lab.put(b"a", lease=-12) == 2
    assert (await left(lab, -12, keys=True)).keys == [b"a"]
    assert (await lab.call(pb.RangeRequest(key=b"a"))).kvs[0].lease == -12


@simulated()
async def test_revoking_deletes_all_keys_in_one_revision(lab: Lab) -> None:
    lease = await grant(lab, 60)
    empty = await grant(lab, 60)
    for key in (b"c", b"a", b"b"):
        await lab.put(key, lease=lease)
    watch = lab.watch()
    everything = pb.WatchCreateRequest(key=b"\0", range_end=b"\0")
    await watch.ask(pb.WatchRequest(create_request=everything))
    answer = await lab.call(LeaseRevokeRequest(ID=lease))
    assert answer.header.revision == 5
    event = await watch.receive()
    assert [(one.kv.key, one.kv.mod_revision, one.type) for one in event.events] == [
        (b"a", 5, 1),
        (b"b", 5, 1),
        (b"c", 5, 1),
    ]
    assert (await lab.call(LeaseRevokeRequest(ID=empty))).header.revision == 5
    assert await lab.refused(LeaseRevokeRequest(ID=lease)) == row(errors.LeaseNotFound)
    assert await lab.refused(pb.PutRequest(key=b"a", lease=lease)) == row(errors.LeaseNotFound)


@simulated()
async def test_a_key_has_one_lease(lab: Lab) -> None:
    one, two = await grant(lab, 60), await grant(lab, 60)
    await lab.put(b"a", lease=one)
    await lab.put(b"a", lease=two)
    await lab.put(b"b", lease=one)
    await lab.put(b"b")
    await lab.put(b"c", lease=one)
    await lab.call(pb.DeleteRangeRequest(key=b"c"))
    await lab.put(b"c")
    await lab.put(b"d", lease=one)
    await lab.call(pb.PutRequest(key=b"d", value=b"new", ignore_lease=True))
    assert (await left(lab, one, keys=True)).keys == [b"d"]
    assert (await left(lab, two, keys=True)).keys == [b"a"]
    assert (await left(lab, two)).keys == []
    await lab.call(LeaseRevokeRequest(ID=one))
    assert [await lab.value(key) for key in (b"a", b"b", b"c", b"d")] == [b"", b"", b"", None]


@simulated()
async def test_a_lease_expires_through_the_log(lab: Lab) -> None:
    lease = await grant(lab, 5)
    await lab.put(b"a", lease=lease)
    watch = lab.watch()
    await watch.ask(pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"a")))
    began = lab.sim.now
    entries = lab.member.node.last_index
    await asyncio.sleep(4.5)
    assert await lab.value(b"a") == b""
    assert (await left(lab, lease)).TTL == 0
    event = await watch.receive(3)
    assert event.events[0].type == 1
    assert 4.9 < lab.sim.now - began < 5.6
    assert lab.member.node.last_index == entries + 1
    assert lab.member.lessor.expired == 1
    gone = await left(lab, lease, keys=True)
    assert (gone.ID, gone.TTL, gone.grantedTTL, gone.keys) == (lease, -1, 0, [])


@simulated()
async def test_time_to_live_rounds_down(lab: Lab) -> None:
    lease = await grant(lab, 100)
    await asyncio.sleep(0.2)
    answer = await left(lab, lease)
    assert (answer.TTL, answer.grantedTTL, answer.header.revision) == (99, 100, 1)
    assert (await left(lab, 0)).TTL == -1


@simulated()
async def test_listing(lab: Lab) -> None:
    long, short = await grant(lab, 500), await grant(lab, 100)
    answer = await lab.call(LeaseLeasesRequest())
    assert [one.ID for one in answer.leases] == [short, long]
    assert answer.header.revision == 1


@simulated()
async def test_keep_alive(lab: Lab) -> None:
    lease = await grant(lab, 5)
    talk = lab.keep_alive()
    for _ in range(5):
        await asyncio.sleep(4)
        answer = await talk.ask(LeaseKeepAliveRequest(ID=lease))
        assert (answer.ID, answer.TTL, answer.header.revision) == (lease, 5, 1)
    unknown = await talk.ask(LeaseKeepAliveRequest(ID=77))
    assert (unknown.ID, unknown.TTL) == (77, 0)
    assert (await talk.ask(LeaseKeepAliveRequest(ID=lease))).TTL == 5, "the stream goes on"
    assert lab.member.lessor.renewed == 6
    for lease_id in (lease, 77, lease):
        talk.send(LeaseKeepAliveRequest(ID=lease_id))
    talk.raw.half_close()
    assert [(await talk.receive()).ID for _ in range(3)] == [lease, 77, lease]
    with pytest.raises(EOFError):
        await talk.receive()


@simulated()
async def test_keeping_an_expired_lease_alive_waits_for_its_end(lab: Lab) -> None:
    """Expired and not yet revoked: the answer comes with the revocation, and is TTL 0."""
    lease = await grant(lab, 2)
    lab.etcd._leases.stop()  # nobody proposes its end
    await asyncio.sleep(3)
    talk, other = lab.keep_alive(), lab.keep_alive()
    talk.send(LeaseKeepAliveRequest(ID=lease))
    talk.send(LeaseKeepAliveRequest(ID=1))
    assert await talk.silent(2), "the second answer must not overtake the first"
    lab.etcd._leases._round()
    first, second = await talk.receive(1), await talk.receive(1)
    assert [(lease, 0), (1, 0)] == [(first.ID, first.TTL), (second.ID, second.TTL)]

    lease = await grant(lab, 2)
    lab.etcd._leases.stop()
    await asyncio.sleep(3)
    other.send(LeaseKeepAliveRequest(ID=lease))
    with pytest.raises(errors.RequestTimeout):
        await other.receive(20)
    talk.raw.cancel()
    await asyncio.sleep(1)
    assert await lab.put(b"a") == 2


@simulated()
async def test_keeping_alive_where_nobody_counts(lab: Lab) -> None:
    lease = await grant(lab, 100)
    lab.member.lessor.demote()
    talk, other = lab.keep_alive(), lab.keep_alive()
    talk.send(LeaseKeepAliveRequest(ID=lease))
    assert await talk.silent(2)
    asking = asyncio.ensure_future(left(lab, lease))
    lab.member.lessor.promote(lab.sim.now, 1.0)
    assert (await talk.receive(1)).TTL == 100
    assert (await asking).TTL == 100
    lab.member.lessor.demote()
    other.send(LeaseKeepAliveRequest(ID=lease))
    with pytest.raises(EtcdError, match="not a primary lessor"):
        await other.receive(20)
    with pytest.raises(EtcdError, match="not a primary lessor"):
        await left(lab, lease)


@simulated()
async def test_garbage_on_the_keep_alive_stream(lab: Lab) -> None:
    talk = lab.keep_alive()
    talk.raw.send(b"\xff")
    with pytest.raises(EtcdError, match="error unmarshalling request"):
        await talk.receive()


@simulated()
async def test_a_restart_keeps_leases_and_their_keys(lab: Lab) -> None:
    lease = await grant(lab, 20)
    moved, gone = await grant(lab, 20), await grant(lab, 20)
    await lab.put(b"a", lease=lease)
    await lab.put(b"b", lease=moved)
    await lab.put(b"b", lease=lease)
    await lab.put(b"c", lease=lease)
    await lab.put(b"c")
    await lab.call(LeaseRevokeRequest(ID=gone))
    for loss in (Loss.NONE, Loss.ALL):
        await asyncio.sleep(15)
        await lab.crash(loss)
        answer = await left(lab, lease, keys=True)
        assert answer.keys == [b"a", b"b"]
        assert 19 <= answer.TTL <= 21, "a new primary counts from the start, with an election on top"
        assert (await left(lab, moved, keys=True)).keys == []
        assert (await left(lab, gone)).TTL == -1
    await asyncio.sleep(25)
    assert [await lab.value(key) for key in (b"a", b"b", b"c")] == [None, None, b""]
    await lab.restart()
    assert (await lab.call(LeaseLeasesRequest())).leases == []


@simulated(features={"LeaseCheckpoint": True})
async def test_checkpoints_survive_a_restart(lab: Lab) -> None:
    """Without them a lease of an hour would begin anew; with them it has about what was left."""
    lease = await grant(lab, 3600)
    short = await grant(lab, 200)
    keeper = lab.keep_alive()
    for _ in range(10):
        await asyncio.sleep(100)
        await keeper.ask(LeaseKeepAliveRequest(ID=short))
    known = lab.member.lessor.get(lease)
    assert known is not None and 2650 < known.remaining_ttl < 2750
    assert lab.member.lessor.get(short).remaining_ttl == 0  # type: ignore[union-attr]
    await lab.restart()
    assert 2650 < (await left(lab, lease)).TTL < 2750
    talk = lab.keep_alive()
    assert (await talk.ask(LeaseKeepAliveRequest(ID=lease))).TTL == 3600
    await asyncio.sleep(1)
    assert lab.member.lessor.get(lease).remaining_ttl == 0  # type: ignore[union-attr]
    await lab.restart()
    assert (await left(lab, lease)).TTL > 3590


@simulated()
async def test_many_leases_expire_in_rounds(lab: Lab) -> None:
    """At most 500 a round and 16 in flight; all of them end."""
    ids = [await grant(lab, 2) for _ in range(3)]
    await asyncio.gather(*(grant(lab, 10) for _ in range(700)))
    await lab.put(b"a", lease=ids[0])
    await asyncio.sleep(3)
    assert len((await lab.call(LeaseLeasesRequest())).leases) == 700
    assert await lab.value(b"a") is None
    await asyncio.sleep(9)
    assert (await lab.call(LeaseLeasesRequest())).leases == []


@simulated()
async def test_a_revocation_that_is_refused_is_asked_for_again(lab: Lab) -> None:
    """While the cluster is corrupt no lease can end; afterwards it does."""
    lease = await grant(lab, 2)
    await lab.put(b"a", lease=lease)
    alarm = {"memberID": 1, "alarm": pb.AlarmType.CORRUPT}
    await lab.call(pb.AlarmRequest(action=pb.AlarmAction.ACTIVATE, **alarm))  # type: ignore[arg-type]
    await asyncio.sleep(10)
    assert await lab.value(b"a") == b""
    await lab.call(pb.AlarmRequest(action=pb.AlarmAction.DEACTIVATE, **alarm))  # type: ignore[arg-type]
    await asyncio.sleep(10)
    assert await lab.value(b"a") is None


@simulated()
async def test_asking_on_and_on_without_reading(lab: Lab) -> None:
    connection = await connect_slowly(lab, 65_536)
    stream = connection.stream(b"/etcdserverpb.Lease/LeaseKeepAlive")
    talk = Talk(stream, pb.LeaseKeepAliveResponse)
    await talk.ask(LeaseKeepAliveRequest(ID=7))
    connection._transport.pause_reading()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease_module, "UNREAD_BYTES_MAX", 100_000)
        for _ in range(5000):
            talk.send(LeaseKeepAliveRequest(ID=7))
        await asyncio.sleep(1)
    connection._transport.resume_reading()

    async def read_on() -> None:
        while True:
            await talk.receive()

    with pytest.raises(EtcdError, match="not being read"):
        await read_on()
    connection.close()
