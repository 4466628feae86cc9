"""Raft snapshots of a member: what makes its log forgettable.

The state itself is in the backend; the .snap file holds where it stands in the log, the configuration
there, and the membership as a tree of the v2 store, which releases up to 3.6 read (contract disk sections
3 and 8).

Order, each step durable before the next begins: the backend up to the index; the .snap file; its record in
the WAL. After a crash between two of them the older snapshot still counts, and the log after it is there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from petcd.pb import raftpb
from petcd.raft import ConfState, Snapshot
from petcd.seams import Failpoints
from petcd.server.ids import hex_id
from petcd.storage.snapshots import Snapshotter
from petcd.storage.wal import encode_snapshot_record, purge

if TYPE_CHECKING:
    from petcd.server.member import Member
    from petcd.server.membership import Membership

_NO_TIME = "0001-01-01T00:00:00Z"


def take_snapshot(member: Member, done: Callable[[int], object]) -> None:
    """Snapshot what is applied now; ``done(index)`` when the log may forget it. Failures end the member."""
    index = member.applied
    conf_state = member.node.conf_state
    data = membership_tree(member.membership, index)
    snapshot = member.node.create_snapshot(index, conf_state, data)
    record = snapshot_message(snapshot)

    def flushed() -> None:
        if not member.stopped:
            save = partial(save_snapshot, member.snapshotter, record, member.world.failpoints)
            member.on_files_lane(save, saved)

    def saved(_result: None) -> None:
        if member.stopped:
            return  # without its record in the log the file does not count
        member.log.mark_snapshot(snapshot_record(snapshot), index, partial(done, index))
        member.logger.info("saved snapshot to disk", **{"snapshot-index": index})

    member.commit_backend(flushed)


def save_snapshot(snapshotter: Snapshotter, record: raftpb.Snapshot, failpoints: Failpoints) -> None:
    """Write the .snap file; blocks."""
    failpoints.hit("raftBeforeSaveSnap")
    snapshotter.save(record)
    failpoints.hit("raftAfterSaveSnap")


def snapshot_message(snapshot: Snapshot) -> raftpb.Snapshot:
    """The record of the .snap file."""
    metadata = snapshot.metadata
    return raftpb.Snapshot(
        data=snapshot.data,
        metadata=raftpb.SnapshotMetadata(
            conf_state=_conf_state(metadata.conf_state), index=metadata.index, term=metadata.term
        ),
    )


def snapshot_record(snapshot: Snapshot) -> bytes:
    """The record in the WAL."""
    metadata = snapshot.metadata
    return encode_snapshot_record(metadata.index, metadata.term, _conf_state(metadata.conf_state))


def _conf_state(conf_state: ConfState) -> raftpb.ConfState:
    return raftpb.ConfState(
        voters=conf_state.voters,
        learners=conf_state.learners,
        voters_outgoing=conf_state.voters_outgoing,
        learners_next=conf_state.learners_next,
        auto_leave=conf_state.auto_leave,
    )


def purge_files(member: Member, wal_dir: str, snap_dir: str) -> None:
    """Remove the oldest segments and snapshots beyond what the configuration keeps (on the files lane)."""
    disk, config = member.world.disk, member.config
    purge(disk, wal_dir, ".wal", config.max_wals, locked=True)
    purge(disk, snap_dir, "snap", config.max_snapshots, locked=False)
    member.snapshotter.release_databases(member.applied)  # later ones may be waiting to be installed


def membership_tree(membership: Membership, index: int) -> bytes:
    """The v2 store's JSON, with the membership and nothing else."""

    def node(path: str, children: dict[str, Any] | None, value: str = "") -> dict[str, Any]:
        return {
            "Path": path,
            "CreatedIndex": index,
            "ModifiedIndex": index,
            "ExpireTime": _NO_TIME,
            "Value": value,
            "Children": children,
        }

    def text(shape: dict[str, Any]) -> str:
        return json.dumps(shape, separators=(",", ":"), ensure_ascii=False)

    members: dict[str, Any] = {}
    for member in membership.in_order():
        name = hex_id(member.id)
        path = f"/0/members/{name}"
        raft_attributes: dict[str, Any] = {"peerURLs": list(member.peer_urls)}
        if member.is_learner:
            raft_attributes["isLearner"] = True
        leaves = {"raftAttributes": node(f"{path}/raftAttributes", None, text(raft_attributes))}
        if member.name:
            attributes = {"name": member.name, "clientURLs": list(member.client_urls)}
            leaves["attributes"] = node(f"{path}/attributes", None, text(attributes))
        members[name] = node(path, leaves)
    removed = {
        hex_id(one): node(f"/0/removed_members/{hex_id(one)}", None) for one in sorted(membership.removed)
    }
    below: dict[str, Any] = {"members": node("/0/members", members)}
    if removed:
        below["removed_members"] = node("/0/removed_members", removed)
    if membership.version:
        below["version"] = node("/0/version", None, membership.version)
    root = node("/", {"0": node("/0", below), "1": node("/1", {})})
    return json.dumps(
        {"Root": root, "CurrentIndex": index, "CurrentVersion": 2}, separators=(",", ":"), ensure_ascii=False
    ).encode()
