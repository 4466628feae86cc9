"""Listeners and connections of a member: bytes between the Net seam and the protocol machines.

One port speaks everything: the first bytes decide between HTTP/2 (gRPC) and HTTP/1.1, below TLS if there is
any. An edge only collects and delivers: it hands what arrives to the machines, which call the handlers, and
``flush`` writes every connection that has something to say once. The drive loop calls ``flush`` at the end
of a turn; where nobody does, the edge has scheduled it itself.

Bounds: a connection that does not take its answers is not read any further (``unsent_bytes_high``); one
that says nothing within ``handshake_seconds_max`` is closed; one that takes nothing for
``stalled_seconds_max`` is closed; a silent one is pinged after ``keepalive_interval_seconds``.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Final

from petcd.errors import Code
from petcd.logs import NULL, Logger
from petcd.net.deadlines import TICK_SECONDS
from petcd.net.grpc.router import Router
from petcd.net.grpc.server import GrpcServerConnection, Service
from petcd.net.http import HttpRouter
from petcd.net.http1 import Http1Connection, Http1Limits
from petcd.net.http2.frames import ENHANCE_YOUR_CALM, PREFACE, SETTINGS_TIMEOUT
from petcd.net.http2.limits import Limits
from petcd.net.http_streams import opener
from petcd.seams.net import Address, Listener
from petcd.seams.world import World

_LINGER_SECONDS: Final = 0.2
"""A refused connection is read and discarded so long: a reset must not overtake our last words."""
_CLOSE_SECONDS_MAX: Final = 5.0
_SWEEPS_PER_ROUND: Final = 5
"""Every so many sweeps all connections are looked at (keepalive, stalls); young ones at each."""
STOPPED_TEXT: Final = "etcdserver: server stopped"


class EdgeConnection:
    """One accepted socket; an ``asyncio`` protocol."""

    __slots__ = (
        "_admit",
        "_edge",
        "_grpc",
        "_http",
        "_tls",
        "_transport",
        "bytes_in",
        "bytes_out",
        "closing",
        "machine",
        "opened_at",
        "seen_bytes",
        "sniffed",
    )

    def __init__(
        self, edge: Edge, grpc: bool, http: bool, tls: bool, admit: Callable[[Any], str | None] | None
    ) -> None:
        self._edge = edge
        self._admit = admit
        self._grpc = grpc
        self._http = http
        self._tls = tls
        self._transport: Any = None
        self.machine: Any = None
        self.sniffed = b""
        self.opened_at = 0.0
        self.bytes_in = 0
        self.bytes_out = 0
        self.seen_bytes = 0
        self.closing = False

    # ---- asyncio's protocol

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        limits = self._edge.limits
        transport.set_write_buffer_limits(limits.unsent_bytes_high, limits.unsent_bytes_low)
        if self._admit is not None:
            refusal = self._admit(transport)
            if refusal is not None:
                self._edge.rejected(transport, refusal)
                self.abort()
                return
        self._edge.opened(self)

    def data_received(self, data: bytes) -> None:
        self.bytes_in += len(data)
        machine = self.machine
        if machine is None:
            if self.closing:
                return
            self._sniff(data)
        else:
            machine.receive(data)
            if machine.failed and not self.closing:
                self.write()

    def eof_received(self) -> bool:
        machine = self.machine
        if isinstance(machine, Http1Connection):
            machine.eof()
            return not machine.finished
        return False

    def connection_lost(self, _error: Exception | None) -> None:
        self.closing = True
        machine = self.machine
        if machine is not None:
            machine.lost()
            # No cycle may outlive the connection: the collector does not look at old objects.
            machine.owner = None
            self.machine = None
        self._edge.closed(self)
        self._transport = None

    def pause_writing(self) -> None:
        if self.machine is not None and not self.closing:
            self.machine.pause()
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self.machine is not None and not self.closing:
            self._transport.resume_reading()
            self.machine.resume()

    # ---- for the machines

    def unwritten_bytes(self) -> int:
        size: int = self._transport.get_write_buffer_size()
        return size

    def extra_info(self, name: str) -> Any:
        return self._transport.get_extra_info(name)

    def set_reading(self, reading: bool) -> None:
        if self._transport is None or self.closing:
            return
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    # ---- for the edge

    def _sniff(self, data: bytes) -> None:
        """The preface's first 3 bytes are no HTTP/1.1 method (PRI is reserved)."""
        data = self.sniffed + data
        edge = self._edge
        if len(data) < 3 and PREFACE.startswith(data):
            self.sniffed = data
            return
        self.sniffed = b""
        peer = _peer_name(self._transport)
        if data[:3] == PREFACE[:3] and self._grpc:
            machine: Any = GrpcServerConnection(edge.service, peer, http=self._tls and self._http)
            machine.owner = self
            self.machine = machine
            machine.start()
        elif self._http and edge.http is not None:
            machine = Http1Connection(
                edge.http, edge.http1_limits, edge.now, edge.wake, peer, self._tls, edge.report_bug
            )
            machine.owner = self
            self.machine = machine
            edge.grown_up(self)
        else:
            self.close()
            return
        machine.receive(data)
        if machine.failed:
            self.write()

    def write(self) -> None:
        """Write what the machine has to say, and close when that was its last."""
        machine = self.machine
        if self.closing:
            machine.out.clear()
            return
        if machine.out:
            data = machine.take()
            self.bytes_out += len(data)
            self._transport.write(data)
        if machine.failed:
            self.closing = True
            self._edge.later(_LINGER_SECONDS, self.close)
        elif machine.finished:
            self.close()

    def write_now(self, data: bytes) -> int:
        """Write what no machine has to keep. Returns the bytes that the other side has yet to take."""
        if self.closing:
            return 0
        self.bytes_out += len(data)
        transport = self._transport
        transport.write(data)
        size: int = transport.get_write_buffer_size()
        return size

    def close(self) -> None:
        self.closing = True
        transport = self._transport
        if transport is None:
            return  # lost already
        transport.close()
        self._edge.later(_CLOSE_SECONDS_MAX, transport.abort)

    def abort(self) -> None:
        self.closing = True
        if self._transport is not None:
            self._transport.abort()


class Edge:
    """The connections of one member, or of one kind of listener of it."""

    def __init__(
        self,
        world: World,
        router: Router,
        *,
        limits: Limits | None = None,
        http: HttpRouter | None = None,
        http1_limits: Http1Limits | None = None,
        logger: Logger = NULL,
        sweep_seconds: float = 1.0,
    ) -> None:
        self._sweep_seconds = sweep_seconds
        self._clock = world.clock
        self._net = world.net
        self._logger = logger
        self.limits = limits if limits is not None else Limits()
        self.http = http
        self.http1_limits = http1_limits if http1_limits is not None else Http1Limits()
        self.now: Callable[[], float] = world.clock.monotonic
        self.service = Service(router, self.limits, self.now, self.wake, self.report_bug)
        self.service.deadlines.on_first = self._arm_deadlines
        self._expiring = False
        """The timer of the deadlines runs. A lone client's calls come and go while it does."""
        if http is not None:
            self.service.on_http = opener(http)
        self._dirty: list[Any] = []
        self._flush_due = False
        self._connections: dict[EdgeConnection, None] = {}
        self._young: dict[EdgeConnection, None] = {}
        self._listeners: list[Listener] = []
        self._sweeping = False
        self._sweeps = 0
        self._draining = False
        self._drained: Callable[[], None] | None = None
        self.accepted_count = 0
        self._closed_bytes_in = 0
        self._closed_bytes_out = 0

    # ---- listening

    async def listen(
        self,
        address: Address,
        *,
        tls: ssl.SSLContext | None = None,
        grpc: bool = True,
        http: bool = True,
        admit: Callable[[Any], str | None] | None = None,
    ) -> Listener:
        """Accept connections at ``address``. Raises OSError when it is taken.

        ``admit`` looks at each new transport and returns a reason to refuse it (certificate revoked, name not
        allowed), or None.
        """
        secure = tls is not None
        listener = await self._net.listen(
            address,
            lambda: EdgeConnection(self, grpc, http, secure, admit),
            tls=tls,
            handshake_seconds_max=self.limits.handshake_seconds_max,
        )
        self._listeners.append(listener)
        return listener

    # ---- writing

    def wake(self, machine: Any) -> None:
        """A machine has its first bytes to send."""
        self._dirty.append(machine)
        if not self._flush_due:
            self._flush_due = True
            self._clock.call_soon(self._flush_soon)

    def _flush_soon(self) -> None:
        self._flush_due = False
        self.flush()

    def flush(self) -> None:
        """Write every connection that has something to say, once."""
        while self._dirty:
            dirty, self._dirty = self._dirty, []
            for machine in dirty:
                owner = machine.owner
                if owner is not None:
                    owner.write()

    # ---- connections

    @property
    def open_count(self) -> int:
        return len(self._connections)

    @property
    def bytes_in(self) -> int:
        """Received over all connections ever."""
        return self._closed_bytes_in + sum(c.bytes_in for c in self._connections)

    @property
    def bytes_out(self) -> int:
        return self._closed_bytes_out + sum(c.bytes_out for c in self._connections)

    def opened(self, connection: EdgeConnection) -> None:
        if self._draining:
            connection.abort()
            return
        self.accepted_count += 1
        connection.opened_at = self.now()
        self._connections[connection] = None
        self._young[connection] = None
        if not self._sweeping:
            self._sweeping = True
            self._clock.call_later(self._sweep_seconds, self._sweep)

    def rejected(self, transport: Any, reason: str) -> None:
        self._logger.warn("rejected connection", **{"remote-addr": _peer_name(transport), "error": reason})

    def grown_up(self, connection: EdgeConnection) -> None:
        """It has shown what it is: the handshake's deadline is off."""
        self._young.pop(connection, None)

    def closed(self, connection: EdgeConnection) -> None:
        if self._connections.pop(connection, 0) is None:
            self._young.pop(connection, None)
            self._closed_bytes_in += connection.bytes_in
            self._closed_bytes_out += connection.bytes_out
        if self._drained is not None and not self._connections:
            self._drained()

    def later(self, seconds: float, callback: Callable[[], object]) -> None:
        self._clock.call_later(seconds, callback)

    def report_bug(self, path: bytes, error: Exception) -> None:
        """A handler raised what it should not: its call was failed, the member goes on."""
        self._logger.error(
            "request handler failed",
            path=path.decode("utf-8", "replace"),
            error=f"{type(error).__name__}: {error}",
        )

    # ---- time

    def _arm_deadlines(self) -> None:
        if not self._expiring:
            self._expiring = True
            self._clock.call_later(TICK_SECONDS, self._expire)

    def _expire(self) -> None:
        deadlines = self.service.deadlines
        try:
            deadlines.expire(self.now())
        finally:
            self._expiring = deadlines.pending
            if self._expiring:
                self._clock.call_later(TICK_SECONDS, self._expire)

    def _sweep(self) -> None:
        if not self._connections:
            self._sweeping = False
            return
        self._clock.call_later(self._sweep_seconds, self._sweep)
        now = self.now()
        self._sweep_young(now)
        self._sweeps += 1
        if self._sweeps % _SWEEPS_PER_ROUND == 0:
            for connection in list(self._connections):
                if not connection.closing:
                    self._look_after(connection, now)

    def _sweep_young(self, now: float) -> None:
        latest = now - self.limits.handshake_seconds_max
        grown, late = [], []
        for connection in self._young:
            machine = connection.machine
            if machine is not None and machine.settings_seen:
                grown.append(connection)
            elif connection.opened_at <= latest:
                late.append(connection)
            else:
                break  # the rest is younger still
        for connection in grown:
            del self._young[connection]
        for connection in late:
            del self._young[connection]
            if connection.closing:
                continue
            if connection.machine is None:
                connection.close()
            else:
                connection.machine.fail(SETTINGS_TIMEOUT, "no SETTINGS in time")

    def _look_after(self, connection: EdgeConnection, now: float) -> None:
        machine = connection.machine
        if isinstance(machine, Http1Connection):
            if (machine.deadline and now >= machine.deadline) or (
                machine.stalled_since and now >= machine.stalled_since + self.http1_limits.stalled_seconds_max
            ):
                connection.abort()
            return
        if not isinstance(machine, GrpcServerConnection):
            return
        heard = connection.bytes_in != connection.seen_bytes
        connection.seen_bytes = connection.bytes_in
        if (machine.senders or machine.paused) and now >= (
            machine.stalled_since + self.limits.stalled_seconds_max
        ):
            if machine.paused:
                connection.abort()
            else:
                machine.fail(ENHANCE_YOUR_CALM, "answers are not being read")
        elif not machine.keepalive(now, heard):
            connection.abort()

    # ---- the end

    async def drain(self, seconds_max: float) -> None:
        """Accept no more, let unary calls finish, end the streams; what is left after ``seconds_max`` is
        cut."""
        self._draining = True
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for connection in list(self._connections):
            machine = connection.machine
            if machine is None:
                connection.close()
                continue
            machine.drain()
            if isinstance(machine, GrpcServerConnection):
                machine.end_streams(Code.UNAVAILABLE, STOPPED_TEXT)
        self.flush()
        if not self._connections:
            return
        done = asyncio.get_running_loop().create_future()

        def finish() -> None:
            if not done.done():
                done.set_result(None)

        self._drained = finish
        hurry = self._clock.call_later(min(1.0, seconds_max / 2), self._hurry_drain)
        limit = self._clock.call_later(seconds_max, finish)
        try:
            await done
        finally:
            hurry.cancel()
            limit.cancel()
            self._drained = None
            self.abort()

    def _hurry_drain(self) -> None:
        for connection in list(self._connections):
            if isinstance(connection.machine, GrpcServerConnection):
                connection.machine.hurry_drain()

    def abort(self) -> None:
        """Cut everything now."""
        self._draining = True
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for connection in list(self._connections):
            connection.abort()


def _peer_name(transport: Any) -> str:
    name = transport.get_extra_info("peername")
    if isinstance(name, tuple) and len(name) >= 2:
        host, port = name[0], name[1]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return str(name) if name else ""
