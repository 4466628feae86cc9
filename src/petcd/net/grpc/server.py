"""The server's side of one gRPC connection: calls come out of the HTTP/2 machine and go to the router's
methods.

The fast path is ``_parse``: a HEADERS frame whose block is remembered, followed in the same read by one
DATA frame that holds exactly one message and ends the stream. That is every unary call of a warm client,
and it costs two unpacks, a dictionary look-up, one ``Call`` and the handler. Everything else goes frame by
frame through the base class.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from copy import copy
from typing import Any, Final

from petcd.errors import Code, EtcdError
from petcd.net.deadlines import Deadlines
from petcd.net.grpc.calls import PARTIAL_TEXT, Call, Receiving, Stream, ending_frame
from petcd.net.grpc.messages import GrpcFault, MessageReader, go_quote
from petcd.net.grpc.router import RequestHead, Router, read_head
from petcd.net.grpc.status import parse_timeout, refusal_block
from petcd.net.http2 import frames
from petcd.net.http2.budget import Budget
from petcd.net.http2.connection import Http2Connection
from petcd.net.http2.frames import FRAME, PREFACE, ProtocolFault
from petcd.net.http2.headers import Field, HeaderDecoder
from petcd.net.http2.limits import Limits

_PEEK: Final = struct.Struct(">IBIBI")
"""A DATA frame's head and its message's head."""
_CALL_BYTES: Final = 256
"""What a parked call weighs beside its message."""
_FIELDS_FREE: Final = 64
_HEADS_MAX: Final = 1024
_BLOCK_BYTES_FREE: Final = 4096

Begun = tuple[RequestHead, float | None]
"""How a call begins: what its header block means, and its time limit in seconds."""


def _mistimed(head: RequestHead, timeout: bytes) -> RequestHead:
    """The request with its time limit unreadable: refused for that, unless there is another reason."""
    if head.malformed or head.refusal is not None:
        return head
    head = copy(head)
    head.unary = None
    head.refusal = refusal_block(Code.INTERNAL, f"malformed grpc-timeout: {go_quote(timeout)}", 400)
    return head


class Service:
    """What all connections of an edge share."""

    __slots__ = ("deadlines", "heads", "http_heads", "limits", "now", "on_bug", "on_http", "router", "wake")

    def __init__(
        self,
        router: Router,
        limits: Limits,
        now: Callable[[], float],
        wake: Callable[[Any], object],
        on_bug: Callable[[bytes, Exception], object] | None = None,
    ) -> None:
        self.router = router
        self.limits = limits
        self.now = now
        self.wake = wake
        self.on_bug = on_bug
        """Told of an exception that escaped a handler: the path, the exception."""
        self.on_http: Callable[[GrpcServerConnection, int, RequestHead, bool], Any] | None = None
        """Takes requests that are not gRPC's (TLS listeners): returns the Http2Stream that hears the body."""
        self.deadlines = Deadlines()
        self.heads: dict[tuple[Field, ...], RequestHead] = {}
        """What header lists mean, whoever sent them; of connections that serve HTTP beside gRPC, apart."""
        self.http_heads: dict[tuple[Field, ...], RequestHead] = {}


class GrpcServerConnection(Http2Connection):
    """One client's connection."""

    __slots__ = (
        "_deferred",
        "_fields_budget",
        "_goaway_out",
        "_opened_seen",
        "_parked",
        "_parked_bytes",
        "_preface_left",
        "congested",
        "deadlines",
        "decoder",
        "frame_max_now",
        "http",
        "owner",
        "partial",
        "peer",
        "reply_max",
        "service",
    )

    def __init__(self, service: Service, peer: str = "", http: bool = False) -> None:
        super().__init__(service.limits, service.now, service.wake)
        self.service = service
        self.peer = peer
        self.http = http
        self.owner: Any = None
        """Whoever writes our bytes; not ours to touch."""
        self.deadlines = service.deadlines
        self.decoder: HeaderDecoder[Begun] = HeaderDecoder(service.limits.header_list_bytes_max * 4)
        self.reply_max = min(self.initial_window, self.peer_frame_max)
        self.frame_max_now = self.peer_frame_max
        self.partial = 0
        """Bytes of unfinished messages."""
        self.congested = False
        self._parked: deque[tuple[Call, bytes]] = deque()
        self._parked_bytes = 0
        self._deferred: deque[tuple[Call, Callable[[], None]]] = deque()
        self._fields_budget: Budget | None = None
        self._preface_left: bytes = PREFACE
        self._opened_seen = 0
        self._goaway_out = False

    def start(self) -> None:
        """Our SETTINGS; they do not wait for the client's preface (RFC 9113 3.4)."""
        limits = self.limits
        pairs = [
            (frames.SETTINGS_INITIAL_WINDOW_SIZE, limits.stream_window_bytes),
            (frames.SETTINGS_MAX_HEADER_LIST_SIZE, limits.header_list_bytes_max),
        ]
        if limits.streams_max < 0xFFFFFFFF:
            pairs.append((frames.SETTINGS_MAX_CONCURRENT_STREAMS, limits.streams_max))
        self.put(
            frames.settings(*pairs)
            + frames.window_update(0, limits.connection_window_bytes - frames.WINDOW_DEFAULT)
        )

    # ---- receiving

    def receive(self, data: bytes) -> None:
        expected = self._preface_left
        if expected:
            size = min(len(expected), len(data))
            if data[:size] != expected[:size]:
                self._preface_left = b""
                self.fail(frames.PROTOCOL_ERROR, "bad preface")
                return
            self._preface_left = expected[size:]
            data = data[size:]
            if not data:
                return
        super().receive(data)
        if self.congested and not self.paused and self.waiting <= self.limits.unsent_bytes_low:
            self._release()

    def _parse(self, data: bytes) -> int:
        if self._block or not self.settings_seen:
            return super()._parse(data)
        pos, size = 0, len(data)
        unpack, peek = FRAME.unpack_from, _PEEK.unpack_from
        streams, blocks = self.streams, self.decoder.blocks
        frame_max, message_max = self.limits.frame_bytes_max, self.limits.message_bytes_max
        streams_max = self.limits.streams_max
        while size - pos >= 9:
            word, flags, sid = unpack(data, pos)
            length = word >> 8
            if length > frame_max:
                raise ProtocolFault(frames.FRAME_SIZE_ERROR, f"frame of {length} bytes")
            end = pos + 9 + length
            if end > size:
                break
            if flags != 4 or word & 255 != 1 or self._block:  # anything but HEADERS with END_HEADERS alone
                self.frame(word & 255, flags, sid & 0x7FFFFFFF, data, pos + 9, end)
                if self.failed:
                    return size
                pos = end
                continue
            block = data[pos + 9 : end]
            head, timeout = blocks.get(block) or self._read_block(block)
            pos = end
            if size - end >= 14 and head.unary is not None and self.last_sid < sid < 0x80000000 and sid & 1:
                word, flags, sid2, compressed, message_size = peek(data, end)
                stop = end + 14 + message_size
                if (
                    word == (message_size + 5) << 8  # DATA with this one message
                    and flags == 1
                    and sid2 == sid
                    and not compressed
                    and stop <= size
                    and message_size <= message_max
                    and message_size + 5 <= frame_max
                    and not self.congested
                    and not self._goaway_out
                    and len(streams) < streams_max
                ):
                    call = Call(self, sid, head)
                    if timeout is not None:
                        call.deadline = self.now() + timeout
                        self.deadlines.add(call)
                    self.last_sid = sid
                    self.receive_left -= message_size + 5
                    streams[sid] = call
                    head.stats.started += 1
                    pos = stop
                    try:
                        head.unary(call, data[end + 14 : stop])
                    except EtcdError as error:
                        call.fail(error.code, error.text)
                    except Exception as error:  # noqa: BLE001 - a handler's bug fails its call only
                        self._bug(call, error)
                    continue
            self._accept(sid & 0x7FFFFFFF, head, timeout, end_stream=False)
            if self.failed:
                return size
        return pos

    def _set_deadline(self, call: Call | Stream, timeout: float) -> None:
        call.deadline = self.now() + timeout
        self.deadlines.add(call)

    def on_block(self, sid: int, block: bytes, end_stream: bool) -> None:
        head, timeout = self.decoder.blocks.get(block) or self._read_block(block)
        self._accept(sid, head, timeout, end_stream)

    def _read_block(self, block: bytes) -> Begun:
        """Decode a block that is not remembered.

        With most clients the timeout differs from call to call where nothing else does, so heads are known by
        the other fields, and a block is remembered only where its timeout is an index of the table's as all
        else is: then it comes again.
        """
        fields = self.decoder.decode(block)
        if len(fields) > _FIELDS_FREE or len(block) > _BLOCK_BYTES_FREE:
            self._spend_fields(len(fields), len(block))
        text = timeout = None
        for field in fields:
            if field[0] == b"grpc-timeout":
                text = field[1]
                timeout = parse_timeout(text)
                fields = [other for other in fields if other[0] != b"grpc-timeout"]
                break
        service = self.service
        heads = service.http_heads if self.http else service.heads
        key = tuple(fields)
        head = heads.get(key)
        if head is None:
            head = read_head(fields, service.router, self.limits.header_list_bytes_max, self.http)
            if len(fields) <= _FIELDS_FREE and len(block) <= _BLOCK_BYTES_FREE:
                if len(heads) >= _HEADS_MAX:
                    heads.clear()
                heads[key] = head
        if text is not None and timeout is None:
            return _mistimed(head, text), None
        begun = head, timeout
        if timeout is None or len(block) < 2 * len(fields):
            self.decoder.remember(block, begun)
        return begun

    def _accept(self, sid: int, head: RequestHead, timeout: float | None, end_stream: bool) -> None:
        """A header block on this stream: a new call, or trailers."""
        if sid == 0:
            raise ProtocolFault(frames.PROTOCOL_ERROR, "HEADERS on stream 0")
        stream = self.streams.get(sid)
        if stream is not None:
            self._trailers(stream, sid, end_stream)
        elif sid in self._detached:
            if end_stream:
                del self._detached[sid]
        elif sid <= self.last_sid or not sid & 1:
            raise ProtocolFault(frames.PROTOCOL_ERROR, f"HEADERS on stream {sid} after {self.last_sid}")
        else:
            self.last_sid = sid
            self._open(sid, head, timeout, end_stream)

    def _trailers(self, stream: Any, sid: int, end_stream: bool) -> None:
        if stream.remote_closed:
            self.reset(sid, frames.STREAM_CLOSED)
        elif not end_stream:
            self.reset(sid, frames.PROTOCOL_ERROR)
        else:
            stream.remote_closed = True
            stream.on_data(b"", 0, 0, True)

    def _open(self, sid: int, head: RequestHead, timeout: float | None, end_stream: bool) -> None:
        if self._goaway_out:
            self.put(frames.rst_stream(sid, frames.REFUSED_STREAM))
            self.detach(sid)
            return
        if len(self.streams) >= self.limits.streams_max:
            self.reset(sid, frames.REFUSED_STREAM)
            return
        if head.malformed:
            self.reset(sid, frames.PROTOCOL_ERROR)
            return
        refusal = head.refusal
        if refusal is not None:
            self.put(ending_frame(sid, refusal))
            if not end_stream:
                self._cut(sid)
            return
        if head.http and self.service.on_http is not None:
            stream = self.service.on_http(self, sid, head, end_stream)
            stream.remote_closed = end_stream
            self.streams[sid] = stream
            stream.begin()
            if end_stream:
                stream.on_data(b"", 0, 0, True)
            return
        method = head.method
        if method is None:
            raise ProtocolFault(frames.INTERNAL_ERROR, "a request without method or refusal")
        head.stats.started += 1
        limits = self.limits
        reader = MessageReader(limits.message_bytes_max, head.encoding)
        if method.unary is not None:
            call = Call(self, sid, head)
            if timeout is not None:
                self._set_deadline(call, timeout)
            receiving = Receiving(call, reader, limits.stream_window_bytes)
            self.streams[sid] = receiving
            if end_stream:
                receiving.remote_closed = True
                receiving.on_data(b"", 0, 0, True)
            return
        stream = Stream(self, sid, head, reader, limits.stream_window_bytes)
        if timeout is not None:
            self._set_deadline(stream, timeout)
        self.streams[sid] = stream
        stream.remote_closed = end_stream
        stream.open(method)
        if end_stream:
            stream.on_data(b"", 0, 0, True)

    def dispatch(self, call: Call, message: bytes) -> None:
        """Hand a complete call to its method, or park it while the client does not take our answers."""
        if self.congested:
            self._parked_bytes += len(message) + _CALL_BYTES
            if self._parked_bytes > self.limits.parked_bytes_max:
                raise ProtocolFault(frames.ENHANCE_YOUR_CALM, "too many calls while answers wait to be read")
            self._parked.append((call, message))
            return
        method = call.head.method
        assert method is not None and method.unary is not None
        try:
            method.unary(call, message)
        except EtcdError as error:
            call.fail(error.code, error.text)
        except Exception as error:  # noqa: BLE001 - a handler's bug fails its call only
            self._bug(call, error)

    def _bug(self, call: Call, error: Exception) -> None:
        self.report_bug(call.head.path, error)
        call.fail(Code.INTERNAL, "internal error")

    def report_bug(self, path: bytes, error: Exception) -> None:
        if self.service.on_bug is not None:
            self.service.on_bug(path, error)

    # ---- bounds

    def _spend_fields(self, count: int, block_bytes: int) -> None:
        """Long header lists cost far more to decode than to send."""
        now = self.now()
        budget = self._fields_budget
        if budget is None:
            budget = self._fields_budget = Budget(20000.0, 5000.0, now)
        if not budget.spend(now, max(0, count - _FIELDS_FREE) + block_bytes / 64):
            raise ProtocolFault(frames.ENHANCE_YOUR_CALM, "header flood")

    def spend_reset(self, cost: float = 1.0) -> None:
        opened = self.last_sid >> 1
        if self._reset_budget is not None:
            self._reset_budget.earn((opened - self._opened_seen) * self.limits.resets_per_call)
        self._opened_seen = opened
        super().spend_reset(cost)

    def feed(self, reader: MessageReader, data: bytes, start: int, end: int) -> list[bytes]:
        """``reader.feed``, with what it holds back counted. Raises GrpcFault, also for the one that is too
        much."""
        before = reader.partial_bytes
        try:
            return reader.feed(data, start, end)
        finally:
            held = reader.partial_bytes
            self.partial += held - before
            if held > before and self.partial > self.limits.partial_bytes_max:
                raise GrpcFault(Code.RESOURCE_EXHAUSTED, PARTIAL_TEXT)

    # ---- answering

    def queue_reply(self, sid: int, chunk: bytes, ending: bytes) -> None:
        """An answer larger than what may be sent now."""
        self.queue(sid, chunk, ending, None)
        if self.waiting > self.limits.unsent_bytes_high:
            self.congested = True

    def overflow(self) -> None:
        if self.owner is not None:
            self.owner.write()

    def refuse(self, sid: int, code: Code, text: str) -> None:
        """End a call from our side, whether or not the client has finished sending."""
        stream = self.forget(sid)
        self.put(ending_frame(sid, refusal_block(code, text)))
        if stream is not None and not stream.remote_closed:
            self._cut(sid)
        self._maybe_finished()

    def _cut(self, sid: int) -> None:
        """Tell the client to stop sending on a stream that has been answered (RFC 9113 8.1)."""
        self.put(frames.rst_stream(sid, frames.NO_ERROR))
        self.detach(sid)

    def on_local_end(self, sid: int) -> None:
        self.credits.pop(sid, None)
        stream = self.streams.pop(sid, None)
        if stream is not None and not stream.remote_closed:
            self._cut(sid)
        if self.draining:
            self._maybe_finished()

    def defer(self, call: Call, resume: Callable[[], None]) -> None:
        self._deferred.append((call, resume))
        if not self.congested:
            self._release()

    def _release(self) -> None:
        """The client has caught up: deferred answers first, then parked calls, until it is too much again."""
        self.congested = False
        while self._deferred and not self.congested and not self.failed:
            call, resume = self._deferred.popleft()
            if not call.cancelled:
                resume()
        while self._parked and not self.congested and not self.failed:
            call, message = self._parked.popleft()
            self._parked_bytes -= len(message) + _CALL_BYTES
            if not call.cancelled:
                self.dispatch(call, message)

    def on_settings(self, first: bool) -> None:
        self._set_maxima()

    def _set_maxima(self) -> None:
        self.frame_max_now = 0 if self.paused else self.peer_frame_max
        self.reply_max = min(self.frame_max_now, max(0, self.initial_window))

    def pause(self) -> None:
        super().pause()
        self._set_maxima()
        self.congested = True

    def resume(self) -> None:
        self.paused = False
        self._set_maxima()
        super().resume()
        if self.congested and self.waiting <= self.limits.unsent_bytes_low:
            self._release()

    # ---- the end

    def goaway_sent(self) -> None:
        self._goaway_out = True
        self._maybe_finished()

    def _maybe_finished(self) -> None:
        if self._goaway_out and not self.streams and not self.senders:
            self.finished = True
            self.wake(self)

    def end_streams(self, code: Code, text: str) -> None:
        """Close every stream (not the unary calls) with this status; their handlers hear ``on_cancel``."""
        for stream in list(self.streams.values()):
            if isinstance(stream, Stream):
                stream.end(code, text)

    def hurry_drain(self) -> None:
        """The client did not answer the drain's ping in time: take what it has opened so far as the last."""
        if self.draining and not self._goaway_out and not self.failed:
            self._drain_token = b""
            self.put(frames.goaway(self.last_sid, frames.NO_ERROR))
            self.goaway_sent()

    def lost(self) -> None:
        super().lost()
        self._parked.clear()
        self._deferred.clear()
        self._parked_bytes = 0
