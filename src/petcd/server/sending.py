"""Snapshots for members that the log cannot bring up any more.

Raft says who needs one; what is sent is not the snapshot raft holds but a newer one, the state as applied
now: the backend is committed, one consistent view of it is written as a database file, and the file goes to
everybody who waits. Raft hears of each what became of it (contract peer section 4).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from petcd.raft import Message, Snapshot, SnapshotMetadata
from petcd.server.ids import hex_id
from petcd.server.snapshotting import membership_tree
from petcd.storage.backend import View

if TYPE_CHECKING:
    from petcd.server.member import Member


class _Export:
    """One database file, shared by those it is sent to."""

    __slots__ = ("messages", "path", "snapshot", "uses")

    def __init__(self, messages: list[Message], snapshot: Snapshot, path: str) -> None:
        self.messages = messages
        self.snapshot = snapshot
        self.path = path
        self.uses = len(messages)


class SnapshotSender:
    """Makes and sends snapshots, one file at a time; sending goes on beside the next."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._asked: list[Message] = []
        self._exporting = False
        self._number = 0
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
        index = member.applied
        snapshot = Snapshot(
            membership_tree(member.membership, index),
            SnapshotMetadata(member.node.conf_state, index, member.applied_term),
        )
        self._number += 1
        path = member.snapshotter.temporary_path(f"send-{index:016x}-{self._number}")
        export = _Export(messages, snapshot, path)
        # From here until the commit nothing is applied that would not be in it: the index is taken with it.
        member.commit_backend(partial(self._committed, export))

    def _committed(self, export: _Export) -> None:
        member = self._member
        if member.stopped:
            return
        view = member.backend.open_view()
        member.snapshot_lane.submit(
            partial(self._write, export.path, view),
            partial(self._written, export),
            partial(self._failed, export),
        )

    def _write(self, path: str, view: View) -> int:
        """In the lane."""
        from petcd.storage.bbolt import write_database

        disk = self._member.world.disk
        size = 0
        try:
            file = disk.open(path, create=True)
            try:
                for size in write_database(view, file):  # noqa: B007 - the last is the whole
                    pass
                return size
            finally:
                file.close()
        finally:
            view.close()

    def _written(self, export: _Export, size: int) -> None:
        self._exporting = False
        member = self._member
        if member.stopped:
            return
        for message in export.messages:
            member.logger.info(
                "sending database snapshot",
                **{
                    "snapshot-index": export.snapshot.metadata.index,
                    "remote-peer-id": hex_id(message.to),
                    "bytes": size,
                },
            )
            member.peers.send_snapshot(
                replace(message, snapshot=export.snapshot),
                export.path,
                partial(self._sent, export, message.to),
            )
        self._next()

    def _failed(self, export: _Export, error: BaseException) -> None:
        """No room for the file, most likely. The member itself is not hurt."""
        self._exporting = False
        member = self._member
        if not isinstance(error, OSError):
            member.fail(error)
            return
        member.logger.warn("failed to write the database for a snapshot", error=str(error))
        for message in export.messages:
            self._sent(export, message.to, False)
        self._next()

    def _next(self) -> None:
        if self._asked and not self._member.stopped:
            self._begin()

    def _sent(self, export: _Export, to: int, delivered: bool) -> None:
        member = self._member
        export.uses -= 1
        self.in_flight -= 1
        if not export.uses:
            member.snapshot_lane.submit(partial(self._remove, export.path), lambda _: None, member.fail)
        if member.stopped:
            return
        if delivered:
            member.logger.info("sent database snapshot", **{"remote-peer-id": hex_id(to)})
        else:
            member.logger.warn("failed to send database snapshot", **{"remote-peer-id": hex_id(to)})
            member.node.report_unreachable(to)
        member.node.report_snapshot(to, delivered)
        member.ask_turn()

    def _remove(self, path: str) -> None:
        disk = self._member.world.disk
        if disk.exists(path):
            disk.remove(path)
