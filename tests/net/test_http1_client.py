"""The HTTP/1.1 client: exchanges one after the other, uploads, streams, and servers that misbehave."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petcd.net.edge import Edge
from petcd.net.grpc import Router
from petcd.net.http import HttpExchange, HttpRouter
from petcd.net.http1_client import (
    BodyReader,
    HttpClientConnection,
    HttpClientLimits,
    HttpFault,
    ResponseHandler,
    dial,
)
from petcd.seams import Address
from petcd.testing.world import Simulation

PORT = 2380


class Heard(ResponseHandler):
    """Notes one exchange."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.ends = 0
        self.failures: list[str] = []
        self.writable = 0
        self.stream: list[bytes] = []
        self.lost_reason: str | None = None
        self.connection: HttpClientConnection | None = None
        self.reader: BodyReader | None = None

    def on_head(self, status: int, headers: dict[str, str]) -> None:
        self.status = status
        self.headers = headers
        if self.connection is not None:
            self.reader = BodyReader(headers)
            self.connection.take_over(self)

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_end(self) -> None:
        self.ends += 1

    def on_failure(self, reason: str) -> None:
        self.failures.append(reason)

    def on_writable(self) -> None:
        self.writable += 1

    def receive(self, data: bytes) -> None:
        assert self.reader is not None
        self.stream.append(self.reader.feed(data))

    def lost(self, reason: str) -> None:
        self.lost_reason = reason


class Lab:
    """A server on one host, a client on another."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.server = sim.host("server", "10.0.0.1").boot()
        self.client = sim.host("client", "10.0.0.2").boot()
        self.router = HttpRouter()
        self.router.add(
            "/echo", lambda exchange: exchange.respond(200, [(b"X-Seen", b"1")], exchange.request.body)
        )
        self.exchanges: list[HttpExchange] = []
        self.router.add("/hold", self.exchanges.append)
        self.edge = Edge(self.server, Router(), http=self.router)
        self.on("server", self.edge.listen(Address("", PORT), grpc=False))

    def on(self, host: str, coroutine: Any) -> Any:
        process = self.sim.hosts[host].process
        assert process is not None
        owner = process

        async def run() -> Any:
            return await owner.spawn(coroutine)

        return self.sim.run(run())

    def call(self, function: Any, *args: Any, **options: Any) -> Any:
        """Within the client."""

        async def run() -> Any:
            return function(*args, **options)

        return self.on("client", run())

    def connect(self, *, port: int = PORT, limits: HttpClientLimits | None = None) -> HttpClientConnection:
        opened: list[HttpClientConnection] = []
        failed: list[str] = []
        self.call(
            dial,
            self.client,
            Address("10.0.0.1", port),
            opened.append,
            failed.append,
            seconds_max=2.0,
            limits=limits or HttpClientLimits(),
        )
        self.sim.run_until(lambda: bool(opened or failed), seconds_max=5)
        assert not failed, failed
        return opened[0]

    def request(self, connection: HttpClientConnection, method: str, path: str, **options: Any) -> Heard:
        heard = Heard()
        self.call(connection.request, method, path, [("X-A", "b")], heard, **options)
        self.sim.run_for(0.1)
        return heard


def test_exchanges_one_after_the_other() -> None:
    with Simulation(1) as sim:
        lab = Lab(sim)
        connection = lab.connect()
        for number in range(3):
            heard = lab.request(connection, "POST", "/echo", body=b"hello %d" % number)
            assert (heard.status, heard.body, heard.ends) == (200, b"hello %d" % number, 1)
            assert heard.headers["x-seen"] == "1"
            assert connection.idle
        assert lab.edge.accepted_count == 1
        missing = lab.request(connection, "GET", "/nothing")
        assert (missing.status, missing.body) == (404, b"404 page not found\n")


def test_dialling_fails_in_time() -> None:
    with Simulation(2) as sim:
        lab = Lab(sim)
        failures: list[str] = []
        address = Address("10.0.0.1", 9)
        lab.call(dial, lab.client, address, failures.append, failures.append, seconds_max=2.0)
        sim.run_for(1)
        assert "refused" in failures[0]
        sim.network.partition({"server"}, {"client"})
        started = sim.now
        address = Address("10.0.0.1", PORT)
        lab.call(dial, lab.client, address, failures.append, failures.append, seconds_max=2.0)
        sim.run_until(lambda: len(failures) > 1)
        assert 1.9 < sim.now - started < 2.1
        assert failures[1].endswith("i/o timeout")
        cancelled = lab.call(dial, lab.client, address, failures.append, failures.append, seconds_max=2.0)
        lab.call(cancelled.cancel)
        sim.network.heal()
        sim.run_for(10)
        assert len(failures) == 2


def test_an_upload_in_pieces_waits_for_the_other_side() -> None:
    with Simulation(3) as sim:
        lab = Lab(sim)
        got = []

        def take(exchange: HttpExchange) -> None:
            exchange.on_body = got.append
            exchange.on_body_end = lambda: exchange.text(200, "thanks")

        lab.router.add("/take", take, streaming=True)
        connection = lab.connect(limits=HttpClientLimits(unsent_bytes_high=100_000, unsent_bytes_low=10_000))
        heard = Heard()
        lab.call(connection.request, "POST", "/take", [], heard, body=None)
        piece, sent = bytes(50_000), 0
        while connection.writable:
            lab.call(connection.send_body, piece)
            sent += len(piece)
            assert sent < 10 << 20
        sim.run_for(1)
        assert heard.writable == 1
        assert connection.writable
        lab.call(connection.end_body)
        sim.run_for(1)
        assert sum(map(len, got)) == sent
        assert (heard.status, heard.body, heard.ends) == (200, b"thanks", 1)
        assert connection.idle


def test_an_answer_before_the_end_of_the_upload_ends_it() -> None:
    with Simulation(4) as sim:
        lab = Lab(sim)
        lab.router.add("/no", lambda exchange: exchange.text(500, "no"), streaming=True)
        connection = lab.connect()
        heard = Heard()
        lab.call(connection.request, "POST", "/no", [], heard, body=None)
        lab.call(connection.send_body, b"some")
        sim.run_for(1)
        assert (heard.status, heard.ends) == (500, 1)
        assert connection.closed
        lab.call(connection.send_body, b"more")
        lab.call(connection.end_body)


def test_limits_and_deadlines_are_failures() -> None:
    with Simulation(5) as sim:
        lab = Lab(sim)
        connection = lab.connect(limits=HttpClientLimits(body_bytes_max=10))
        heard = lab.request(connection, "POST", "/echo", body=b"x" * 11)
        assert heard.failures == ["response body too large"]
        assert connection.closed
        connection = lab.connect()
        heard = lab.request(connection, "GET", "/hold", seconds_max=3.0)
        sim.run_for(2.8)
        assert not heard.failures
        sim.run_for(0.3)
        assert heard.failures == ["timeout"]
        assert connection.closed


def test_a_server_that_goes_away() -> None:
    with Simulation(6) as sim:
        lab = Lab(sim)
        connection = lab.connect()
        heard = lab.request(connection, "GET", "/hold")
        for one in list(lab.edge._connections):
            one.close()
        sim.run_for(1)
        assert heard.failures == ["unexpected EOF"]
        connection = lab.connect()
        gone: list[HttpClientConnection] = []
        connection.on_idle_close = gone.append
        for one in list(lab.edge._connections):
            one.abort()
        sim.run_for(1)
        assert gone == [connection]
        connection = lab.connect()
        heard = lab.request(connection, "GET", "/hold")
        lab.call(connection.close)
        sim.run_for(1)
        assert not heard.failures, "who closes is told nothing"


@pytest.mark.parametrize(
    "answer", [b"\x00\xff\x00", b"HTTP/9.9 what\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"]
)
def test_a_server_that_speaks_something_else(answer: bytes) -> None:
    class Babbler:
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(answer)

        def eof_received(self) -> bool:
            return False

        def connection_lost(self, error: Exception | None) -> None: ...

    with Simulation(7) as sim:
        lab = Lab(sim)
        lab.on("server", lab.server.net.listen(Address("", 99), Babbler))  # type: ignore[arg-type]
        heard = lab.request(lab.connect(port=99), "GET", "/")
        sim.run_for(1)
        assert len(heard.failures) == 1
        assert heard.failures[0].startswith("malformed")


def test_a_stream_takes_the_connection_over() -> None:
    with Simulation(8) as sim:
        lab = Lab(sim)
        connection = lab.connect()
        heard = Heard()
        heard.connection = connection
        lab.call(connection.request, "GET", "/hold", [], heard, seconds_max=2.0)
        sim.run_for(0.1)
        (exchange,) = lab.exchanges
        exchange.start(200)
        exchange.send(b"one")
        exchange.send(b"two")
        exchange.flush()
        sim.run_for(5)
        assert b"".join(heard.stream) == b"onetwo"
        exchange.send(b"three")
        exchange.flush()
        sim.run_for(0.1)
        assert b"".join(heard.stream) == b"onetwothree"
        exchange.end()
        exchange.flush()
        sim.run_for(0.1)
        assert heard.reader is not None and heard.reader.ended
        for one in list(lab.edge._connections):
            one.close()
        sim.run_for(0.1)
        assert heard.lost_reason == ""
        assert not heard.failures


def test_requests_ahead_of_their_turn_are_bounded() -> None:
    """Bytes after the request of an answer that never ends."""
    with Simulation(9) as sim:
        lab = Lab(sim)
        connection = lab.connect()
        lab.call(connection.request, "GET", "/hold", [], Heard())
        sim.run_for(0.1)
        sent = 0
        while not connection.closed:
            lab.call(connection._transport.write, bytes(64 << 10))
            sent += 64 << 10
            sim.run_for(0.1)
        assert sent < 2 << 20
        assert lab.edge.open_count == 0


chunks = st.lists(st.binary(min_size=1, max_size=40), max_size=6)


@settings(max_examples=100, deadline=None)
@given(
    chunks,
    st.lists(st.integers(0, 300), max_size=10),
    st.sampled_from(["%x", "%X", "00%x", "%x;a=b", "%x  "]),
)
def test_chunks_however_they_are_cut(bodies: list[bytes], places: list[int], form: str) -> None:
    stream = (
        b"".join((form % len(body)).encode() + b"\r\n" + body + b"\r\n" for body in bodies) + b"0\r\n\r\n"
    )
    reader = BodyReader({"transfer-encoding": "chunked"})
    cuts = sorted(min(place, len(stream)) for place in places)
    out = b"".join(reader.feed(stream[a:b]) for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True))
    assert out == b"".join(bodies)
    assert reader.ended


@pytest.mark.parametrize(
    "stream",
    [
        b"\r\n",
        b"xyz\r\n",
        b"-1\r\n",
        b"1_0\r\n",
        b"5\r\nhelloXX",
        b"5\r\nhello\rX",
        b"f" * 16 + b"\r\n",
        b"1" * 300,
    ],
)
def test_broken_chunks(stream: bytes) -> None:
    with pytest.raises(HttpFault):
        BodyReader({"transfer-encoding": "Chunked"}).feed(stream)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=30), max_size=6))
def test_chunk_soup(pieces: list[bytes]) -> None:
    reader = BodyReader({"transfer-encoding": "chunked"})
    try:
        for piece in pieces:
            reader.feed(piece)
    except HttpFault:
        return


def test_a_body_without_a_coding_is_taken_as_it_is() -> None:
    reader = BodyReader({})
    assert reader.feed(b"5\r\nx") == b"5\r\nx"
    with pytest.raises(HttpFault):
        BodyReader({"transfer-encoding": "gzip"})
