"""The other side is not ours: the ``h2`` library in both roles, on a wire of plain bytes."""

from __future__ import annotations

import asyncio
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from tests.net.helpers import BIG, CHAT, ECHO, FAIL, HOLD, Server, message

from petcd.errors import EtcdError
from petcd.net.grpc.client import ClientConnection, TransportFailure
from petcd.net.http2 import frames as f

REQUEST = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", ECHO.decode()),
    (":authority", "test"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]


class H2Client:
    """h2 as the client of our server machine."""

    def __init__(self) -> None:
        self.server = Server(hello=False)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.h2.initiate_connection()
        self.events: list[Any] = []
        self.pump()

    def pump(self) -> list[Any]:
        new: list[Any] = []
        while True:
            data = self.h2.data_to_send()
            if data:
                self.server.feed(data)
            back = self.server.conn.take()
            if back:
                new += self.h2.receive_data(back)
            if not data and not back:
                break
        self.events += new
        return new

    def call(self, path: bytes, body: bytes) -> tuple[bytes, dict[str, str], dict[str, str]]:
        sid = self.h2.get_next_available_stream_id()
        fields = [(k, path.decode() if k == ":path" else v) for k, v in REQUEST]
        self.h2.send_headers(sid, fields)
        raw = message(body)
        while raw:
            size = min(self.h2.local_flow_control_window(sid), self.h2.max_outbound_frame_size, len(raw))
            if size:
                self.h2.send_data(sid, raw[:size])
                raw = raw[size:]
            self.pump()
        self.h2.end_stream(sid)
        got, head, trailers = b"", {}, {}
        mark = len(self.events)
        for _ in range(1000):
            new = self.pump()
            for event in new:
                if isinstance(event, h2.events.DataReceived):
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if not new and not self.h2.data_to_send(0):
                break
        for event in self.events[mark:]:
            if isinstance(event, h2.events.ResponseReceived):
                head = {k.decode(): v.decode() for k, v in event.headers}
            elif isinstance(event, h2.events.TrailersReceived):
                trailers = {k.decode(): v.decode() for k, v in event.headers}
            elif isinstance(event, h2.events.DataReceived):
                got += event.data
        return got, head, trailers


class TestH2Client:
    def test_calls(self) -> None:
        client = H2Client()
        for i in range(5):
            got, head, trailers = client.call(ECHO, b"hello %d" % i)
            assert got == message(b"hello %d" % i)
            assert head == {":status": "200", "content-type": "application/grpc"}
            assert trailers == {"grpc-status": "0", "grpc-message": ""}

    def test_large_both_ways(self) -> None:
        client = H2Client()
        body = bytes(range(256)) * 4096
        got, _, trailers = client.call(ECHO, body)
        assert got == message(body)
        assert trailers["grpc-status"] == "0"
        got, _, _ = client.call(BIG, b"3000000")
        assert len(got) == 3000005

    def test_failure(self) -> None:
        _, head, _ = H2Client().call(FAIL, b"nothing there")
        assert head["grpc-status"] == "5"
        assert head["grpc-message"] == "nothing there"

    def test_ping_settings_goaway(self) -> None:
        client = H2Client()
        client.h2.ping(b"12345678")
        assert any(isinstance(e, h2.events.PingAckReceived) for e in client.pump())
        client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10})
        assert any(isinstance(e, h2.events.SettingsAcknowledged) for e in client.pump())
        client.server.conn.drain()
        goaway = client.server.take()[0]
        events = client.h2.receive_data(f.frame(goaway.kind, 0, 0, goaway.payload))
        assert [type(e) for e in events] == [h2.events.ConnectionTerminated]

    def test_reset(self) -> None:
        client = H2Client()
        client.h2.send_headers(1, [(k, HOLD.decode() if k == ":path" else v) for k, v in REQUEST])
        client.h2.send_data(1, message(b"x"), end_stream=True)
        client.pump()
        client.h2.reset_stream(1)
        client.pump()
        assert client.server.held[0][0].cancelled


class H2Server:
    """h2 as the server of our client; also the client's transport."""

    def __init__(self, **settings: int) -> None:
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        )
        self.h2.initiate_connection()
        if settings:
            self.h2.update_settings({h2.settings.SettingCodes[k]: v for k, v in settings.items()})
        self.bodies: dict[int, bytes] = {}
        self.requests: dict[int, dict[str, str]] = {}
        self.calls_max = 0
        self.events: list[Any] = []
        self.outbox: dict[int, bytes] = {}
        self.client: ClientConnection | None = None
        self.aborted = False

    def connect(self, **options: Any) -> ClientConnection:
        self.client = ClientConnection(**options)
        self.client.connection_made(self)
        self.flush()
        return self.client

    def write(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            self.events.append(event)
            self.on_event(event)
        self.flush()

    def close(self) -> None:
        return

    def abort(self) -> None:
        self.aborted = True

    def flush(self) -> None:
        data = self.h2.data_to_send()
        if data and self.client is not None:
            asyncio.get_running_loop().call_soon(self.client.data_received, data)

    def on_event(self, event: Any) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self.requests[event.stream_id] = dict(event.headers)
            self.bodies[event.stream_id] = b""
            self.calls_max = max(self.calls_max, self.h2.open_inbound_streams)
        elif isinstance(event, h2.events.DataReceived):
            self.bodies[event.stream_id] += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            asyncio.get_running_loop().call_later(0.001, self.answer, event.stream_id)
        elif isinstance(event, h2.events.WindowUpdated):
            for sid in list(self.outbox):
                self.push(sid)

    def answer(self, sid: int) -> None:
        path = self.requests[sid][":path"]
        if path == "/refuse":
            self.h2.reset_stream(sid, 7)
        elif path == "/html":
            self.h2.send_headers(sid, [(":status", "503"), ("content-type", "text/html")], end_stream=True)
        elif path == "/short":
            self.h2.send_headers(sid, [(":status", "200"), ("content-type", "application/grpc")])
            self.h2.end_stream(sid)
        elif path == "/hang":
            return
        elif path == "/goaway":
            self.h2.close_connection(last_stream_id=0)
        else:
            self.h2.send_headers(sid, [(":status", "200"), ("content-type", "application/grpc")])
            self.outbox[sid] = self.bodies[sid]
            self.push(sid)
        self.flush()

    def push(self, sid: int) -> None:
        raw = self.outbox[sid]
        while raw:
            size = min(self.h2.local_flow_control_window(sid), self.h2.max_outbound_frame_size, len(raw))
            if not size:
                self.outbox[sid] = raw
                return
            self.h2.send_data(sid, raw[:size])
            raw = raw[size:]
        del self.outbox[sid]
        self.h2.send_headers(sid, [("grpc-status", "0"), ("grpc-message", "")], end_stream=True)


class TestH2Server:
    def test_calls(self) -> None:
        async def talk() -> None:
            server = H2Server()
            conn = server.connect(authority="example:1")
            for _ in range(3):
                metadata = [(b"token", b"secret")]
                assert await conn.unary(b"/a.B/C", b"hello", metadata=metadata, timeout=9.0) == b"hello"
            request = server.requests[5]
            assert request[":authority"] == "example:1"
            assert request["token"] == "secret"
            assert request["te"] == "trailers"
            assert request["grpc-timeout"].endswith("u")
            answers = await asyncio.gather(*[conn.unary(b"/a.B/C", b"%d" % i) for i in range(80)])
            assert answers == [b"%d" % i for i in range(80)]

        asyncio.run(talk())

    def test_large_both_ways(self) -> None:
        async def talk() -> None:
            conn = H2Server().connect()
            body = bytes(range(256)) * 20000
            assert await conn.unary(b"/a.B/C", body) == body
            assert not conn.machine.senders and not conn.machine.streams

        asyncio.run(talk())

    def test_the_servers_bound_on_streams_is_kept(self) -> None:
        async def talk() -> None:
            server = H2Server(MAX_CONCURRENT_STREAMS=3)
            conn = server.connect()
            await asyncio.sleep(0.01)
            calls = [conn.unary(b"/a.B/C", b"%d" % i) for i in range(20)]
            assert await asyncio.gather(*calls) == [b"%d" % i for i in range(20)]
            assert server.calls_max <= 3
            stream = conn.stream(b"/a.B/C")
            stream.send(b"x")
            stream.half_close()
            assert [m async for m in stream] == [b"x"]

        asyncio.run(talk())

    def test_a_small_frame_table_and_window(self) -> None:
        async def talk() -> None:
            conn = H2Server(INITIAL_WINDOW_SIZE=100, HEADER_TABLE_SIZE=0).connect()
            await asyncio.sleep(0.01)
            for _ in range(3):
                assert await conn.unary(b"/a.B/C", bytes(5000)) == bytes(5000)

        asyncio.run(talk())

    @pytest.mark.parametrize(
        ("path", "code", "sent"),
        [("/refuse", 14, False), ("/html", 14, True), ("/short", 13, True), ("/goaway", 14, False)],
    )
    def test_failures_say_whether_the_call_may_have_been_seen(self, path: str, code: int, sent: bool) -> None:
        async def talk() -> None:
            conn = H2Server().connect()
            with pytest.raises(TransportFailure) as caught:
                await conn.unary(path.encode(), b"x")
            assert caught.value.code == code
            assert caught.value.sent is sent
            assert conn.usable is (path != "/goaway")

        asyncio.run(talk())

    def test_timeout_resets_the_stream(self) -> None:
        async def talk() -> None:
            server = H2Server()
            conn = server.connect()
            with pytest.raises(TransportFailure) as caught:
                await conn.unary(b"/hang", b"x", timeout=0.02)
            assert caught.value.code == 4 and caught.value.sent
            await asyncio.sleep(0.01)
            assert any(isinstance(e, h2.events.StreamReset) for e in server.events)
            assert conn.active_count == 0

        asyncio.run(talk())

    def test_cancelling_the_task_resets_the_stream(self) -> None:
        async def talk() -> None:
            server = H2Server()
            conn = server.connect()
            task = asyncio.ensure_future(conn.unary(b"/hang", b"x"))
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.sleep(0.01)
            assert any(isinstance(e, h2.events.StreamReset) for e in server.events)
            assert conn.active_count == 0

        asyncio.run(talk())

    def test_lost_connection(self) -> None:
        async def talk() -> None:
            conn = H2Server().connect()
            await asyncio.sleep(0.01)
            told: list[int] = []
            conn.on_closed = lambda: told.append(1)
            task = asyncio.ensure_future(conn.unary(b"/hang", b"x"))
            stream = conn.stream(b"/hang")
            await asyncio.sleep(0.01)
            conn.connection_lost(ConnectionResetError("reset"))
            with pytest.raises(TransportFailure) as caught:
                await task
            assert caught.value.sent
            with pytest.raises(TransportFailure):
                await stream.recv()
            with pytest.raises(TransportFailure) as caught:
                await conn.unary(b"/hang", b"x")
            assert not caught.value.sent
            with pytest.raises(EtcdError):
                await conn.stream(b"/hang").recv()
            assert told == [1]

        asyncio.run(talk())

    def test_goaway_lets_calls_finish(self) -> None:
        async def talk() -> None:
            server = H2Server()
            conn = server.connect()
            task = asyncio.ensure_future(conn.unary(b"/a.B/C", b"x"))
            await asyncio.sleep(0)
            conn.going_away(1, 0, b"")
            assert conn.draining and not conn.closed
            assert await task == b"x"
            assert conn.closed

        asyncio.run(talk())

    def test_keepalive(self) -> None:
        async def talk() -> None:
            server = H2Server()
            conn = server.connect(keepalive_seconds=0.02, keepalive_timeout_seconds=0.05)
            task = asyncio.ensure_future(conn.unary(b"/hang", b"x"))
            await asyncio.sleep(0.15)
            assert sum(isinstance(e, h2.events.PingReceived) for e in server.events) >= 2
            server.client = None  # it answers no more
            with pytest.raises(TransportFailure, match="keepalive"):
                await asyncio.wait_for(task, 1)
            assert server.aborted

        asyncio.run(talk())

    def test_slow_receiver_holds_the_server_back(self) -> None:
        async def talk() -> None:
            server = H2Server()
            conn = server.connect()
            stream = conn.stream(b"/a.B/C")
            for _ in range(12):
                stream.send(bytes(1 << 20))
            stream.half_close()
            async with asyncio.timeout(10):
                while not stream.holding:  # noqa: ASYNC110 - it is set by bytes that come
                    await asyncio.sleep(0.005)
            await asyncio.sleep(0.05)
            assert server.outbox
            count = 0
            async for got in stream:
                count += 1
                assert len(got) == 1 << 20
            assert count == 12

        asyncio.run(talk())


def test_chat_path_is_served_by_the_helper() -> None:
    """The tables of this folder agree."""
    assert CHAT in Server().service.router.methods
