"""Frame soup: whatever a client sends, the machine answers with frames and never raises; and it keeps its
books.

The two machines of the project, joined by a wire that cuts anywhere, are tested here as well.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.net.helpers import BIG, CHAT, ECHO, FAIL, HELLO, HOLD, Server, head, message

from petcd.errors import EtcdError
from petcd.net.grpc.client import ClientConnection
from petcd.net.http2 import frames as f
from petcd.net.http2.headers import literal

_PATHS = [ECHO, HOLD, FAIL, CHAT, BIG, b"/no/pe"]
_blocks = st.one_of(
    st.sampled_from(_PATHS).map(head),
    st.sampled_from(_PATHS).map(lambda path: head(path, (b"grpc-timeout", b"1S"))),
    st.just(b"\x40\x01a\x01b"),
    st.just(b"\xbe"),
    st.just(literal(b"x", b"y")),
    st.binary(max_size=12),
)
_payloads = st.one_of(
    st.sampled_from([message(b"10"), message(b"abc")[:6], message(b"70000"), message(b"raise"), b""]),
    st.binary(max_size=20),
)
_sids = st.sampled_from([0, 1, 1, 3, 3, 5, 7, 9, 2])
_u32 = st.sampled_from([0, 1, 100, 65535, 1 << 20, f.WINDOW_MAX, 0xFFFFFFFF])


def _frame(kind: int, flags: int, sid: int, payload: bytes) -> bytes:
    return f.frame(kind, flags, sid, payload)


_frames = st.one_of(
    st.builds(_frame, st.just(f.HEADERS), st.sampled_from([4, 4, 4, 5, 0, 1, 0x2C, 0x0C]), _sids, _blocks),
    st.builds(_frame, st.just(f.DATA), st.sampled_from([0, 1, 1, 8, 9]), _sids, _payloads),
    st.builds(_frame, st.just(f.CONTINUATION), st.sampled_from([0, 4]), _sids, _blocks),
    st.builds(lambda sid, code: f.rst_stream(sid, code), _sids, st.integers(0, 20)),
    st.builds(lambda sid, size: f.window_update(sid, size & 0x7FFFFFFF), _sids, _u32),
    st.builds(lambda key, value: f.settings((key, value)), st.integers(0, 7), _u32),
    st.builds(lambda flags: f.ping(b"12345678", flags), st.integers(0, 1)),
    st.builds(
        _frame, st.integers(0, 11), st.integers(0, 255), st.integers(0, 1 << 31), st.binary(max_size=30)
    ),
)


def check(server: Server) -> None:
    """The books of a connection agree with each other."""
    conn = server.conn
    assert conn.waiting == sum(sender.waiting for sender in conn.senders.values())
    for sender in conn.senders.values():
        assert sender.waiting == sum(map(len, sender.chunks)) - sender.offset
    assert conn.partial == sum(
        getattr(getattr(stream, "reader", None), "partial_bytes", 0) for stream in conn.streams.values()
    )
    assert conn.unflushed() >= 0
    assert not conn.failed or not conn.streams


@settings(max_examples=100, deadline=None)
@given(st.lists(_frames, max_size=40), st.randoms(use_true_random=False))
def test_frame_soup(soup: list[bytes], rng: random.Random) -> None:
    server = Server()
    data = b"".join(soup)
    while data:
        size = rng.choice([1, 10, 100, 1000])
        server.feed(data[:size])
        data = data[size:]
        server.take()
        check(server)
        if rng.random() < 0.1:
            server.time.seconds += 2
            server.service.deadlines.expire(server.time.seconds)
            check(server)
    server.conn.lost()
    check(server)
    assert all(chat.cancels <= 1 for chat in server.chats)
    # "raise" is a bug of the handler on purpose; BIG raises for a message that is no number.
    assert all(isinstance(bug, ValueError) for bug in server.bugs)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_garbage(data: bytes) -> None:
    for hello in (b"", f.PREFACE, HELLO):
        server = Server(hello=False)
        server.feed(hello + data)
        server.take()
        check(server)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(range(5)), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_cuts_do_not_matter(picks: list[int], rng: random.Random) -> None:
    """The same calls in one read, or cut anywhere, give the same frames."""
    parts, sid = [HELLO], 1
    for pick in picks:
        path = [ECHO, FAIL, b"/no/pe", BIG, ECHO][pick]
        body = message(b"300" if pick == 3 else b"x" * pick * 9)
        block = head(path, (b"n", b"%d" % pick)) + (b"\x40\x01a\x01b" if pick == 4 else b"")
        parts.append(f.frame(f.HEADERS, 4, sid, block) + f.frame(f.DATA, 1, sid, body))
        sid += 2
    data = b"".join(parts)
    whole = Server(hello=False)
    whole.feed(data)
    cut = Server(hello=False)
    pos = 0
    while pos < len(data):
        size = rng.randrange(1, 60)
        cut.feed(data[pos : pos + size])
        pos += size
    assert [x for x in whole.take() if x.kind != f.WINDOW_UPDATE] == [
        x for x in cut.take() if x.kind != f.WINDOW_UPDATE
    ]


class Wire:
    """Joins a ClientConnection and a server machine; delivers in pieces of at most ``cut`` bytes."""

    def __init__(self, cut: int, server: Server | None = None) -> None:
        self.server = server if server is not None else Server(hello=False)
        self.cut = cut
        self.client: ClientConnection | None = None
        self.down = False
        self.server.service.wake = self.server.conn.wake = lambda _conn: self.later(self.to_client)

    def later(self, step: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(step)

    # the client's transport
    def write(self, data: bytes) -> None:
        self.later(lambda: self.to_server(data))

    def close(self) -> None:
        self.down = True

    abort = close

    def to_server(self, data: bytes) -> None:
        for start in range(0, len(data), self.cut):
            self.server.feed(data[start : start + self.cut])

    def to_client(self) -> None:
        data = self.server.conn.take()
        if self.down or self.client is None:
            return
        for start in range(0, len(data), self.cut):
            self.client.data_received(data[start : start + self.cut])

    def connect(self, **options: Any) -> ClientConnection:
        self.client = ClientConnection(**options)
        self.client.connection_made(self)
        self.to_client()
        return self.client


@pytest.mark.parametrize("cut", [1, 7, 1000, 1 << 20])
def test_both_machines(cut: int) -> None:
    async def talk() -> None:
        wire = Wire(cut)
        conn = wire.connect()
        for _ in range(3):
            assert await conn.unary(ECHO, b"hello", metadata=[(b"token", b"t")], timeout=5.0) == b"hello"
        big = bytes(range(256)) * 400
        assert await conn.unary(ECHO, big) == big
        answers = await asyncio.gather(*[conn.unary(ECHO, b"%d" % i) for i in range(50)])
        assert answers == [b"%d" % i for i in range(50)]
        with pytest.raises(EtcdError, match="nö: 100%") as caught:
            await conn.unary(FAIL, "nö: 100%".encode())
        assert caught.value.code == 5
        stream = conn.stream(CHAT)
        for i in range(20):
            stream.send(b"%d" % i * 50)
        stream.half_close()
        assert [m async for m in stream] == [b"%d" % i * 50 for i in range(20)]
        assert not wire.server.conn.streams
        assert not conn.machine.streams
        assert not conn.machine.senders and not conn.machine.credits
        conn.close()

    asyncio.run(talk())


@pytest.mark.parametrize("seed", range(20))
def test_client_takes_any_garbage(seed: int) -> None:
    """A broken server costs its connection, never an exception out of the protocol."""

    async def talk() -> None:
        rng = random.Random(seed)
        wire = Wire(1 << 20)
        conn = wire.connect()
        calls = [asyncio.ensure_future(conn.unary(HOLD, b"x")) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for _ in range(200):
            kind = rng.randrange(0, 11)
            sid = rng.choice([0, 1, 3, 5, 7])
            payload = rng.choice([b"", rng.randbytes(4), rng.randbytes(8), rng.randbytes(20), b"\x88"])
            conn.data_received(f.frame(kind, rng.choice([0, 1, 4, 5, 8]), sid, payload))
        conn.connection_lost(None)
        for result in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(result, bytes | EtcdError)

    asyncio.run(talk())
