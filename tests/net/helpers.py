"""A server connection on a fake wire: bytes in, parsed frames out, and a time that a test moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hpack import Decoder

from petcd.net.grpc.calls import Call, Stream, StreamHandler
from petcd.net.grpc.router import Method, Router
from petcd.net.grpc.server import GrpcServerConnection, Service
from petcd.net.http2 import frames
from petcd.net.http2.headers import literals
from petcd.net.http2.limits import Limits

ECHO = b"/test.Test/Echo"
HOLD = b"/test.Test/Hold"
FAIL = b"/test.Test/Fail"
BUG = b"/test.Test/Bug"
CHAT = b"/test.Test/Chat"
BIG = b"/test.Test/Big"

HELLO = frames.PREFACE + frames.settings()


class FakeTime:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Frame:
    kind: int
    flags: int
    sid: int
    payload: bytes

    @property
    def word(self) -> int:
        return int.from_bytes(self.payload[:4], "big")


def parse(data: bytes) -> list[Frame]:
    out, pos = [], 0
    while pos < len(data):
        word, flags, sid = frames.FRAME.unpack_from(data, pos)
        end = pos + 9 + (word >> 8)
        assert end <= len(data), "a frame was cut"
        out.append(Frame(word & 255, flags, sid, data[pos + 9 : end]))
        pos = end
    return out


class Chat(StreamHandler):
    """Echoes each message; keeps what it hears."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.heard: list[bytes] = []
        self.half_closed = False
        self.cancels = 0
        self.writable = 0

    def on_message(self, message: bytes) -> None:
        self.heard.append(message)
        if message == b"raise":
            raise ValueError("a bug")
        if message != b"quiet":
            self.stream.send(message)

    def on_half_close(self) -> None:
        self.half_closed = True
        self.stream.close()

    def on_cancel(self) -> None:
        self.cancels += 1

    def on_writable(self) -> None:
        self.writable += 1


class Server:
    """The machine under test and what its handlers saw."""

    def __init__(self, limits: Limits | None = None, *, hello: bool = True, **options: Any) -> None:
        self.time = FakeTime()
        self.held: list[tuple[Call, bytes]] = []
        self.chats: list[Chat] = []
        self.bugs: list[Exception] = []
        self.wakes = 0
        self.echoed = 0
        self.service = Service(
            self._router(),
            limits if limits is not None else Limits(),
            self.time,
            self._wake,
            lambda _path, error: self.bugs.append(error),
        )
        self.conn = GrpcServerConnection(self.service, "test:1", **options)
        self.decoder = Decoder()
        self.conn.start()
        if hello:
            self.feed(HELLO)
            self.take()

    def _wake(self, _conn: Any) -> None:
        self.wakes += 1

    def _router(self) -> Router:
        def echo(call: Call, message: bytes) -> None:
            self.echoed += 1
            call.reply(message)

        def fail(call: Call, message: bytes) -> None:
            call.fail(5, message.decode())

        def bug(_call: Call, _message: bytes) -> None:
            raise ValueError("a bug")

        def big(call: Call, message: bytes) -> None:
            call.reply(bytes(int(message)))

        def chat(stream: Stream) -> StreamHandler:
            handler = Chat(stream)
            self.chats.append(handler)
            return handler

        return Router(
            [
                Method(ECHO, unary=echo),
                Method(HOLD, unary=lambda call, message: self.held.append((call, message))),
                Method(FAIL, unary=fail),
                Method(BUG, unary=bug),
                Method(BIG, unary=big),
                Method(CHAT, stream=chat),
            ]
        )

    def feed(self, data: bytes) -> None:
        self.conn.receive(data)

    def take(self) -> list[Frame]:
        return parse(self.conn.take())

    def exchange(self, data: bytes) -> list[Frame]:
        self.feed(data)
        return self.take()

    def headers(self, frame: Frame) -> dict[bytes, bytes]:
        return dict(self.decoder.decode(frame.payload, raw=True))


def head(method: bytes = ECHO, *extra: tuple[bytes, bytes], **replaced: bytes | None) -> bytes:
    """A request's header block of plain literals; ``replaced`` changes or (None) drops a field."""
    fields = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": method,
        b":authority": b"test",
        b"content-type": b"application/grpc",
        b"te": b"trailers",
    }
    for name, value in replaced.items():
        key = {"verb": b":method", "scheme": b":scheme", "path": b":path"}.get(
            name, name.replace("_", "-").encode()
        )
        if value is None:
            del fields[key]
        else:
            fields[key] = value
    return literals([*fields.items(), *extra])


def message(body: bytes, flag: int = 0) -> bytes:
    return bytes((flag,)) + len(body).to_bytes(4, "big") + body


def headers_frame(sid: int, block: bytes, flags: int = frames.END_HEADERS) -> bytes:
    return frames.frame(frames.HEADERS, flags, sid, block)


def data_frame(sid: int, payload: bytes, flags: int = frames.END_STREAM) -> bytes:
    return frames.frame(frames.DATA, flags, sid, payload)


def call(sid: int, body: bytes = b"hi", path: bytes = ECHO, *extra: tuple[bytes, bytes]) -> bytes:
    """A whole unary request."""
    return headers_frame(sid, head(path, *extra)) + data_frame(sid, message(body))


def kinds(out: list[Frame]) -> list[tuple[int, int]]:
    return [(frame.kind, frame.sid) for frame in out]


def goaway_code(out: list[Frame]) -> int | None:
    for frame in out:
        if frame.kind == frames.GOAWAY:
            return int.from_bytes(frame.payload[4:8], "big")
    return None


def reset_code(out: list[Frame], sid: int) -> int | None:
    for frame in out:
        if frame.kind == frames.RST_STREAM and frame.sid == sid:
            return frame.word
    return None
