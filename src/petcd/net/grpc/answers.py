"""A client's parsing of answers: the usual one is recognised at once, anything else goes the general way.

The usual answer to a call is a head, one DATA frame with the whole message, and trailers that say OK. Servers
send these header blocks as the same bytes again and again, so both are found among the blocks remembered.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from math import ceil
from struct import Struct
from typing import Any, Final

from petcd.errors import Code, EtcdError
from petcd.net.grpc.status import decode_text, format_timeout
from petcd.net.http2 import frames
from petcd.net.http2.connection import Http2Connection, Http2Stream
from petcd.net.http2.frames import END_HEADERS, END_STREAM, FRAME, HEADERS, ProtocolFault
from petcd.net.http2.headers import Field, HeaderDecoder, HeaderEncoder, literal
from petcd.net.http2.limits import Limits

_peek: Final[Callable[[bytes, int], tuple[int, int, int, int, int]]] = Struct(">IBIBI").unpack_from
"""A DATA frame's head and its message's head."""
_SENSITIVE: Final = frozenset((b"token", b"authorization"))
_LAST_HEAD: Final = END_HEADERS | END_STREAM
ENDLESS_SECONDS: Final = 1e9
"""A longer time limit, infinity among them, is none."""
_COARSE_SECONDS: Final = 0.5
_STEPS_PER_SECOND: Final = 20
_LIMITS_MAX: Final = 32
"""So many different time limits of a connection enter the header table; others are spelled out each time."""

Request = tuple[bytes, tuple[tuple[bytes, bytes], ...]]
"""A method's path and the metadata."""


def request_fields(request: Request, scheme: bytes, authority: bytes, agent: bytes) -> list[Any]:
    """A request's header fields; tokens are marked never to be indexed (RFC 7541 7.1.3)."""
    path, metadata = request
    fields: list[Any] = [
        (b":method", b"POST"),
        (b":scheme", scheme),
        (b":path", path),
        (b":authority", authority),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        (b"user-agent", agent),
    ]
    fields += [(name, value, name in _SENSITIVE) for name, value in metadata]
    return fields


class ResponseHead:
    """A decoded header block of the server: a response's head, or trailers, or both at once."""

    __slots__ = ("content_type", "fields", "grpc_message", "grpc_status", "http_status", "opens")

    def __init__(self, fields: list[Field]) -> None:
        self.fields = fields
        self.http_status = 0
        self.grpc_status: int | None = None
        self.grpc_message = ""
        self.content_type = b""
        for name, value in fields:
            if name == b":status":
                self.http_status = int(value) if value.isdigit() and len(value) == 3 else -1
            elif name == b"grpc-status":
                self.grpc_status = int(value) if value.isdigit() and len(value) < 4 else int(Code.UNKNOWN)
            elif name == b"grpc-message":
                self.grpc_message = decode_text(value)
            elif name == b"content-type":
                self.content_type = value
        self.opens = (
            self.http_status == 200
            and self.grpc_status is None
            and self.content_type.startswith(b"application/grpc")
        )
        """It is the usual beginning of an answer."""


class Answered(Http2Stream, ABC):
    """What the parser needs of a call."""

    headers: list[Field] | None = None
    """The response's header fields, once they came."""
    message: bytes | None = None
    """The answer of a unary call."""
    unbegun = True
    """No message has come yet, not even in part. A stream of messages is never so."""

    @abstractmethod
    def on_head(self, head: ResponseHead, end_stream: bool) -> None:
        """A header block, where it is not the usual one."""

    @abstractmethod
    def finish(self, error: EtcdError | None) -> None:
        """The call is over; None means status OK."""


class AnswerParser(Http2Connection):
    """The client's role of HTTP/2 as far as it reads."""

    __slots__ = ("_limits_known", "decoder", "encoder")

    client = True

    def __init__(self, limits: Limits, now: Callable[[], float], wake: Callable[[Any], object]) -> None:
        super().__init__(limits, now, wake)
        self.last_sid = -1
        self.decoder: HeaderDecoder[ResponseHead] = HeaderDecoder(limits.header_list_bytes_max * 4)
        self.encoder = HeaderEncoder()
        self._limits_known: set[int] = set()

    def start(self) -> None:
        """Say the preface and our settings."""
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

    def request_block(
        self, request: Request, seconds: float | None, fields: Callable[[Request], list[Any]]
    ) -> bytes:
        """The header block of a call that the server shall give up after ``seconds``.

        A time limit is told rounded up to a twentieth of a second, where it is not short: we keep the exact
        one ourselves, and so it is the same few bytes for every call, for us to send and for the server to
        understand. ``fields`` gives the fields of a block that is not remembered; one that is, is noted in
        ``encoder.latest``, where a caller may look first.
        """
        steps = 0
        if seconds is not None and not seconds < ENDLESS_SECONDS:
            seconds = None
        if seconds is not None and seconds >= _COARSE_SECONDS:
            steps = ceil(seconds * _STEPS_PER_SECOND)
        known = self.encoder.recall((request, steps))
        if known is None:
            if steps and steps not in self._limits_known:
                if len(self._limits_known) == _LIMITS_MAX:
                    steps = 0
                else:
                    self._limits_known.add(steps)
            told = fields(request)
            if steps:
                told.append((b"grpc-timeout", format_timeout(steps / _STEPS_PER_SECOND)))
            known = self.encoder.encode((request, steps), told)
        elif steps or seconds is None:
            path, metadata = request
            self.encoder.latest[path] = metadata, seconds, known
        if steps or seconds is None:
            return known
        return known + literal(b"grpc-timeout", format_timeout(seconds))

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
            call: Answered | None = streams.get(sid)
            if kind == HEADERS and call is not None and not self._block:
                head = heads.get(data[start:end])
                if head is not None:
                    if flags == END_HEADERS and head.opens and call.headers is None:
                        call.headers = head.fields
                        pos = self._take_message(call, sid, data, end, size)
                        continue
                    if flags == _LAST_HEAD and head.grpc_status == 0 and call.headers is not None:
                        call.remote_closed = True
                        call.finish(None)
                        pos = end
                        continue
            self.frame(kind, flags, sid & 0x7FFFFFFF, data, start, end)
            if self.failed:
                return size
            pos = end
        return pos

    def _take_message(self, call: Answered, sid: int, data: bytes, pos: int, size: int) -> int:
        """What follows an answer's head in the same read: most often the message, whole, and trailers that
        say OK. Where it is something else, the loop above looks. Returns how far it got."""
        if size - pos < 14:
            return pos
        word, flags, again, compressed, length = _peek(data, pos)
        stop = pos + 14 + length
        length += 5
        if (
            word != length << 8  # DATA with this one message
            or again != sid
            or flags
            or compressed
            or stop > size
            or length > call.receive_left
            or length > self.limits.frame_bytes_max
            or length > self.limits.message_bytes_max + 5
            or not call.unbegun
            or call.remote_closed
        ):
            return pos
        self.receive_left -= length
        call.receive_left -= length
        call.message = data[pos + 14 : stop]
        call.unbegun = False
        if size - stop < 9:
            return stop
        word, flags, again = FRAME.unpack_from(data, stop)
        end: int = stop + 9 + (word >> 8)
        if flags != _LAST_HEAD or again != sid or word & 255 != HEADERS or end > size:
            return stop
        trailers = self.decoder.blocks.get(data[stop + 9 : end])
        if trailers is None or trailers.grpc_status != 0:
            return stop
        call.remote_closed = True
        call.finish(None)
        return end

    def on_block(self, sid: int, block: bytes, end_stream: bool) -> None:
        head = self.decoder.blocks.get(block)
        if head is None:
            head = ResponseHead(self.decoder.decode(block))
            self.decoder.remember(block, head)
        call: Answered | None = self.streams.get(sid)
        if call is None:
            if self.is_idle(sid):
                raise ProtocolFault(frames.PROTOCOL_ERROR, "HEADERS on an idle stream")
            if end_stream:
                self._detached.pop(sid, None)
            return
        if end_stream:
            call.remote_closed = True
        call.on_head(head, end_stream)

    def on_table_size(self, table_bytes_max: int) -> None:
        self.encoder.resize(table_bytes_max)
