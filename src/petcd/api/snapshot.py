"""Maintenance/Snapshot: the member's database as a stream (contract wire-v3 section 10.3).

A database says at its beginning where everything is, which is known at its end. So it is first written to a
file, from one consistent view of the committed backend, and streamed from there at the client's pace: a slow
client costs disk space and half a megabyte of memory. The file loses its name as soon as it is open, and
with it its space when its last reader is gone, whatever becomes of this process; what a crash in between
leaves is called ``tmp-snapshot-*`` and removed at the next start.

One file is made at a time. Who asks meanwhile waits for the next, and shares it with all who wait.
"""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Final

from petcd.api.service import malformed_text
from petcd.errors import Code
from petcd.net.grpc import Stream
from petcd.net.grpc.calls import StreamHandler
from petcd.pb import DecodeError
from petcd.pb.etcdserverpb import SnapshotRequest
from petcd.pb.wire import varint
from petcd.seams import File
from petcd.server.describe import go_duration
from petcd.server.member import Member
from petcd.storage import schema
from petcd.storage.bbolt import DatabaseExport, discard

BLOB_BYTES: Final = 32 << 10
"""As much of the database as Go puts into a message."""

_READ_BYTES: Final = 16 * BLOB_BYTES


class Snapshots:
    """Makes the files that one member's snapshot streams are sent from."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self._asked: list[SnapshotHandler] = []
        self._served: list[SnapshotHandler] = []
        """Those whose file is being made."""
        self._making = False
        self._export: DatabaseExport | None = None
        self._number = 0

    def ask(self, handler: SnapshotHandler) -> None:
        """Call the handler's ``begin`` with a database that has all that was applied until now."""
        self._asked.append(handler)
        if not self._making:
            self._make()

    def forget(self, handler: SnapshotHandler) -> None:
        """It waits no more."""
        if handler in self._asked:
            self._asked.remove(handler)
        elif handler in self._served:
            self._served.remove(handler)
            if not self._served and self._export is not None:
                self._export.abandon()
                self._next()

    def _make(self) -> None:
        self._making = True
        self._served, self._asked = self._asked, []
        self.member.commit_backend(self._committed)

    def _committed(self) -> None:
        member = self.member
        if member.stopped or not self._served:
            self._next()
            return
        view = member.backend.open_view()
        version = view.get(schema.META, schema.STORAGE_VERSION) or b""
        self._number += 1
        self._export = DatabaseExport(
            view,
            member.snapshotter.temporary_path(f"snapshot-{self._number}"),
            disk=member.world.disk,
            clock=member.clock,
            lane=member.snapshot_lane,
            done=partial(self._made, version, member.clock.monotonic()),
            failed=self._failed,
            anonymous=True,
            sync=False,
        )

    def _made(self, version: bytes, began: float, file: File, size: int) -> None:
        self.member.jobs.snapshot_seconds.observe(self.member.clock.monotonic() - began)
        served, self._served = self._served, []
        shared = _SharedFile(file, size, version, len(served))
        self._next()
        for handler in served:
            handler.begin(shared)

    def _failed(self, error: BaseException) -> None:
        """No room, most likely: the member itself is not hurt."""
        text = str(error) or type(error).__name__
        self.member.logger.warn("failed to write the database for a snapshot", error=text)
        served, self._served = self._served, []
        self._next()
        for handler in served:
            handler.fail(Code.UNKNOWN, text)

    def _next(self) -> None:
        self._export = None
        self._making = False
        if self._asked and not self.member.stopped:
            self._make()


class _SharedFile:
    """A database without a name, closed when its last reader is done."""

    __slots__ = ("_uses", "file", "size", "version")

    def __init__(self, file: File, size: int, version: bytes, uses: int) -> None:
        self.file = file
        self.size = size
        self.version = version
        """The storage version in it."""
        self._uses = uses

    def release(self, member: Member) -> None:
        self._uses -= 1
        if self._uses:
            return
        if member.stopped:
            self.file.close()
        else:
            member.snapshot_lane.submit(partial(discard, self.file), lambda _: None, lambda _: None)


class SnapshotHandler(StreamHandler):
    """One call: a block of the file is read and hashed aside, then sent, then the next."""

    __slots__ = (
        "_asked",
        "_began",
        "_digest",
        "_member",
        "_over",
        "_reading",
        "_sent",
        "_shared",
        "_snapshots",
        "_stream",
        "_waiting",
    )

    def __init__(self, snapshots: Snapshots, stream: Stream) -> None:
        self._snapshots = snapshots
        self._member = snapshots.member
        self._stream = stream
        self._asked = False
        self._over = False
        self._shared: _SharedFile | None = None
        self._digest = hashlib.sha256()
        self._sent = 0
        self._began = 0.0
        self._reading = False
        self._waiting = False

    # -- the connection --------------------------------------------------------------------------------

    def on_message(self, message: bytes) -> None:
        if self._asked:
            return
        self._asked = True
        try:
            SnapshotRequest.decode(message)
        except DecodeError as error:
            self.fail(Code.INTERNAL, malformed_text(error))
            return
        self._snapshots.ask(self)

    def on_cancel(self) -> None:
        if not self._over:
            self._over = True
            self._snapshots.forget(self)
            self._release()

    def on_writable(self) -> None:
        if self._waiting:
            self._waiting = False
            self._read()

    # -- the file --------------------------------------------------------------------------------------

    def begin(self, shared: _SharedFile) -> None:
        """Send this database."""
        self._shared = shared
        self._began = self._member.clock.monotonic()
        self._member.logger.info(
            "sending database snapshot to client",
            **{
                "total-bytes": shared.size,
                "storage-version": shared.version.decode("ascii", "replace"),
                "remote-address": self._stream.peer,
            },
        )
        self._read()

    def fail(self, code: int, text: str) -> None:
        if not self._over:
            self._over = True
            self._release()
            self._stream.close(code, text)

    def _read(self) -> None:
        shared = self._shared
        if self._over or shared is None or self._member.stopped:
            return
        self._reading = True
        size = min(_READ_BYTES, shared.size - self._sent)
        self._member.snapshot_lane.submit(
            partial(self._read_block, shared.file, size, self._sent), self._send, self._broke
        )

    def _read_block(self, file: File, size: int, offset: int) -> bytes:
        """In the lane."""
        block = file.pread(size, offset)
        if len(block) != size:
            raise OSError(f"{file.path}: {size} bytes at {offset} cannot be read")
        self._digest.update(block)
        return block

    def _broke(self, error: BaseException) -> None:
        self._reading = False
        if self._over:
            self._release()
            return
        text = str(error) or type(error).__name__
        self._member.logger.warn("failed to send database snapshot to client", error=text)
        self.fail(Code.UNKNOWN, text)

    def _send(self, block: bytes) -> None:
        self._reading = False
        shared = self._shared
        if self._over or shared is None:
            self._release()
            return
        stream, size = self._stream, shared.size
        version = b"\x22" + varint(len(shared.version)) + shared.version if shared.version else b""
        for at in range(0, len(block), BLOB_BYTES):
            blob = block[at : at + BLOB_BYTES]
            self._sent += len(blob)
            stream.send(_message(size - self._sent, blob) + version)
        if self._sent < size:
            if stream.blocked:
                self._waiting = True
            else:
                self._read()
            return
        stream.send(_message(0, self._digest.digest()) + version)
        self._over = True
        self._release()
        stream.close()
        self._member.logger.info(
            "successfully sent database snapshot to client",
            **{
                "total-bytes": size,
                "took": go_duration(self._member.clock.monotonic() - self._began),
                "remote-address": stream.peer,
            },
        )

    def _release(self) -> None:
        """Give the file up, once no block of it is being read."""
        shared = self._shared
        if shared is not None and not self._reading:
            self._shared = None
            shared.release(self._member)


def _message(remaining: int, blob: bytes) -> bytes:
    """A SnapshotResponse but for its version; without a header, as Go's."""
    head = b"\x10" + varint(remaining) if remaining else b""
    return head + b"\x1a" + varint(len(blob)) + blob
