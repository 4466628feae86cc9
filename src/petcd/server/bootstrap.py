"""From a data directory to the parts of a member: founding one, joining with one, or starting one again.

The order on a restart, and what each step may find after a crash (contract disk section 11):

1. lock the data directory;
2. open the backend: its consistent index says which entries have their effects in it;
3. the snapshot records of the WAL say which .snap file counts; load the newest that does;
4. open the WAL behind it, repairing a torn end once;
5. hand both to raft, with the consistent index as what is applied: it hands out what comes after.

The snapshot may be one that a leader sent, and the backend older than it: then the crash came before the
backend had taken it over, the received database is still there, and the member installs it first.

A founding writes the WAL first, so a crash in between founds the member anew, over a database that holds
nothing yet. One that holds something has a log elsewhere, or has lost it, and is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from petcd.lease import Lessor
from petcd.logs import Logger
from petcd.mvcc import Store, WatchHub
from petcd.pb import raftpb, splice
from petcd.pb.etcdserverpb import Metadata
from petcd.pb.raftpb import ConfChange as ConfChangeRecord
from petcd.raft import (
    ADD_NODE,
    ENTRY_CONF_CHANGE,
    ConfState,
    Entry,
    HardState,
    Node,
    Snapshot,
    SnapshotMetadata,
)
from petcd.raft import Config as RaftConfig
from petcd.seams import World
from petcd.server import ids
from petcd.server.alarms import Alarms
from petcd.server.config import Config, ConfigError
from petcd.server.forcing import force_alone
from petcd.server.membership import ClusterMember, Membership
from petcd.server.parts import Parts
from petcd.storage import schema
from petcd.storage.backend import Backend
from petcd.storage.datadir import DataDir
from petcd.storage.errors import CorruptError, WalNotFound
from petcd.storage.snapshots import Snapshotter
from petcd.storage.wal import Wal, WalSnapshot, WalState, encode_hard_state, valid_snapshots

BackendFactory = Callable[[DataDir, World, Config, Logger], Backend]

_FIRST_TERM = 1


class Joined(NamedTuple):
    """What a member that joins a running cluster has learnt from the others."""

    member_id: int
    cluster_id: int


def open_member(
    world: World,
    config: Config,
    logger: Logger,
    make_backend: BackendFactory,
    data: DataDir,
    joined: Joined | None = None,
) -> Parts:
    """Open everything; blocks. The caller holds the lock on ``data``, and gives it back after a failure.

    ``joined`` counts where nothing is there yet: the member then begins without a log, and the leader
    brings everything.

    Raises:
        StorageError: the files cannot be used; nothing was changed that a later start would miss.
        ConfigError: the initial cluster does not name this member.
    """
    if data.has_wal():
        return _restart(world, config, logger, make_backend, data)
    _forget_founding(world, config, logger, make_backend, data)
    data.refuse_go_data()
    if joined is not None:
        return _begin(world, config, logger, make_backend, data, *joined, entries=[])
    return _found(world, config, logger, make_backend, data)


def founding_members(config: Config) -> list[ClusterMember]:
    """The members of the initial cluster of a new one, by id: their ids follow from it alone."""
    members = []
    for name, urls in config.initial_cluster.items():
        peer_urls = tuple(sorted(str(url) for url in urls))
        member_id = ids.member_id(peer_urls, config.initial_cluster_token)
        members.append(ClusterMember(member_id, peer_urls, name))
    return sorted(members, key=lambda member: member.id)


def open_backend(data: DataDir, world: World, config: Config, logger: Logger) -> Backend:
    """The backend of a real member: LMDB."""
    from petcd.storage.lmdb_backend import LmdbBackend

    return LmdbBackend(
        data.backend_path,
        disk=world.disk,
        clock=world.clock,
        lane=world.disk.lane("backend"),
        failpoints=world.failpoints,
        logger=logger,
        unsafe_no_fsync=config.unsafe_no_fsync,
    )


def _forget_founding(
    world: World, config: Config, logger: Logger, make_backend: BackendFactory, data: DataDir
) -> None:
    """Remove the database of an earlier founding that has lost its log.

    Raises: WalNotFound when somebody's data is in it.
    """
    if not data.has_backend():
        return
    backend = make_backend(data, world, config, logger)
    try:
        used = _consistent_index(backend) or backend.range(schema.KEY, b"", None, limit=1)
    finally:
        backend.close()
    if used:
        raise WalNotFound(
            f"{data.path}: there is a database, but no write-ahead log in {data.wal}; if the log has a "
            "directory of its own, name it (--wal-dir), and if a restore was interrupted, remove the data "
            "directory and restore again"
        )
    world.disk.remove(data.backend_path)


def _consistent_index(backend: Backend) -> int:
    raw = backend.get(schema.META, schema.CONSISTENT_INDEX)
    return schema.decode_u64(raw) if raw is not None else 0


def _found(
    world: World, config: Config, logger: Logger, make_backend: BackendFactory, data: DataDir
) -> Parts:
    """A new member of a new cluster: everybody begins with the same entries, which add them all."""
    members = founding_members(config)
    mine = next((member for member in members if member.name == config.name), None)
    if mine is None:
        raise ConfigError(f'couldn\'t find local name "{config.name}" in the initial cluster configuration')
    cluster_id = ids.cluster_id(member.id for member in members)
    entries = []
    for index, member in enumerate(members, 1):
        change = ConfChangeRecord(type=ADD_NODE, node_id=member.id, context=member.to_json().encode())
        entries.append(Entry(_FIRST_TERM, index, ENTRY_CONF_CHANGE, change.encode()))
    return _begin(world, config, logger, make_backend, data, mine.id, cluster_id, entries)


def _begin(
    world: World,
    config: Config,
    logger: Logger,
    make_backend: BackendFactory,
    data: DataDir,
    member_id: int,
    cluster_id: int,
    entries: list[Entry],
) -> Parts:
    """A new log of these committed entries, over an empty backend."""
    hard_state = HardState(term=_FIRST_TERM, vote=0, commit=len(entries)) if entries else HardState()
    metadata = Metadata(NodeID=member_id, ClusterID=cluster_id).encode()
    records = [(e.index, splice.entry(e.type, e.term, e.index, e.data)) for e in entries]
    wal = Wal.create(
        world.disk,
        data.wal,
        metadata,
        records,
        encode_hard_state(_FIRST_TERM, 0, len(entries)) if entries else None,
        logger=logger,
        failpoints=world.failpoints,
        now=world.clock.monotonic,
        unsafe_no_fsync=config.unsafe_no_fsync,
    )
    try:
        backend = make_backend(data, world, config, logger)
        try:
            return _assemble(
                world,
                config,
                logger,
                data,
                backend=backend,
                wal=wal,
                member_id=member_id,
                cluster_id=cluster_id,
                hard_state=hard_state,
                snapshot=Snapshot(),
                entries=entries,
                applied=0,
            )
        except BaseException:
            backend.close()
            raise
    except BaseException:
        wal.close()
        raise


def _restart(
    world: World, config: Config, logger: Logger, make_backend: BackendFactory, data: DataDir
) -> Parts:
    backend = make_backend(data, world, config, logger)
    try:
        return _reopen(world, config, logger, data, backend)
    except BaseException:
        backend.close()
        raise


def _reopen(world: World, config: Config, logger: Logger, data: DataDir, backend: Backend) -> Parts:
    schema.refuse_auth(data.backend_path, backend.get(schema.AUTH, schema.AUTH_ENABLED))
    consistent_index = _consistent_index(backend)
    snapshotter = Snapshotter(world.disk, data.snap, logger, world.clock.monotonic)
    snapshotter.remove_leftovers()
    valid = valid_snapshots(world.disk, data.wal, logger)
    newest = snapshotter.load_newest([(s.index, s.term) for s in valid if s.index])
    snapshot = Snapshot() if newest is None else _snapshot_of(newest)
    start = snapshot.metadata
    install = None
    if consistent_index < start.index:
        path = snapshotter.database_path(start.index)
        if not world.disk.exists(path):
            raise CorruptError(
                data.backend_path,
                f"the backend ends at index {consistent_index}, before the snapshot of index {start.index}",
            )
        install = snapshot
    wal, contents = Wal.open(
        world.disk,
        data.wal,
        WalSnapshot(start.index, start.term),
        logger=logger,
        failpoints=world.failpoints,
        now=world.clock.monotonic,
        unsafe_no_fsync=config.unsafe_no_fsync,
    )
    try:
        metadata = Metadata.decode(contents.metadata)
        entries = [Entry(e.term, e.index, e.type, e.data) for e in contents.entries]
        if entries and entries[0].term < start.term:
            # They were in the log before a leader's snapshot replaced it; nothing that belongs behind a
            # snapshot is of an earlier term.
            entries = []
        last_index = entries[-1].index if entries else start.index
        if consistent_index > last_index:
            raise CorruptError(
                data.wal,
                f"the write-ahead log ends at index {last_index}, but the backend holds effects up to "
                f"{consistent_index}: acknowledged entries are missing",
            )
        state: WalState = contents.hard_state
        # The commit index is written lazily; what has effects in the backend was committed.
        commit = max(state.commit, consistent_index, start.index)
        hard_state = HardState(state.term, state.vote, commit)
        if config.force_new_cluster:
            hard_state, entries = force_alone(
                wal, metadata.NodeID, hard_state, start, entries, logger, config.advertise_peer_urls
            )
        return _assemble(
            world,
            config,
            logger,
            data,
            backend=backend,
            wal=wal,
            member_id=metadata.NodeID,
            cluster_id=metadata.ClusterID,
            hard_state=hard_state,
            snapshot=snapshot,
            entries=entries,
            applied=consistent_index,
            install=install,
        )
    except BaseException:
        wal.close()
        raise


def _snapshot_of(record: raftpb.Snapshot) -> Snapshot:
    metadata = record.metadata or raftpb.SnapshotMetadata()
    conf = metadata.conf_state or raftpb.ConfState()
    conf_state = ConfState(
        list(conf.voters),
        list(conf.learners),
        list(conf.voters_outgoing),
        list(conf.learners_next),
        conf.auto_leave,
    )
    return Snapshot(record.data, SnapshotMetadata(conf_state, metadata.index, metadata.term))


def _assemble(
    world: World,
    config: Config,
    logger: Logger,
    data: DataDir,
    *,
    backend: Backend,
    wal: Wal,
    member_id: int,
    cluster_id: int,
    hard_state: HardState,
    snapshot: Snapshot,
    entries: list[Entry],
    applied: int,
    install: Snapshot | None = None,
) -> Parts:
    """Wire the state machines over an open backend and an open WAL."""
    lessor = Lessor(backend, config.min_lease_ttl_seconds)
    store = Store(backend, lessor)
    store.restore()
    lessor.restore(store.key_leases)
    hub = WatchHub(store, message_bytes_max=config.receive_bytes_max, failpoints=world.failpoints)
    alarms = Alarms(backend)
    alarms.restore()
    membership = Membership(cluster_id, backend, config.max_learners)
    membership.restore()
    conf_state = None
    if applied > snapshot.metadata.index:
        conf_state = _applied_conf_state(data, backend, applied)
    node = Node(
        RaftConfig(
            id=member_id,
            random=world.random,
            election_ticks=config.election_ticks,
            pre_vote=config.pre_vote,
            applied=max(applied, snapshot.metadata.index),
            conf_state=conf_state,
            lazy_commit=True,
        ),
        hard_state,
        snapshot.metadata,
        entries,
    )
    raw_term = backend.get(schema.META, schema.TERM)
    return Parts(
        member_id=member_id,
        cluster_id=cluster_id,
        node=node,
        wal=wal,
        snapshotter=Snapshotter(world.disk, data.snap, logger, world.clock.monotonic),
        backend=backend,
        store=store,
        hub=hub,
        lessor=lessor,
        alarms=alarms,
        membership=membership,
        applied=applied,
        applied_term=schema.decode_u64(raw_term) if raw_term is not None else 0,
        snapshot_index=snapshot.metadata.index,
        restarted=bool(applied or snapshot.metadata.index or len(entries) > len(config.initial_cluster)),
        install=install,
    )


def _applied_conf_state(data: DataDir, backend: Backend, applied: int) -> ConfState:
    """The configuration that belongs to what the backend holds. Raises: CorruptError."""
    raw = backend.get(schema.META, schema.CONF_STATE)
    if raw is None:
        raise CorruptError(data.backend_path, f"it holds index {applied}, but no configuration")
    return ConfState(**schema.decode_conf_state(raw))
