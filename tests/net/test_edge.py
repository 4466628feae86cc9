"""The edge on real sockets: what the first bytes decide, deadlines, floods beside good clients, drain."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.net.helpers import (
    BIG,
    CHAT,
    ECHO,
    HELLO,
    HOLD,
    Chat,
    call,
    goaway_code,
    head,
    headers_frame,
    parse,
)

from petcd.errors import EtcdError
from petcd.net.edge import Edge
from petcd.net.grpc.calls import Call, Stream, StreamHandler
from petcd.net.grpc.client import ClientConnection, TransportFailure
from petcd.net.grpc.router import Method, Router
from petcd.net.http import HttpExchange, HttpRouter
from petcd.net.http1 import Http1Limits
from petcd.net.http2 import frames as f
from petcd.net.http2.limits import Limits
from petcd.seams.net import Address
from petcd.seams.real import real_world


class Site:
    """An edge that listens on loopback, with what its handlers saw."""

    def __init__(self, limits: Limits, http1: Http1Limits | None) -> None:
        self.held: list[Call] = []
        self.chats: list[Chat] = []
        router = Router(
            [
                Method(ECHO, unary=lambda call, message: call.reply(message)),
                Method(HOLD, unary=lambda call, _message: self.held.append(call)),
                Method(BIG, unary=lambda call, message: call.reply(bytes(int(message)))),
                Method(CHAT, stream=self.chat),
            ]
        )
        http = HttpRouter()
        http.add("/health", lambda exchange: exchange.respond(200, [], b'{"health":"true"}'))
        http.add("/echo", self.echo)
        http.add("/v3/", self.prefix, prefix=True)
        http.add("/stream", self.stream)
        http.add("/bug", self.bug)
        self.exchanges: list[HttpExchange] = []
        http.add("/hold", self.exchanges.append)
        loop = asyncio.get_running_loop()
        self.edge = Edge(
            real_world(loop), router, limits=limits, http=http, http1_limits=http1, sweep_seconds=0.05
        )
        self.address = Address("127.0.0.1", 0)

    def chat(self, stream: Stream) -> StreamHandler:
        handler = Chat(stream)
        self.chats.append(handler)
        return handler

    def echo(self, exchange: HttpExchange) -> None:
        request = exchange.request
        exchange.respond(200, [(b"x-method", request.method.encode())], request.body)

    def prefix(self, exchange: HttpExchange) -> None:
        exchange.text(200, f"{exchange.request.path}?{exchange.request.query}")

    def stream(self, exchange: HttpExchange) -> None:
        exchange.start(200, [])
        exchange.send(b"one")
        exchange.send(b"two")
        exchange.end()

    def bug(self, _exchange: HttpExchange) -> None:
        raise ValueError("a bug")


@asynccontextmanager
async def site(
    limits: Limits | None = None, http1: Http1Limits | None = None, **listen: Any
) -> AsyncIterator[Site]:
    made = Site(limits if limits is not None else Limits(), http1)
    listener = await made.edge.listen(made.address, **listen)
    made.address = listener.address
    try:
        yield made
    finally:
        made.edge.abort()
        await asyncio.sleep(0.01)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for lies behind a socket
        await asyncio.sleep(0.005)


async def raw(where: Site, data: bytes, *, wait: float = 2.0, half_close: bool = False) -> bytes:
    """Send bytes, read until the server closes or ``wait`` has passed."""
    reader, writer = await asyncio.open_connection(where.address.host, where.address.port)
    got = b""
    try:
        writer.write(data)
        if half_close:
            writer.write_eof()
        async with asyncio.timeout(wait):
            while piece := await reader.read(65536):
                got += piece
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return got


class TestSniffing:
    def test_both_protocols_on_one_port(self) -> None:
        async def test() -> None:
            async with site() as where:
                conn = await ClientConnection.connect(where.address)
                assert await conn.unary(ECHO, b"hello") == b"hello"
                got = await raw(where, b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                assert got.startswith(b"HTTP/1.1 200 OK\r\n") and got.endswith(b'{"health":"true"}')
                conn.close()

        run(test)

    def test_the_first_bytes_one_by_one(self) -> None:
        async def test() -> None:
            async with site() as where:
                reader, writer = await asyncio.open_connection(where.address.host, where.address.port)
                for byte in HELLO:
                    writer.write(bytes((byte,)))
                    await asyncio.sleep(0)
                writer.write(call(1, b"x"))
                got = b""
                while b"\0\0\0\0\x01x" not in got:
                    got += await reader.read(1000)
                writer.close()

        run(test)

    @pytest.mark.parametrize(
        "data",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),  # TLS to a plaintext port
            b"garbage\r\n\r\n",
            b"\0" * 100,
            b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
            b"GET /\x00 HTTP/1.1\r\n\r\n",
            b"PUT / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
            b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        ],
    )
    def test_http1_garbage(self, data: bytes) -> None:
        async def test() -> None:
            async with site() as where:
                got = await raw(where, data)
                assert got.startswith(b"HTTP/1.1 400 ")
                assert b"onnection: close" in got

        run(test)

    def test_grpc_only_and_http_only(self) -> None:
        async def test() -> None:
            async with site(http=False) as where:
                assert await raw(where, b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n") == b""
            async with site(grpc=False) as where:
                with pytest.raises(TransportFailure):
                    await ClientConnection.connect(where.address, timeout=5)

        run(test)

    def test_silence_is_cut(self) -> None:
        async def test() -> None:
            limits = Limits(handshake_seconds_max=0.2)
            async with site(limits) as where:
                for data in (b"", b"PR", f.PREFACE):
                    got = await raw(where, data, wait=5)
                    if data == f.PREFACE:
                        assert goaway_code(parse(got)) == f.SETTINGS_TIMEOUT
                assert where.edge.open_count == 0

        run(test)

    def test_an_established_connection_may_be_idle(self) -> None:
        async def test() -> None:
            limits = Limits(handshake_seconds_max=0.2)
            async with site(limits) as where:
                conn = await ClientConnection.connect(where.address)
                await asyncio.sleep(0.5)
                assert await conn.unary(ECHO, b"x") == b"x"
                conn.close()

        run(test)


class TestHttp1:
    def test_keep_alive_and_pipelining(self) -> None:
        async def test() -> None:
            async with site() as where:
                one = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc"
                last = b"GET /v3/kv?a=b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
                got = await raw(where, one * 3 + last)
                assert got.count(b"HTTP/1.1 200 OK") == 4
                assert got.count(b"abc") == 3
                assert got.endswith(b"/v3/kv?a=b")

        run(test)

    def test_chunked_answer(self) -> None:
        async def test() -> None:
            async with site() as where:
                got = await raw(where, b"GET /stream HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                assert b"ransfer-encoding: chunked" in got.lower() or b"ransfer-Encoding: chunked" in got
                assert got.endswith(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")

        run(test)

    def test_http10(self) -> None:
        async def test() -> None:
            async with site() as where:
                got = await raw(where, b"GET /stream HTTP/1.0\r\n\r\n")
                assert got.endswith(b"\r\n\r\nonetwo")

        run(test)

    def test_head(self) -> None:
        async def test() -> None:
            async with site() as where:
                got = await raw(where, b"HEAD /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                assert b"ontent-length: 17" in got.lower()
                assert got.endswith(b"\r\n\r\n")

        run(test)

    def test_unknown_path(self) -> None:
        async def test() -> None:
            async with site() as where:
                got = await raw(where, b"GET /nope HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                assert got.startswith(b"HTTP/1.1 404 Not Found")
                assert got.endswith(b"404 page not found\n")

        run(test)

    def test_headers_too_large(self) -> None:
        async def test() -> None:
            async with site() as where:
                got = await raw(where, b"GET / HTTP/1.1\r\ncookie: " + b"c" * (1 << 21))
                assert got.startswith(b"HTTP/1.1 431 ")

        run(test)

    @pytest.mark.parametrize("chunked", [False, True])
    def test_body_too_large(self, chunked: bool) -> None:
        async def test() -> None:
            async with site() as where:
                head = b"POST /echo HTTP/1.1\r\nhost: x\r\n"
                if chunked:
                    data = (
                        head
                        + b"transfer-encoding: chunked\r\n\r\n"
                        + b"100000\r\n"
                        + bytes(1 << 20)
                        + b"\r\n"
                    )
                    data += b"200000\r\n" + bytes(2 << 20) + b"\r\n"
                else:
                    data = head + b"content-length: 3000000\r\n\r\n" + bytes(3000000)
                got = await raw(where, data)
                assert got.startswith(b"HTTP/1.1 413 ")

        run(test)

    def test_expect_continue(self) -> None:
        async def test() -> None:
            async with site() as where:
                reader, writer = await asyncio.open_connection(where.address.host, where.address.port)
                writer.write(
                    b"POST /echo HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
                )
                assert b"100" in await reader.readuntil(b"\r\n\r\n")
                writer.write(b"ok")
                assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 OK")
                writer.close()

        run(test)

    def test_a_bug_is_500(self) -> None:
        async def test() -> None:
            async with site() as where:
                got = await raw(where, b"GET /bug HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                assert got.startswith(b"HTTP/1.1 500 ")

        run(test)

    def test_disconnect_is_told(self) -> None:
        async def test() -> None:
            async with site() as where:
                _, writer = await asyncio.open_connection(where.address.host, where.address.port)
                writer.write(b"GET /hold HTTP/1.1\r\nhost: x\r\n\r\n")
                await until(lambda: bool(where.exchanges))
                gone: list[int] = []
                where.exchanges[0].on_disconnect = lambda: gone.append(1)
                writer.transport.abort()
                await until(lambda: bool(gone))
                where.exchanges[0].text(200, "nobody listens")

        run(test)

    def test_slow_headers(self) -> None:
        async def test() -> None:
            async with site(http1=Http1Limits(header_seconds_max=0.1)) as where:
                got = await raw(where, b"GET / HTTP/1.1\r\nx", wait=8)
                assert got == b""
                assert where.edge.open_count == 0

        run(test)

    def test_before_hook_and_extra_headers(self) -> None:
        async def test() -> None:
            async with site() as where:

                def before(exchange: HttpExchange) -> bool:
                    exchange.extra_headers.append((b"access-control-allow-origin", b"*"))
                    if exchange.request.method == "OPTIONS":
                        exchange.respond(200)
                        return True
                    return False

                assert where.edge.http is not None
                where.edge.http.before = before
                got = await raw(where, b"OPTIONS /v3/kv HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                assert b"access-control-allow-origin: *" in got.lower() and b"ontent-length: 0" in got.lower()

        run(test)


class TestDrainAndBounds:
    def test_drain(self) -> None:
        async def test() -> None:
            async with site() as where:
                conn = await ClientConnection.connect(where.address)
                idle = await ClientConnection.connect(where.address)
                stream = conn.stream(CHAT)
                stream.send(b"x")
                assert await stream.recv() == b"x"
                held = asyncio.ensure_future(conn.unary(HOLD, b""))
                await until(lambda: bool(where.held))
                draining = asyncio.ensure_future(where.edge.drain(5))
                await asyncio.sleep(0.05)
                assert conn.draining and idle.closed
                with pytest.raises(EtcdError, match="etcdserver: server stopped"):
                    await stream.recv()
                with pytest.raises(TransportFailure) as caught:
                    await conn.unary(ECHO, b"")
                assert not caught.value.sent
                where.held[0].reply(b"done")
                assert await held == b"done"
                await asyncio.wait_for(draining, 1)
                assert where.edge.open_count == 0
                with pytest.raises(TransportFailure):
                    await ClientConnection.connect(where.address, timeout=2)

        run(test)

    def test_drain_has_an_end(self) -> None:
        async def test() -> None:
            async with site() as where:
                conn = await ClientConnection.connect(where.address)
                held = asyncio.ensure_future(conn.unary(HOLD, b""))
                await until(lambda: bool(where.held))
                await where.edge.drain(0.1)
                with pytest.raises(TransportFailure) as caught:
                    await held
                assert caught.value.sent
                assert where.held[0].cancelled

        run(test)

    def test_a_client_that_reads_nothing_costs_bounded_memory(self) -> None:
        """A raw socket with huge windows asks for 60 MB and reads none; others are served meanwhile."""

        async def test() -> None:
            limits = Limits(unsent_bytes_high=1 << 20, unsent_bytes_low=1 << 18)
            async with site(limits) as where:
                sock = socket.socket()
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(sock, (where.address.host, where.address.port))
                hello = f.PREFACE + f.settings((f.SETTINGS_INITIAL_WINDOW_SIZE, 1 << 30))
                await loop.sock_sendall(sock, hello + f.window_update(0, 1 << 30))
                for i in range(60):
                    await loop.sock_sendall(sock, call(2 * i + 1, b"1000000", BIG))
                conn = await ClientConnection.connect(where.address)
                for _ in range(50):
                    assert await conn.unary(ECHO, b"x") == b"x"
                    await asyncio.sleep(0.002)
                (hog,) = [
                    c
                    for c in where.edge._connections
                    if c.machine.paused or c.machine.waiting or c.machine.out
                ]
                assert hog.unwritten_bytes() + hog.machine.waiting < 8 << 20
                # It reads after all, and gets everything.
                got = 0
                while got < 60 * 1000005:
                    piece = await asyncio.wait_for(loop.sock_recv(sock, 1 << 20), 5)
                    assert piece
                    got += len(piece)
                sock.close()
                conn.close()

        run(test)

    def test_a_flood_does_not_touch_others(self) -> None:
        async def test() -> None:
            async with site() as where:
                conn = await ClientConnection.connect(where.address)
                floods = [
                    raw(where, HELLO + f.ping(b"12345678") * 20000),
                    raw(where, HELLO + f.settings() * 20000),
                    raw(where, HELLO + headers_frame(1, b"", 0) + f.frame(f.CONTINUATION, 0, 1) * 20000),
                    raw(
                        where,
                        HELLO + b"".join(call(i, b"", HOLD) + f.rst_stream(i, 8) for i in range(1, 20001, 2)),
                    ),
                    raw(where, HELLO + headers_frame(1, head(CHAT)) + f.frame(f.DATA, 0, 1) * 20000),
                ]

                async def good() -> float:
                    slowest = 0.0
                    for _ in range(100):
                        begun = asyncio.get_running_loop().time()
                        assert await conn.unary(ECHO, b"x") == b"x"
                        slowest = max(slowest, asyncio.get_running_loop().time() - begun)
                        await asyncio.sleep(0.001)
                    return slowest

                slowest, *ends = await asyncio.gather(good(), *floods)
                assert slowest < 0.5
                for end in ends:
                    assert goaway_code(parse(end)) == f.ENHANCE_YOUR_CALM
                conn.close()

        run(test)

    def test_stalled_connections_are_closed(self) -> None:
        async def test() -> None:
            async with site(Limits(stalled_seconds_max=0.5)) as where:
                hello = f.PREFACE + f.settings((f.SETTINGS_INITIAL_WINDOW_SIZE, 0))
                got = await raw(where, hello + call(1, b"100000", BIG), wait=9)
                assert goaway_code(parse(got)) == f.ENHANCE_YOUR_CALM

        run(test)

    def test_accounting(self) -> None:
        async def test() -> None:
            async with site() as where:
                conn = await ClientConnection.connect(where.address)
                assert await conn.unary(ECHO, bytes(10000)) == bytes(10000)
                assert where.edge.open_count == 1 and where.edge.accepted_count == 1
                before = where.edge.bytes_in
                assert before > 10000 and where.edge.bytes_out > 10000
                conn.close()
                await until(lambda: not where.edge.open_count)
                assert where.edge.bytes_in >= before

        run(test)

    def test_deadlines_run_by_themselves(self) -> None:
        async def test() -> None:
            async with site() as where:
                got = await raw(where, HELLO + call(1, b"", HOLD, (b"grpc-timeout", b"50m")), wait=0.3)
                assert b"context deadline exceeded" in got
                assert where.held[0].cancelled

        run(test)

    def test_admission(self) -> None:
        async def test() -> None:
            async with site(admit=lambda _transport: "not today") as where:
                assert await raw(where, HELLO) == b""
                assert where.edge.open_count == 0

        run(test)

    def test_a_handler_may_flush_itself(self) -> None:
        async def test() -> None:
            async with site() as where:
                conn = await ClientConnection.connect(where.address)
                held = asyncio.ensure_future(conn.unary(HOLD, b""))
                await until(lambda: bool(where.held))
                where.held[0].reply(b"x")
                where.edge.flush()
                assert await held == b"x"
                conn.close()

        run(test)


def test_unix_socket(tmp_path: Any) -> None:
    async def test() -> None:
        where = Site(Limits(), None)
        address = Address(str(tmp_path / "edge.sock"), -1)
        await where.edge.listen(address)
        conn = await ClientConnection.connect(address)
        assert await conn.unary(ECHO, b"x") == b"x"
        conn.close()
        where.edge.abort()
        await asyncio.sleep(0.01)

    run(test)
