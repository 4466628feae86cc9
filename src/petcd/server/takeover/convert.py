"""The database of Go etcd in our form: copied a page at a time, so that its size costs time and no memory.

What is changed on the way: ``members``, ``members_removed`` and the cluster's version become those of the
consistent index (the buckets of older releases are a mirror only), and ``meta`` gets the term and the
configuration, which releases before 3.5 do not store and a ``snapshot restore`` leaves as they were.
Everything else, each revision above all, is the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import lmdb

from petcd.logs import Logger
from petcd.seams import World
from petcd.server.describe import go_duration
from petcd.server.ids import hex_id
from petcd.server.takeover.backup import Backup
from petcd.server.takeover.look import GoData, Locks, look
from petcd.storage import schema
from petcd.storage.bbolt import BboltFile
from petcd.storage.datadir import DataDir
from petcd.storage.errors import DiskFullError, WriteFailed, write_failed
from petcd.storage.lmdb_access import Batch, build_file
from petcd.storage.schema import (
    BUCKETS,
    CLUSTER,
    CLUSTER_VERSION,
    CONF_STATE,
    DOWNGRADE,
    MEMBERS,
    MEMBERS_REMOVED,
    META,
    TERM,
    Bucket,
)
from petcd.storage.wal.reader import segment_names

PROGRESS_SECONDS: Final = 5.0
_OWN: Final[dict[Bucket, frozenset[bytes]]] = {
    META: frozenset({CONF_STATE, TERM}),
    CLUSTER: frozenset({CLUSTER_VERSION, DOWNGRADE}),
    MEMBERS: frozenset(),
    MEMBERS_REMOVED: frozenset(),
}
"""Keys that are not copied but written by us; none named: all of the bucket."""

Build = Callable[[str, Iterable[Batch]], object]
"""Make a complete, synced backend file of this name; a failure leaves none."""


class Takeover:
    """The conversion of one data directory, whose lock the caller holds. Everything blocks.

    ``begin``, and if there was something, ``convert``; ``close`` in any case.
    """

    def __init__(
        self,
        world: World,
        data: DataDir,
        learners_max: int,
        logger: Logger,
        *,
        build: Build | None = None,
    ) -> None:
        self._world = world
        self._disk = world.disk
        self._data = data
        self._learners_max = learners_max
        self._logger = logger
        self._build = build or self._build_lmdb
        self._backup = Backup(world.disk, data)
        self._locks: Locks | None = None
        self._found: GoData | None = None

    @property
    def is_due(self) -> bool:
        return self._data.has_go_database() or self._backup.is_decided

    def begin(self) -> GoData | None:
        """Look whether the directory can be taken over. Nothing of Go's is touched.

        None: it was, before a crash; the rest has been done now.

        Raises: LockedError, CorruptError, IncompatibleError and their kinds.
        """
        if self._backup.is_decided:
            self._finish()
            return None
        data = self._data
        self._locks = Locks(self._disk, data, segment_names(self._disk, data.wal))
        self._backup.begin()
        self._logger.info(
            "found a data directory of Go etcd; checking it before it is taken over", path=data.path
        )
        self._found = found = look(self._disk, data, self._learners_max, self._logger)
        if found.info.unknown:
            self._logger.warn(
                "left out buckets that etcd does not know",
                buckets=[name.decode("utf-8", "backslashreplace") for name in found.info.unknown],
            )
        return found

    def convert(self) -> None:
        """Take over what was found. A failure leaves Go's directory as it was.

        Raises: StorageError.
        """
        found, backup = self._found, self._backup
        assert found is not None, "there is nothing to convert"
        data, info = self._data, found.info
        began = self._world.clock.monotonic()
        self._logger.info(
            "converting the database of Go etcd",
            path=found.database.path,
            **{
                "cluster-version": found.release,
                "size-bytes": info.size_bytes,
                "pairs": info.keys,
                "revision": info.revision,
                "consistent-index": info.consistent_index,
                "last-index": found.last_index,
            },
        )
        hit = self._world.failpoints.hit
        try:
            try:
                backup.prepare()
                hit("takeoverBeforeBuild")
                self._build(data.backend_path, self._rows(found))
                hit("takeoverBeforeCopy")
                backup.copy(found.segments, found.snapshots)
                hit("takeoverBeforeDecide")
                backup.decide()
            except Exception:
                if data.has_go_database():
                    backup.discard()
                raise
            hit("takeoverAfterDecide")
            self._finish(
                **{
                    "local-member-id": hex_id(found.member_id),
                    "cluster-id": hex_id(found.cluster_id),
                    "pairs": info.keys,
                    "took": go_duration(self._world.clock.monotonic() - began),
                }
            )
        except OSError as error:
            raise write_failed(data.path, "take over the data directory", error) from error

    def close(self) -> None:
        """Give up Go's locks."""
        found, self._found = self._found, None
        if found is not None:
            found.database.close()
        if self._locks is not None:
            self._locks.close()

    def _finish(self, **fields: object) -> None:
        path = self._backup.finish()
        self._logger.info("took over the data directory of Go etcd", **fields, backup=path)

    def _build_lmdb(self, path: str, batches: Iterable[Batch]) -> None:
        disk, temporary = self._disk, f"{path}.new"
        try:
            build_file(temporary, batches, disk=disk)
        except lmdb.Error as error:
            kind = DiskFullError if isinstance(error, lmdb.DiskError) else WriteFailed
            raise kind(f"{path}: {error}") from error
        disk.rename(temporary, path)
        disk.sync_dir(self._data.snap)

    def _rows(self, found: GoData) -> Iterator[Batch]:
        """Everything the backend is to hold, with a line of the log now and then."""
        clock, database = self._world.clock, BboltFile(found.database)
        pairs = size = 0
        due = clock.monotonic() + PROGRESS_SECONDS
        for bucket in BUCKETS:
            for leaf in database.batches(bucket):
                pairs += len(leaf)
                size += sum([len(key) + len(value) for key, value in leaf])
                own = _OWN.get(bucket)
                if own is not None:
                    leaf = [pair for pair in leaf if own and pair[0] not in own]
                yield bucket, leaf
                if clock.monotonic() >= due:
                    due = clock.monotonic() + PROGRESS_SECONDS
                    total = max(found.info.keys or 0, pairs)
                    self._logger.info(
                        "converting the database of Go etcd",
                        **{"pairs": pairs, "of-pairs": total, "bytes": size, "percent": pairs * 100 // total},
                    )
        if found.info.consistent_index:
            configuration = schema.encode_conf_state(found.configuration)
            yield META, [(CONF_STATE, configuration), (TERM, schema.encode_u64(found.term))]
        for bucket in (MEMBERS, MEMBERS_REMOVED, CLUSTER):
            yield bucket, found.membership.backend.range(bucket, b"", None)
