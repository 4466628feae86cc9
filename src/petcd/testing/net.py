"""A network in memory: ordered byte streams between named hosts, with delay, cuts and dead ends.

It behaves as TCP does. Bytes arrive once and in order or not at all; a cut link stalls a stream and its heal
lets it go on; a killed process's connections end with a reset, while a machine that lost its power says
nothing until it is up again and somebody writes to it. Links have a direction, so a cut may be one-way.
"""

from __future__ import annotations

import random
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from petcd.seams.net import Address, Connection
from petcd.testing.clock import Process, SimLoop

SOCKET_BUFFER: Final = 64 * 1024
"""Bytes on their way that the sender's kernel holds; what is beyond counts as the transport's buffer."""
SEGMENT: Final = 64 * 1024
"""Most bytes handed over in one call of ``data_received``."""
_LOCAL_NAMES: Final = frozenset({"", "0.0.0.0", "::", "127.0.0.1", "::1", "localhost"})


class LinkFaults:
    """How bytes travel from one host to another."""

    __slots__ = ("cut", "delay_max", "delay_min")

    def __init__(self) -> None:
        self.delay_min = 0.0001
        self.delay_max = 0.0005
        self.cut = False


class Network:
    """All hosts' links, listeners and connections."""

    def __init__(self, loop: SimLoop, rng: random.Random, *, note: Callable[[str, str], None]) -> None:
        self.loop = loop
        self._rng = rng
        self._note = note
        self._links: dict[tuple[str, str], LinkFaults] = {}
        self._names: dict[str, str] = {}
        self._listeners: dict[tuple[str, int], SimListener] = {}
        self._dark: set[str] = set()
        self._pipes: list[_Pipe] = []
        self._port = 40_000

    def add(self, host: str, *addresses: str) -> None:
        """Make a host reachable under its name and these addresses."""
        for name in (host, *addresses):
            self._names[name] = host

    def link(self, source: str, target: str) -> LinkFaults:
        return self._links.setdefault((source, target), LinkFaults())

    def cut(self, source: str, target: str) -> None:
        """Nothing arrives from ``source`` at ``target`` any more; the other way stays open."""
        self._note("net", f"cut {source}->{target}")
        self.link(source, target).cut = True

    def partition(self, one: set[str], other: set[str]) -> None:
        for source in sorted(one):
            for target in sorted(other):
                self.cut(source, target)
                self.cut(target, source)

    def heal(self) -> None:
        """Every link works again; what was held travels on."""
        self._note("net", "heal")
        for faults in self._links.values():
            faults.cut = False
        for pipe in list(self._pipes):
            pipe.pump()

    def darken(self, host: str) -> None:
        """The machine lost its power: its side of each connection is gone and says nothing."""
        self._dark.add(host)

    def lighten(self, host: str) -> None:
        self._dark.discard(host)

    def is_dark(self, host: str) -> bool:
        return host in self._dark

    def resolve(self, host: str, seen_from: str) -> str | None:
        if host in _LOCAL_NAMES:
            return seen_from
        return self._names.get(host)

    def delay(self, source: str, target: str) -> float:
        if source == target:
            return 0.00001
        faults = self.link(source, target)
        return faults.delay_min + (faults.delay_max - faults.delay_min) * self._rng.random()

    def is_cut(self, source: str, target: str) -> bool:
        faults = self._links.get((source, target))
        return faults is not None and faults.cut

    def listen(self, host: str, listener: SimListener) -> None:
        key = (host, listener.address.port)
        if key in self._listeners:
            raise OSError(98, "Address already in use")
        self._listeners[key] = listener

    def unlisten(self, host: str, listener: SimListener) -> None:
        key = (host, listener.address.port)
        if self._listeners.get(key) is listener:
            del self._listeners[key]

    def listener(self, host: str, port: int) -> SimListener | None:
        return self._listeners.get((host, port))

    def free_port(self) -> int:
        self._port += 1
        return self._port

    def track(self, pipe: _Pipe) -> None:
        self._pipes.append(pipe)

    def forget(self, pipe: _Pipe) -> None:
        if pipe in self._pipes:
            self._pipes.remove(pipe)

    def note(self, what: str) -> None:
        self._note("net", what)


class _Pipe:
    """One direction of a connection: what was written and has not arrived."""

    def __init__(self, network: Network, source: SimTransport, target: SimTransport) -> None:
        self._network = network
        self._source = source
        self._target = target
        self._queue: deque[bytes] = deque()
        self._arrived = 0.0
        self._ticking = False
        self.buffered = 0
        self.eof = False
        self.reset = False
        network.track(self)

    def write(self, data: bytes) -> None:
        self._queue.append(data)
        self.buffered += len(data)
        self.pump()

    def end(self) -> None:
        self.eof = True
        self.pump()

    def pump(self) -> None:
        """See that the next piece is on its way."""
        network, source, target = self._network, self._source, self._target
        if self._ticking or target.reading_paused or target.lost:
            if target.lost and not source.lost and (self._queue or self.eof) and target.refuses():
                source.peer_reset()
            return
        if not self._queue and not self.eof and not self.reset:
            return
        if network.is_cut(source.host, target.host):
            return
        self._ticking = True
        loop = network.loop
        self._arrived = max(self._arrived, loop.now + network.delay(source.host, target.host))
        loop.call_outside(self._arrived, self._arrive)

    def _arrive(self) -> None:
        self._ticking = False
        network, source, target = self._network, self._source, self._target
        if network.is_cut(source.host, target.host) or target.reading_paused:
            return
        if target.lost:
            self.pump()
            return
        if self.reset:
            network.forget(self)
            target.lose(ConnectionResetError("connection reset by peer"))
            return
        if self._queue:
            pieces: list[bytes] = []
            total = 0
            while self._queue and total < SEGMENT:
                piece = self._queue.popleft()
                room = SEGMENT - total
                if len(piece) > room:
                    self._queue.appendleft(piece[room:])
                    piece = piece[:room]
                pieces.append(piece)
                total += len(piece)
            self.buffered -= total
            target.deliver(b"".join(pieces))
            source.drained()
        elif self.eof:
            network.forget(self)
            target.deliver_eof()
            return
        self.pump()


class SimTransport:
    """One end of a connection."""

    def __init__(self, network: Network, process: Process, local: Address, remote: Address) -> None:
        self._network = network
        self._process = process
        self.host = process.name
        self.local = local
        self.remote = remote
        self.reading_paused = False
        self.lost = False
        self._closing = False
        self._writing_paused = False
        self._leaves_when_drained = False
        self._high = 64 * 1024
        self._low = 16 * 1024
        self._connection: Connection | None = None
        self._out: _Pipe | None = None
        self._peer: SimTransport | None = None

    def attach(self, peer: SimTransport, out: _Pipe) -> None:
        self._peer = peer
        self._out = out
        self._process.at_death(self._died)

    def open(self, factory: Callable[[], Connection]) -> None:
        """Make the protocol; runs within this end's process."""
        self._connection = factory()
        self._connection.connection_made(self)

    # What the protocol may do.

    def write(self, data: bytes, /) -> None:
        if self.lost or self._closing or not data or not self._process.alive:
            return
        assert self._out is not None
        self._out.write(bytes(data))
        if not self._writing_paused and self.get_write_buffer_size() > self._high:
            self._writing_paused = True
            if self._connection is not None:
                self._connection.pause_writing()

    def writelines(self, pieces: list[bytes], /) -> None:
        self.write(b"".join(pieces))

    def write_eof(self) -> None:
        if self._out is not None and not self._closing:
            self._out.end()

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        if self._closing or self.lost:
            return
        self._closing = True
        if self._out is not None:
            self._out.end()
        if self.get_write_buffer_size():
            self._leaves_when_drained = True
            return
        self._network.loop.call_soon(self.lose, None, context=self._process.context)

    def abort(self) -> None:
        if self.lost:
            return
        self._closing = True
        if self._out is not None:
            self._out.reset = True
            self._out.pump()
        self._network.loop.call_soon(self.lose, None, context=self._process.context)

    def is_closing(self) -> bool:
        return self._closing or self.lost

    def pause_reading(self) -> None:
        self.reading_paused = True

    def resume_reading(self) -> None:
        self.reading_paused = False
        if self._peer is not None and self._peer._out is not None:
            self._peer._out.pump()

    def is_reading(self) -> bool:
        return not self.reading_paused and not self._closing

    def get_write_buffer_size(self) -> int:
        return max(0, self._out.buffered - SOCKET_BUFFER) if self._out is not None else 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 64 * 1024 if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_extra_info(self, name: str, default: Any = None, /) -> Any:
        if name == "peername":
            return tuple(self.remote)
        if name == "sockname":
            return tuple(self.local)
        return default

    def set_protocol(self, connection: Connection) -> None:
        self._connection = connection

    def get_protocol(self) -> Connection | None:
        return self._connection

    # What the network does.

    def deliver(self, data: bytes) -> None:
        if not self.lost:
            self._tell("data_received", data)

    def deliver_eof(self) -> None:
        if self.lost:
            return
        self._network.loop.call_soon(self._on_eof, context=self._process.context)

    def _on_eof(self) -> None:
        if not self.lost and self._connection is not None and not self._connection.eof_received():
            self.close()

    def drained(self) -> None:
        if self._writing_paused and self.get_write_buffer_size() <= self._low:
            self._writing_paused = False
            self._tell("resume_writing")
        if self._leaves_when_drained and not self.get_write_buffer_size():
            self._leaves_when_drained = False
            self.lose(None)

    def refuses(self) -> bool:
        """Whether this end's machine is up and answers bytes for a dead connection with a reset."""
        return not self._network.is_dark(self.host)

    def peer_reset(self) -> None:
        loop = self._network.loop
        loop.call_outside(loop.now, self.lose, ConnectionResetError("connection reset by peer"))

    def lose(self, error: Exception | None) -> None:
        if self.lost:
            return
        self.lost = True
        self._closing = True
        if self._process.alive:
            self._tell("connection_lost", error)

    def _died(self) -> None:
        """The process is gone; its kernel resets the connection, unless the machine went dark with it."""
        if self.lost:
            return
        self.lost = True
        self._closing = True
        out = self._out
        if out is not None:
            if self._network.is_dark(self.host):
                self._network.forget(out)
            else:
                out.reset = True
                out.pump()

    def _tell(self, method: str, *args: Any) -> None:
        """Call the protocol within its process."""
        self._network.loop.call_soon(self._call, method, args, context=self._process.context)

    def _call(self, method: str, args: tuple[Any, ...]) -> None:
        if self._connection is None or (method == "data_received" and self._closing):
            return
        getattr(self._connection, method)(*args)


class SimListener:
    """A port somebody listens on."""

    def __init__(
        self, network: Network, process: Process, address: Address, factory: Callable[[], Connection]
    ) -> None:
        self._network = network
        self.process = process
        self._address = address
        self.factory = factory
        process.at_death(self.close)

    @property
    def address(self) -> Address:
        return self._address

    def close(self) -> None:
        self._network.unlisten(self.process.name, self)


class SimNet:
    """The network as one process sees it."""

    def __init__(self, process: Process, network: Network) -> None:
        self._process = process
        self._network = network

    async def listen(
        self,
        address: Address,
        factory: Callable[[], Connection],
        *,
        tls: ssl.SSLContext | None = None,
        handshake_seconds_max: float = 10.0,
    ) -> SimListener:
        _no_tls(tls)
        network, process = self._network, self._process
        if network.resolve(address.host, process.name) != process.name:
            raise OSError(99, "Cannot assign requested address")
        port = address.port or network.free_port()
        listener = SimListener(network, process, Address(address.host, port), factory)
        network.listen(process.name, listener)
        return listener

    async def connect(
        self,
        address: Address,
        factory: Callable[[], Connection],
        *,
        tls: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> SimTransport:
        _no_tls(tls)
        network, process = self._network, self._process
        loop = network.loop
        source = process.name
        target = network.resolve(address.host, source)
        if target is None:
            raise OSError(-2, f"unknown host {address.host}")
        done = loop.create_future()

        def arrive() -> None:
            if done.done() or not process.alive:
                return
            if network.is_cut(source, target) or network.is_cut(target, source) or network.is_dark(target):
                loop.call_at(loop.now + 1.0, arrive)  # the SYN is sent again
                return
            listener = network.listener(target, address.port)
            if listener is None or not listener.process.alive:
                done.set_exception(ConnectionRefusedError(111, f"connection refused by {address.host}"))
                return
            done.set_result(self._join(listener, factory, address))

        loop.call_at(loop.now + network.delay(source, target) + network.delay(target, source), arrive)
        transport: SimTransport = await done
        return transport

    def _join(
        self, listener: SimListener, factory: Callable[[], Connection], address: Address
    ) -> SimTransport:
        network = self._network
        there_process = listener.process
        local = Address(self._process.name, network.free_port())
        here = SimTransport(network, self._process, local, address)
        there = SimTransport(network, there_process, Address(there_process.name, address.port), local)
        here.attach(there, _Pipe(network, here, there))
        there.attach(here, _Pipe(network, there, here))
        network.note(f"connect {local.host}:{local.port} -> {there_process.name}:{address.port}")
        network.loop.call_soon(there.open, listener.factory, context=there_process.context)
        self._process.run(here.open, factory)
        return here


def _no_tls(tls: ssl.SSLContext | None) -> None:
    if tls is not None:
        raise ValueError("the simulated network carries no TLS")
