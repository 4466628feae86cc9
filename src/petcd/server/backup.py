"""A copy of a stopped member that stands for itself: ``etcdutl backup`` (contract cli sections 5.7, 6.9).

The copy has the data, the log and the newest snapshot, and an identity of its own, in a cluster of which it
is the only member, so that it cannot be taken for the original. It is started with ``--force-new-cluster``,
which gives it an address. The original may be of Go etcd; the copy is a data directory of ours.

Entries that would bring the old membership back are replaced by empty ones, so every index stays what it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from petcd.logs import NULL, Logger
from petcd.pb import splice
from petcd.pb.etcdserverpb import InternalRaftRequest, Metadata, Request
from petcd.pb.wire import DecodeError
from petcd.raft import ENTRY_NORMAL, ConfState, Snapshot, SnapshotMetadata
from petcd.seams import Random
from petcd.seams.disk import Disk
from petcd.server.making import NewDataDir
from petcd.server.membership import ClusterMember, Membership
from petcd.server.restoring import membership_changes
from petcd.server.snapshotting import membership_tree, snapshot_message, snapshot_record
from petcd.storage import schema
from petcd.storage.atrest import Changes, Database, build_backend
from petcd.storage.memory_backend import MemoryBackend
from petcd.storage.snapshots import Snapshotter
from petcd.storage.wal import (
    WalContents,
    WalEntry,
    WalSnapshot,
    encode_hard_state,
    read_log,
    valid_snapshots,
)

_NAME: Final = "etcdctl-v2-backup"
_PEER_URL: Final = "http://use-flag--force-new-cluster:2080"
_ATTRIBUTES: Final = re.compile(r"/0/members/[0-9a-f]+/attributes")


@dataclass(frozen=True, slots=True)
class BackupPaths:
    """Where the original is, and where the copy goes."""

    snap: str
    wal: str
    target: str
    target_wal: str = ""
    """Empty: within ``target``."""


def newest_snapshot(disk: Disk, snap_dir: str, wal_dir: str) -> WalSnapshot:
    """The place of the newest raft snapshot that a start would take; index 0 when there is none.

    Raises: OSError, StorageError.
    """
    names = set(disk.listdir(snap_dir))
    usable = [
        one for one in valid_snapshots(disk, wal_dir) if f"{one.term:016x}-{one.index:016x}.snap" in names
    ]
    return max(usable, key=lambda snapshot: snapshot.index, default=WalSnapshot())


def back_up(
    disk: Disk,
    random: Random,
    database: Database,
    paths: BackupPaths,
    *,
    with_v3: bool = True,
    logger: Logger = NULL,
) -> None:
    """Make the copy of ``database`` and of what lies at ``paths``; without keys unless ``with_v3``.

    Nothing may be where the copy's database and log go, and a failure leaves what was there. Blocks.

    Raises: OSError, StorageError.
    """
    place = newest_snapshot(disk, paths.snap, paths.wal)
    contents = read_log(disk, paths.wal, place if place.index else None)
    member = ClusterMember(random.getrandbits(63) | 1, (_PEER_URL,), _NAME)
    cluster_id = random.getrandbits(63) | 1
    conf_state = ConfState([member.id])
    with NewDataDir(disk, paths.target, paths.target_wal, logger) as made:
        changes = dict(membership_changes([member], conf_state))
        if not with_v3:
            state = contents.hard_state
            changes[schema.META, schema.CONSISTENT_INDEX] = schema.encode_u64(state.commit)
            changes[schema.META, schema.TERM] = schema.encode_u64(state.term)
        without = (schema.MEMBERS, schema.MEMBERS_REMOVED) if with_v3 else schema.BUCKETS
        build_backend(disk, made.data.backend_path, database, changes=changes, without=without)
        snapshot = None
        if place.index:
            tree = _tree(cluster_id, changes, place.index)
            snapshot = Snapshot(tree, SnapshotMetadata(conf_state, place.index, place.term))
            Snapshotter(disk, made.data.snap, logger).save(snapshot_message(snapshot))
        _write_log(
            made, Metadata(NodeID=member.id, ClusterID=cluster_id), snapshot, contents, with_v3, logger
        )


def _tree(cluster_id: int, changes: Changes, index: int) -> bytes:
    backend = MemoryBackend()
    for (bucket, key), value in changes.items():
        if value is not None:
            backend.put(bucket, key, value)
    membership = Membership(cluster_id, backend)
    membership.restore()
    return membership_tree(membership, index)


def _write_log(
    made: NewDataDir,
    metadata: Metadata,
    snapshot: Snapshot | None,
    contents: WalContents,
    with_v3: bool,
    logger: Logger,
) -> None:
    entries = [_translated(entry, logger, with_v3=with_v3) for entry in contents.entries]
    records = [(e.index, splice.entry(e.type, e.term, e.index, e.data)) for e in entries]
    state = encode_hard_state(*contents.hard_state)
    wal = made.create_wal(metadata.encode())
    try:
        record = snapshot_record(snapshot) if snapshot is not None else None
        wal.write(wal.encode(records, state, True, record))
    finally:
        wal.close()


def _translated(entry: WalEntry, logger: Logger, *, with_v3: bool) -> WalEntry:
    """The entry, or an empty one in its place."""
    nothing = WalEntry(ENTRY_NORMAL, entry.term, entry.index, b"")
    if entry.type != ENTRY_NORMAL:
        logger.info("ignoring EntryConfChange raft entry", **{"entry-index": entry.index})
        return nothing
    if not entry.data:
        return entry
    try:
        request = InternalRaftRequest.decode(entry.data)
        v2 = request.v2
    except DecodeError:
        request, v2 = None, Request.decode(entry.data)
    if v2 is not None:
        if v2.Method == "PUT" and _ATTRIBUTES.fullmatch(v2.Path):
            logger.info(
                "ignoring member attribute update on", **{"entry-index": entry.index, "v2Req.Path": v2.Path}
            )
            return nothing
        return entry
    assert request is not None
    if request.cluster_member_attr_set is not None:
        logger.info("ignoring cluster_member_attr_set", **{"entry-index": entry.index})
        return nothing
    if with_v3 or request.header is None:
        return entry
    logger.info("ignoring v3 raft entry", **{"entry-index": entry.index})
    return nothing
