"""Snapshots of the log: taken, used by a restart, purged (contract disk sections 3, 8, 11)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator

import pytest
from tests.server.lab import Lab, simulated
from tests.simulation.single import small_segments

from petcd.pb import raftpb
from petcd.server.membership import ClusterMember, Membership
from petcd.server.snapshotting import membership_tree
from petcd.storage.memory_backend import MemoryBackend
from petcd.testing.drive import Loss


@pytest.fixture(autouse=True)
def _small_segments() -> Iterator[None]:
    with small_segments():
        yield


def files(lab: Lab, directory: str, suffix: str) -> list[str]:
    node = lab.host.drive.find(directory)
    return sorted(name for name in node.now if name.endswith(suffix))  # type: ignore[union-attr]


async def puts(lab: Lab, count: int) -> None:
    for number in range(count):
        await lab.put(b"k%d" % (number % 5), b"%d" % number)


@simulated(snapshot_count=20, snapshot_catchup_entries=5, max_snapshots=2, max_wals=2)
async def test_the_log_is_forgotten(lab: Lab) -> None:
    member = lab.member
    await puts(lab, 200)
    await asyncio.sleep(1)
    assert member.snapshot_index > 180
    assert member.node.first_index == member.snapshot_index - 5 + 1
    assert member.node.snapshot.metadata.index == member.snapshot_index
    told = lab.messages("saved snapshot to disk")
    assert 5 <= len(told) <= 11
    assert told[-1]["snapshot-index"] == member.snapshot_index
    segments = files(lab, "data/member/wal", ".wal")
    snapshots = files(lab, "data/member/snap", ".snap")
    assert len(snapshots) == len(told)
    await asyncio.sleep(31)
    assert files(lab, "data/member/snap", ".snap") == snapshots[-2:]
    kept = files(lab, "data/member/wal", ".wal")
    assert len(kept) < len(segments), segments
    assert kept == segments[-len(kept) :]
    for loss in (Loss.NONE, Loss.ALL):
        await lab.crash(loss)
        assert await lab.value(b"k4") == b"199"
        assert lab.member.store.rev == 201
    await puts(lab, 50)
    await lab.restart()
    assert await lab.value(b"k4") == b"49"


@simulated(snapshot_count=20, snapshot_catchup_entries=5)
async def test_a_stop_amid_a_snapshot(lab: Lab) -> None:
    """Whatever stage it has reached, what follows is a clean stop and a good start."""
    lab.host.drive.faults.sync_seconds = lambda: 0.003
    expected = 0
    for pause in range(12):
        await puts(lab, 30)
        expected += 30
        await asyncio.sleep(pause * 0.001)
        await lab.stop()
        await lab.start()
        assert lab.member.store.rev == expected + 1


@simulated(snapshot_count=20, snapshot_catchup_entries=5)
async def test_a_snapshot_that_cannot_be_saved_ends_the_member(lab: Lab) -> None:
    def fail() -> None:
        raise OSError(5, "Input/output error")

    lab.member.world.failpoints.arm("raftBeforeSaveSnap", fail)
    with contextlib.suppress(Exception):
        await puts(lab, 60)
    await asyncio.sleep(1)
    assert lab.member.stopped
    revision = lab.member.store.rev
    await lab.restart()
    assert lab.member.store.rev >= revision - 1


@simulated(snapshot_count=10)
async def test_the_file_says_who_is_in_the_cluster(lab: Lab) -> None:
    await puts(lab, 20)
    await asyncio.sleep(1)
    member = lab.member
    snapshot = member.snapshotter.load_newest([(member.snapshot_index, member.node.term)])
    assert isinstance(snapshot, raftpb.Snapshot)
    assert snapshot.metadata is not None and snapshot.metadata.conf_state is not None
    assert snapshot.metadata.conf_state.voters == [member.id]
    assert snapshot.data == membership_tree(member.membership, member.snapshot_index)


def test_the_tree_of_the_v2_store() -> None:
    membership = Membership(7, MemoryBackend())
    membership.add(ClusterMember(0xAB, ("http://a:1",), "one", ("http://a:2",)))
    membership.add(ClusterMember(0xCD, ("http://b:1",), is_learner=True))
    membership.add(ClusterMember(0xEF, ("http://c:1",)))
    membership.remove(0xEF)
    membership.set_version("3.7.0")
    tree = json.loads(membership_tree(membership, 9))
    store = tree["Root"]["Children"]["0"]["Children"]
    members = store["members"]["Children"]
    assert set(members) == {"ab", "cd"}
    one = members["ab"]["Children"]
    assert json.loads(one["raftAttributes"]["Value"]) == {"peerURLs": ["http://a:1"]}
    assert json.loads(one["attributes"]["Value"]) == {"name": "one", "clientURLs": ["http://a:2"]}
    assert one["attributes"]["Path"] == "/0/members/ab/attributes"
    learner = members["cd"]["Children"]
    assert json.loads(learner["raftAttributes"]["Value"]) == {"peerURLs": ["http://b:1"], "isLearner": True}
    assert "attributes" not in learner
    assert set(store["removed_members"]["Children"]) == {"ef"}
    assert store["version"]["Value"] == "3.7.0"
    assert tree["CurrentIndex"] == 9
