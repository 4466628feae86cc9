"""The client's role of HTTP/2, for unary calls. No I/O here, and no lock: the connection has it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from time import monotonic
from typing import Any

from petcd.client.sync.calls import Call
from petcd.errors import Code
from petcd.net.grpc.answers import AnswerParser, Request, request_fields
from petcd.net.grpc.client import CLIENT_LIMITS, USER_AGENT, Metadata, TransportFailure
from petcd.net.grpc.status import MESSAGE_FRAME, MESSAGE_PREFIX
from petcd.net.http2 import frames
from petcd.net.http2.frames import END_HEADERS, END_STREAM, FRAME, HEADERS


class Role(AnswerParser):
    """What a connection's calls have sent and what they get."""

    __slots__ = ("_authority", "_scheme", "queued", "reason")

    def __init__(self, authority: bytes, *, secure: bool) -> None:
        super().__init__(CLIENT_LIMITS, monotonic, lambda _: None)
        self._authority = authority
        self._scheme = b"https" if secure else b"http"
        self.reason = ""
        """Why no new call can be made."""
        self.queued: deque[tuple[Call, bytes, bytes, Metadata, float | None]] = deque()
        """Calls beyond the number of streams that the server takes at once."""

    # --- sending ----------------------------------------------------------------------------------------

    def begin(
        self, call: Call, path: bytes, message: bytes, metadata: Metadata, timeout: float | None
    ) -> None:
        """Send a call, now or when the server takes more at once. Raises TransportFailure (not sent)."""
        if self.draining:
            raise TransportFailure(Code.UNAVAILABLE, self.reason or "the connection is closing", sent=False)
        if self.queued or len(self.streams) >= self.peer_streams_max:
            self.queued.append((call, path, message, metadata, timeout))
        else:
            self._send(call, path, message, metadata, timeout)

    def start_queued(self) -> None:
        """A stream has ended, or the server takes more at once."""
        queued = self.queued
        while queued and (self.draining or len(self.streams) < self.peer_streams_max):
            call, path, message, metadata, timeout = queued.popleft()
            if self.draining:
                call.end(TransportFailure(Code.UNAVAILABLE, self.reason, sent=False))
            else:
                self._send(call, path, message, metadata, timeout)

    def queued_calls(self) -> Iterator[Call]:
        return (entry[0] for entry in self.queued)

    def _send(
        self, call: Call, path: bytes, message: bytes, metadata: Metadata, timeout: float | None
    ) -> None:
        self.last_sid = sid = self.last_sid + 2
        if sid >= frames.STREAM_ID_MAX - 2:
            self.draining = True
        call.sid = sid
        call.sent = True
        self.streams[sid] = call
        latest = self.encoder.latest.get(path)
        if latest is not None and latest[0] is metadata and latest[1] == timeout:
            block = latest[2]
        else:
            block = self.request_block((path, tuple(metadata)), timeout, self._fields)
        size = len(message) + 5
        if (
            size <= self.send_window
            and size <= self.initial_window
            and size <= self.peer_frame_max
            and len(block) <= self.peer_frame_max
        ):
            self.send_window -= size
            self.out += (
                FRAME.pack(len(block) << 8 | HEADERS, END_HEADERS, sid),
                block,
                MESSAGE_FRAME.pack(size << 8, END_STREAM, sid, 0, size - 5),
                message,
            )
            return
        self.put_headers(sid, block, 0)
        self.queue(sid, MESSAGE_PREFIX.pack(0, size - 5) + message, b"", None)

    def _fields(self, request: Request) -> list[Any]:
        return request_fields(request, self._scheme, self._authority, USER_AGENT)

    # --- receiving --------------------------------------------------------------------------------------

    def on_settings(self, first: bool) -> None:
        self.start_queued()

    def on_goaway(self, last_sid: int, code: int, text: bytes) -> None:
        self.reason = self.reason or f"the server is going away: {frames.error_name(code)}"
        self.draining = True
        for sid in sorted(sid for sid in self.streams if sid > last_sid):
            # The server has said that it did not and will not look at it.
            self.forget(sid).end(TransportFailure(Code.UNAVAILABLE, self.reason, sent=False))
        self.start_queued()

    def on_failed(self, code: int, text: str) -> None:
        self.break_off(f"{frames.error_name(code)}: {text}")

    # --- the end of calls -------------------------------------------------------------------------------

    def ended(self, call: Call) -> None:
        """The server has ended the stream. Where it did not wait for all of our message, we end it too."""
        sid = call.sid
        if sid in self.senders:
            self.put(frames.rst_stream(sid, frames.CANCEL))
            self.forget(sid)
        else:
            self.credits.pop(sid, None)
            del self.streams[sid]
        if self.queued:
            self.start_queued()

    def cancel(self, call: Call) -> None:
        """Forget a call that the server may still be busy with."""
        if self.forget(call.sid) is not None:
            if not self.failed:
                self.put(frames.rst_stream(call.sid, frames.CANCEL))
                if not call.remote_closed:
                    self.detach(call.sid)
            self.start_queued()
        elif not call.sid:
            self.queued = deque(entry for entry in self.queued if entry[0] is not call)

    def break_off(self, reason: str) -> None:
        """The connection is gone: every call under way fails."""
        self.reason = self.reason or reason
        self.draining = True
        text = f"connection error: desc = {self.reason!r}"
        calls = list(self.streams.values())
        self.streams.clear()
        for call in calls:
            call.end(TransportFailure(Code.UNAVAILABLE, text, sent=call.sent))
        self.lost()
        self.start_queued()
