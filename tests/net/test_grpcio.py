"""gRPC's own library (C core) as the client, over loopback; and as the server of our client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from tests.net.helpers import BIG, CHAT, ECHO, FAIL, HOLD, Server

from petcd.net.edge import Edge
from petcd.net.grpc.client import ClientConnection
from petcd.seams.net import Address
from petcd.seams.real import real_world


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """An edge on a loop in a thread of its own, because grpcio's client blocks."""
    loop = asyncio.new_event_loop()
    ready: futures.Future[int] = futures.Future()
    stop: list[Any] = []

    async def serve() -> None:
        done = loop.create_future()
        stop.append(done)
        router = Server()._router()
        edge = Edge(real_world(loop), router)
        listener = await edge.listen(Address("127.0.0.1", 0))
        ready.set_result(listener.address.port)
        await done
        edge.abort()
        await asyncio.sleep(0.01)

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    yield ready.result(5)
    loop.call_soon_threadsafe(stop[0].set_result, None)
    thread.join(5)
    loop.close()


@pytest.fixture
def channel(port: int) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(
        f"127.0.0.1:{port}", [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    ) as channel:
        yield channel


def unary(channel: grpc.Channel, path: bytes) -> Any:
    return channel.unary_unary(path.decode())


def test_unary(channel: grpc.Channel) -> None:
    call = unary(channel, ECHO)
    for i in range(20):
        assert (
            call(b"hello %d" % i, timeout=5, metadata=[("token", "t"), ("x-bin", b"\0\xff")])
            == b"hello %d" % i
        )
    pending = [call.future(b"%d" % i) for i in range(200)]
    assert [p.result(5) for p in pending] == [b"%d" % i for i in range(200)]


def test_large(channel: grpc.Channel) -> None:
    body = bytes(range(256)) * 8000
    assert unary(channel, ECHO)(body, timeout=10) == body
    assert len(unary(channel, BIG)(b"20000000", timeout=20)) == 20000000


@pytest.mark.parametrize(
    ("path", "body", "code", "text"),
    [
        (FAIL, "nö: 100%".encode(), grpc.StatusCode.NOT_FOUND, "nö: 100%"),
        (b"/no.Such/Method", b"", grpc.StatusCode.UNIMPLEMENTED, "unknown service no.Such"),
        (
            ECHO,
            bytes(2097153),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "grpc: received message larger than max (2097153 vs. 2097152)",
        ),
    ],
)
def test_refusals(channel: grpc.Channel, path: bytes, body: bytes, code: Any, text: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        unary(channel, path)(body, timeout=5)
    assert caught.value.code() == code
    assert caught.value.details() == text


def test_compressed(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        unary(channel, ECHO)(bytes(5000), timeout=5, compression=grpc.Compression.Gzip)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.details() == 'grpc: Decompressor is not installed for grpc-encoding "gzip"'
    assert unary(channel, ECHO)(b"x", timeout=5) == b"x"


def test_deadline(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        unary(channel, HOLD)(b"", timeout=0.1)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_chat(channel: grpc.Channel) -> None:
    sent = [b"%d" % i * 1000 for i in range(100)]
    assert list(channel.stream_stream(CHAT.decode())(iter(sent), timeout=10)) == sent


def test_cancel(channel: grpc.Channel) -> None:
    answers = channel.stream_stream(CHAT.decode())(iter([b"one"]), timeout=10)
    assert next(answers) == b"one"
    answers.cancel()
    assert unary(channel, ECHO)(b"x", timeout=5) == b"x"


def test_our_client_and_its_server() -> None:
    class Handler(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> Any:
            if details.method == ECHO.decode():
                return grpc.unary_unary_rpc_method_handler(lambda request, _context: request)
            if details.method == CHAT.decode():
                return grpc.stream_stream_rpc_method_handler(lambda requests, _context: requests)
            return None

    server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    async def talk() -> None:
        conn = await ClientConnection.connect(Address("127.0.0.1", port), timeout=5)
        for _ in range(5):
            assert await conn.unary(ECHO, b"hello", timeout=5, metadata=[(b"token", b"t")]) == b"hello"
        body = bytes(range(256)) * 20000
        assert await conn.unary(ECHO, body, timeout=10) == body
        stream = conn.stream(CHAT, timeout=10)
        for i in range(50):
            stream.send(b"%d" % i * 1000)
        stream.half_close()
        assert [m async for m in stream] == [b"%d" % i * 1000 for i in range(50)]
        conn.close()

    try:
        asyncio.run(talk())
    finally:
        server.stop(0).wait()
