"""From a data directory to the parts of a member: founding one, or starting one again.

The order on a restart, and what each step may find after a crash (contract disk section 11):

1. lock the data directory;
2. open the backend: its consistent index says which entries have their effects in it;
3. the snapshot records of the WAL say which .snap file counts; load the newest that does;
4. open the WAL behind it, repairing a torn end once;
5. hand both to raft: what was committed is applied again, and entries up to the consistent index have no
   effect on the backend the second time.

A founding writes the WAL first: a directory without one is empty whatever else it holds, so a crash in
between founds the member anew.
"""

from __future__ import annotations

from collections.abc import Callable

from petcd.lease import Lessor
from petcd.logs import Logger
from petcd.mvcc import Store, WatchHub
from petcd.pb import splice
from petcd.pb.etcdserverpb import Metadata
from petcd.pb.raftpb import ConfChange as ConfChangeRecord
from petcd.pb.raftpb import ConfState as ConfStateRecord
from petcd.raft import (
    ADD_NODE,
    ENTRY_CONF_CHANGE,
    ConfState,
    Entry,
    HardState,
    Node,
    SnapshotMetadata,
)
from petcd.raft import Config as RaftConfig
from petcd.seams import World
from petcd.server import ids
from petcd.server.alarms import Alarms
from petcd.server.config import Config, ConfigError
from petcd.server.member import Parts
from petcd.server.membership import ClusterMember, Membership
from petcd.storage import schema
from petcd.storage.backend import Backend
from petcd.storage.datadir import DataDir
from petcd.storage.errors import CorruptError
from petcd.storage.snapshots import Snapshotter
from petcd.storage.wal import Wal, WalSnapshot, WalState, encode_hard_state, valid_snapshots

BackendFactory = Callable[[DataDir, World, Config, Logger], Backend]

_FIRST_TERM = 1


def open_member(
    world: World, config: Config, logger: Logger, make_backend: BackendFactory, data: DataDir
) -> Parts:
    """Open everything; blocks. The caller holds the lock on ``data``, and gives it back after a failure.

    Raises:
        StorageError: the files cannot be used; nothing was changed that a later start would miss.
        ConfigError: the initial cluster does not name this member.
    """
    if data.has_wal():
        return _restart(world, config, logger, make_backend, data)
    return _found(world, config, logger, make_backend, data)


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


def _found(
    world: World, config: Config, logger: Logger, make_backend: BackendFactory, data: DataDir
) -> Parts:
    """A new member of a new cluster: its ids follow from the initial cluster alone."""
    data.refuse_go_data()
    members = []
    for name, urls in config.initial_cluster.items():
        peer_urls = tuple(sorted(str(url) for url in urls))
        member_id = ids.member_id(peer_urls, config.initial_cluster_token)
        members.append(ClusterMember(member_id, peer_urls, name))
    members.sort(key=lambda member: member.id)
    mine = next((member for member in members if member.name == config.name), None)
    if mine is None:
        raise ConfigError(f'couldn\'t find local name "{config.name}" in the initial cluster configuration')
    cluster_id = ids.cluster_id(member.id for member in members)

    entries = []
    for index, member in enumerate(members, 1):
        change = ConfChangeRecord(type=ADD_NODE, node_id=member.id, context=member.to_json().encode())
        entries.append(Entry(_FIRST_TERM, index, ENTRY_CONF_CHANGE, change.encode()))
    hard_state = HardState(term=_FIRST_TERM, vote=0, commit=len(entries))

    metadata = Metadata(NodeID=mine.id, ClusterID=cluster_id).encode()
    # An earlier founding may have got as far as the backend; it goes with the WAL it belonged to.
    if data.has_backend():
        world.disk.remove(data.backend_path)
    records = [(e.index, splice.entry(e.type, e.term, e.index, e.data)) for e in entries]
    wal = Wal.create(
        world.disk,
        data.wal,
        metadata,
        records,
        encode_hard_state(_FIRST_TERM, 0, len(entries)),
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
                member_id=mine.id,
                cluster_id=cluster_id,
                hard_state=hard_state,
                snapshot=SnapshotMetadata(),
                entries=entries,
                consistent_index=0,
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
    raw_index = backend.get(schema.META, schema.CONSISTENT_INDEX)
    consistent_index = schema.decode_u64(raw_index) if raw_index is not None else 0
    snapshotter = Snapshotter(world.disk, data.snap, logger)
    snapshotter.remove_leftovers()
    valid = valid_snapshots(world.disk, data.wal, logger)
    newest = snapshotter.load_newest([(s.index, s.term) for s in valid if s.index])
    snapshot = SnapshotMetadata()
    if newest is not None and newest.metadata is not None:
        conf = newest.metadata.conf_state or ConfStateRecord()
        snapshot = SnapshotMetadata(
            ConfState(
                list(conf.voters),
                list(conf.learners),
                list(conf.voters_outgoing),
                list(conf.learners_next),
                conf.auto_leave,
            ),
            newest.metadata.index,
            newest.metadata.term,
        )
    if consistent_index < snapshot.index:
        raise CorruptError(
            data.backend_path,
            f"the backend ends at index {consistent_index}, before the snapshot of index {snapshot.index}",
        )
    wal, contents = Wal.open(
        world.disk,
        data.wal,
        WalSnapshot(snapshot.index, snapshot.term),
        logger=logger,
        failpoints=world.failpoints,
        now=world.clock.monotonic,
        unsafe_no_fsync=config.unsafe_no_fsync,
    )
    try:
        metadata = Metadata.decode(contents.metadata)
        entries = [Entry(e.term, e.index, e.type, e.data) for e in contents.entries]
        last_index = entries[-1].index if entries else snapshot.index
        if consistent_index > last_index:
            raise CorruptError(
                data.wal,
                f"the write-ahead log ends at index {last_index}, but the backend holds effects up to "
                f"{consistent_index}: acknowledged entries are missing",
            )
        state: WalState = contents.hard_state
        # The commit index is written lazily; what has effects in the backend was committed.
        commit = max(state.commit, consistent_index, snapshot.index)
        return _assemble(
            world,
            config,
            logger,
            data,
            backend=backend,
            wal=wal,
            member_id=metadata.NodeID,
            cluster_id=metadata.ClusterID,
            hard_state=HardState(state.term, state.vote, commit),
            snapshot=snapshot,
            entries=entries,
            consistent_index=consistent_index,
        )
    except BaseException:
        wal.close()
        raise


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
    snapshot: SnapshotMetadata,
    entries: list[Entry],
    consistent_index: int,
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
    node = Node(
        RaftConfig(
            id=member_id,
            random=world.random,
            election_ticks=config.election_ticks,
            pre_vote=config.pre_vote,
            applied=snapshot.index,
        ),
        hard_state,
        snapshot,
        entries,
    )
    return Parts(
        member_id=member_id,
        cluster_id=cluster_id,
        node=node,
        wal=wal,
        snapshotter=Snapshotter(world.disk, data.snap, logger),
        backend=backend,
        store=store,
        hub=hub,
        lessor=lessor,
        alarms=alarms,
        membership=membership,
        consistent_index=consistent_index,
        snapshot_index=snapshot.index,
        restarted=bool(consistent_index or snapshot.index or len(entries) > len(config.initial_cluster)),
    )
