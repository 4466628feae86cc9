"""One snapshot on its way to another member: the message, then the database file, in one long post.

The file is read on a lane, a piece at a time, and the next piece only when the other side has taken most of
the last, so a slow member costs neither memory nor time of ours.
Source: contract page "peer", section 4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from petcd.net.http1_client import Dialling, HttpClientConnection, ResponseHandler, dial
from petcd.peer.codec import encode_message
from petcd.peer.framing import U64
from petcd.peer.local import Local, PeerStatus, UrlPicker
from petcd.peer.pipeline import post_failure
from petcd.raft import Message
from petcd.seams.clock import Timer
from petcd.seams.disk import File, Lane
from petcd.server.peering import PeerAnswer

if TYPE_CHECKING:
    from petcd.server.url import Url

PIECE_BYTES: Final = 256 << 10
_STALLED_SECONDS_MAX: Final = 30.0
_ANSWER_SECONDS_MAX: Final = 600.0
"""The receiver syncs and checks the whole database before it answers."""
_UNREACHABLE_TICKS_MAX: Final = 12
"""Ticks of the transport after which no answer is expected any more of a member that is not reachable on any
other connection. The log grows for as long as a snapshot is under way."""
_TEXT_BYTES_MAX: Final = 4096


class SnapshotPost(ResponseHandler):
    """``done(delivered)`` exactly once, unless it is cancelled."""

    __slots__ = (
        "_answer",
        "_at_end",
        "_connection",
        "_dialling",
        "_done",
        "_file",
        "_lane",
        "_local",
        "_message",
        "_offset",
        "_path",
        "_picker",
        "_reading",
        "_status",
        "_text",
        "_unreachable_ticks",
        "_url",
        "_waits",
        "_watchdog",
    )

    def __init__(
        self,
        local: Local,
        lane: Lane,
        picker: UrlPicker,
        status: PeerStatus,
        message: Message,
        path: str,
        done: Callable[[SnapshotPost, bool], object],
    ) -> None:
        self._local = local
        self._lane = lane
        self._picker = picker
        self._status = status
        self._message = message
        self._path = path
        self._done: Callable[[SnapshotPost, bool], object] | None = done
        self._dialling: Dialling | None = None
        self._connection: HttpClientConnection | None = None
        self._file: File | None = None
        self._offset = 0
        self._reading = False
        """A job for the next piece is on the lane."""
        self._waits = False
        """The other side has to take something first."""
        self._at_end = False
        self._answer = 0
        self._text = b""
        self._watchdog: Timer | None = None
        self._url: Url | None = None
        self._unreachable_ticks = 0

    def start(self) -> None:
        url = self._url = self._picker.pick()
        if url is None:
            self._local.world.clock.call_soon(self._finish, "no usable peer URL")
            return
        local = self._local
        self._dialling = dial(
            local.world,
            url.address(),
            self._opened,
            self._finish,
            seconds_max=local.dial_seconds,
            tls=local.tls_for(url),
        )

    def cancel(self) -> None:
        self._done = None
        self._release()

    def tick(self) -> None:
        """Each ``TICK_SECONDS``: nothing is sent any more that would tell us that the other side has gone."""
        if self._status.since is not None or not self._at_end:
            self._unreachable_ticks = 0
            return
        self._unreachable_ticks += 1
        if self._unreachable_ticks > _UNREACHABLE_TICKS_MAX:
            self._finish("the member is unreachable")

    def doubt(self) -> None:
        """The other side has made a new connection, so it may have been started anew meanwhile."""
        if self._at_end:
            self._finish("the member has connected anew")

    def _opened(self, connection: HttpClientConnection) -> None:
        self._dialling = None
        self._connection = connection
        connection.request(
            "POST",
            "/raft/snapshot",
            [("Content-Type", "application/octet-stream"), *self._local.identity.common],
            self,
            body=None,
        )
        body = encode_message(self._message)
        connection.send_body(U64.pack(len(body)) + body)
        self._watch(_STALLED_SECONDS_MAX)
        self._next()

    # ---- the file

    def _next(self) -> None:
        """Read the next piece, when it is wanted."""
        connection = self._connection
        if connection is None or self._reading or self._at_end:
            return
        if not connection.writable:
            self._waits = True
            return
        self._reading = True
        self._lane.submit(self._read, self._piece, self._unreadable)

    def _read(self) -> bytes:
        """In the lane."""
        if self._file is None:
            self._file = self._local.world.disk.open(self._path, readonly=True)
        return self._file.pread(PIECE_BYTES, self._offset)

    def _piece(self, data: bytes) -> None:
        self._reading = False
        connection = self._connection
        if connection is None:
            self._close_file()
            return
        self._watch(_STALLED_SECONDS_MAX)
        if data:
            self._offset += len(data)
            self._status.counters.sent_bytes += len(data)
            connection.send_body(data)
            self._next()
            return
        self._at_end = True
        self._close_file()
        self._watch(_ANSWER_SECONDS_MAX)
        connection.end_body()

    def _unreadable(self, error: BaseException) -> None:
        self._reading = False
        self._close_file()
        self._finish(f"cannot read the database: {error}")

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            self._lane.submit(file.close, _nothing, _nothing)

    # ---- the answer

    def on_writable(self) -> None:
        if self._waits:
            self._waits = False
            self._watch(_STALLED_SECONDS_MAX)
            self._next()

    def on_head(self, status: int, headers: dict[str, str]) -> None:
        self._answer = status

    def on_body(self, data: bytes) -> None:
        self._text = (self._text + data)[:_TEXT_BYTES_MAX]

    def on_end(self) -> None:
        if self._answer == 204:
            self._finish("")
            return
        answer = PeerAnswer(self._answer, {}, self._text)
        if self._answer == 403:
            self._local.removed()
        self._finish(post_failure(self._local, self._status.member_id, answer))

    def on_failure(self, reason: str) -> None:
        self._finish(reason)

    def _watch(self, seconds: float) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._watchdog = self._local.world.clock.call_later(seconds, self._finish, "i/o timeout")

    def _finish(self, failure: str) -> None:
        self._release()
        done, self._done = self._done, None
        if done is None:
            return
        if failure:
            if self._url is not None:
                self._picker.failed(self._url)
            self._status.counters.sent_failures += 1
            self._status.deactivate("post", "sender", failure)
        else:
            self._status.activate()
        done(self, not failure)

    def _release(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        if not self._reading:
            self._close_file()


def _nothing(_: object) -> None:
    """A file that is not needed any more was closed, or could not be."""
