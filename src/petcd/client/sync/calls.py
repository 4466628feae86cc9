"""One unary call over a shared connection, and the client's side of HTTP/2 as calls need it: no I/O here.

The usual answer (a head, one DATA frame with the whole message, trailers that say OK) is recognised in
``Role._parse`` without the machine's general way, which takes over wherever something else comes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from petcd.errors import Code, EtcdError, StatusError, from_wire
from petcd.net.grpc.client import CLIENT_LIMITS, ResponseHead, TransportFailure
from petcd.net.grpc.messages import GrpcFault, MessageReader
from petcd.net.grpc.status import HTTP_TO_CODE
from petcd.net.http2 import frames
from petcd.net.http2.connection import Http2Connection, Http2Stream
from petcd.net.http2.frames import FRAME, U32, ProtocolFault
from petcd.net.http2.headers import HeaderDecoder, HeaderEncoder

if TYPE_CHECKING:
    from _thread import LockType

_RESET_CODES: Final = {
    frames.REFUSED_STREAM: Code.UNAVAILABLE,
    frames.CANCEL: Code.CANCELLED,
    frames.ENHANCE_YOUR_CALM: Code.RESOURCE_EXHAUSTED,
    frames.INADEQUATE_SECURITY: Code.PERMISSION_DENIED,
}
_NO_TRAILERS: Final = "server closed the stream without sending trailers"


class Call(Http2Stream):
    """A unary call: its answer or its error, and how its thread is woken.

    The connection's lock guards everything but ``waiter``, which is a lock that is held while the thread
    should sleep: releasing it says that the call is done, or that its thread is to read the socket now.
    """

    __slots__ = ("_reader", "done", "error", "headed", "message", "receive_left", "remote_closed", "role",
                 "sent", "sid", "waiter")  # fmt: skip

    def __init__(self, role: Role) -> None:
        self.role = role
        self.sid = 0
        """0 until it may be sent (the server bounds the streams of a connection)."""
        self.sent = False
        self.done = False
        self.headed = False
        """The response's head has come."""
        self.remote_closed = False
        self.message: bytes | None = None
        self.error: EtcdError | None = None
        self.waiter: LockType | None = None
        self.receive_left = CLIENT_LIMITS.stream_window_bytes
        self._reader: MessageReader | None = None

    @property
    def answer(self) -> bytes:
        """What the server said. Raises EtcdError."""
        if self.error is not None:
            raise self.error
        if self.message is None:
            raise StatusError(Code.INTERNAL, "the server sent no answer")
        return self.message

    def end(self, error: EtcdError | None) -> None:
        """The call is over; None means status OK."""
        if not self.done:
            self.error = error
            self.done = True
            self.wake()

    def wake(self) -> None:
        """Let the thread go on, if it waits. It may have been woken before."""
        if self.waiter is not None and self.waiter.locked():
            self.waiter.release()

    def fail(self, code: Code, text: str) -> None:
        self.role.cancel(self)
        self.end(TransportFailure(code, text, sent=True))

    @property
    def fresh(self) -> bool:
        """No message has begun yet."""
        return self.message is None and self._reader is None

    def on_head(self, head: ResponseHead, end_stream: bool) -> None:
        status = head.grpc_status
        if not self.headed:
            if 100 <= head.http_status < 200 and not end_stream:
                return
            self.headed = True
            if head.http_status != 200 and status is None:
                text = f"unexpected HTTP status code received from server: {head.http_status}"
                self.fail(HTTP_TO_CODE.get(head.http_status, Code.UNKNOWN), text)
                return
            if status is None and not head.content_type.startswith(b"application/grpc"):
                text = f"unexpected content type {head.content_type.decode('latin-1')!r}"
                self.fail(Code.UNKNOWN, text)
                return
        if not end_stream:
            return
        self.role.finish(self)
        if status == 0:
            self.end(None)
        elif status is None:
            self.end(TransportFailure(Code.INTERNAL, _NO_TRAILERS, sent=True))
        else:
            self.end(from_wire(status, head.grpc_message))

    def on_data(self, data: bytes, start: int, end: int, end_stream: bool) -> None:
        if self._reader is None:
            self._reader = MessageReader(CLIENT_LIMITS.message_bytes_max)
        try:
            for message in self._reader.feed(data, start, end):
                if self.message is not None:
                    raise GrpcFault(Code.INTERNAL, "the server sent more than one answer")
                self.message = message
        except GrpcFault as fault:
            self.role.cancel(self)
            self.end(StatusError(fault.code, fault.text))
            return
        if end_stream:
            self.role.finish(self)
            self.end(TransportFailure(Code.INTERNAL, _NO_TRAILERS, sent=True))

    def on_reset(self, code: int) -> None:
        # The machine has forgotten the stream; a connection that is lost says so itself, before this.
        text = f"stream terminated by RST_STREAM with error code: {frames.error_name(code)}"
        sent = self.sent and code != frames.REFUSED_STREAM
        self.end(TransportFailure(_RESET_CODES.get(code, Code.INTERNAL), text, sent=sent))
        self.role.on_room()


class Role(Http2Connection):
    """The client's role of the HTTP/2 machine, for unary calls."""

    __slots__ = ("decoder", "encoder", "on_room", "reason")

    client = True

    def __init__(self, on_room: Callable[[], None]) -> None:
        super().__init__(CLIENT_LIMITS, time.monotonic, lambda _: None)
        self.last_sid = -1
        self.on_room = on_room
        """Called when a stream has ended: one that waits may start."""
        self.reason = ""
        """Why no new call can be made."""
        self.decoder: HeaderDecoder[ResponseHead] = HeaderDecoder(CLIENT_LIMITS.header_list_bytes_max * 4)
        self.encoder = HeaderEncoder()

    def start(self) -> None:
        limits = self.limits
        self.put(
            frames.PREFACE
            + frames.settings(
                (frames.SETTINGS_ENABLE_PUSH, 0),
                (frames.SETTINGS_INITIAL_WINDOW_SIZE, limits.stream_window_bytes),
                (frames.SETTINGS_MAX_HEADER_LIST_SIZE, limits.header_list_bytes_max),
            )
            + frames.window_update(0, limits.connection_window_bytes - frames.WINDOW_DEFAULT)
        )

    def _parse(self, data: bytes) -> int:
        pos, size = 0, len(data)
        unpack, frame_max, streams = FRAME.unpack_from, self.limits.frame_bytes_max, self.streams
        while size - pos >= 9:
            word, flags, sid = unpack(data, pos)
            length = word >> 8
            if length > frame_max:
                raise ProtocolFault(frames.FRAME_SIZE_ERROR, f"frame of {length} bytes")
            start = pos + 9
            end = start + length
            if end > size:
                break
            # A stream is in ``streams`` only after SETTINGS came, so that check of ``frame`` is implied.
            if word & 255 == frames.DATA and not flags and length >= 5 and not self._block:
                call: Call | None = streams.get(sid)
                if (
                    call is not None
                    and call.fresh
                    and not call.remote_closed
                    and not data[start]
                    and U32.unpack_from(data, start + 1)[0] == length - 5
                    and length <= call.receive_left
                ):
                    self.receive_left -= length
                    call.receive_left -= length
                    call.message = data[start + 5 : end]
                    pos = end
                    continue
            elif (
                word & 255 == frames.HEADERS
                and flags & ~frames.END_STREAM == frames.END_HEADERS
                and sid in streams
                and not self._block
            ):
                self.on_block(sid, data[start:end], bool(flags & frames.END_STREAM))
                pos = end
                continue
            self.frame(word & 255, flags, sid & 0x7FFFFFFF, data, start, end)
            if self.failed:
                return size
            pos = end
        return pos

    def on_block(self, sid: int, block: bytes, end_stream: bool) -> None:
        head = self.decoder.blocks.get(block)
        if head is None:
            head = ResponseHead(self.decoder.decode(block))
            self.decoder.remember(block, head)
        call: Call | None = self.streams.get(sid)
        if call is None:
            if self.is_idle(sid):
                raise ProtocolFault(frames.PROTOCOL_ERROR, "HEADERS on an idle stream")
            if end_stream:
                self._detached.pop(sid, None)
            return
        if end_stream:
            call.remote_closed = True
        call.on_head(head, end_stream)

    def on_settings(self, first: bool) -> None:
        self.on_room()

    def on_table_size(self, table_bytes_max: int) -> None:
        self.encoder.resize(table_bytes_max)

    def on_goaway(self, last_sid: int, code: int, text: bytes) -> None:
        self.reason = self.reason or f"the server is going away: {frames.error_name(code)}"
        self.draining = True
        for sid in sorted(sid for sid in self.streams if sid > last_sid):
            # The server has said that it did not and will not look at it.
            self.forget(sid).end(TransportFailure(Code.UNAVAILABLE, self.reason, sent=False))
        self.on_room()

    def on_failed(self, code: int, text: str) -> None:
        self.break_off(f"{frames.error_name(code)}: {text}")

    # --- from calls and their connection ----------------------------------------------------------------

    def finish(self, call: Call) -> None:
        """The server has ended the stream. Where it did not wait for all of our message, we end it too."""
        unfinished = call.sid in self.senders
        self.forget(call.sid)
        if unfinished:
            self.put(frames.rst_stream(call.sid, frames.CANCEL))
        self.on_room()

    def cancel(self, call: Call) -> None:
        """Forget a call that the server may still be busy with."""
        if self.forget(call.sid) is not None and not self.failed:
            self.put(frames.rst_stream(call.sid, frames.CANCEL))
            if not call.remote_closed:
                self.detach(call.sid)
            self.on_room()

    def break_off(self, reason: str) -> None:
        """The connection is gone: every call under way fails."""
        self.reason = self.reason or reason
        self.draining = True
        text = f"connection error: desc = {self.reason!r}"
        calls, self.streams = self.streams, {}
        for call in calls.values():
            call.end(TransportFailure(Code.UNAVAILABLE, text, sent=call.sent))
        self.lost()
        self.on_room()
