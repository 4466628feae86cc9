"""Raw HTTP/2 on a socket, for clients that misbehave: they send what they like and read when they like."""

from __future__ import annotations

import socket
import struct
import time

from petcd.pb.message import Message

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def call_head(path: bytes, stream: int) -> bytes:
    """HEADERS of a gRPC call, all literals."""
    fields = [
        (b":path", path),
        (b":authority", b"raw"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    ]
    block = b"\x83\x86"
    for name, value in fields:
        block += b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value
    return frame(1, 4, stream, block)


def message_frame(message: Message, stream: int, *, end: bool) -> bytes:
    data = message.encode()
    return frame(0, 1 if end else 0, stream, b"\x00" + struct.pack(">I", len(data)) + data)


def connect(port: int, *, receive_buffer: int = 0) -> socket.socket:
    """A connected socket; a small receive buffer makes a slow reader felt soon."""
    plain = socket.socket()
    if receive_buffer:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    plain.settimeout(30)
    plain.connect(("127.0.0.1", port))
    return plain


def open_http2(port: int, *, window: int = (1 << 31) - 1, receive_buffer: int = 0) -> socket.socket:
    """A connection that has said its preface, with windows so wide that only TCP holds the server back."""
    plain = connect(port, receive_buffer=receive_buffer)
    settings = frame(4, 0, 0, struct.pack(">HI", 4, window))
    credit = frame(8, 0, 0, struct.pack(">I", (1 << 31) - 1 - 65535))
    plain.sendall(PREFACE + settings + credit)
    return plain


class FrameReader:
    """Takes frames from a socket, answering settings and pings."""

    def __init__(self, plain: socket.socket) -> None:
        self._plain = plain
        self._buffer = bytearray()

    def next(self) -> tuple[int, int, int, bytes]:
        """Kind, flags, stream, payload. Raises: EOFError."""
        while True:
            if len(self._buffer) >= 9:
                size = int.from_bytes(self._buffer[:3], "big")
                if len(self._buffer) >= 9 + size:
                    kind, flags = self._buffer[3], self._buffer[4]
                    stream = int.from_bytes(self._buffer[5:9], "big") & 0x7FFFFFFF
                    payload = bytes(self._buffer[9 : 9 + size])
                    del self._buffer[: 9 + size]
                    if kind == 4 and not flags & 1:
                        self._plain.sendall(frame(4, 1, 0, b""))
                    elif kind == 6 and not flags & 1:
                        self._plain.sendall(frame(6, 1, 0, payload))
                    return kind, flags, stream, payload
            data = self._plain.recv(1 << 16)
            if not data:
                raise EOFError
            self._buffer += data

    def messages(self, stream: int, seconds_max: float = 60.0) -> list[bytes]:
        """All gRPC messages of a stream until its end."""
        return list(self.iterate(stream, seconds_max))

    def iterate(self, stream: int, seconds_max: float = 60.0):  # type: ignore[no-untyped-def]
        """The gRPC messages of a stream as they come."""
        end = time.monotonic() + seconds_max
        buffer = bytearray()
        while time.monotonic() < end:
            kind, flags, number, payload = self.next()
            if number != stream:
                continue
            if kind == 0:
                buffer += payload
                while len(buffer) >= 5:
                    size = 5 + int.from_bytes(buffer[1:5], "big")
                    if len(buffer) < size:
                        break
                    yield bytes(buffer[5:size])
                    del buffer[:size]
            if (kind in (0, 1) and flags & 1) or kind == 3:
                return
        raise TimeoutError
