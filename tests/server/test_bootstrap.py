"""Founding a member and starting it again; the simulation crashes it everywhere else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.server.lab import Lab, simulated

from petcd.pb import etcdserverpb as pb
from petcd.server.bootstrap import open_member
from petcd.server.config import ConfigError
from petcd.server.url import parse_urls
from petcd.storage import schema
from petcd.storage.errors import CorruptError, IncompatibleError, LockedError, StorageError, WalNotFound
from petcd.testing.drive import Loss


async def contents(lab: Lab) -> Any:
    everything = await lab.call(pb.RangeRequest(key=b"\0", range_end=b"\0"))
    hashed = await lab.call(pb.HashKVRequest())
    return everything.kvs, everything.header.revision, hashed.hash, hashed.compact_revision


async def some_history(lab: Lab, count: int = 40) -> None:
    for number in range(count):
        await lab.put(b"k%d" % (number % 7), b"v%d" % number)
        if number % 5 == 0:
            await lab.call(pb.DeleteRangeRequest(key=b"k%d" % (number % 3)))
    await lab.call(pb.TxnRequest(success=[pb.RequestOp(request_put=pb.PutRequest(key=b"t"))]))


@simulated()
async def test_a_restart_changes_nothing(lab: Lab) -> None:
    await some_history(lab)
    await lab.call(pb.CompactionRequest(revision=20))
    before, ids = await contents(lab), (lab.member.id, lab.member.cluster_id)
    term = lab.member.node.term
    for end in ("stop", Loss.NONE, Loss.ALL, Loss.SOME, "stop"):
        if isinstance(end, Loss):
            await lab.crash(end)
        else:
            await lab.restart()
        assert await contents(lab) == before, end
        assert (lab.member.id, lab.member.cluster_id) == ids
        assert lab.member.node.term > term
        term = lab.member.node.term
    assert len(lab.messages("restarting local member")) == 5
    assert len(lab.messages("added member")) == 1, "membership is in the backend"


@simulated(backend_batch_interval_seconds=1e6)
async def test_all_of_it_comes_again_from_the_log(lab: Lab) -> None:
    """The backend was never committed."""
    await some_history(lab)
    lease = (await lab.call(pb.LeaseGrantRequest(TTL=60))).ID
    await lab.put(b"leased", lease=lease)
    await lab.call(pb.AlarmRequest(action=pb.AlarmAction.ACTIVATE, memberID=5, alarm=pb.AlarmType.NOSPACE))
    before = await contents(lab)
    assert lab.member.backend.get(schema.META, schema.CONSISTENT_INDEX) is None
    await lab.crash()
    assert await contents(lab) == before
    assert (await lab.call(pb.LeaseTimeToLiveRequest(ID=lease, keys=True))).keys == [b"leased"]
    assert len((await lab.call(pb.AlarmRequest())).alarms) == 1
    assert (await lab.call(pb.MemberListRequest())).members[0].name == "m"


@simulated(backend_batch_interval_seconds=0.05)
async def test_what_the_backend_has_is_not_applied_twice(lab: Lab) -> None:
    await some_history(lab)
    before = await contents(lab)
    await asyncio.sleep(1)
    stored = lab.member.backend.get(schema.META, schema.CONSISTENT_INDEX)
    await lab.crash()
    assert stored is not None
    handled = schema.decode_u64(stored)
    assert handled > 40
    assert lab.member.applier.put_count == 0, "what comes again is what the backend lacks"
    assert await contents(lab) == before
    raw = lab.member.backend.get(schema.META, schema.CONSISTENT_INDEX)
    assert raw is not None and schema.decode_u64(raw) >= handled


@simulated(start=False)
async def test_a_name_that_is_not_in_the_cluster(lab: Lab) -> None:
    other = {"other": parse_urls("http://10.0.0.1:2380")}
    with pytest.raises(ConfigError, match='couldn\'t find local name "m"'):
        await lab.start(initial_cluster=other)
    lab.host.crash(Loss.NONE)
    del lab.settings["initial_cluster"]
    await lab.start()
    assert await lab.put(b"a") == 2


@simulated(start=False)
async def test_a_lock_that_is_taken(lab: Lab) -> None:
    await lab.start()
    world = lab.host.world
    process = lab.host.process
    assert world is not None and process is not None
    from petcd.storage.datadir import DataDir

    with pytest.raises(LockedError, match="in use by another etcd process"):
        process.run(DataDir, world.disk, "data")
    assert await lab.put(b"a") == 2


@simulated(snapshot_count=10, snapshot_catchup_entries=2)
async def test_a_backend_that_is_behind_the_snapshot(lab: Lab) -> None:
    """The log before the snapshot is gone, so the backend cannot be made good: refused, and let go of."""
    await some_history(lab)
    await lab.stop()
    drive = lab.host.drive
    kept = drive.clone()
    snap = drive.find("data/member/snap")
    del snap.now["petcd.mdb"], snap.durable["petcd.mdb"]  # type: ignore[union-attr]
    with pytest.raises(CorruptError, match="before the snapshot of index"):
        await lab.start()
    lab.host.crash(Loss.NONE)
    whole = kept.find("data/member/snap")
    snap.now["petcd.mdb"] = whole.now["petcd.mdb"]  # type: ignore[union-attr]
    await lab.start()
    assert await lab.value(b"t") == b""


@simulated()
async def test_authentication_that_nobody_would_check(lab: Lab) -> None:
    """As after the restore of a cluster's snapshot in which users must log in."""
    await some_history(lab)
    lab.member.backend.put(schema.AUTH, schema.AUTH_ENABLED, b"\x01")
    await lab.stop()
    with pytest.raises(IncompatibleError, match=r"petcd.mdb: authentication is enabled.*auth disable"):
        await lab.start()
    lab.host.crash(Loss.NONE)


@simulated()
async def test_a_database_without_its_log(lab: Lab) -> None:
    """As after a start that forgot --wal-dir: refused, and nothing is removed."""
    await some_history(lab)
    before = await contents(lab)
    await lab.stop()
    with pytest.raises(WalNotFound, match=r"no write-ahead log in elsewhere.*--wal-dir"):
        await lab.start(wal_dir="elsewhere")
    lab.host.crash(Loss.NONE)
    await lab.start(wal_dir="")
    assert await contents(lab) == before


@simulated(start=False, backend_batch_interval_seconds=1e6)
async def test_a_founding_that_lost_its_log(lab: Lab) -> None:
    """A database that holds nothing yet is nobody's data, and gives way."""
    await lab.start()
    lab.host.crash(Loss.NONE)
    member = lab.host.drive.find("data/member")
    lost = member.now["wal"]  # type: ignore[union-attr]
    del member.now["wal"], member.durable["wal"]  # type: ignore[union-attr]
    assert "petcd.mdb" in lab.host.drive.find("data/member/snap").now  # type: ignore[union-attr]
    await lab.start()
    assert member.now["wal"] is not lost  # type: ignore[union-attr]
    assert await lab.put(b"a") == 2


@simulated(start=False)
async def test_a_start_that_fails_anywhere_can_be_tried_again(lab: Lab) -> None:
    """EIO at each operation of a first start: an error, no lock left behind, and the next try works."""
    import errno

    number = 0
    while True:
        number += 1
        lab.host.drive.faults.fail_at[lab.host.drive.operations + number] = errno.EIO
        try:
            await lab.start()
        except (StorageError, OSError):
            lab.host.drive.faults.fail_at.clear()
            lab.host.crash(Loss.NONE)
            continue
        except BaseException as other:
            raise AssertionError(f"operation {number}: {other!r}") from other
        lab.host.drive.faults.fail_at.clear()
        break
    assert number > 15
    if lab.member.stopped:
        await lab.restart()
    await lab.put(b"a", b"1")
    assert await lab.value(b"a") == b"1"


@simulated()
async def test_the_raft_node_starts_behind_its_snapshot(lab: Lab) -> None:
    assert open_member.__doc__
    assert lab.member.snapshot_index == 0
    await lab.restart(snapshot_count=5, snapshot_catchup_entries=0)
    await some_history(lab)
    await asyncio.sleep(1)
    index = lab.member.snapshot_index
    assert index > 40
    await lab.crash(Loss.ALL)
    assert lab.member.node.first_index > 40
    assert lab.member.snapshot_index >= index
