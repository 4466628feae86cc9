"""The client's side of one gRPC connection, on asyncio: the same HTTP/2 machine in its other role.

    conn = await ClientConnection.connect(Address("127.0.0.1", 2379))
    answer = await conn.unary(b"/etcdserverpb.KV/Range", request.encode(), timeout=5.0)
    stream = conn.stream(b"/etcdserverpb.Watch/Watch")
    stream.send(create.encode())
    async for message in stream: ...

A call ends in one of three ways: its answer; ``petcd.errors.EtcdError`` with the status the server gave; or
``TransportFailure`` (an ``EtcdError`` with code UNAVAILABLE, or DEADLINE_EXCEEDED), when the server did not
say. ``sent`` on it says whether the server may have acted on the call: where it is False, trying again
elsewhere is safe whatever the call does.

There is one future per unary call and no task. A call that is alone leaves at once; what several calls send
in one iteration of the loop leaves in a few writes. Nothing here needs more than ``hpack`` and the standard
library.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from petcd.errors import Code
from petcd.net.deadlines import TICK_SECONDS, Deadlines
from petcd.net.grpc.answers import ENDLESS_SECONDS, AnswerParser, Request, request_fields
from petcd.net.grpc.client_calls import ClientCall, ClientStream, TransportFailure, UnaryCall
from petcd.net.grpc.status import MESSAGE_FRAME, MESSAGE_PREFIX
from petcd.net.http2 import frames
from petcd.net.http2.frames import FRAME
from petcd.net.http2.limits import Limits
from petcd.seams.net import Address

if TYPE_CHECKING:
    import ssl

Metadata = Sequence[tuple[bytes, bytes]]

CLIENT_LIMITS: Final = Limits(
    message_bytes_max=(1 << 31) - 1,
    stream_window_bytes=4 << 20,
    connection_window_bytes=16 << 20,
    keepalive_interval_seconds=0.0,
    resets_burst=1e9,
    idle_frames_burst=1e6,
    settings_burst=1e4,
)
"""A client trusts its server more than the other way round, and takes answers of any size."""

_KEEPALIVE_ROUND: Final = 4
_READ_BYTES: Final = 1 << 16
_RECORD_BYTES: Final = 1 << 15
"""More than TLS can have decrypted of a record that has not come whole."""
_PARTS_EARLY: Final = 64
_PARTS_MAX: Final = 1024
"""Of what is to be sent, four to a call: so many leave before the turn's end, and twice as many each time
after that. The server works on the first while we make the rest; with a hundred calls at once that doubles
what gets done."""
USER_AGENT: Final = b"petcd"
_DISOWNED: Final[list[ClientConnection]] = []
"""Kept, because asyncio's transports close their sockets when they are forgotten."""


class ClientMachine(AnswerParser):
    """The client's role of the HTTP/2 machine."""

    __slots__ = ("conn",)

    def __init__(
        self, limits: Limits, now: Callable[[], float], wake: Callable[[Any], object], conn: ClientConnection
    ) -> None:
        super().__init__(limits, now, wake)
        self.conn = conn

    def on_settings(self, first: bool) -> None:
        if first:
            self.conn.established()
        self.conn.start_waiting()

    def on_failed(self, code: int, text: str) -> None:
        self.conn.lose(f"{frames.error_name(code)}: {text}")

    def on_goaway(self, last_sid: int, code: int, text: bytes) -> None:
        self.conn.going_away(last_sid, code, text)


class ClientConnection(asyncio.BufferedProtocol):
    """One connection to one server; an ``asyncio`` protocol. Make it with ``connect``.

    It brings the buffer that the socket is read into: to read into bytes of its own, asyncio maps and unmaps
    256 kB of memory each time, a fifth of what a lone call costs.
    """

    def __init__(
        self,
        *,
        authority: str = "localhost",
        secure: bool = False,
        limits: Limits = CLIENT_LIMITS,
        user_agent: bytes = USER_AGENT,
        keepalive_seconds: float = 0.0,
        keepalive_timeout_seconds: float = 20.0,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._loop = loop if loop is not None else asyncio.get_running_loop()
        self._authority = authority.encode()
        self._scheme = b"https" if secure else b"http"
        self._user_agent = user_agent
        self._keepalive = keepalive_seconds
        self._keepalive_timeout = keepalive_timeout_seconds
        self._transport: Any = None
        self._parts_max = _PARTS_EARLY
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._new_future: Callable[[], asyncio.Future[bytes]] = self._loop.create_future
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self.waiting: deque[ClientCall] = deque()
        """Calls that may not be sent yet: the server bounds the streams of a connection."""
        self.deadlines = Deadlines()
        self.deadlines.on_first = self._arm_deadlines
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._keepalive_timer: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self._pinged_at = 0.0
        self._failure: str | None = None
        self._lasting = 0
        """Streams under way that are not unary calls."""
        self.usable = True
        """New calls can be made: neither closed nor draining."""
        self.closed = False
        """No call can be made and none is under way."""
        self.draining = False
        """The server wants no new calls here (or the stream ids are used up); those under way go on."""
        self.on_closed: Callable[[], object] | None = None
        """Told once when the connection has become useless: closed, or draining."""
        self.machine = ClientMachine(limits, self._loop.time, self._wake, self)

    @classmethod
    async def connect(
        cls,
        address: Address,
        *,
        tls: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        authority: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the name every client uses
        net: Any = None,
        **options: Any,
    ) -> ClientConnection:
        """Connect and wait for the server's SETTINGS. ``net`` is a Net seam; the loop's own by default.

        Raises TransportFailure (``sent`` False) when nobody answers, or not in HTTP/2, or not within
        ``timeout``.
        """
        host = server_hostname or address.host
        if authority is None:
            authority = "localhost" if address.port < 0 else f"{host}:{address.port}"
        conn = cls(authority=authority, secure=tls is not None, **options)
        try:
            async with asyncio.timeout(timeout):
                await conn._open(address, tls, server_hostname, net)
                await conn._ready
        except TimeoutError:
            conn.close()
            text = 'connection error: desc = "transport: timed out while connecting"'
            raise TransportFailure(Code.UNAVAILABLE, text, sent=False) from None
        except OSError as error:
            conn.close()
            text = f'connection error: desc = "transport: Error while dialing: {error}"'
            raise TransportFailure(Code.UNAVAILABLE, text, sent=False) from error
        except BaseException:
            conn.close()
            raise
        return conn

    async def _open(
        self, address: Address, tls: ssl.SSLContext | None, server_hostname: str | None, net: Any
    ) -> None:
        if net is not None:
            await net.connect(address, lambda: self, tls=tls, server_hostname=server_hostname)
            return
        name = (server_hostname or address.host or "localhost") if tls is not None else None
        make: Any = lambda: self  # noqa: E731 - asyncio wants a factory
        if address.port < 0:
            await self._loop.create_unix_connection(make, address.host, ssl=tls, server_hostname=name)
        else:
            await self._loop.create_connection(
                make, address.host, address.port, ssl=tls, server_hostname=name
            )

    # ---- calls

    @property
    def active_count(self) -> int:
        """Calls under way or waiting to start."""
        return len(self.machine.streams) + len(self.waiting)

    async def unary(
        self,
        path: bytes,
        message: bytes,
        *,
        metadata: Metadata = (),
        timeout: float | None = None,  # noqa: ASYNC109 - the server is told it, it is not only a wait
    ) -> bytes:
        """One call, one answer. Cancelling the task cancels the call. Raises EtcdError (see the head)."""
        call = self.start(
            path, message, metadata, timeout, None if timeout is None else self._loop.time() + timeout
        )
        try:
            return await call.future
        except asyncio.CancelledError:
            self.drop(call)
            raise

    def start(
        self,
        path: bytes,
        message: bytes,
        metadata: Metadata,
        timeout: float | None,
        deadline: float | None,
    ) -> UnaryCall:
        """``unary`` for who awaits the call's ``future``, and drops the call when that is cancelled.

        The server is told ``timeout``; ``deadline`` is the loop's time at which we give up. Raises
        TransportFailure.
        """
        call = UnaryCall(self, self._new_future())
        self._begin(call, path, message, metadata, timeout, deadline)
        return call

    def stream(self, path: bytes, *, metadata: Metadata = (), timeout: float | None = None) -> ClientStream:
        """Open a streaming call. A connection that is no longer usable shows in the first ``recv`` or
        ``send``."""
        stream = ClientStream(self)
        try:
            deadline = None if timeout is None else self._loop.time() + timeout
            self._begin(stream, path, None, metadata, timeout, deadline)
        except TransportFailure as failure:
            stream.finish(failure)
        return stream

    def _begin(
        self,
        call: ClientCall,
        path: bytes,
        message: bytes | None,
        metadata: Metadata,
        timeout: float | None,
        deadline: float | None,
    ) -> None:
        if not self.usable:
            raise TransportFailure(Code.UNAVAILABLE, self._failure or "the connection is closing", sent=False)
        if timeout is not None and deadline is not None:
            if not timeout > 0.0:
                raise TransportFailure(Code.DEADLINE_EXCEEDED, "context deadline exceeded", sent=False)
            if timeout < ENDLESS_SECONDS:
                call.deadline = deadline
                self.deadlines.add(call)
        machine = self.machine
        if len(machine.streams) >= machine.peer_streams_max or self.waiting:
            call.start = lambda: self._send_head(
                call, path, message, metadata, None if deadline is None else deadline - self._loop.time()
            )
            self.waiting.append(call)
            return
        self._send_head(call, path, message, metadata, timeout)

    def _send_head(
        self, call: ClientCall, path: bytes, message: bytes | None, metadata: Metadata, timeout: float | None
    ) -> None:
        """What begins a call, with all of a unary one's message."""
        machine = self.machine
        sid = machine.last_sid + 2
        machine.last_sid = call.sid = sid
        if sid >= frames.STREAM_ID_MAX - 2:
            self._useless(draining=True)
        call.sent = True
        latest = machine.encoder.latest.get(path)
        if latest is not None and latest[0] is metadata and latest[1] == timeout:
            block = latest[2]
        else:
            block = machine.request_block((path, tuple(metadata)), timeout, self._fields)
        machine.streams[sid] = call
        if message is None:
            self._lasting += 1
            machine.put_headers(sid, block, 0)
            return
        size = len(message) + 5
        if (
            size <= machine.send_window
            and size <= machine.initial_window
            and size <= machine.peer_frame_max
            and len(block) <= machine.peer_frame_max
            and not machine.paused
        ):
            machine.send_window -= size
            # A call that is alone would wait a whole turn of the loop for others that do not come.
            alone = len(machine.streams) == self._lasting + 1
            if not machine.out and not alone:
                self._wake(machine)
            machine.out += (
                FRAME.pack(len(block) << 8 | frames.HEADERS, frames.END_HEADERS, sid),
                block,
                MESSAGE_FRAME.pack(size << 8, frames.END_STREAM, sid, 0, size - 5),
                message,
            )
            if alone:
                self._flush()
            elif len(machine.out) >= self._parts_max:
                self._parts_max = min(2 * self._parts_max, _PARTS_MAX)
                self._flush()
            return
        machine.put_headers(sid, block, 0)
        machine.queue(sid, MESSAGE_PREFIX.pack(0, size - 5) + message, b"", None)

    def send(self, stream: ClientStream, message: bytes | None, *, last: bool) -> None:
        """For ClientStream: a message, or the half-close."""
        if not stream.sid:
            previous = stream.start

            def start() -> None:
                if previous is not None:
                    previous()
                self.send(stream, message, last=last)

            stream.start = start
            return
        chunk = b"" if message is None else MESSAGE_PREFIX.pack(0, len(message)) + message
        self.machine.queue(stream.sid, chunk, b"" if last else None, None)

    def drop(self, call: ClientCall) -> None:
        """A call is over for us: its stream is forgotten, and reset if the server does not know."""
        self.deadlines.discard(call)
        machine, sid = self.machine, call.sid
        if not sid:
            if call in self.waiting:
                self.waiting.remove(call)
            return
        unfinished = sid in machine.senders
        if machine.forget(sid) is None or machine.failed:
            return
        if unfinished or not call.remote_closed:
            machine.put(frames.rst_stream(sid, frames.CANCEL))
            if not call.remote_closed:
                machine.detach(sid)
        self.freed(call)

    def freed(self, call: ClientCall) -> None:
        """A call's stream is no more: there is room for another, or nothing left to stay for."""
        if self.machine.failed:
            return
        if call.lasting:
            self._lasting -= 1
        self.start_waiting()
        if self.draining and not self.machine.streams and not self.waiting:
            self.close()

    def start_waiting(self) -> None:
        machine = self.machine
        while self.waiting and (self.draining or len(machine.streams) < machine.peer_streams_max):
            call = self.waiting.popleft()
            start, call.start = call.start, None
            if self.draining:
                text = self._failure or "the connection is closing"
                call.finish(TransportFailure(Code.UNAVAILABLE, text, sent=False))
            elif start is not None:
                start()

    def close(self) -> None:
        """Cut the connection; calls under way fail."""
        if not self.closed and self._transport is not None and not self.machine.failed:
            self.machine.put(frames.goaway(0, frames.NO_ERROR))
            self._flush()
        self.lose("the connection was closed")
        if self._transport is not None:
            self._transport.close()

    def retire(self) -> None:
        """Take no more calls, and close when those under way have ended."""
        if not self.closed:
            self._useless(draining=True)
            self.start_waiting()
            if not self.machine.streams:
                self.close()

    async def wait_closed(self, timeout: float) -> None:  # noqa: ASYNC109 - after it the socket is cut
        """After ``close``: until the socket is closed. TLS takes leave of the other side first."""
        if self._transport is None:
            return
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._gone)
        except TimeoutError:
            self._transport.abort()

    def disown(self) -> None:
        """Let go of a socket that belongs to another process (after a fork) or to a loop that is closed.

        Nothing is written and no call is told: whoever made them cannot be reached any more. The descriptor
        becomes one of /dev/null, and stays with its transport, which would close it a second time otherwise.
        """
        self.closed = True
        self.usable = False
        self.deadlines.clear()
        transport = self._transport
        stream = transport.get_extra_info("socket") if transport is not None else None
        descriptor = stream.fileno() if stream is not None else -1
        if descriptor >= 0:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, descriptor, inheritable=False)
            os.close(null)
        _DISOWNED.append(self)

    # ---- from the machine

    def established(self) -> None:
        if not self._ready.done():
            self._ready.set_result(None)

    def going_away(self, last_sid: int, code: int, text: bytes) -> None:
        reason = f"the server is going away: {frames.error_name(code)}"
        if text:
            reason += f', debug data: "{text[:256].decode("utf-8", "replace")}"'
        self._failure = self._failure or reason
        waiting, self.waiting = list(self.waiting), deque()
        self._useless(draining=True)
        for call in waiting:
            call.finish(TransportFailure(Code.UNAVAILABLE, reason, sent=False))
        for sid in sorted(self.machine.streams):
            if sid > last_sid:
                call = self.machine.streams[sid]
                # The server has said that it did not and will not look at it.
                self.machine.forget(sid)
                call.finish(TransportFailure(Code.UNAVAILABLE, reason, sent=False))
        if not self.machine.streams:
            self.close()

    def _wake(self, _machine: Any) -> None:
        self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._parts_max = _PARTS_EARLY
        self._flush()

    def _flush(self) -> None:
        machine = self.machine
        if machine.out and self._transport is not None:
            self._transport.write(machine.take())
        if machine.failed and not self.closed:
            self.lose(machine.failure or "the connection failed")
            if self._transport is not None:
                self._transport.close()

    # ---- asyncio's protocol

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._heard_at = self._loop.time()
        self.machine.start()
        self._flush()
        if self._keepalive:
            self._keepalive_timer = self._loop.call_later(
                self._keepalive / _KEEPALIVE_ROUND, self._look_after
            )

    def get_buffer(self, sizehint: int) -> memoryview:
        # TLS fills it once and comes back later for the rest, which is lost when the end was read meanwhile.
        if sizehint + _RECORD_BYTES > len(self._buffer):
            self._buffer = memoryview(bytearray(sizehint + _RECORD_BYTES))
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self._buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        self.machine.receive(data)
        if self.machine.failed:
            self._flush()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        if not self._gone.done():
            self._gone.set_result(None)
        self.lose(f"connection lost: {error}" if error is not None else "connection closed by the server")

    def pause_writing(self) -> None:
        self.machine.pause()

    def resume_writing(self) -> None:
        self.machine.resume()

    # ---- inside

    def _useless(self, *, draining: bool) -> None:
        told = not self.usable
        self.usable = False
        if draining:
            self.draining = True
        else:
            self.closed = True
        if not told and self.on_closed is not None:
            self.on_closed()

    def lose(self, reason: str) -> None:
        """The connection is gone: every call under way fails."""
        if self.closed:
            return
        reason = self._failure or reason
        self._failure = reason
        self._useless(draining=False)
        machine = self.machine
        calls = [*machine.streams.values(), *self.waiting]
        machine.streams.clear()
        self.waiting.clear()
        machine.lost()
        text = f"connection error: desc = {reason!r}" if reason else "connection error"
        for call in calls:
            call.finish(TransportFailure(Code.UNAVAILABLE, text, sent=call.sent))
        if not self._ready.done():
            self._ready.set_exception(TransportFailure(Code.UNAVAILABLE, text, sent=False))
            self._ready.exception()  # whoever waits gets it; nobody may be waiting
        self.deadlines.clear()
        for timer in (self._deadline_timer, self._keepalive_timer):
            if timer is not None:
                timer.cancel()

    def _arm_deadlines(self) -> None:
        if self._deadline_timer is None:
            self._deadline_timer = self._loop.call_later(TICK_SECONDS, self._expire)

    def _expire(self) -> None:
        self._deadline_timer = None
        try:
            self.deadlines.expire(self._loop.time())
        finally:
            if self.deadlines.pending and self._deadline_timer is None and not self.closed:
                self._deadline_timer = self._loop.call_later(TICK_SECONDS, self._expire)

    def _look_after(self) -> None:
        """Ping a server that was silent while calls are under way; one that stays silent is lost."""
        now = self._loop.time()
        if self._pinged_at:
            if self._heard_at > self._pinged_at:
                self._pinged_at = 0.0
            elif now >= self._pinged_at + self._keepalive_timeout:
                self._failure = "keepalive ping failed to receive ACK within timeout"
                self._transport.abort()
                self.lose(self._failure)
                return
        elif self.machine.streams and now >= self._heard_at + self._keepalive:
            self._pinged_at = now
            self.machine.put(frames.ping(b"keepaliv"))
        self._keepalive_timer = self._loop.call_later(
            min(self._keepalive, self._keepalive_timeout) / _KEEPALIVE_ROUND, self._look_after
        )

    def _fields(self, request: Request) -> list[Any]:
        return request_fields(request, self._scheme, self._authority, self._user_agent)


__all__ = [
    "CLIENT_LIMITS",
    "USER_AGENT",
    "ClientConnection",
    "ClientStream",
    "Metadata",
    "TransportFailure",
    "UnaryCall",
]
