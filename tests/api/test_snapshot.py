"""Maintenance/Snapshot: a consistent database, at the pace of its reader (contract wire-v3 section 10.3)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from unittest.mock import patch

import pytest
from tests.server.lab import Lab, connect_slowly, simulated
from tests.storage.bbolt.build import Bytes

from petcd import errors
from petcd.api.snapshot import BLOB_BYTES
from petcd.errors import EtcdError
from petcd.net.grpc.client import ClientConnection
from petcd.pb import etcdserverpb as pb
from petcd.pb.etcdserverpb import SnapshotRequest, SnapshotResponse
from petcd.pb.mvccpb import KeyValue
from petcd.server.membership import ClusterMember
from petcd.storage.bbolt import DatabaseInfo, check_database, read_database
from petcd.storage.schema import BUCKETS, KEY
from petcd.testing.disk import SimFile
from petcd.testing.drive import Loss

PATH = "/etcdserverpb.Maintenance/Snapshot"
SNAP = "data/member/snap"


async def responses(lab: Lab, connection: ClientConnection | None = None) -> list[SnapshotResponse]:
    stream = (connection or lab.connection).stream(PATH.encode())
    stream.send(SnapshotRequest().encode())
    stream.half_close()
    return [SnapshotResponse.decode(message) async for message in stream]


async def snapshot(lab: Lab, connection: ClientConnection | None = None) -> Bytes:
    """The database, its digest checked."""
    *parts, last = await responses(lab, connection)
    content = b"".join(part.blob for part in parts)
    assert hashlib.sha256(content).digest() == last.blob
    return Bytes(content)


def keys(file: Bytes) -> list[bytes]:
    """The keys put, in the order of their revisions."""
    return [KeyValue.decode(value).key for bucket, _, value in read_database(file) if bucket == KEY]


async def fill(lab: Lab, count: int, size: int) -> None:
    await asyncio.gather(*(lab.put(b"k%04d" % i, bytes(size)) for i in range(count)))


def leftovers(lab: Lab) -> list[str]:
    world = lab.host.world
    assert world is not None
    return [name for name in world.disk.listdir(SNAP) if name.startswith("tmp")]


def waiting_bytes(lab: Lab) -> int:
    return sum(
        one.machine.waiting + one.unwritten_bytes()
        for one in lab.etcd._edge._connections
        if one.machine is not None
    )


@simulated()
async def test_the_messages(lab: Lab) -> None:
    """Blobs of 32 KiB, what remains, the digest last, the storage version in each; no headers."""
    await fill(lab, 100, 3000)
    *parts, last = await responses(lab)
    total = sum(len(part.blob) for part in parts)
    assert len(parts) > 9
    sent = 0
    for part in parts:
        sent += len(part.blob)
        assert part.remaining_bytes == total - sent
        assert len(part.blob) == BLOB_BYTES or not part.remaining_bytes
    assert (last.remaining_bytes, len(last.blob)) == (0, 32)
    assert all((part.header, part.version) == (None, "3.7.0") for part in (*parts, last))
    assert total % 4096 == 0


@simulated()
async def test_the_database(lab: Lab) -> None:
    """Everything a member needs to go on from it, up to the last write acknowledged."""
    await fill(lab, 20, 10)
    await lab.call(pb.DeleteRangeRequest(key=b"k0003"))
    await lab.call(pb.LeaseGrantRequest(ID=77, TTL=100))
    await lab.call(pb.AlarmRequest(action=1, memberID=5, alarm=1))
    applied = lab.member.applied
    file = await snapshot(lab)
    info = check_database(file, every_page=True)
    assert info == DatabaseInfo(
        size_bytes=len(file.content),
        page_bytes=4096,
        transaction=2,
        buckets=BUCKETS,
        unknown=(),
        consistent_index=applied,
        term=lab.member.node.term,
        conf_state={
            "voters": [lab.member.id],
            "learners": [],
            "voters_outgoing": [],
            "learners_next": [],
            "auto_leave": False,
        },
        storage_version="3.7.0",
        cluster_version="3.7.0",
        revision=22,
        compact_revision=0,
        keys=info.keys,
    )
    view = lab.member.backend.open_view()
    try:
        held = [(bucket, *pair) for bucket in BUCKETS for pair in view.iterate(bucket)]
    finally:
        view.close()
    assert list(read_database(file)) == held


@simulated()
async def test_writes_go_on_and_do_not_show(lab: Lab) -> None:
    await fill(lab, 300, 10_000)
    slow = await connect_slowly(lab, 65_536)
    reading = asyncio.ensure_future(snapshot(lab, slow))
    revision = 301
    for _ in range(200):
        assert await lab.put(b"later") == revision + 1
        revision += 1
    file = await reading
    found = keys(file)
    assert found[:300] == sorted(found[:300])
    assert set(found[300:]) <= {b"later"}
    info = check_database(file)
    assert 301 <= info.revision == 1 + len(found) < revision


@simulated()
async def test_a_reader_sets_the_pace(lab: Lab) -> None:
    """One that does not read holds little up; the file has no name meanwhile."""
    await fill(lab, 1000, 20_000)
    stream = lab.connection.stream(PATH.encode())
    stream.send(SnapshotRequest().encode())
    await asyncio.sleep(0.0001)
    transport = lab.connection._transport
    transport.pause_reading()
    await asyncio.sleep(5)
    assert waiting_bytes(lab) < 8_000_000, "what sockets take, and half a megabyte"
    assert leftovers(lab) == []
    other = await lab.connect()
    await other.unary(b"/etcdserverpb.KV/Put", pb.PutRequest(key=b"x").encode())
    transport.resume_reading()
    content = b"".join([SnapshotResponse.decode(message).blob async for message in stream])
    assert hashlib.sha256(content[:-32]).digest() == content[-32:]
    assert len(keys(Bytes(content))) == 1000


@simulated()
async def test_readers_that_go_away(lab: Lab) -> None:
    """At any point: while the backend commits, while the file is made, while it is sent."""
    await fill(lab, 300, 10_000)
    lab.host.drive.faults.lane_seconds = lambda: 0.001
    for milliseconds in (0, 0.01, 0.1, 0.3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 21, 34):
        stream = lab.connection.stream(PATH.encode())
        stream.send(SnapshotRequest().encode())
        await asyncio.sleep(milliseconds / 1000)
        stream.cancel()
    await asyncio.sleep(1)
    assert leftovers(lab) == []
    assert len(keys(await snapshot(lab))) == 300


@simulated()
async def test_those_who_ask_together_share_a_file(lab: Lab) -> None:
    await fill(lab, 50, 1000)
    made = lab.etcd.member.snapshotter
    names: list[str] = []
    temporary_path = made.temporary_path

    def noting(label: str) -> str:
        names.append(label)
        return temporary_path(label)

    made.temporary_path = noting  # type: ignore[method-assign]
    files = await asyncio.gather(*(snapshot(lab) for _ in range(8)))
    assert len(names) <= 2
    assert all(len(keys(file)) == 50 for file in files)


@simulated()
async def test_each_sees_what_was_acknowledged_before(lab: Lab) -> None:
    """Also the one that asks while a file is being made."""
    await fill(lab, 100, 10_000)
    slow = await connect_slowly(lab, 65_536)
    first = asyncio.ensure_future(snapshot(lab, slow))
    await asyncio.sleep(0.0005)
    await lab.put(b"second")
    second = await snapshot(lab)
    assert b"second" in keys(second)
    await first


@simulated()
async def test_no_room(lab: Lab) -> None:
    """The call fails, nothing else does."""
    await fill(lab, 100, 10_000)
    await asyncio.sleep(1)
    drive = lab.host.drive
    drive.faults.capacity_bytes = drive.used_bytes() + 100_000
    with pytest.raises(EtcdError, match="No space left"):
        await snapshot(lab)
    drive.faults.capacity_bytes = 0
    assert leftovers(lab) == []
    await lab.put(b"x")
    assert len(keys(await snapshot(lab))) == 101


@simulated()
async def test_a_file_that_cannot_be_read(lab: Lab) -> None:
    """The call fails, nothing else does."""
    await fill(lab, 100, 10_000)
    read = SimFile.pread
    for broken in (b"short", OSError(5, "Input/output error")):

        def pread(file: SimFile, size: int, offset: int, /, broken: bytes | OSError = broken) -> bytes:
            if "snapshot" not in file.path or not offset:
                return read(file, size, offset)
            if isinstance(broken, bytes):
                return broken
            raise broken

        with (
            patch.object(SimFile, "pread", pread),
            pytest.raises(EtcdError, match=r"cannot be read|output error"),
        ):
            await snapshot(lab)
    assert len(lab.messages("failed to send database snapshot to client")) == 2
    assert len(keys(await snapshot(lab))) == 100


@simulated()
async def test_stopped_meanwhile(lab: Lab) -> None:
    """Whole or an error, at whatever point of it the member stops."""
    await fill(lab, 300, 10_000)
    lab.host.drive.faults.lane_seconds = lambda: 0.0005
    ends = []
    for milliseconds in (0.05, 0.1, 0.3, 1, 1.5, 3, 4, 5, 6, 8, 50):
        slow = await connect_slowly(lab, 65_536)
        reading = asyncio.ensure_future(snapshot(lab, slow))
        await asyncio.sleep(milliseconds / 1000)
        await lab.restart()
        try:
            ends.append(len(keys(await reading)))
        except (EtcdError, OSError):
            ends.append(0)
        assert leftovers(lab) == []
    assert set(ends) == {0, 300}


@pytest.mark.parametrize("loss", list(Loss))
def test_crashed_meanwhile(loss: Loss) -> None:
    @simulated(seed=7)
    async def scenario(lab: Lab) -> None:
        await fill(lab, 300, 10_000)
        for milliseconds in (0.05, 0.2, 0.5, 1, 3):
            reading = asyncio.ensure_future(snapshot(lab, await connect_slowly(lab, 65_536)))
            await asyncio.sleep(milliseconds / 1000)
            await lab.crash(loss)
            assert leftovers(lab) == []
            reading.cancel()
        assert len(keys(await snapshot(lab))) == 300

    scenario()


@simulated()
async def test_a_file_left_by_a_crash(lab: Lab) -> None:
    """Between its making and the loss of its name there is a moment."""
    world = lab.host.world
    assert world is not None
    world.disk.open(f"{SNAP}/tmp-snapshot-1", create=True).pwrite(b"half", 0)
    assert leftovers(lab) == ["tmp-snapshot-1"]
    assert keys(await snapshot(lab)) == [], "a file of that name does not matter"
    world.disk.open(f"{SNAP}/tmp-snapshot-2", create=True).pwrite(b"half", 0)
    await lab.crash(Loss.NONE)
    assert leftovers(lab) == []


@simulated()
async def test_the_gateway(lab: Lab) -> None:
    """Lines of JSON, as its other streams."""
    await fill(lab, 40, 3000)
    status, headers, body = await lab.http("POST", "/v3/maintenance/snapshot", b"{}")
    assert (status, headers["content-type"]) == (200, "application/json")
    parts = [json.loads(line)["result"] for line in body.splitlines()]
    blobs = [base64.b64decode(part["blob"]) for part in parts]
    assert hashlib.sha256(b"".join(blobs[:-1])).digest() == blobs[-1]
    assert parts[0]["version"] == "3.7.0"
    assert int(parts[0]["remaining_bytes"]) == sum(map(len, blobs[1:-1]))
    assert len(keys(Bytes(b"".join(blobs)))) == 40


@simulated()
async def test_a_learner_gives_its_database(lab: Lab) -> None:
    await lab.put(b"a")
    membership = lab.member.membership
    own = membership.members[lab.member.id]
    membership.members[own.id] = ClusterMember(own.id, own.peer_urls, own.name, own.client_urls, True)
    membership.learner_count = 1
    assert keys(await snapshot(lab)) == [b"a"]


@simulated()
async def test_requests_that_are_none(lab: Lab) -> None:
    stream = lab.connection.stream(PATH.encode())
    stream.send(b"\xff")
    with pytest.raises(EtcdError, match="unmarshalling"):
        await stream.recv()
    stream = lab.connection.stream(PATH.encode(), metadata=[(b"hasleader", b"true")])
    lab.member.lead = 0
    stream.send(SnapshotRequest().encode())
    with pytest.raises(errors.NoLeader):
        await stream.recv()


@simulated()
async def test_asked_twice_on_one_stream(lab: Lab) -> None:
    """The second message is not looked at."""
    stream = lab.connection.stream(PATH.encode())
    stream.send(SnapshotRequest().encode())
    stream.send(b"\xff")
    stream.half_close()
    parts = [SnapshotResponse.decode(message) async for message in stream]
    assert len(parts[-1].blob) == 32
