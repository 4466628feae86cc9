"""A whole member and its client in the simulated world: real protocols, virtual time, no sockets.

@simulated(quota_backend_bytes=100_000)
async def test_something(lab: Lab) -> None:
    await lab.call(PutRequest(key=b"a"))
    await asyncio.sleep(3600)          # takes no time
    status, _, body = await lab.http("GET", "/health")
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import h11
from tests.rpc import METHODS
from tests.simulation.single import memory_backend

from petcd.embed import Etcd
from petcd.errors import EtcdError
from petcd.logs import Logger
from petcd.net.grpc.client import CLIENT_LIMITS, ClientConnection, ClientStream
from petcd.pb import etcdserverpb as pb
from petcd.pb.message import Message
from petcd.seams import Address
from petcd.server.config import Config
from petcd.server.member import Member
from petcd.server.url import parse_urls
from petcd.testing.drive import Loss
from petcd.testing.world import Simulation

CALLS: Final[dict[type[Message], tuple[str, type[Message]]]] = {
    **METHODS,
    pb.MoveLeaderRequest: ("/etcdserverpb.Maintenance/MoveLeader", pb.MoveLeaderResponse),
    pb.AuthStatusRequest: ("/etcdserverpb.Auth/AuthStatus", pb.AuthStatusResponse),
    pb.AuthenticateRequest: ("/etcdserverpb.Auth/Authenticate", pb.AuthenticateResponse),
}
SERVER: Final = "10.0.0.1"
CLIENT: Final = "10.0.0.2"
PORT: Final = 2379

Headers = Sequence[tuple[str, str]]


class Lab:
    """One member on one host, one client on another."""

    def __init__(self, sim: Simulation, settings: dict[str, Any]) -> None:
        self.sim = sim
        urls = parse_urls(f"http://{SERVER}:{PORT}")
        peers = parse_urls(f"http://{SERVER}:2380")
        self.settings: dict[str, Any] = {
            "name": "m",
            "data_dir": "data",
            "listen_client_urls": urls,
            "advertise_client_urls": urls,
            "listen_peer_urls": peers,
            "advertise_peer_urls": peers,
            **settings,
        }
        self.host = sim.host("server", SERVER)
        client = sim.host("client", CLIENT)
        client.boot()
        self._client_process = client.process
        assert client.world is not None
        self.net = client.world.net
        self.etcd: Etcd
        self.connection: ClientConnection
        self.logged: list[tuple[str, str, dict[str, Any]]] = []

    @property
    def member(self) -> Member:
        return self.etcd.member

    # -- life ----------------------------------------------------------------------------------------

    async def start(self, **changes: Any) -> None:
        """Boot the host, start the member and connect to it."""
        self.settings.update(changes)
        world = self.host.boot()
        process = self.host.process
        assert process is not None
        logger = Logger(
            lambda level, message, fields: self.logged.append((level.name, message, dict(fields)))
        )
        starting = Etcd.start(Config(**self.settings), world, logger, make_backend=memory_backend)
        self.etcd = await process.spawn(starting)
        self.connection = await self.connect()

    async def connect(self) -> ClientConnection:
        return await ClientConnection.connect(Address(SERVER, PORT), net=self.net, timeout=5.0)

    async def stop(self) -> None:
        process = self.host.process
        assert process is not None
        await process.spawn(self.etcd.stop())
        self.host.crash(Loss.NONE)

    async def restart(self, **changes: Any) -> None:
        await self.stop()
        await self.start(**changes)

    async def crash(self, loss: Loss = Loss.ALL, **changes: Any) -> None:
        """Lose power and start again."""
        self.host.crash(loss)
        await self.start(**changes)

    def messages(self, text: str) -> list[dict[str, Any]]:
        """The fields of every log line with this message."""
        return [fields for _, message, fields in self.logged if message == text]

    # -- gRPC ----------------------------------------------------------------------------------------

    async def call(
        self, request: Message, *, metadata: Sequence[tuple[bytes, bytes]] = (), seconds: float | None = None
    ) -> Any:
        """One unary call. Raises: EtcdError."""
        path, answer = CALLS[type(request)]
        raw = await self.connection.unary(path.encode(), request.encode(), metadata=metadata, timeout=seconds)
        return answer.decode(raw)

    async def refused(self, request: Message, **options: Any) -> tuple[int, str]:
        """Code and text of a call that must fail."""
        try:
            answer = await self.call(request, **options)
        except EtcdError as error:
            return int(error.code), error.text
        raise AssertionError(f"not refused: {answer}")

    async def put(self, key: bytes, value: bytes = b"", lease: int = 0) -> int:
        response = await self.call(pb.PutRequest(key=key, value=value, lease=lease))
        return int(response.header.revision)

    async def value(self, key: bytes) -> bytes | None:
        kvs = (await self.call(pb.RangeRequest(key=key))).kvs
        return kvs[0].value if kvs else None

    def stream(self, path: str, answer: type[Message], **options: Any) -> Talk:
        return Talk(self.connection.stream(path.encode(), **options), answer)

    def watch(self, **options: Any) -> Talk:
        return self.stream("/etcdserverpb.Watch/Watch", pb.WatchResponse, **options)

    def keep_alive(self, **options: Any) -> Talk:
        return self.stream("/etcdserverpb.Lease/LeaseKeepAlive", pb.LeaseKeepAliveResponse, **options)

    # -- HTTP/1.1 ------------------------------------------------------------------------------------

    async def http(
        self, method: str, target: str, body: bytes = b"", headers: Headers = (), *, port: int = PORT
    ) -> tuple[int, dict[str, str], bytes]:
        """One exchange on a connection of its own: status, headers, body."""
        exchange = await self.http_open(method, target, body, headers, port=port)
        content = await exchange.rest()
        exchange.close()
        return exchange.status, exchange.headers, content

    async def http_open(
        self,
        method: str,
        target: str,
        body: bytes | None = b"",
        headers: Headers = (),
        *,
        port: int = PORT,
    ) -> HttpTalk:
        """Send a request, with a body of unknown length if it is None."""
        talk = HttpTalk()
        await self.net.connect(Address(SERVER, port), lambda: talk)
        talk.request(method, target, body, headers)
        return talk

    async def json(self, path: str, shape: Any = None) -> tuple[int, Any]:
        """A call of the gateway: status and answer."""
        body = b"" if shape is None else json.dumps(shape).encode()
        status, headers, content = await self.http("POST", path, body)
        assert headers["content-type"] == "application/json"
        return status, json.loads(content)


async def connect_slowly(lab: Lab, window: int) -> ClientConnection:
    """A client whose streams take so many bytes at a time."""
    fields = {name: getattr(CLIENT_LIMITS, name) for name in CLIENT_LIMITS.__slots__}
    limits = type(CLIENT_LIMITS)(**{**fields, "stream_window_bytes": window})
    return await ClientConnection.connect(Address(SERVER, PORT), net=lab.net, limits=limits)


class Talk:
    """A stream with typed messages."""

    def __init__(self, stream: ClientStream, answer: type[Message]) -> None:
        self.raw = stream
        self._answer = answer

    def send(self, request: Message) -> None:
        self.raw.send(request.encode())

    async def receive(self, seconds: float = 60.0) -> Any:
        """The next message. Raises: EtcdError, EOFError at a clean end, TimeoutError."""
        async with asyncio.timeout(seconds):
            raw = await self.raw.recv()
        if raw is None:
            raise EOFError
        return self._answer.decode(raw)

    async def ask(self, request: Message, seconds: float = 60.0) -> Any:
        self.send(request)
        return await self.receive(seconds)

    async def silent(self, seconds: float) -> bool:
        """Whether nothing comes for so long."""
        try:
            await self.receive(seconds)
        except TimeoutError:
            return True
        return False


class HttpTalk(asyncio.Protocol):
    """The client's side of one HTTP/1.1 exchange."""

    def __init__(self) -> None:
        self._h11 = h11.Connection(h11.CLIENT)
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._head: asyncio.Future[h11.Response] = asyncio.get_running_loop().create_future()
        self._transport: Any = None
        self.status = 0
        self.headers: dict[str, str] = {}

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def request(self, method: str, target: str, body: bytes | None, headers: Headers) -> None:
        fields = [(b"host", b"10.0.0.1:2379")]
        fields = [pair for pair in fields if all(name.lower() != "host" for name, _ in headers)]
        fields += [(name.encode(), value.encode()) for name, value in headers]
        if body is None:
            fields.append((b"transfer-encoding", b"chunked"))
        elif body:
            fields.append((b"content-length", b"%d" % len(body)))
        self._send(h11.Request(method=method.encode(), target=target.encode(), headers=fields))
        if body:
            self._send(h11.Data(data=body))
        if body is not None:
            self._send(h11.EndOfMessage())

    def send(self, data: bytes) -> None:
        self._send(h11.Data(data=data))

    def end(self) -> None:
        self._send(h11.EndOfMessage())

    def _send(self, event: Any) -> None:
        self._transport.write(self._h11.send(event))

    def pause(self) -> None:
        self._transport.pause_reading()

    def resume(self) -> None:
        self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self._h11.receive_data(data)
        self._events()

    def eof_received(self) -> bool:
        self._h11.receive_data(b"")
        self._events()
        return False

    def connection_lost(self, _error: Exception | None) -> None:
        self._chunks.put_nowait(None)
        if not self._head.done():
            self._head.set_exception(ConnectionResetError("no answer"))

    def _events(self) -> None:
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError:
                self._chunks.put_nowait(None)
                return
            if event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
                return
            if isinstance(event, h11.Response):
                self._head.set_result(event)
            elif isinstance(event, h11.Data):
                self._chunks.put_nowait(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self._chunks.put_nowait(None)

    async def head(self, seconds: float = 60.0) -> int:
        """Wait for status and headers."""
        async with asyncio.timeout(seconds):
            response = await self._head
        self.status = response.status_code
        self.headers = {name.decode(): value.decode() for name, value in response.headers}
        return self.status

    async def chunk(self, seconds: float = 60.0) -> bytes | None:
        """Some of the body, None at its end."""
        async with asyncio.timeout(seconds):
            return await self._chunks.get()

    async def line(self, seconds: float = 60.0) -> Any:
        """One line of a streaming answer, parsed."""
        chunk = await self.chunk(seconds)
        assert chunk is not None, "the stream has ended"
        while not chunk.endswith(b"\n"):
            more = await self.chunk(seconds)
            assert more is not None
            chunk += more
        assert chunk.count(b"\n") == 1, chunk
        return json.loads(chunk)

    async def rest(self, seconds: float = 60.0) -> bytes:
        """The whole body."""
        await self.head(seconds)
        parts = []
        while (chunk := await self.chunk(seconds)) is not None:
            parts.append(chunk)
        return b"".join(parts)

    def close(self) -> None:
        self._transport.abort()


Scenario = Callable[[Lab], Coroutine[Any, Any, None]]


def simulated(*, seed: int = 1, start: bool = True, **settings: Any) -> Callable[[Scenario], Any]:
    """Run an async test with a lab of its own; the member is started unless told otherwise."""

    def decorate(scenario: Scenario) -> Callable[[], None]:
        def test() -> None:
            with Simulation(seed) as sim:
                lab = Lab(sim, settings)

                async def run() -> None:
                    if start:
                        await lab.start()
                    await scenario(lab)
                    if lab.host.running:
                        lab.member.store.check()

                async def enter() -> None:
                    process = lab._client_process
                    assert process is not None
                    await process.spawn(run())

                sim.run(enter(), seconds_max=1e9)

        test.__name__ = scenario.__name__
        test.__doc__ = scenario.__doc__
        test.__module__ = scenario.__module__
        return test

    return decorate
