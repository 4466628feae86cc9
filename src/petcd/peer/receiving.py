"""One snapshot on its way in: the message, then a database that goes to disk as it comes.

The bytes are written on a lane to a temporary file that a start removes; reading pauses while the disk is
behind. When the body is complete the file is synced, checked, renamed and its name made durable, and only
then does raft hear of it. Whatever goes wrong before that leaves nothing behind and changes nothing.
Source: contract page "peer", section 4; "disk", 3.1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from petcd.net.http import HttpExchange
from petcd.pb.wire import DecodeError
from petcd.peer.codec import decode_message
from petcd.peer.framing import U64
from petcd.peer.local import Local, PeerCounters
from petcd.raft import MSG_SNAP, Message
from petcd.seams.disk import File, Lane
from petcd.server.ids import hex_id
from petcd.storage.snapshots import Snapshotter

MESSAGE_BYTES_MAX: Final = 64 << 20
WRITE_BYTES: Final = 1 << 20
UNWRITTEN_BYTES_HIGH: Final = 8 << 20
UNWRITTEN_BYTES_LOW: Final = 2 << 20
SILENCE_SECONDS_MAX: Final = 10.0
_DISCARD_BYTES_MAX: Final = 1 << 20
"""So much of a refused body is read, so that the answer is not lost in a reset."""
_DISCARD_SECONDS_MAX: Final = 1.0

CheckDatabase = Callable[[File], object]
"""Raises where the file is not a whole database."""
Answer = Callable[[HttpExchange, int, str], object]


class SnapshotReception:
    """One post to ``/raft/snapshot``."""

    __slots__ = (
        "_answer",
        "_began",
        "_body_ended",
        "_bytes_max",
        "_bytes_seen",
        "_bytes_watched",
        "_check",
        "_counters",
        "_discarded",
        "_ended",
        "_exchange",
        "_file",
        "_gathered",
        "_have",
        "_lane",
        "_local",
        "_message",
        "_number",
        "_offset",
        "_on_end",
        "_paused",
        "_refusal",
        "_sender",
        "_snapshotter",
        "_temporary",
        "_unwritten",
    )

    def __init__(
        self,
        local: Local,
        lane: Lane,
        snapshotter: Snapshotter,
        check: CheckDatabase,
        exchange: HttpExchange,
        *,
        number: int,
        bytes_max: int,
        answer: Answer,
        on_end: Callable[[SnapshotReception], object],
    ) -> None:
        """``number`` tells it from others of the same index; ``bytes_max`` 0: databases of any size."""
        self._local = local
        self._lane = lane
        self._snapshotter = snapshotter
        self._check = check
        self._exchange = exchange
        self._number = number
        self._bytes_max = bytes_max
        self._answer = answer
        self._on_end = on_end
        self._message: Message | None = None
        self._gathered: list[bytes] = []
        """Of the message until it is complete, then of the database until it is worth a write."""
        self._have = 0
        self._offset = 0
        self._unwritten = 0
        self._paused = False
        self._file: File | None = None
        """Touched by the lane's jobs alone."""
        self._temporary = ""
        self._refusal: tuple[int, str] | None = None
        self._discarded = 0
        self._body_ended = False
        self._ended = False
        self._began = 0.0
        self._counters: PeerCounters | None = None
        """Once the message says whose it is; of strangers none are kept."""
        self._bytes_seen = 0
        self._bytes_watched = -1
        sender = exchange.request.header(b"x-server-from")
        self._sender = sender.decode("latin-1") if sender else ""
        exchange.on_body = self._on_body
        exchange.on_body_end = self._on_body_end
        exchange.on_disconnect = self._on_disconnect
        self._watch()

    def refuse(self, status: int, text: str) -> None:
        """Answer with an error, once what was sent has been read or is too much."""
        if self._refusal is not None or self._ended:
            return
        self._refusal = (status, text)
        self._gathered = []
        self._remove()
        if self._body_ended:
            self._end()
            return
        self._resume()
        self._local.world.clock.call_later(_DISCARD_SECONDS_MAX, self._end)

    def cancel(self) -> None:
        """The member stops."""
        if not self._ended:
            self._ended = True
            self._let_go()
            self._exchange.abort()
            self._remove()

    # ---- the body

    def _on_body(self, data: bytes) -> None:
        self._bytes_seen += len(data)
        if self._refusal is not None:
            self._discarded += len(data)
            if self._discarded > _DISCARD_BYTES_MAX:
                self._end()
            return
        self._gathered.append(data)
        self._have += len(data)
        if self._message is None:
            self._take_message()
        elif self._have >= WRITE_BYTES:
            self._write()

    def _on_body_end(self) -> None:
        self._body_ended = True
        if self._refusal is not None:
            self._end()
        elif self._message is None:
            why = "unexpected EOF" if self._have else "EOF"
            self.refuse(400, f"failed to decode raft message ({why})")
        else:
            self._write()
            if self._refusal is None:
                self._lane.submit(self._finish_file, self._stored, self._not_stored)

    def _take_message(self) -> None:
        if self._have < 8:
            return
        if len(self._gathered[0]) < 8:
            self._gathered = [b"".join(self._gathered)]
        (size,) = U64.unpack_from(self._gathered[0])
        if size > MESSAGE_BYTES_MAX:
            self.refuse(400, "failed to decode raft message (error limit exceeded)")
            return
        if self._have < 8 + size:
            return
        data = b"".join(self._gathered)
        try:
            message = decode_message(data, 8, 8 + size)
        except DecodeError as error:
            self.refuse(400, f"failed to decode raft message ({error})")
            return
        if message.type != MSG_SNAP or message.snapshot is None:
            self.refuse(400, "wrong raft message type")
            return
        # Raft's own judgement comes last; what it would refuse for certain need not be stored first.
        if message.to != self._local.identity.member_id:
            self.refuse(500, "failed to process raft message (mismatch member ID)")
            return
        if self._local.receiver.is_removed(message.from_):
            self.refuse(500, "failed to process raft message (the member has been removed)")
            return
        self._message = message
        index = message.snapshot.metadata.index
        counters = self._local.counters.get(message.from_)
        if counters is not None:
            self._counters = counters
            counters.snapshots_received.in_flight += 1
        self._began = self._snapshotter.now()
        self._temporary = self._snapshotter.temporary_path(f"receive-{index:016x}-{self._number}")
        rest = data[8 + size :]
        self._gathered = [rest]
        self._have = len(rest)
        self._local.logger.info(
            "receiving database snapshot", **self._fields(), **{"incoming-snapshot-message-size-bytes": size}
        )

    # ---- the file

    def _write(self) -> None:
        data = b"".join(self._gathered)
        self._gathered = []
        self._have = 0
        offset = self._offset
        self._offset += len(data)
        if self._bytes_max and self._offset > self._bytes_max:
            self._log_failure("the database is larger than allowed")
            self.refuse(500, "failed to save KV snapshot (the database is larger than allowed)")
            return
        self._unwritten += len(data)
        self._lane.submit(partial(self._write_piece, data, offset), self._written, self._not_stored)
        if self._unwritten > UNWRITTEN_BYTES_HIGH and not self._paused:
            self._paused = True
            self._exchange.set_reading(False)

    def _write_piece(self, data: bytes, offset: int) -> int:
        """In the lane."""
        file = self._file
        if file is None:
            file = self._file = self._local.world.disk.open(self._temporary, create=True)
            file.truncate(0)
        file.pwrite(data, offset)
        return len(data)

    def _written(self, size: int) -> None:
        self._unwritten -= size
        if self._unwritten <= UNWRITTEN_BYTES_LOW:
            self._resume()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._exchange.set_reading(True)

    def _finish_file(self) -> None:
        """In the lane: make the file durable, look at it, give it its name."""
        file, disk = self._file, self._local.world.disk
        message = self._message
        assert file is not None and message is not None and message.snapshot is not None
        snapshotter = self._snapshotter
        synced_from = snapshotter.now()
        file.sync()
        snapshotter.database_fsync_seconds.observe(snapshotter.now() - synced_from)
        self._check(file)
        self._file = None
        file.close()
        path = self._snapshotter.database_path(message.snapshot.metadata.index)
        disk.rename(self._temporary, path)
        disk.sync_dir(path.rpartition("/")[0])
        snapshotter.database_save_seconds.observe(snapshotter.now() - self._began)

    def _stored(self, _: None) -> None:
        if self._ended or self._local.closed:
            return
        message = self._message
        assert message is not None
        self._local.logger.info(
            "received and saved database snapshot",
            **self._fields(),
            **{"incoming-snapshot-size-bytes": self._offset},
        )
        self._local.receiver.receive_snapshot(message, self._processed)

    def _not_stored(self, error: BaseException) -> None:
        if self._refusal is not None or self._ended:
            return
        self._log_failure(str(error))
        self.refuse(500, f"failed to save KV snapshot ({error})")

    def _remove(self) -> None:
        if self._temporary:
            self._lane.submit(self._remove_file, _nothing, self._not_removed)

    def _remove_file(self) -> None:
        """In the lane."""
        file, self._file = self._file, None
        if file is not None:
            file.close()
        disk = self._local.world.disk
        if disk.exists(self._temporary):
            disk.remove(self._temporary)

    def _not_removed(self, error: BaseException) -> None:
        self._local.logger.warn(
            "failed to remove a temporary snapshot file", path=self._temporary, error=str(error)
        )

    # ---- the end

    def _processed(self, failure: str) -> None:
        """Raft has taken the message, or not."""
        if self._ended:
            return
        if failure:
            self._refusal = (500, f"failed to process raft message ({failure})")
        self._end()

    def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        exchange = self._exchange
        self._let_go()
        self._count(arrived=self._refusal is None)
        if self._refusal is not None:
            self._answer(exchange, *self._refusal)
        else:
            self._answer(exchange, 204, "")
        self._on_end(self)

    def _on_disconnect(self) -> None:
        if self._ended or self._body_ended:
            return  # complete: whether the sender still listens does not matter
        self._ended = True
        if self._message is not None and self._refusal is None:
            self._log_failure("unexpected EOF")
        self._let_go()
        self._count(arrived=False)
        self._remove()
        self._on_end(self)

    def _count(self, *, arrived: bool) -> None:
        if self._counters is not None:
            self._counters.received_bytes += self._bytes_seen
            self._counters.snapshots_received.ended(self._snapshotter.now() - self._began, arrived=arrived)

    def _let_go(self) -> None:
        """No cycle may outlive the exchange: the collector does not look at old objects."""
        exchange = self._exchange
        exchange.on_body = exchange.on_body_end = exchange.on_disconnect = None

    def _watch(self) -> None:
        """A sender that falls silent loses its connection."""
        if self._ended or self._body_ended:
            return
        if self._bytes_seen == self._bytes_watched and not self._paused:
            self._exchange.abort()
            self._on_disconnect()
            return
        self._bytes_watched = self._bytes_seen
        self._local.world.clock.call_later(SILENCE_SECONDS_MAX, self._watch)

    def _log_failure(self, why: str) -> None:
        self._local.logger.error("failed to save incoming database snapshot", **self._fields(), error=why)

    def _fields(self) -> dict[str, object]:
        message = self._message
        assert message is not None and message.snapshot is not None
        return {
            "local-member-id": self._local.identity.member_hex,
            "remote-snapshot-sender-id": hex_id(message.from_) or self._sender,
            "incoming-snapshot-index": message.snapshot.metadata.index,
        }


def _nothing(_: object) -> None:
    """Removed, or not there."""
