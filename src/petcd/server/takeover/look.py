"""Everything a start will rely on, read before anything is written: what cannot be served is refused here.

Go holds its database with flock(2) and the segments of its log with open-file-description locks. Both are
taken, at once or not at all, and held until the conversion is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

from petcd.logs import Logger
from petcd.pb import raftpb
from petcd.pb.etcdserverpb import Metadata
from petcd.pb.wire import DecodeError
from petcd.raft import ENTRY_CONF_CHANGE, ENTRY_NORMAL, ConfChange, ConfState, Entry, decode_conf_change
from petcd.raft.errors import ConfChangeError
from petcd.seams.disk import Disk, File
from petcd.server.applier import V2, UnknownRequest, decode_request
from petcd.server.joining import parse_version
from petcd.server.membership import BadConfChange, ClusterMember, Context, Membership
from petcd.server.takeover.membership import (
    apply_entries,
    correct_learners,
    from_buckets,
    from_tree,
    v2_keys_error,
)
from petcd.server.v2requests import UnknownV2Request, meaning_of
from petcd.storage import schema
from petcd.storage.bbolt import BboltFile, DatabaseInfo, check_database
from petcd.storage.datadir import DataDir
from petcd.storage.errors import (
    CorruptError,
    FutureVersionError,
    IncompatibleError,
    LockedError,
    TornError,
)
from petcd.storage.memory_backend import MemoryBackend
from petcd.storage.snapshots import Snapshotter
from petcd.storage.wal import WalSnapshot, valid_snapshots
from petcd.storage.wal.reader import SegmentReader, WalContents, read_log, select_segments


@dataclass(slots=True, frozen=True)
class GoData:
    """A directory of Go etcd that can be taken over."""

    database: File
    """Open, and whole: every page was looked at."""
    info: DatabaseInfo
    member_id: int
    cluster_id: int
    term: int
    """Of the entry at the consistent index; 0 when nothing has been applied."""
    last_index: int
    membership: Membership
    configuration: ConfState
    """Both as of the consistent index."""
    others: list[ClusterMember]
    """The other members as of the end of the log, where this member may not have been for a while."""
    segments: list[str]
    """Of the log, as far as a start reads them."""
    snapshots: list[str]
    """All ``.snap`` files."""

    @property
    def release(self) -> str:
        """The release of the cluster that wrote it, ``3.4``; empty when there was none yet."""
        return self.membership.version.rpartition(".")[0]


class Locks:
    """Go's own locks, taken by us."""

    def __init__(self, disk: Disk, data: DataDir, segments: list[str]) -> None:
        """Raises: LockedError, OSError."""
        self._files: list[File] = []
        try:
            database = self._open(disk, data.go_path)
            held = not database.try_flock()
            for name in segments:
                held = held or not self._open(disk, f"{data.wal}/{name}").try_lock()
            if held:
                raise LockedError(
                    f"{data.path}: the data directory is in use by a running Go etcd; stop that first"
                )
        except BaseException:
            self.close()
            raise

    def _open(self, disk: Disk, path: str) -> File:
        file = disk.open(path)
        self._files.append(file)
        return file

    def __enter__(self) -> Locks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for file in self._files:
            file.close()
        self._files.clear()


def look(disk: Disk, data: DataDir, learners_max: int, logger: Logger) -> GoData:
    """Read it all. The caller holds the locks, and closes ``database``.

    Raises: CorruptError and its kinds, IncompatibleError and its kinds, WalNotFound, SnapshotNotFound.
    """
    snapshot_path, snapshot = _newest_snapshot(disk, data, logger)
    start = WalSnapshot(snapshot.metadata.index, snapshot.metadata.term) if snapshot.metadata else None
    contents = read_log(disk, data.wal, start, logger)
    start = start or WalSnapshot()
    segments = select_segments(disk, data.wal, start.index, logger)
    _check_tail(disk, data, segments[-1], contents)
    database = _open_database(disk, data, start.index)
    try:
        info = check_database(database, every_page=True)
        rows = BboltFile(database)
        schema.refuse_auth(database.path, rows.get(schema.AUTH, schema.AUTH_ENABLED))
        entries = [Entry(e.term, e.index, e.type, e.data) for e in contents.entries]
        if entries and entries[0].term < start.term:
            entries = []  # of before a leader's snapshot, as in a start
        applied = info.consistent_index
        last = entries[-1].index if entries else start.index
        if applied > last:
            raise CorruptError(
                data.wal,
                f"the write-ahead log ends at index {last}, but the database holds effects up to {applied}: "
                "acknowledged entries are missing",
            )
        metadata = Metadata.decode(contents.metadata)
        done = entries[: max(0, applied - start.index)]
        for entry in entries[len(done) :]:
            _refuse_unknown(data.wal, entry)
        configuration = _configuration_of(snapshot)
        membership = Membership(metadata.ClusterID, MemoryBackend(), learners_max)
        if start.index:
            from_tree(snapshot_path, snapshot.data, membership)
        apply_entries(data.wal, done, membership, configuration)
        if info.storage_version:
            membership = from_buckets(rows)
        correct_learners(membership, configuration)
        _refuse_future(database.path, membership.version)
        return GoData(
            database=database,
            info=info,
            member_id=metadata.NodeID,
            cluster_id=metadata.ClusterID,
            term=done[-1].term if done else start.term,
            last_index=last,
            membership=membership,
            configuration=configuration,
            others=_others(data.wal, metadata, membership, entries[len(done) :], learners_max),
            segments=segments,
            snapshots=Snapshotter(disk, data.snap).names(),
        )
    except BaseException:
        database.close()
        raise


def _others(
    path: str, own: Metadata, membership: Membership, later: list[Entry], learners_max: int
) -> list[ClusterMember]:
    newest = Membership(own.ClusterID, MemoryBackend(), learners_max)
    for one in membership.in_order():
        newest.add(one)
    apply_entries(path, later, newest, ConfState())
    return [one for one in newest.in_order() if one.id != own.NodeID]


def _configuration_of(snapshot: raftpb.Snapshot) -> ConfState:
    stored = snapshot.metadata.conf_state if snapshot.metadata is not None else None
    if stored is None:
        return ConfState()
    return ConfState(sorted(stored.voters), sorted(stored.learners))


def _newest_snapshot(disk: Disk, data: DataDir, logger: Logger) -> tuple[str, raftpb.Snapshot]:
    """The one that a start will choose: path and content, both empty when there is none."""
    valid = {(one.index, one.term) for one in valid_snapshots(disk, data.wal, logger) if one.index}
    snapshotter = Snapshotter(disk, data.snap)
    for name in snapshotter.names():
        try:
            snapshot = snapshotter.load(name)
        except CorruptError as error:
            logger.warn("failed to read a snap file", path=error.path, error=str(error))
            continue
        metadata = snapshot.metadata
        if metadata is not None and (metadata.index, metadata.term) in valid:
            return f"{data.snap}/{name}", snapshot
    return "", raftpb.Snapshot()


def _check_tail(disk: Disk, data: DataDir, name: str, contents: WalContents) -> None:
    """A torn end is repaired by the start, unless there is nothing before it. Raises: CorruptError."""
    path = f"{data.wal}/{name}"
    if not contents.metadata:
        raise CorruptError(path, "no metadata record")
    file = disk.open(path, readonly=True)
    try:
        reader = SegmentReader([file])
        try:
            for _ in reader:
                pass
        except TornError as error:
            if reader.offset == 0:
                raise CorruptError(path, "the first record of the segment is damaged", 0) from error
        if reader.offset == 0:
            raise CorruptError(path, "the last segment is empty", 0)
    finally:
        file.close()


def _open_database(disk: Disk, data: DataDir, snapshot_index: int) -> File:
    """Go's database; or the one received with the snapshot, if a crash came before it took its place."""
    database = disk.open(data.go_path, readonly=True)
    try:
        applied = check_database(database).consistent_index
        if applied >= snapshot_index:
            return database
        received = Snapshotter(disk, data.snap).database_path(snapshot_index)
        if not disk.exists(received):
            raise CorruptError(
                data.go_path,
                f"the database ends at index {applied}, before the snapshot of index {snapshot_index}",
            )
    except BaseException:
        database.close()
        raise
    database.close()
    database = disk.open(received, readonly=True)
    try:
        applied = check_database(database).consistent_index
        if applied < snapshot_index:
            raise CorruptError(
                received, f"it ends at index {applied}, before its snapshot of index {snapshot_index}"
            )
    except BaseException:
        database.close()
        raise
    return database


def _refuse_future(path: str, version: str) -> None:
    try:
        future = bool(version) and parse_version(version) > schema.NEWEST_VERSION
    except ValueError as error:
        raise CorruptError(path, f"the cluster's version {version!r} is not a version") from error
    if future:
        newest = "{}.{}".format(*schema.NEWEST_VERSION)
        raise FutureVersionError(
            f"{path}: of a cluster of version {version}, which is newer than the {newest} this program "
            "understands"
        )


def _refuse_unknown(path: str, entry: Entry) -> None:
    """Entries that the start will apply must be such as can be applied."""
    try:
        if entry.type == ENTRY_NORMAL:
            if entry.data:
                _, kind, request = decode_request(entry.data)
                if kind == V2:
                    meaning_of(request)
            return
        change = decode_conf_change(entry)
        if entry.type != ENTRY_CONF_CHANGE or not isinstance(change, ConfChange):
            raise BadConfChange("a change of a kind that etcd never proposes")
        if change.context:
            Context.of(change)
    except UnknownV2Request as error:
        raise v2_keys_error(path, f"entry {entry.index} is {error}") from error
    except (UnknownRequest, BadConfChange, ConfChangeError, DecodeError) as error:
        raise IncompatibleError(
            f"{path}: entry {entry.index}, which the database does not hold yet, cannot be applied by this "
            f"release of petcd ({error}); start Go etcd once more, and end it with SIGTERM"
        ) from error
