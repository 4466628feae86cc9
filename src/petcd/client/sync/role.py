"""The client's role of the HTTP/2 machine, for unary calls. No I/O here, and no lock: the connection has it.

The usual answer (a head, one DATA frame with the whole message, trailers that say OK) is recognised in
``_parse`` without the machine's general way, which takes over wherever something else comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from time import monotonic
from typing import Any, Final

from petcd.client.sync.calls import Call
from petcd.errors import Code
from petcd.net.grpc.client import CLIENT_LIMITS, USER_AGENT, Metadata, ResponseHead, TransportFailure
from petcd.net.grpc.status import MESSAGE_FRAME, MESSAGE_PREFIX, format_timeout
from petcd.net.http2 import frames
from petcd.net.http2.connection import Http2Connection
from petcd.net.http2.frames import DATA, END_HEADERS, END_STREAM, FRAME, HEADERS, U32, ProtocolFault
from petcd.net.http2.headers import Field, HeaderDecoder, HeaderEncoder, literal

_SENSITIVE: Final = frozenset((b"token", b"authorization"))
_TIMEOUTS_MAX: Final = 32
"""So many different time limits are kept in the header table; others are spelled out each time."""
_LAST_HEAD: Final = END_HEADERS | END_STREAM


class Head(ResponseHead):
    """A header block, and whether it is the usual beginning of an answer."""

    __slots__ = ("opens",)

    def __init__(self, fields: list[Field]) -> None:
        super().__init__(fields)
        grpc = self.content_type.startswith(b"application/grpc")
        self.opens = self.http_status == 200 and grpc and self.grpc_status is None


class Role(Http2Connection):
    """What a connection's calls have sent and what they get."""

    __slots__ = ("_authority", "_scheme", "_timeouts", "decoder", "encoder", "queued", "reason")

    client = True

    def __init__(self, authority: bytes, *, secure: bool) -> None:
        super().__init__(CLIENT_LIMITS, monotonic, lambda _: None)
        self._authority = authority
        self._scheme = b"https" if secure else b"http"
        self._timeouts: set[float] = set()
        self.last_sid = -1
        self.reason = ""
        """Why no new call can be made."""
        self.queued: deque[tuple[Call, bytes, bytes, Metadata, float | None]] = deque()
        """Calls beyond the number of streams that the server takes at once."""
        self.decoder: HeaderDecoder[Head] = HeaderDecoder(CLIENT_LIMITS.header_list_bytes_max * 4)
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
        block = self._head(path, metadata, timeout)
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

    def _head(self, path: bytes, metadata: Metadata, timeout: float | None) -> bytes:
        """The request's header block. With a usual time limit it is the same few bytes for every call."""
        usual = self._timeouts
        if timeout is not None and timeout not in usual:
            if len(usual) == _TIMEOUTS_MAX:
                block = self.encoder.encode((path, metadata, None), self._fields(path, metadata, None))
                return block + literal(b"grpc-timeout", format_timeout(timeout))
            usual.add(timeout)
        return self.encoder.encode((path, metadata, timeout), self._fields(path, metadata, timeout))

    def _fields(self, path: bytes, metadata: Metadata, timeout: float | None) -> Iterator[Any]:
        """A request's header fields; tokens are marked never to be indexed (RFC 7541 7.1.3)."""
        yield b":method", b"POST"
        yield b":scheme", self._scheme
        yield b":path", path
        yield b":authority", self._authority
        yield b"content-type", b"application/grpc"
        yield b"te", b"trailers"
        yield b"user-agent", USER_AGENT
        for name, value in metadata:
            yield name, value, name in _SENSITIVE
        if timeout is not None:
            yield b"grpc-timeout", format_timeout(timeout)

    # --- receiving --------------------------------------------------------------------------------------

    def _parse(self, data: bytes) -> int:
        pos, size = 0, len(data)
        unpack, frame_max = FRAME.unpack_from, self.limits.frame_bytes_max
        streams, heads = self.streams, self.decoder.blocks
        while size - pos >= 9:
            word, flags, sid = unpack(data, pos)
            length, kind = word >> 8, word & 255
            if length > frame_max:
                raise ProtocolFault(frames.FRAME_SIZE_ERROR, f"frame of {length} bytes")
            start = pos + 9
            end = start + length
            if end > size:
                break
            # A stream is in ``streams`` only after SETTINGS came, so that check of ``frame`` is implied.
            call: Call | None = streams.get(sid)
            if call is not None and not self._block:
                if kind == HEADERS:
                    head = heads.get(data[start:end])
                    if head is not None and flags == END_HEADERS and head.opens:
                        call.headed = True
                        pos = end
                        continue
                    if head is not None and flags == _LAST_HEAD and head.grpc_status == 0 and call.headed:
                        call.remote_closed = True
                        self.finish(call)
                        call.end(None)
                        pos = end
                        continue
                elif (
                    kind == DATA
                    and not flags
                    and length >= 5
                    and call.begins()
                    and not data[start]
                    and U32.unpack_from(data, start + 1)[0] == length - 5
                    and length <= call.receive_left
                ):
                    self.receive_left -= length
                    call.receive_left -= length
                    call.message = data[start + 5 : end]
                    pos = end
                    continue
            self.frame(kind, flags, sid & 0x7FFFFFFF, data, start, end)
            if self.failed:
                return size
            pos = end
        return pos

    def on_block(self, sid: int, block: bytes, end_stream: bool) -> None:
        head = self.decoder.blocks.get(block)
        if head is None:
            head = Head(self.decoder.decode(block))
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
        self.start_queued()

    def on_table_size(self, table_bytes_max: int) -> None:
        self.encoder.resize(table_bytes_max)

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

    def finish(self, call: Call) -> None:
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
