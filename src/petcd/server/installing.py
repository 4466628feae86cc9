"""Taking over a leader's snapshot: this member was too far behind for the log to bring it up.

By the time ``begin`` is called, the database lies in the snap directory, and the .snap file and its record in
the WAL are durable: the log starts after the snapshot, so from here on there is no way but forward. A crash
in between finds the record without its effects at the next start and installs again (``bootstrap``).

    1. aside: check the database, build the key index from it;
    2. one transaction of the backend: its whole content is replaced;
    3. at once: store, leases, alarms and membership become those of the snapshot; watchers catch up.

Until 3 the old state is served to those who did not ask for the newest; entries behind the snapshot wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from petcd.mvcc.restore import Restored, Restorer
from petcd.raft import Snapshot
from petcd.server.ids import hex_id
from petcd.server.membership import ClusterMember
from petcd.storage.backend import Item
from petcd.storage.errors import CorruptError

if TYPE_CHECKING:
    from petcd.server.member import Member

_ROWS_PER_STEP: Final = 10_000


class Installer:
    """Installs received snapshots into one member, one at a time."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self.count = 0
        """Snapshots installed in this life."""
        self._newest = 0
        """Index of the last snapshot that raft has taken: the one to arrive at."""
        self._active = False
        self._next: Snapshot | None = None
        self._before: dict[int, ClusterMember] | None = None

    def expect(self, snapshot: Snapshot) -> None:
        """Raft has taken a snapshot: ``begin`` is called when its record is durable, unless another comes
        before that."""
        self._newest = snapshot.metadata.index

    def begin(self, snapshot: Snapshot) -> None:
        """``Member.on_installed`` is called at the end; a failure ends the member.

        With a slow disk the next snapshot may be there before this one is installed; only the last counts.
        """
        if snapshot.metadata.index < self._newest:
            return  # a later one is on its way to the log
        if self._active:
            self._next = snapshot
            return
        self._active = True
        member = self._member
        index = snapshot.metadata.index
        path = member.snapshotter.database_path(index)
        member.logger.info(
            "applying snapshot",
            **{
                "current-snapshot-index": member.snapshot_index,
                "current-applied-index": member.applied,
                "incoming-leader-snapshot-index": index,
                "incoming-leader-snapshot-term": snapshot.metadata.term,
            },
        )

        def look() -> Restored:
            member.world.failpoints.hit("applyBeforeOpenSnapshot")
            return self._look(path, index)

        def looked(restored: Restored) -> None:
            if not member.stopped:
                member.world.failpoints.hit("raftBeforeApplySnap")
                member.backend.replace(
                    lambda: self._rows(path), lambda: self._adopt(snapshot, restored), member.fail
                )

        member.snapshot_lane.submit(look, looked, member.fail)

    def _look(self, path: str, index: int) -> Restored:
        """In the lane. Raises: StorageError."""
        from petcd.storage.bbolt import BboltFile, check_database

        file = self._member.world.disk.open(path, readonly=True)
        try:
            info = check_database(file)
            if info.consistent_index != index:
                raise CorruptError(
                    path,
                    f"it holds the state of index {info.consistent_index}, not of its snapshot's {index}",
                )
            restorer = Restorer(BboltFile(file))
            while not restorer.step(_ROWS_PER_STEP):
                pass
            return restorer.result()
        finally:
            file.close()

    def _rows(self, path: str) -> Iterator[Item]:
        """In the backend's lane."""
        from petcd.storage.bbolt import read_database

        file = self._member.world.disk.open(path, readonly=True)
        try:
            yield from read_database(file)
        finally:
            file.close()

    def _adopt(self, snapshot: Snapshot, restored: Restored) -> None:
        member = self._member
        if member.stopped:
            return
        index = snapshot.metadata.index
        member.store.become(restored)
        member.lessor.restore(member.store.key_leases)
        member.alarms.restore()
        if self._before is None:
            self._before = dict(member.membership.members)
        member.membership.restore()
        member.hub.resync()
        self.count += 1
        member.world.failpoints.hit("raftAfterApplySnap")
        member.logger.info(
            "applied snapshot",
            **{
                "local-member-id": hex_id(member.id),
                "current-snapshot-index": index,
                "current-applied-index": index,
                "incoming-leader-snapshot-index": index,
                "incoming-leader-snapshot-term": snapshot.metadata.term,
            },
        )
        path = member.snapshotter.database_path(index)

        def clean() -> None:
            member.snapshotter.release_databases(index)
            if member.world.disk.exists(path):
                member.world.disk.remove(path)  # the backend holds it now, durably

        member.snapshot_lane.submit(clean, lambda _: None, member.fail)
        member.applied, member.applied_term = index, snapshot.metadata.term
        self._active = False
        later, self._next = self._next, None
        if later is not None:
            self.begin(later)
        elif index == self._newest:
            before, self._before = self._before, None
            member.on_installed(snapshot, before)
