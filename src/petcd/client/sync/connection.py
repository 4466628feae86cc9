"""A connection that threads share without a thread of its own.

Whoever makes a call writes it himself. One of the threads that wait reads the socket, for all (the leader);
the others (followers) sleep, each on a lock of its own, until the leader has their answer. A leader whose own
answer has come wakes a follower to lead. So a lone thread's call costs one write and one read and no switch
of threads, and many threads' calls share writes and reads.

The lock guards the HTTP/2 machine and all that is said about calls; it is never held over a system call that
may wait. The socket does not block. While nobody calls, nobody reads: what the server said meanwhile (that it
goes away, say) is taken in before the next call is written.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from _thread import allocate_lock
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from petcd.client.sync.calls import Call, Role
from petcd.errors import Code
from petcd.net.grpc.client import USER_AGENT, Metadata, TransportFailure
from petcd.net.grpc.status import MESSAGE_FRAME, MESSAGE_PREFIX, format_timeout
from petcd.net.http2 import frames
from petcd.net.http2.frames import FRAME
from petcd.net.http2.headers import literal

_READ_BYTES: Final = 1 << 18
_AGAIN: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_SENSITIVE: Final = frozenset((b"token", b"authorization"))
_FOREVER_SECONDS: Final = 1e6
_LOOK_AGAIN_SECONDS: Final = 0.02
"""While bytes wait for room in the socket."""
_TIMEOUTS_MAX: Final = 32
"""So many different time limits are kept in the header table; others are spelled out each time."""


def expired(*, sent: bool) -> TransportFailure:
    return TransportFailure(Code.DEADLINE_EXCEEDED, "context deadline exceeded", sent=sent)


class Connection:
    """One connection to one server, for unary calls of any number of threads. Make it with ``connect``."""

    def __init__(
        self,
        stream: socket.socket,
        *,
        authority: str,
        secure: bool,
        keepalive: float = 0.0,
        keepalive_timeout: float = 20.0,
    ) -> None:
        stream.setblocking(False)
        self._socket = stream
        self._secure = secure
        self._io = allocate_lock()
        """Of a TLS socket, whose two directions must not be used at once."""
        self._recv = self._recv_tls if secure else stream.recv
        self._send = self._send_tls if secure else stream.send
        self._authority = authority.encode()
        self._keepalive = keepalive
        self._keepalive_timeout = keepalive_timeout
        self._heard_at = time.monotonic()
        self._pinged_at = 0.0
        self._timeouts: set[float] = set()
        self._lock = allocate_lock()
        self._leader: Call | None = None
        """The call whose thread reads the socket, or has been woken to."""
        self._writer: Call | None = None
        """The call whose thread writes what the machine has to say; it looks again before it stops."""
        self._rest: Any = b""
        """What the socket has not taken yet. The writer's."""
        self._queue: deque[tuple[Call, bytes, bytes, Metadata, float | None]] = deque()
        """Calls beyond the number of streams that the server takes at once."""
        self._lost = False
        self._input = select.poll()
        self._input.register(stream, select.POLLIN)
        self._role = Role(self._start_queued)
        self._role.start()

    @property
    def usable(self) -> bool:
        """New calls can be made."""
        return not self._role.draining

    @property
    def active_count(self) -> int:
        """Calls under way or waiting to start."""
        return len(self._role.streams) + len(self._queue)

    def establish(self, deadline: float) -> None:
        """Wait for the server's SETTINGS. Raises TransportFailure when it is not there, or not HTTP/2."""
        opening = Call(self._role)  # no stream: its thread leads until the settings are there
        with self._lock:
            self._leader = self._writer = opening
        try:
            self._write(opening, deadline)
            while not self._role.settings_seen and not self._lost:
                self._turn(opening, deadline)
        except TransportFailure:
            self.close("no answer")
            text = 'connection error: desc = "transport: timed out while connecting"'
            raise TransportFailure(Code.UNAVAILABLE, text, sent=False) from None
        except BaseException:
            self.close("interrupted")
            raise
        finally:
            with self._lock:
                self._pass_on()
        if self._lost:
            text = f"connection error: desc = {self._role.reason!r}"
            raise TransportFailure(Code.UNAVAILABLE, text, sent=False)

    def close(self, reason: str = "the connection was closed") -> None:
        """Cut the connection; calls under way fail."""
        with self._lock:
            self._lose(reason)

    def abandon(self) -> None:
        """In a forked child: give up the descriptor. The connection is the parent's, who hears nothing."""
        self._role.draining = True
        self._socket.close()

    # --- calls ------------------------------------------------------------------------------------------

    def unary(
        self,
        path: bytes,
        message: bytes,
        *,
        metadata: Metadata = (),
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> bytes:
        """One call, one answer. ``timeout`` is told to the server, ``deadline`` (monotonic) is ours.

        Raises EtcdError: the server's, or TransportFailure.
        """
        call = Call(self._role)
        try:
            with self._lock:
                leads = self._leader is None
                if leads:
                    if self._input.poll(0):
                        self._take_in()
                    self._heard_at = time.monotonic()
                self._begin(call, path, message, metadata, timeout)
                if leads:
                    self._leader = call
                else:
                    call.waiter = allocate_lock()
                    call.waiter.acquire()
                writes = self._writer is None
                if writes:
                    self._writer = call
            if writes:
                self._write(call, deadline)
            if not leads:
                self._follow(call, deadline)
            while not call.done:
                self._turn(call, deadline)
            if self._leader is call:
                with self._lock:
                    self._pass_on()
        except BaseException:
            self._give_up(call)
            raise
        return call.answer

    def _begin(
        self, call: Call, path: bytes, message: bytes, metadata: Metadata, timeout: float | None
    ) -> None:
        role = self._role
        if role.draining:
            raise TransportFailure(Code.UNAVAILABLE, role.reason or "the connection is closing", sent=False)
        if len(role.streams) >= role.peer_streams_max or self._queue:
            self._queue.append((call, path, message, metadata, timeout))
        else:
            self._start(call, path, message, metadata, timeout)

    def _start(
        self, call: Call, path: bytes, message: bytes, metadata: Metadata, timeout: float | None
    ) -> None:
        role = self._role
        role.last_sid = sid = role.last_sid + 2
        if sid >= frames.STREAM_ID_MAX - 2:
            role.draining = True
        call.sid = sid
        call.sent = True
        role.streams[sid] = call
        block = self._head(path, metadata, timeout)
        size = len(message) + 5
        if (
            size <= role.send_window
            and size <= role.initial_window
            and size <= role.peer_frame_max
            and len(block) <= role.peer_frame_max
        ):
            role.send_window -= size
            role.out += (
                FRAME.pack(len(block) << 8 | frames.HEADERS, frames.END_HEADERS, sid) + block,
                MESSAGE_FRAME.pack(size << 8, frames.END_STREAM, sid, 0, size - 5),
                message,
            )
            return
        role.put_headers(sid, block, 0)
        role.queue(sid, MESSAGE_PREFIX.pack(0, size - 5) + message, b"", None)

    def _head(self, path: bytes, metadata: Metadata, timeout: float | None) -> bytes:
        """The request's header block. With a usual time limit it is the same few bytes for every call."""
        encoder, usual = self._role.encoder, self._timeouts
        if timeout is None or timeout in usual:
            return encoder.encode((path, metadata, timeout), self._request(path, metadata, timeout))
        if len(usual) < _TIMEOUTS_MAX:
            usual.add(timeout)
            return self._head(path, metadata, timeout)
        block = encoder.encode((path, metadata, None), self._request(path, metadata, None))
        return block + literal(b"grpc-timeout", format_timeout(timeout))

    def _request(self, path: bytes, metadata: Metadata, timeout: float | None) -> Iterator[Any]:
        """A request's header fields; tokens are marked never to be indexed (RFC 7541 7.1.3)."""
        yield b":method", b"POST"
        yield b":scheme", b"https" if self._secure else b"http"
        yield b":path", path
        yield b":authority", self._authority
        yield b"content-type", b"application/grpc"
        yield b"te", b"trailers"
        yield b"user-agent", USER_AGENT
        for name, value in metadata:
            yield name, value, name in _SENSITIVE
        if timeout is not None:
            yield b"grpc-timeout", format_timeout(timeout)

    def _start_queued(self) -> None:
        """From the machine: a stream has ended, or the server takes more at once."""
        role, queue = self._role, self._queue
        while queue and (role.draining or len(role.streams) < role.peer_streams_max):
            call, path, message, metadata, timeout = queue.popleft()
            if role.draining:
                call.end(TransportFailure(Code.UNAVAILABLE, role.reason, sent=False))
            else:
                self._start(call, path, message, metadata, timeout)

    def _follow(self, call: Call, deadline: float | None) -> None:
        """Sleep until the call is done or its thread is to lead."""
        waiter = call.waiter
        assert waiter is not None
        left = _FOREVER_SECONDS if deadline is None else max(0.0, deadline - time.monotonic())
        if not waiter.acquire(timeout=left):
            raise expired(sent=call.sent)

    def _pass_on(self) -> None:
        """The leader goes. The youngest call leads next: it will wait longest, so the lead seldom moves."""
        for call in reversed(self._role.streams.values()):
            if call.waiter is not None:
                self._leader = call
                call.wake()
                return
        for call, *_ in self._queue:
            if call.waiter is not None:
                self._leader = call
                call.wake()
                return
        self._leader = None
        self._dispose()

    def _give_up(self, call: Call) -> None:
        """The thread leaves before its call is done: time is up, or it was interrupted."""
        with self._lock:
            if not call.done:
                self._queue = deque(queued for queued in self._queue if queued[0] is not call)
                call.waiter = None
                self._role.cancel(call)
                call.end(expired(sent=call.sent))
            if self._leader is call:
                self._pass_on()
            if self._writer is call:
                self._writer = None
            if self._writer is not None or not self._role.out or self._role.failed:
                return
            self._writer = call
        with contextlib.suppress(TransportFailure):
            self._write(call, 0.0)

    # --- the socket -------------------------------------------------------------------------------------

    def _turn(self, call: Call, deadline: float | None) -> None:
        """As the leader: wait until something comes and take it in. Raises TransportFailure: time is up."""
        if not (self._secure and self._pending()):
            now = time.monotonic()
            until = now + _FOREVER_SECONDS if deadline is None else deadline
            if self._keepalive:
                silent = (
                    self._pinged_at + self._keepalive_timeout
                    if self._pinged_at
                    else self._heard_at + self._keepalive
                )
                until = min(until, silent)
            if self._rest:
                until = min(until, now + _LOOK_AGAIN_SECONDS)
            if not self._input.poll(max(0.0, until - now) * 1000.0):
                self._silence(call, deadline)
                return
        with self._lock:
            self._take_in()
            if self._writer is not None or not (self._role.out or self._rest):
                return
            self._writer = call
        self._write(call, deadline)

    def _silence(self, call: Call, deadline: float | None) -> None:
        now = time.monotonic()
        if deadline is not None and now >= deadline:
            raise expired(sent=call.sent)
        with self._lock:
            if self._pinged_at and now >= self._pinged_at + self._keepalive_timeout:
                self._lose("keepalive ping failed to receive ACK within timeout")
            elif self._keepalive and not self._pinged_at and now >= self._heard_at + self._keepalive:
                self._pinged_at = now
                self._role.put(frames.ping(b"keepaliv"))
            if self._writer is not None or not (self._role.out or self._rest):
                return
            self._writer = call
        self._write(call, deadline)

    def _take_in(self) -> None:
        """Read what is there. With the lock held, by the leader or while there is none."""
        role = self._role
        try:
            data = self._recv(_READ_BYTES)
        except _AGAIN:
            return
        except OSError as error:
            self._lose(f"error reading from server: {error}")
            return
        if not data:
            self._lose(role.reason or "error reading from server: EOF")
            return
        self._heard_at = time.monotonic()
        self._pinged_at = 0.0
        role.receive(data)
        if role.failed:
            self._lose(role.reason)

    def _write(self, call: Call, deadline: float | None) -> None:
        """As the writer: write until the machine has no more to say. Raises TransportFailure: time is up."""
        role = self._role
        while True:
            with self._lock:
                data = self._rest or role.take()
                if not data or role.failed:
                    self._writer = None
                    self._dispose()
                    return
            try:
                count = self._send(data)
            except _AGAIN:
                count = 0
            except OSError as error:
                with self._lock:
                    self._writer = None
                    self._lose(f"error writing to server: {error}")
                return
            except BaseException:
                # Interrupted, and nobody knows how much is out.
                with self._lock:
                    self._writer = None
                    self._lose("interrupted while writing")
                raise
            if count == len(data):
                self._rest = b""
                continue
            self._rest = memoryview(data)[count:]
            if deadline is not None and time.monotonic() >= deadline:
                with self._lock:
                    self._writer = None
                raise expired(sent=call.sent)
            self._wait_for_room(call)

    def _wait_for_room(self, call: Call) -> None:
        """The socket is full. Where it falls to us to read too, do: the server may wait for that."""
        room = select.poll()
        leads = self._leader is call
        room.register(self._socket, select.POLLOUT | (select.POLLIN if leads else 0))
        for _, events in room.poll(_LOOK_AGAIN_SECONDS * 1000.0):
            if leads and events & ~select.POLLOUT:
                with self._lock:
                    self._take_in()

    def _recv_tls(self, bytes_max: int) -> bytes:
        with self._io:
            return self._socket.recv(bytes_max)

    def _send_tls(self, data: Any) -> int:
        with self._io:
            return self._socket.send(data)

    def _pending(self) -> int:
        with self._io:
            count: int = self._socket.pending()  # type: ignore[attr-defined]
            return count

    def _lose(self, reason: str) -> None:
        """The connection is of no use any more: every call fails. With the lock held."""
        if not self._lost:
            self._lost = True
            if self._writer is None and not self._rest:
                if not self._role.failed:
                    self._role.put(frames.goaway(0, frames.NO_ERROR))
                with contextlib.suppress(OSError):
                    self._send(self._role.take())
            with contextlib.suppress(OSError):
                # Whoever waits for it wakes. (A TLS socket's own ``shutdown`` would go on in clear.)
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            self._role.break_off(reason)
        self._dispose()

    def _dispose(self) -> None:
        """Close what is lost once no thread uses the socket. With the lock held."""
        if self._lost and self._leader is None and self._writer is None:
            self._socket.close()


def connect(
    host: str,
    port: int,
    *,
    timeout: float,
    tls: ssl.SSLContext | None = None,
    server_name: str = "",
    keepalive: float = 0.0,
    keepalive_timeout: float = 20.0,
) -> Connection:
    """Connect to a TCP address, or to the Unix socket ``host`` when ``port`` is -1, and hear its SETTINGS.

    Raises TransportFailure (``sent`` False) when nobody answers, or not in HTTP/2, or not within ``timeout``.
    """
    deadline = time.monotonic() + timeout
    stream: socket.socket | None = None
    try:
        if port < 0:
            stream = socket.socket(socket.AF_UNIX)
            stream.settimeout(timeout)
            stream.connect(host)
        else:
            stream = socket.create_connection((host, port), timeout)
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            stream = tls.wrap_socket(stream, server_hostname=server_name or host)
        connection = Connection(
            stream,
            authority="localhost" if port < 0 else f"{server_name or host}:{port}",
            secure=tls is not None,
            keepalive=keepalive,
            keepalive_timeout=keepalive_timeout,
        )
        connection.establish(deadline)
    except TimeoutError:
        text = 'connection error: desc = "transport: timed out while connecting"'
        raise TransportFailure(Code.UNAVAILABLE, text, sent=False) from None
    except (OSError, UnicodeError) as error:
        text = f'connection error: desc = "transport: Error while dialing: {error}"'
        raise TransportFailure(Code.UNAVAILABLE, text, sent=False) from error
    return connection
