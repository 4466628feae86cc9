"""A call as its handler sees it: ``Call`` for unary methods, ``Stream`` for the others.

A unary call on the fast path costs one ``Call`` and nothing else: no future, no task, no closure. It lives
in ``connection.streams`` until it is answered or cancelled; taking it out of there is what makes an answer
count, so a late or second answer does nothing.

Duties of a stream's handler: ``on_cancel`` is the last thing it hears, once, however the stream ends other
than by its own ``close``. Within the others it may raise ``EtcdError`` to end the stream with that status
(``on_cancel`` follows).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from petcd.errors import Code, EtcdError
from petcd.net.grpc.messages import GrpcFault, MessageReader
from petcd.net.grpc.router import Method, RequestHead
from petcd.net.grpc.status import (
    HEAD_FRAME,
    MESSAGE_FRAME,
    MESSAGE_PREFIX,
    REPLY_PREFIX,
    REPLY_SUFFIX,
    RESPONSE_BLOCK,
    RESPONSE_HEAD,
    TRAILERS_HEAD,
    TRAILERS_OK,
    refusal_block,
    status_block,
)
from petcd.net.http2 import frames
from petcd.net.http2.connection import Http2Stream, Sender

if TYPE_CHECKING:
    from petcd.net.grpc.server import GrpcServerConnection

DEADLINE_TEXT: Final = "context deadline exceeded"
NO_MESSAGE_TEXT: Final = "cardinality violation: received no request message from non-client-streaming RPC"
TRUNCATED_TEXT: Final = "unexpected EOF"
PARTIAL_TEXT: Final = "grpc: too many bytes in unfinished messages on this connection"

_reply_prefix, _reply_suffix = REPLY_PREFIX.pack, REPLY_SUFFIX.pack
_HEADERS_ENDING: Final = frames.END_HEADERS | frames.END_STREAM


def ending_frame(sid: int, block: bytes) -> bytes:
    return frames.frame(frames.HEADERS, _HEADERS_ENDING, sid, block)


class StreamHandler(Protocol):
    """What a streaming method hears of one stream; a subclass overrides what it cares for."""

    __slots__ = ()

    def on_message(self, message: bytes) -> None:
        """One message of the client."""
        return

    def on_half_close(self) -> None:
        """The client will send no more. It still reads; ``close`` when all is said."""
        return

    def on_cancel(self) -> None:
        """The stream is over (reset, deadline, lost connection, our refusal): nothing sent will arrive."""
        return

    def on_writable(self) -> None:
        """``pending_bytes`` has fallen to the low mark after ``send`` had to hold bytes back."""
        return


class _Deaf(StreamHandler):
    """Until the method has returned its own."""

    __slots__ = ()


_DEAF: Final = _Deaf()


class Call(Http2Stream):
    """One unary call whose message has arrived whole."""

    __slots__ = ("cancelled", "conn", "deadline", "head", "sid", "tick")

    remote_closed = True
    receive_left = 0
    partial_bytes = 0

    def __init__(self, conn: GrpcServerConnection, sid: int, head: RequestHead) -> None:
        self.conn = conn
        self.sid = sid
        self.head = head
        self.deadline = 0.0
        """Monotonic seconds, 0.0 for none."""
        self.tick = 0
        """For the deadlines' own use."""
        self.cancelled = False
        """The client gave up, its deadline passed or its connection is gone: the answer will not be read."""

    def reply(self, message: bytes) -> None:
        """Answer with this one message and status OK. Does nothing when the call is over."""
        conn, sid = self.conn, self.sid
        if conn.streams.pop(sid, None) is None:
            return
        if self.tick:
            conn.deadlines.discard(self)
        self.deadline = 0.0
        self.head.stats.ok += 1
        size = len(message) + 5
        # reply_max: what one frame may hold, and the initial window; 0 while the socket is full.
        if size <= conn.reply_max and size <= conn.send_window:
            conn.send_window -= size
            out = conn.out
            if not out:
                conn.wake(conn)
            out += (
                _reply_prefix(RESPONSE_HEAD, sid, RESPONSE_BLOCK, size << 8, 0, sid, 0, size - 5),
                message,
                _reply_suffix(TRAILERS_HEAD, sid, TRAILERS_OK),
            )
            if conn.credits:
                conn.credits.pop(sid, None)
            if conn.send_window < conn.flush_mark:
                conn.overflow()
            if conn.draining:
                conn.on_local_end(sid)
        else:
            conn.put(HEAD_FRAME.pack(RESPONSE_HEAD, sid, RESPONSE_BLOCK))
            conn.queue_reply(sid, MESSAGE_PREFIX.pack(0, size - 5) + message, ending_frame(sid, TRAILERS_OK))

    def reply_parts(self, parts: list[bytes]) -> None:
        """Answer with one message that is long and comes in pieces: they are never joined."""
        conn, sid = self.conn, self.sid
        if conn.streams.pop(sid, None) is None:
            return
        if self.tick:
            conn.deadlines.discard(self)
        self.deadline = 0.0
        self.head.stats.ok += 1
        conn.put(HEAD_FRAME.pack(RESPONSE_HEAD, sid, RESPONSE_BLOCK))
        conn.queue(sid, MESSAGE_PREFIX.pack(0, sum(map(len, parts))), None, None)
        for part in parts:
            if part:
                conn.queue(sid, part, None, None)
        conn.queue_reply(sid, b"", ending_frame(sid, TRAILERS_OK))

    def fail(self, code: int, text: str) -> None:
        """Answer with a status other than OK."""
        conn, sid = self.conn, self.sid
        if conn.streams.pop(sid, None) is None:
            return
        if self.tick:
            conn.deadlines.discard(self)
        self.deadline = 0.0
        self.head.stats.count_end(code)
        conn.put(ending_frame(sid, refusal_block(code, text)))
        conn.credits.pop(sid, None)
        conn.on_local_end(sid)

    def metadata(self, name: bytes) -> bytes | None:
        """The first value of a request header, decoded when it ends in ``-bin``."""
        return self.head.metadata(name)

    @property
    def peer(self) -> str:
        return self.conn.peer

    @property
    def congested(self) -> bool:
        """The client does not take what it asked for already: see ``defer``."""
        return self.conn.congested

    def defer(self, resume: Callable[[], None]) -> None:
        """Run ``resume`` once the client has taken enough of what waits (never, if the call ends before).

        For answers that cost memory: a client that asks for a thousand large ranges and reads none holds a
        few megabytes this way, not a thousand ranges.
        """
        self.conn.defer(self, resume)

    # ---- from the connection

    def on_reset(self, code: int) -> None:
        self.end(Code.CANCELLED)

    def end(self, code: int) -> None:
        """Nobody waits for the answer any more, for this reason."""
        self.cancelled = True
        self.head.stats.count_end(code)
        self.conn.deadlines.discard(self)

    def expire(self) -> None:
        stream = self.conn.streams.get(self.sid)
        if stream is not None:
            self.conn.partial -= stream.partial_bytes
            self.end(Code.DEADLINE_EXCEEDED)
            self.conn.refuse(self.sid, Code.DEADLINE_EXCEEDED, DEADLINE_TEXT)


class Receiving(Http2Stream):
    """A unary call whose message has not arrived whole: most often HEADERS and DATA in two reads."""

    __slots__ = ("call", "message", "reader", "receive_left", "remote_closed")

    def __init__(self, call: Call, reader: MessageReader, receive_left: int) -> None:
        self.call = call
        self.reader = reader
        self.message: bytes | None = None
        self.receive_left = receive_left
        self.remote_closed = False

    def on_data(self, data: bytes, start: int, end: int, end_stream: bool) -> None:
        call, reader = self.call, self.reader
        conn, sid = call.conn, call.sid
        try:
            for message in conn.feed(reader, data, start, end):
                if self.message is None:  # as in Go, whatever follows the first is not looked at
                    self.message = message
            if not end_stream:
                return
            if reader.partial_bytes:
                raise GrpcFault(Code.INTERNAL, TRUNCATED_TEXT)
            if self.message is None:
                raise GrpcFault(Code.INTERNAL, NO_MESSAGE_TEXT)
        except GrpcFault as fault:
            conn.partial -= reader.partial_bytes
            call.end(fault.code)
            conn.refuse(sid, fault.code, fault.text)
            return
        conn.streams[sid] = call
        conn.dispatch(call, self.message)

    def on_reset(self, code: int) -> None:
        self.call.conn.partial -= self.reader.partial_bytes
        self.call.end(Code.CANCELLED)

    @property
    def partial_bytes(self) -> int:
        return self.reader.partial_bytes


class Stream(Http2Stream):
    """One streaming call. ``send`` never blocks: beyond the client's window it buffers, and
    ``pending_bytes`` tells."""

    __slots__ = (
        "_headers_sent",
        "_held_back",
        "_stats",
        "cancelled",
        "closed",
        "conn",
        "deadline",
        "handler",
        "head",
        "reader",
        "receive_left",
        "remote_closed",
        "sid",
        "tick",
    )

    def __init__(
        self,
        conn: GrpcServerConnection,
        sid: int,
        head: RequestHead,
        reader: MessageReader,
        receive_left: int,
    ) -> None:
        self.conn = conn
        self.sid = sid
        self.head = head
        self.reader = reader
        self.receive_left = receive_left
        self.remote_closed = False
        self.deadline = 0.0
        self.tick = 0
        self.cancelled = False
        self.closed = False
        """Ended by either side; nothing more can be sent."""
        self.handler: StreamHandler = _DEAF
        self._headers_sent = False
        self._held_back = False
        self._stats = head.stats

    def send(self, message: bytes) -> None:
        """Send one message, or keep it until the client's window opens. Does nothing once ``closed``."""
        if self.closed:
            return
        conn, sid = self.conn, self.sid
        self._stats.count_sent()
        if not self._headers_sent:
            self._headers_sent = True
            conn.put(HEAD_FRAME.pack(RESPONSE_HEAD, sid, RESPONSE_BLOCK))
        size = len(message) + 5
        granted = conn.credits
        credit = granted.get(sid, 0)
        if (
            size <= conn.send_window
            and size <= conn.frame_max_now
            and size <= conn.initial_window + credit
            and sid not in conn.senders
        ):
            conn.send_window -= size
            granted[sid] = credit - size
            out = conn.out
            if not out:
                conn.wake(conn)
            out += (MESSAGE_FRAME.pack(size << 8, 0, sid, 0, size - 5), message)
            if conn.send_window < conn.flush_mark:
                conn.overflow()
        else:
            conn.queue(sid, MESSAGE_PREFIX.pack(0, size - 5) + message, None, self)
            sender = conn.senders.get(sid)
            if sender is not None and sender.waiting > conn.limits.writable_bytes_low:
                self._held_back = True

    @property
    def pending_bytes(self) -> int:
        """What this client has yet to take: waiting for its window, or framed on its connection and not
        written."""
        conn = self.conn
        sender: Sender | None = conn.senders.get(self.sid)
        return (sender.waiting if sender is not None else 0) + conn.unflushed()

    @property
    def blocked(self) -> bool:
        """The client does not keep up: more than the low mark waits, and ``on_writable`` will follow."""
        return self._held_back

    def close(self, code: int = 0, text: str = "") -> None:
        """End the stream with a status, after what was sent. The handler hears nothing more."""
        if self.closed:
            return
        self.closed = True
        self._release()
        self._stats.count_end(code)
        conn, sid = self.conn, self.sid
        if not self._headers_sent:
            conn.put(ending_frame(sid, refusal_block(code, text)))
        else:
            block = status_block(code, text)
            if sid in conn.senders:
                # The stream stays in ``streams`` (for WINDOW_UPDATE and RST) until the rest is out.
                conn.queue(sid, b"", ending_frame(sid, block), None)
                return
            conn.put(ending_frame(sid, block))
        conn.on_local_end(sid)

    def metadata(self, name: bytes) -> bytes | None:
        return self.head.metadata(name)

    @property
    def peer(self) -> str:
        return self.conn.peer

    def _release(self) -> None:
        self.conn.partial -= self.reader.partial_bytes
        self.conn.deadlines.discard(self)

    def end(self, code: int, text: str) -> None:
        """End it for a fault of the client's or the handler's own error."""
        if not self.closed:
            self.close(code, text)
            self.cancelled = True
            self._tell(self.handler.on_cancel)

    def _tell(self, hook: Callable[..., Any], *args: bytes) -> None:
        try:
            hook(*args)
        except EtcdError as error:
            self.end(error.code, error.text)
        except Exception as error:  # noqa: BLE001 - a handler's bug ends its stream, not the member
            self.conn.report_bug(self.head.path, error)
            self.end(Code.INTERNAL, "internal error")

    # ---- from the connection

    def open(self, method: Method) -> None:
        """Let the method take the stream; it may refuse by raising EtcdError."""
        assert method.stream is not None
        try:
            self.handler = method.stream(self)
        except EtcdError as error:
            self.close(error.code, error.text)
        except Exception as error:  # noqa: BLE001 - a handler's bug ends its stream, not the member
            self.conn.report_bug(self.head.path, error)
            self.close(Code.INTERNAL, "internal error")

    def on_data(self, data: bytes, start: int, end: int, end_stream: bool) -> None:
        if self.closed:
            return
        reader = self.reader
        try:
            messages = self.conn.feed(reader, data, start, end)
            if end_stream and reader.partial_bytes:
                raise GrpcFault(Code.INTERNAL, TRUNCATED_TEXT)
        except GrpcFault as fault:
            self.end(fault.code, fault.text)
            return
        self._stats.count_received(len(messages))
        for message in messages:
            self._tell(self.handler.on_message, message)
            if self.closed:
                return
        if end_stream:
            self._tell(self.handler.on_half_close)

    def on_reset(self, code: int) -> None:
        if not self.closed:
            self.closed = True
            self.cancelled = True
            self._release()
            self._stats.count_end(Code.CANCELLED)
            self._tell(self.handler.on_cancel)

    def on_window(self) -> None:
        if self._held_back and not self.closed:
            self._held_back = False
            self._tell(self.handler.on_writable)

    def expire(self) -> None:
        self.deadline = 0.0
        self.end(Code.DEADLINE_EXCEEDED, DEADLINE_TEXT)
