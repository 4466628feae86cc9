"""A cheap gRPC channel for load: many calls in flight on one HTTP/2 connection, a callback for each.

It exists so that the server and not the generator is what is measured, and it shares no code with petcd's own
transport. Request headers are literals that never touch the HPACK table, so a call's head is a constant;
response blocks made only of table references are decoded once and remembered. It trusts the server: it is
not a general client.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from hpack import Decoder

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_WINDOW: Final = 1 << 30
_CREDIT: Final = 1 << 22
"""Bytes taken from a window before it is opened again."""

Done = Callable[[int, str, bytes], object]
"""Status code, status text, message (empty unless the code is 0)."""

OnMessage = Callable[[bytes], object]


class Closed(ConnectionError):
    """The connection ended."""


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    assert len(name) < 127 and len(value) < 127
    return b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value


def _head(path: bytes, authority: bytes, extra: dict[str, str]) -> bytes:
    fields = [(b":path", path), (b":authority", authority)]
    fields += [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
    fields += [(name.encode(), value.encode()) for name, value in extra.items()]
    return b"\x83\x86" + b"".join(_literal(name, value) for name, value in fields)


class _Call:
    """A call in flight; unary ones keep their one message, streams hand theirs on."""

    __slots__ = ("buffer", "done", "number", "on_message", "taken", "waiting", "window")

    def __init__(
        self, number: int, done: Done, on_message: Callable[[bytes], object] | None, window: int
    ) -> None:
        self.number = number
        self.done = done
        self.on_message = on_message
        self.buffer = bytearray()
        self.taken = 0
        self.window = window
        self.waiting: deque[bytes] = deque()


class LoadStream:
    """A streaming call: what may be done with it from outside."""

    def __init__(self, channel: Channel, call: _Call) -> None:
        self._channel = channel
        self._call = call

    def send(self, message: bytes) -> None:
        self._call.waiting.append(b"\x00" + struct.pack(">I", len(message)) + message)
        self._channel._pump_stream(self._call)
        self._channel._flush()

    def reset(self) -> None:
        self._channel._reset(self._call)


class Channel(asyncio.Protocol):
    """One connection. Calls begun in one turn of the loop leave in one write."""

    def __init__(self, authority: str, metadata: dict[str, str] | None = None) -> None:
        self._authority = authority.encode()
        self._metadata = metadata or {}
        self._heads: dict[str, bytes] = {}
        self._calls: dict[int, _Call] = {}
        self._next = 1
        self._window = 65535
        self._stream_window = 65535
        self._frame_max = 16384
        self._taken = 0
        self._buffer = b""
        self._block = b""
        self._block_flags = 0
        self._decoder = Decoder()
        self._decoder.max_allowed_table_size = 4096
        self._blocks: dict[bytes, dict[bytes, bytes]] = {}
        self._out: list[bytes] = []
        self._flushing = False
        self._blocked: deque[_Call] = deque()
        self._transport: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.paused = False
        self.closed = False
        self.received_bytes = 0

    @classmethod
    async def connect(cls, endpoint: str, metadata: dict[str, str] | None = None) -> Channel:
        host, port = endpoint.rsplit(":", 1)
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_connection(lambda: cls(endpoint, metadata), host, int(port))
        return channel

    # Calls.

    def call(self, path: str, message: bytes, done: Done) -> None:
        """Begin a unary call. Raises: Closed."""
        call = self._begin(path, done, None)
        call.waiting.append(b"\x00" + struct.pack(">I", len(message)) + message)
        self._pump_stream(call, end=True)
        self._flush_soon()

    def future(self, path: str, message: bytes) -> asyncio.Future[bytes]:
        """The same as a future. It raises RuntimeError for a status that is not OK, Closed for no answer."""
        assert self._loop is not None
        future: asyncio.Future[bytes] = self._loop.create_future()

        def done(code: int, text: str, body: bytes) -> None:
            if future.done():
                return
            if code == 0:
                future.set_result(body)
            else:
                future.set_exception(Closed(text) if code < 0 else RuntimeError(f"{code} {text}"))

        self.call(path, message, done)
        return future

    def stream(self, path: str, on_message: OnMessage, done: Done) -> LoadStream:
        """Begin a streaming call."""
        call = self._begin(path, done, on_message)
        self._flush_soon()
        return LoadStream(self, call)

    def in_flight(self) -> int:
        return len(self._calls)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _begin(self, path: str, done: Done, on_message: OnMessage | None) -> _Call:
        if self.closed:
            raise Closed("the connection has ended")
        head = self._heads.get(path)
        if head is None:
            head = self._heads[path] = _head(path.encode(), self._authority, self._metadata)
        number = self._next
        self._next = number + 2
        call = self._calls[number] = _Call(number, done, on_message, self._stream_window)
        self._out.append(frame(HEADERS, END_HEADERS, number, head))
        return call

    def _reset(self, call: _Call) -> None:
        if self._calls.pop(call.number, None) is not None and not self.closed:
            self._out.append(frame(RST_STREAM, 0, call.number, struct.pack(">I", 8)))
            self._flush()

    # Sending.

    def _pump_stream(self, call: _Call, *, end: bool = False) -> None:
        waiting = call.waiting
        while waiting:
            piece = waiting[0]
            room = min(self._window, call.window, self._frame_max)
            if room <= 0 or (len(piece) > room and self._window < self._frame_max):
                if call not in self._blocked:
                    self._blocked.append(call)
                return
            waiting.popleft()
            if len(piece) > room:
                waiting.appendleft(piece[room:])
                piece = piece[:room]
            self._window -= len(piece)
            call.window -= len(piece)
            last = not waiting and (end or call.on_message is None)
            self._out.append(frame(DATA, END_STREAM if last else 0, call.number, piece))

    def _unblock(self) -> None:
        blocked, self._blocked = self._blocked, deque()
        for call in blocked:
            if call.number in self._calls:
                self._pump_stream(call)

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            assert self._loop is not None
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._out and not self.closed:
            out = b"".join(self._out)
            self._out.clear()
            self._transport.write(out)

    # Receiving.

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        settings = struct.pack(">HIHI", 4, _WINDOW, 2, 0)
        credit = struct.pack(">I", (1 << 31) - 1 - 65535)
        transport.write(_PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, credit))

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        if self._buffer:
            data = self._buffer + data
        position, size = 0, len(data)
        while size - position >= 9:
            word = int.from_bytes(data[position : position + 4], "big")
            end = position + 9 + (word >> 8)
            if end > size:
                break
            number = int.from_bytes(data[position + 5 : position + 9], "big") & 0x7FFFFFFF
            self._frame(word & 255, data[position + 4], number, data[position + 9 : end])
            position = end
        self._buffer = data[position:]
        if self._out:
            self._flush()

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == DATA:
            self._on_data(number, payload)
            if flags & END_STREAM:
                self._end(number, {})
        elif kind == HEADERS:
            self._block, self._block_flags = payload, flags
            if flags & END_HEADERS:
                self._on_headers(number, payload, flags)
        elif kind == CONTINUATION:
            self._block += payload
            if flags & END_HEADERS:
                self._on_headers(number, self._block, self._block_flags)
        elif kind == RST_STREAM:
            call = self._calls.pop(number, None)
            if call is not None:
                call.done(13, f"stream reset {int.from_bytes(payload, 'big')}", b"")
        elif kind == SETTINGS and not flags & ACK:
            self._on_settings(payload)
        elif kind == PING and not flags & ACK:
            self._out.append(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE:
            credit = int.from_bytes(payload, "big")
            if number == 0:
                self._window += credit
            elif (call := self._calls.get(number)) is not None:
                call.window += credit
            if self._blocked:
                self._unblock()
        elif kind == GOAWAY:
            self._transport.close()

    def _on_settings(self, payload: bytes) -> None:
        for at in range(0, len(payload), 6):
            name, value = struct.unpack_from(">HI", payload, at)
            if name == 4:
                change = value - self._stream_window
                self._stream_window = value
                for call in self._calls.values():
                    call.window += change
            elif name == 5:
                self._frame_max = value
        self._out.append(frame(SETTINGS, ACK, 0, b""))
        self._unblock()

    def _on_data(self, number: int, payload: bytes) -> None:
        self._taken += len(payload)
        if self._taken > _CREDIT:
            self._out.append(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self._taken)))
            self._taken = 0
        call = self._calls.get(number)
        if call is None:
            return
        if call.on_message is None:
            call.buffer += payload
            return
        call.taken += len(payload)
        if call.taken > _CREDIT:
            self._out.append(frame(WINDOW_UPDATE, 0, number, struct.pack(">I", call.taken)))
            call.taken = 0
        data = bytes(call.buffer) + payload if call.buffer else payload
        position, size, on_message = 0, len(data), call.on_message
        while size - position >= 5:
            end = position + 5 + int.from_bytes(data[position + 1 : position + 5], "big")
            if end > size:
                break
            on_message(data[position + 5 : end])
            position = end
        call.buffer = bytearray(data[position:])

    def _on_headers(self, number: int, block: bytes, flags: int) -> None:
        fields = self._blocks.get(block)
        if fields is None:
            fields = dict(self._decoder.decode(block, raw=True))  # type: ignore[arg-type]
            if min(block) >= 0x80:  # references only: the table stays as it is
                self._blocks[block] = fields
            else:
                self._blocks.clear()
        if flags & END_STREAM:
            self._end(number, fields)

    def _end(self, number: int, fields: dict[bytes, bytes]) -> None:
        call = self._calls.pop(number, None)
        if call is None:
            return
        code = int(fields.get(b"grpc-status", b"2"))
        if code == 0:
            call.done(0, "", bytes(call.buffer[5:]))
        else:
            call.done(code, fields.get(b"grpc-message", b"").decode(), b"")

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.done(-1, "connection lost", b"")
