"""Transports on a network, with receivers that note what they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import h11

from petcd.logs import Level, Logger
from petcd.net.edge import Edge
from petcd.net.grpc import Router
from petcd.net.http import HttpRouter
from petcd.peer import PeerTransport
from petcd.raft import Message
from petcd.seams import Address, File, World
from petcd.storage.snapshots import Snapshotter
from petcd.testing.world import Simulation

CLUSTER = 0xC1


class Receiver:
    """Notes everything; ``verdict`` is what it says of snapshots."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.snapshots: list[Message] = []
        self.unreachable: list[int] = []
        self.refused: list[int] = []
        self.removed_ids: set[int] = set()
        self.removals = 0
        self.verdict = ""
        self.on_message: Callable[[Message], object] | None = None

    def receive(self, messages: Sequence[Message]) -> None:
        self.messages += messages
        if self.on_message is not None:
            for message in messages:
                self.on_message(message)

    def receive_snapshot(self, message: Message, done: Callable[[str], object]) -> None:
        self.snapshots.append(message)
        done(self.verdict)

    def is_removed(self, member_id: int) -> bool:
        return member_id in self.removed_ids

    def report_unreachable(self, member_id: int) -> None:
        self.unreachable.append(member_id)

    def on_refused(self, member_id: int) -> None:
        self.refused.append(member_id)

    def on_removed(self) -> None:
        self.removals += 1


def check_magic(file: File) -> None:
    """Stands for the check of a database."""
    if file.pread(2, 0) != b"DB":
        raise ValueError("not a database")


class Station:
    """One member's transport and its listener."""

    def __init__(
        self,
        world: World,
        member_id: int,
        url: str,
        *,
        directory: str = "snap",
        cluster_id: int = CLUSTER,
        **options: Any,
    ) -> None:
        self.world = world
        self.id = member_id
        self.url = url
        self.receiver = Receiver()
        self.logged: list[tuple[Level, str, dict[str, Any]]] = []
        world.disk.mkdir(directory)
        self.transport = PeerTransport(
            world,
            Logger(lambda level, text, fields: self.logged.append((level, text, dict(fields)))),
            member_id=member_id,
            cluster_id=cluster_id,
            own_urls=[url],
            election_seconds=1.0,
            receiver=self.receiver,
            snapshotter=Snapshotter(world.disk, directory),
            check_database=check_magic,
            **options,
        )
        self.router = HttpRouter()
        self.transport.add_to(self.router)
        self.edge = Edge(world, Router(), http=self.router)

    def texts(self) -> list[str]:
        return [text for _, text, _ in self.logged]

    async def listen(self, port: int) -> None:
        await self.edge.listen(Address("", port), grpc=False)

    def send(self, *messages: Message) -> None:
        self.transport.send(messages)
        self.transport.flush()

    def all_up(self, other: int) -> bool:
        peer = self.transport.peer(other)
        return peer is not None and peer.streams == (True,) * 4


class Cluster:
    """Stations 1..n on the simulated network, that know each other unless told otherwise."""

    def __init__(self, sim: Simulation, count: int, *, acquainted: bool = True, **options: Any) -> None:
        self.sim = sim
        self.options = options
        self.stations: dict[int, Station] = {}
        for number in range(1, count + 1):
            self.boot(number)
        if acquainted:
            for one in self.stations.values():
                self.introduce(one)

    def boot(self, number: int, **options: Any) -> Station:
        host = self.sim.host(f"m{number}", f"10.0.0.{number}")
        world = host.boot()
        process = host.process
        assert process is not None
        station = process.run(
            lambda: Station(world, number, f"http://10.0.0.{number}:2380", **self.options, **options)
        )
        process.run(world.disk.sync_dir, "")
        self.stations[number] = station
        self.sim.run(self.within(number, station.listen(2380)))
        return station

    def introduce(self, station: Station) -> None:
        for other in self.stations.values():
            if other is not station:
                self.on(station.id, station.transport.add, other.id, [other.url])

    async def within(self, number: int, coroutine: Coroutine[Any, Any, Any]) -> Any:
        process = self.sim.hosts[f"m{number}"].process
        assert process is not None
        return await process.spawn(coroutine)

    def on(self, number: int, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a function of that member, within its process and its loop."""

        async def call() -> Any:
            return function(*args, **options)

        return self.sim.run(self.within(number, call()))

    def settle(self) -> None:
        """Until all streams are up."""
        self.sim.run_until(
            lambda: all(
                one.all_up(two.id)
                for one in self.stations.values()
                for two in self.stations.values()
                if one is not two
            ),
            seconds_max=10,
        )

    def __getitem__(self, number: int) -> Station:
        return self.stations[number]


class Caller:
    """A bare HTTP/1.1 client outside the cluster."""

    def __init__(self, sim: Simulation) -> None:
        host = sim.host("caller", "10.9.9.9")
        self.world = host.world if host.running and host.world is not None else host.boot()
        self.process = host.process
        self.sim = sim

    def raw(self, data: bytes, *, to: int = 1, seconds: float = 2.0, then_cut: bool = False) -> bytes:
        """Send bytes; what has come back when the other side closes or time is up."""
        wire = Wire()

        async def run() -> None:
            await self.world.net.connect(Address(f"10.0.0.{to}", 2380), lambda: wire)
            wire.transport.write(data)
            if then_cut:
                await asyncio.sleep(0.2)
                wire.transport.abort()
            for _ in range(int(seconds * 100)):
                if wire.ended:
                    break
                await asyncio.sleep(0.01)
            wire.transport.abort()

        async def outside() -> None:
            assert self.process is not None
            await self.process.spawn(run())

        self.sim.run(outside())
        return bytes(wire.data)

    def ask(
        self,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        *,
        to: int = 1,
        seconds: float = 1.0,
    ) -> tuple[int, dict[str, str], bytes]:
        """One request; status, headers and what came of the body."""
        client = h11.Connection(h11.CLIENT)
        fields = [("Host", "x"), *headers]
        if body is not None:
            fields.append(("Content-Length", str(len(body))))
        data = client.send(h11.Request(method=method, target=target, headers=fields)) or b""
        if body:
            data += client.send(h11.Data(data=body)) or b""
        data += client.send(h11.EndOfMessage()) or b""
        client.receive_data(self.raw(data, to=to, seconds=seconds))
        status, head, out = 0, {}, b""
        while True:
            event = client.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
                head = {k.decode(): v.decode() for k, v in event.headers}
            elif isinstance(event, h11.Data):
                out += bytes(event.data)
            else:
                return status, head, out


class Wire:
    """One end of a connection that only notes."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.data = bytearray()
        self.ended = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> bool:
        self.ended = True
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.ended = True

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


def raft_headers(sender: int = 2, *, cluster_id: int = CLUSTER, **changes: str) -> list[tuple[str, str]]:
    """Those of a proper member; ``changes`` with underscores for hyphens, "" leaves one out."""
    fields = {
        "X-Etcd-Cluster-Id": f"{cluster_id:x}",
        "X-Server-From": f"{sender:x}",
        "X-Server-Version": "3.4.23",
        "X-Min-Cluster-Version": "3.0.0",
        "X-Raft-To": "1",
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    return [(name, value) for name, value in fields.items() if value]
