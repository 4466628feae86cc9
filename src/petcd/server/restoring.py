"""A new member out of a snapshot file: ``snapshot restore`` (contract disk section 9.2, cli section 5.3).

The file is what ``snapshot save`` wrote, by this program or by Go etcd 3.4 to 3.7: a database, and the
SHA-256 of it behind. A bare copy of a database, Go's or ours, is taken when the digest is not asked for.

The data of the old cluster is kept, revisions included; its membership is not. What comes out is the data
directory of one member of a new cluster, whose ids follow from the initial cluster and its token, so that
every member restored from the same file with the same arguments belongs to the same cluster::

    snap/petcd.mdb    the database; members, configuration, consistent index n and term 1 are the new ones
    snap/*.snap       a raft snapshot at index n
    wal/              n entries of term 1 that add the n members, and the record of that snapshot

The log comes last, and a database without one is refused by a start. What a failed run made is removed, by
a run that holds the directory's lock and found it empty under that (``petcd.server.making``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from petcd.logs import NULL, Logger
from petcd.pb import splice
from petcd.pb.etcdserverpb import Metadata
from petcd.pb.raftpb import ConfChange
from petcd.raft import ADD_NODE, ENTRY_CONF_CHANGE, ConfState, Snapshot, SnapshotMetadata
from petcd.seams import File
from petcd.seams.disk import Disk
from petcd.server import ids
from petcd.server.bootstrap import founding_members
from petcd.server.config import Config
from petcd.server.gotext import quote
from petcd.server.making import NewDataDir
from petcd.server.membership import ClusterMember, Membership
from petcd.server.snapshotting import membership_tree, snapshot_message, snapshot_record
from petcd.server.url import Url
from petcd.storage import schema
from petcd.storage.atrest import Changes, Database, build_backend, last_revision, open_database
from petcd.storage.lmdb_backend import LmdbBackend
from petcd.storage.snapshots import Snapshotter
from petcd.storage.wal import encode_hard_state

DIGEST_BYTES: Final = 32
_SECTOR_BYTES: Final = 512
_READ_BYTES: Final = 1 << 20
_TERM: Final = 1
_REVISION_MAX: Final = 2**63 - 1

Progress = Callable[[str, int, int], object]
"""Told what is being done, how many bytes of it are done, and how many there are."""


def _unwatched(_what: str, _done: int, _total: int) -> None:
    return None


class RestoreError(Exception):
    """Why a snapshot was not restored; ``str()`` is etcd's text."""


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """What is said of the file, beside the new member's configuration."""

    skip_hash_check: bool = False
    bump_revision: int = 0
    """How far the newest revision is raised, so that clients of the old cluster see none go back."""
    mark_compacted: bool = False
    """Whether all revisions up to the raised one read as compacted: watchers of the old cluster notice."""


def restore(
    disk: Disk,
    path: str,
    config: Config,
    options: RestoreOptions | None = None,
    *,
    logger: Logger = NULL,
    progress: Progress = _unwatched,
    resolve: Callable[[Url], str] = str,
) -> None:
    """Make the data directory of ``config`` from the file at ``path``. Blocks.

    Of ``config`` count the name, the initial cluster and its token, the advertised peer URLs and the two
    directories. ``resolve`` as in ``Config.local_peer_urls_problem``.

    Raises: RestoreError, StorageError. Cost: 4 µs a key; memory does not depend on the number of keys.
    """
    options = options or RestoreOptions()
    problem = config.local_peer_urls_problem(resolve)
    if problem:
        raise RestoreError(problem)
    _check_target(disk, config)
    fields = {
        "path": path,
        "wal-dir": config.wal_path,
        "data-dir": config.data_dir,
        "snap-dir": config.snap_dir,
    }
    logger.info("restoring snapshot", **fields)
    try:
        file = disk.open(path, readonly=True)
    except OSError as error:
        raise RestoreError(f"open {path}: {(error.strerror or str(error)).lower()}") from error
    try:
        if disk.is_dir(path):
            raise RestoreError(f"read {path}: is a directory")
        check_digest(file, skip=options.skip_hash_check, progress=progress)
        database = open_database(file)
        try:
            _restore(disk, database, config, options, logger, progress)
        finally:
            database.close()
    finally:
        file.close()
    logger.info("restored snapshot", **fields)


def _check_target(disk: Disk, config: Config) -> None:
    """Raises: RestoreError when something is there. Whether that still holds is looked at under the lock."""
    path = config.data_dir
    if disk.exists(path) and (not disk.is_dir(path) or disk.listdir(path)):
        raise RestoreError(f"data-dir {quote(path)} not empty or could not be read")
    if config.wal_dir and disk.exists(config.wal_dir):
        raise RestoreError(f"wal-dir {quote(config.wal_dir)} exists")


# ---------------------------------------------------------------------- the file


def database_bytes(file: File) -> int:
    """How much of a snapshot file is the database: all but the digest, which whole sectors give away."""
    size = file.size()
    return size - DIGEST_BYTES if size % _SECTOR_BYTES == DIGEST_BYTES else size


def check_digest(file: File, *, skip: bool = False, progress: Progress = _unwatched) -> None:
    """Raises: RestoreError when the digest is missing or wrong, unless that is to be ``skip``ped."""
    size = database_bytes(file)
    if file.size() < DIGEST_BYTES:
        raise RestoreError(f"seek {file.path}: invalid argument")
    if skip:
        return
    if size == file.size():
        raise RestoreError("snapshot missing hash but --skip-hash-check=false")
    digest = hashlib.sha256()
    at = 0
    while at < size:
        block = file.pread(min(_READ_BYTES, size - at), at)
        if not block:
            raise RestoreError(f"{file.path}: it became shorter while it was read")
        digest.update(block)
        at += len(block)
        progress("checking", at, size)
    expected, found = file.pread(DIGEST_BYTES, size), digest.digest()
    if expected != found:
        raise RestoreError(f"expected sha256 {_decimal(expected)}, got {_decimal(found)}")


def _decimal(data: bytes) -> str:
    return f"[{' '.join(map(str, data))}]"


# ---------------------------------------------------------------------- the directory


def _restore(
    disk: Disk,
    database: Database,
    config: Config,
    options: RestoreOptions,
    logger: Logger,
    progress: Progress,
) -> None:
    schema.check_storage_version(database.path, database.get(schema.META, schema.STORAGE_VERSION))
    members = founding_members(config)
    mine = next(member for member in members if member.name == config.name)
    cluster_id = ids.cluster_id(member.id for member in members)
    conf_state = ConfState([member.id for member in members])
    changes = {
        **membership_changes(members, conf_state),
        (schema.META, schema.CONSISTENT_INDEX): schema.encode_u64(len(members)),
        (schema.META, schema.TERM): schema.encode_u64(_TERM),
        **_revision_changes(database, options, logger),
    }
    if database.unknown:
        names = [name.decode("utf-8", "backslashreplace") for name in database.unknown]
        logger.warn("left out buckets that etcd does not know", buckets=names)
    size = database.size_bytes
    with NewDataDir(disk, config.data_dir, config.wal_dir, logger) as made:
        build_backend(
            disk,
            made.data.backend_path,
            database,
            changes=changes,
            without=(schema.MEMBERS, schema.MEMBERS_REMOVED),
            progress=lambda done: progress("restoring", min(done, size), size),
        )
        progress("restoring", size, size)
        _write_log(disk, made, mine, members, cluster_id, conf_state, logger)


def membership_changes(members: list[ClusterMember], conf_state: ConfState) -> Changes:
    """These members and no others, in a database whose buckets of members are left out."""
    changes: dict[tuple[schema.Bucket, bytes], bytes | None] = {
        (schema.MEMBERS, schema.member_key(member.id)): member.to_json().encode() for member in members
    }
    changes[schema.META, schema.CONF_STATE] = schema.encode_conf_state(conf_state)
    return changes


def _revision_changes(database: Database, options: RestoreOptions, logger: Logger) -> Changes:
    """The newest revision raised, by a record that names no key."""
    if not options.bump_revision:
        return {}
    # Where everything was deleted and compacted, the marks are all that remembers how far it had come.
    latest = max(
        last_revision(database),
        *(
            schema.decode_compact_rev(database.get(schema.META, mark))
            for mark in (schema.SCHEDULED_COMPACT_REV, schema.FINISHED_COMPACT_REV)
        ),
    )
    raised = latest + options.bump_revision
    if raised > _REVISION_MAX:
        raise RestoreError(f"the revision {latest} cannot be raised by {options.bump_revision}")
    logger.info(
        "bumping latest revision",
        **{
            "latest-revision": latest,
            "bump-amount": options.bump_revision,
            "new-latest-revision": raised,
        },
    )
    record = schema.encode_compact_rev(raised)
    changes: dict[tuple[schema.Bucket, bytes], bytes | None] = {(schema.KEY, record): b""}
    if options.mark_compacted:
        logger.info("marking revision compacted", revision=raised)
        changes[schema.META, schema.SCHEDULED_COMPACT_REV] = record
    return changes


def _write_log(
    disk: Disk,
    made: NewDataDir,
    mine: ClusterMember,
    members: list[ClusterMember],
    cluster_id: int,
    conf_state: ConfState,
    logger: Logger,
) -> None:
    """The .snap file, then the log with its record."""
    index, data = len(members), made.data
    backend = LmdbBackend(data.backend_path, disk=disk, logger=logger)
    try:
        membership = Membership(cluster_id, backend)
        membership.restore()
        tree = membership_tree(membership, index)
    finally:
        backend.close()
    snapshot = Snapshot(tree, SnapshotMetadata(conf_state, index, _TERM))
    Snapshotter(disk, data.snap, logger).save(snapshot_message(snapshot))
    records = []
    for position, member in enumerate(members, 1):
        change = ConfChange(type=ADD_NODE, node_id=member.id, context=member.to_json().encode())
        records.append((position, splice.entry(ENTRY_CONF_CHANGE, _TERM, position, change.encode())))
    wal = made.create_wal(
        Metadata(NodeID=mine.id, ClusterID=cluster_id).encode(),
        records,
        encode_hard_state(_TERM, members[0].id, index),
    )
    try:
        wal.write(wal.encode((), None, True, snapshot_record(snapshot)))
    finally:
        wal.close()
