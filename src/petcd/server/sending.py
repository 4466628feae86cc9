"""Snapshots for members that the log cannot bring up any more.

Raft says who needs one; what is sent is not the snapshot raft holds but a newer one, the state as applied
now: the backend is committed, one consistent view of it is written as a database file, and the file goes to
everybody who waits. Raft hears of each what became of it (contract peer section 4).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from petcd.raft import ConfState, Message, Snapshot, SnapshotMetadata
from petcd.seams import File
from petcd.server.ids import hex_id
from petcd.server.membership import Membership
from petcd.server.snapshotting import membership_tree
from petcd.storage import schema
from petcd.storage.backend import Backend, View
from petcd.storage.errors import StorageError

if TYPE_CHECKING:
    from petcd.server.member import Member
    from petcd.storage.bbolt import DatabaseExport


class _Batch:
    """One database file, shared by those it is sent to."""

    __slots__ = ("began", "export", "messages", "path", "snapshot", "uses")

    def __init__(self, messages: list[Message], path: str) -> None:
        self.messages = messages
        self.snapshot = Snapshot()
        self.path = path
        self.uses = len(messages)
        self.began = 0.0
        self.export: DatabaseExport | None = None


class SnapshotSender:
    """Makes and sends snapshots, one file at a time; sending goes on beside the next."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._asked: list[Message] = []
        self._exporting = False
        self._number = 0
        self._batches: set[_Batch] = set()
        self.in_flight = 0
        """MsgSnaps that raft has not heard the end of; the log is not compacted meanwhile."""

    def send(self, message: Message) -> None:
        """Take a MsgSnap that raft wants sent."""
        self.in_flight += 1
        self._asked.append(message)
        if not self._exporting:
            self._begin()

    def _begin(self) -> None:
        member = self._member
        self._exporting = True
        messages, self._asked = self._asked, []
        self._number += 1
        path = member.snapshotter.temporary_path(f"send-{self._number}")
        member.commit_backend(partial(self._committed, _Batch(messages, path)))

    def _committed(self, batch: _Batch) -> None:
        from petcd.storage.bbolt import DatabaseExport

        member = self._member
        if member.stopped:
            return
        batch.began = member.clock.monotonic()
        view = member.backend.open_view()
        try:
            batch.snapshot = _snapshot_of(view, member.cluster_id, member.backend)
        except BaseException:
            view.close()
            raise
        batch.export = DatabaseExport(
            view,
            batch.path,
            disk=member.world.disk,
            clock=member.clock,
            lane=member.snapshot_lane,
            done=partial(self._written, batch),
            failed=partial(self._failed, batch),
            sync=False,
        )
        self._batches.add(batch)

    def _written(self, batch: _Batch, file: File, size: int) -> None:
        self._exporting = False
        batch.export = None
        file.close()
        member = self._member
        if member.stopped:
            return
        member.jobs.snapshot_seconds.observe(member.clock.monotonic() - batch.began)
        for message in batch.messages:
            member.logger.info(
                "sending database snapshot",
                **{
                    "snapshot-index": batch.snapshot.metadata.index,
                    "remote-peer-id": hex_id(message.to),
                    "bytes": size,
                },
            )
            member.peers.send_snapshot(
                replace(message, snapshot=batch.snapshot), batch.path, partial(self._sent, batch, message.to)
            )
        self._next()

    def _failed(self, batch: _Batch, error: BaseException) -> None:
        """No room for the file, most likely. The member itself is not hurt."""
        self._exporting = False
        batch.export = None
        member = self._member
        if not isinstance(error, (OSError, StorageError)):
            member.fail(error)
            return
        member.logger.warn("failed to write the database for a snapshot", error=str(error))
        for message in batch.messages:
            self._sent(batch, message.to, False)
        self._next()

    def abandon(self) -> None:
        """The member ends: let go of views and files. What lies there is removed by the next start."""
        for batch in self._batches:
            if batch.export is not None:
                batch.export.abandon()
        self._batches.clear()

    def _next(self) -> None:
        if self._asked and not self._member.stopped:
            self._begin()

    def _sent(self, batch: _Batch, to: int, delivered: bool) -> None:
        member = self._member
        batch.uses -= 1
        self.in_flight -= 1
        if member.stopped:
            return
        if not batch.uses:
            self._batches.discard(batch)
            member.snapshot_lane.submit(partial(self._remove, batch.path), lambda _: None, member.fail)
        if delivered:
            member.logger.info("sent database snapshot", **{"remote-peer-id": hex_id(to)})
        else:
            member.logger.warn("failed to send database snapshot", **{"remote-peer-id": hex_id(to)})
            member.node.report_unreachable(to)
        member.node.report_snapshot(to, delivered)
        member.ask_turn()

    def _remove(self, path: str) -> None:
        from petcd.storage.bbolt import discard

        disk = self._member.world.disk
        if disk.exists(path):
            file = disk.open(path)
            disk.remove(path)
            discard(file)


def _snapshot_of(view: View, cluster_id: int, backend: Backend) -> Snapshot:
    """Where the content of ``view`` stands in the log: the view says so itself, since commits may be joined
    and hold more than was there when they were asked for."""
    raw_index = view.get(schema.META, schema.CONSISTENT_INDEX)
    raw_term = view.get(schema.META, schema.TERM)
    raw_conf = view.get(schema.META, schema.CONF_STATE)
    assert raw_index is not None and raw_term is not None and raw_conf is not None
    index = schema.decode_u64(raw_index)
    membership = Membership(cluster_id, backend)
    membership.restore(view)
    conf_state = ConfState(**schema.decode_conf_state(raw_conf))
    return Snapshot(
        membership_tree(membership, index), SnapshotMetadata(conf_state, index, schema.decode_u64(raw_term))
    )
