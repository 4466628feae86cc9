"""gRPC calls over one blocking socket, for programs that do one thing and end.

The same HTTP/2 machine as everywhere (``petcd.net.http2``), driven by ``select`` instead of a loop: a command
that makes one call then needs neither asyncio nor its 35 ms of imports. One thread uses a connection at a
time.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Final

from petcd.errors import Code
from petcd.net.grpc.messages import GrpcFault, MessageReader
from petcd.net.grpc.status import HTTP_TO_CODE, MESSAGE_PREFIX, decode_text, format_timeout
from petcd.net.http2 import frames
from petcd.net.http2.connection import Http2Connection, Http2Stream
from petcd.net.http2.headers import HeaderDecoder, literal
from petcd.net.http2.limits import Limits

if TYPE_CHECKING:
    import ssl

Field = tuple[bytes, bytes]

_METHOD_POST: Final = b"\x83"
_SCHEME_HTTP: Final = b"\x86"
_SCHEME_HTTPS: Final = b"\x87"
_READ_BYTES: Final = 1 << 18
_PROBE_SECONDS: Final = 10
"""A silent server is probed so, by the kernel: a watch must not wait for one that is gone."""
RECEIVE_MAX: Final = (1 << 31) - 1


class Unreachable(Exception):
    """No connection could be made: nothing was sent."""


class Broken(Exception):
    """The connection ended. ``untouched``: it is certain that the server did not see the call."""

    def __init__(self, text: str, *, untouched: bool = False) -> None:
        super().__init__(text)
        self.untouched = untouched


class Status(Exception):
    """A call that ended with a status other than OK."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class BlockingCall(Http2Stream):
    """One call: the messages that came, and how it ended."""

    __slots__ = (
        "_connection",
        "_reader",
        "broken",
        "ended",
        "messages",
        "receive_left",
        "remote_closed",
        "sid",
        "status",
        "text",
    )

    def __init__(self, connection: _Role, sid: int, bytes_max: int) -> None:
        self._connection = connection
        self._reader = MessageReader(bytes_max)
        self.sid = sid
        self.remote_closed = False
        self.receive_left = connection.limits.stream_window_bytes
        self.messages: deque[bytes] = deque()
        self.ended = False
        self.status = 0
        self.text = ""
        self.broken: Broken | None = None

    def on_data(self, data: bytes, start: int, end: int, end_stream: bool) -> None:
        try:
            self.messages.extend(self._reader.feed(data, start, end))
        except GrpcFault as fault:
            self._connection.cancel(self)
            self.end(fault.code, fault.text)
            return
        if end_stream:
            self._connection.forget(self.sid)
            self.end(Code.INTERNAL, "server closed the stream without sending trailers")

    def on_reset(self, code: int) -> None:
        if self.ended:
            return
        untouched = code == frames.REFUSED_STREAM
        self.broken = Broken(
            f"stream terminated by RST_STREAM: {frames.error_name(code)}", untouched=untouched
        )
        self.ended = True

    def end(self, status: int, text: str) -> None:
        if not self.ended:
            self.status, self.text, self.ended = status, text, True


class _Role(Http2Connection):
    """The client's side of a connection: what the hooks of the machine mean here."""

    __slots__ = ("_decoder",)

    client = True

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits, time.monotonic, lambda _: None)
        self._decoder: HeaderDecoder[None] = HeaderDecoder(limits.header_list_bytes_max * 4)

    def on_block(self, sid: int, block: bytes, end_stream: bool) -> None:
        fields = dict(self._decoder.decode(block))
        call: BlockingCall | None = self.streams.get(sid)
        if call is None:
            if self.is_idle(sid):
                raise frames.ProtocolFault(frames.PROTOCOL_ERROR, "HEADERS on an idle stream")
            return
        http = fields.get(b":status")
        if http is not None and http[:1] == b"1":
            return
        if b"grpc-status" not in fields:
            kind = fields.get(b"content-type", b"")
            if http == b"200" and kind.startswith(b"application/grpc") and not end_stream:
                return
            number = int(http) if http and http.isdigit() else 0
            self.cancel(call)
            call.end(
                HTTP_TO_CODE.get(number, Code.UNKNOWN),
                f"unexpected HTTP status code received from server: {number}"
                if number != 200
                else "server closed the stream without sending trailers",
            )
            return
        status = fields[b"grpc-status"]
        call.remote_closed = True
        self.forget(sid)
        call.end(
            int(status) if status.isdigit() else Code.UNKNOWN, decode_text(fields.get(b"grpc-message", b""))
        )

    def silent_until(self) -> float:
        """When ``keepalive`` has something to do, if nothing comes before."""
        limits = self.limits
        if self._await_ping:
            return self._await_ping + limits.keepalive_timeout_seconds
        if not limits.keepalive_interval_seconds:
            return inf
        return self.heard_at + limits.keepalive_interval_seconds

    def on_goaway(self, last_sid: int, code: int, text: bytes) -> None:
        self.draining = True
        for sid in [sid for sid in self.streams if sid > last_sid]:
            call = self.forget(sid)
            call.broken = Broken("the server is going away", untouched=True)
            call.ended = True

    def cancel(self, call: BlockingCall) -> None:
        if self.forget(call.sid) is not None and not self.failed:
            self.put(frames.rst_stream(call.sid, frames.CANCEL))
            self.detach(call.sid)


class BlockingConnection:
    """One connection to one server. Deadlines are moments of the monotonic clock; None waits for ever."""

    def __init__(
        self,
        stream: socket.socket,
        authority: bytes,
        *,
        secure: bool = False,
        receive_max: int = RECEIVE_MAX,
        user_agent: bytes = b"petcd",
        keepalive: tuple[float, float] = (0.0, 20.0),
    ) -> None:
        """``keepalive``: seconds of silence before a ping (0: never), and for its answer."""
        limits = Limits(
            message_bytes_max=receive_max,
            keepalive_interval_seconds=keepalive[0],
            keepalive_timeout_seconds=keepalive[1],
        )
        self._socket = stream
        self._receive_max = receive_max
        self._role = role = _Role(limits)
        role.heard_at = time.monotonic()
        self._secure = secure
        self._next_sid = 1
        self._constant = (
            _METHOD_POST
            + (_SCHEME_HTTPS if secure else _SCHEME_HTTP)
            + literal(b":authority", authority)
            + literal(b"content-type", b"application/grpc")
            + literal(b"user-agent", user_agent)
            + literal(b"te", b"trailers")
        )
        role.put(
            frames.PREFACE
            + frames.settings(
                (frames.SETTINGS_ENABLE_PUSH, 0),
                (frames.SETTINGS_INITIAL_WINDOW_SIZE, limits.stream_window_bytes),
            )
            + frames.window_update(0, limits.connection_window_bytes - frames.WINDOW_DEFAULT)
        )

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def usable(self) -> bool:
        """Whether a new call may be started."""
        return not self._role.failed and not self._role.draining

    def close(self) -> None:
        self._socket.close()
        self._role.failed = True

    def establish(self, timeout: float) -> None:
        """Wait for the server's SETTINGS: it is there, and it speaks HTTP/2. Raises Unreachable."""
        deadline = time.monotonic() + timeout
        try:
            while not self._role.settings_seen:
                self.step(deadline)
        except (Broken, TimeoutError) as error:
            self.close()
            raise Unreachable(str(error) or "no answer") from None

    # --- calls ----------------------------------------------------------------------------------------

    def open(
        self, path: str, metadata: Sequence[Field] = (), *, deadline: float | None = None
    ) -> BlockingCall:
        """Start a call: its headers wait to be sent with what follows."""
        role = self._role
        if role.failed or role.draining:
            raise Broken("the connection is closed", untouched=True)
        sid, self._next_sid = self._next_sid, self._next_sid + 2
        # The two bytes of method and scheme, then the other pseudo-fields.
        block = self._constant[:2] + literal(b":path", path.encode()) + self._constant[2:]
        if deadline is not None:
            block += literal(b"grpc-timeout", format_timeout(deadline - time.monotonic()))
        for name, value in metadata:
            block += literal(name, value)
        call = BlockingCall(role, sid, self._receive_max)
        role.streams[sid] = call
        role.last_sid = sid
        role.put(frames.frame(frames.HEADERS, frames.END_HEADERS, sid, block))
        return call

    def send(self, call: BlockingCall, message: bytes, *, end: bool = False) -> None:
        """Queue one message; ``end`` closes our side after it."""
        if not call.ended:
            chunk = MESSAGE_PREFIX.pack(0, len(message)) + message
            self._role.queue(call.sid, chunk, b"" if end else None, None)
        self.flush()

    def half_close(self, call: BlockingCall) -> None:
        if not call.ended:
            self._role.queue(call.sid, b"", b"", None)
        self.flush()

    def cancel(self, call: BlockingCall) -> None:
        self._role.cancel(call)
        call.end(Code.CANCELLED, "context canceled")
        if not self._role.failed:
            try:
                self.flush()
            except Broken:
                return

    def receive(self, call: BlockingCall, deadline: float | None = None) -> bytes | None:
        """The next message, or None at a clean end. Raises Status, Broken, TimeoutError."""
        while not call.messages:
            if call.ended:
                if call.broken is not None:
                    raise call.broken
                if call.status:
                    raise Status(call.status, call.text)
                return None
            self.step(deadline)
        return call.messages.popleft()

    def unary(
        self, path: str, message: bytes, metadata: Sequence[Field] = (), *, deadline: float | None = None
    ) -> bytes:
        """One request, one response. Raises Status, Broken, TimeoutError."""
        call = self.open(path, metadata, deadline=deadline)
        try:
            self.send(call, message, end=True)
            response = self.receive(call, deadline)
            if response is None:
                raise Status(Code.INTERNAL, "cardinality violation: received no response message")
            # The status counts, not the message: it may still be an error.
            while not call.ended:
                self.step(deadline)
            if call.status:
                raise Status(call.status, call.text)
            return response
        except TimeoutError:
            self.cancel(call)
            raise

    # --- the socket -----------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write what the windows allow. Raises Broken."""
        role = self._role
        if role.out:
            try:
                self._socket.setblocking(True)
                self._socket.sendall(role.take())
            except OSError as error:
                raise self._lost(f"error writing to server: {error}") from None
        if role.failed:
            raise self._lost(role.failure)

    def step(self, deadline: float | None) -> None:
        """Write what waits, then take what comes until ``deadline``. Raises Broken, TimeoutError."""
        self.flush()
        if not (self._secure and self._socket.pending()):  # type: ignore[attr-defined]
            self._wait(deadline)
        try:
            data = self._socket.recv(_READ_BYTES)
        except OSError as error:
            raise self._lost(f"error reading from server: {error}") from None
        if not data:
            raise self._lost("error reading from server: EOF")
        self._role.keepalive(time.monotonic(), True)
        self._role.receive(data)
        self.flush()

    def _wait(self, deadline: float | None) -> None:
        """Until there is something to read; pings a server that is silent for too long meanwhile."""
        role = self._role
        while True:
            moment = role.silent_until() if deadline is None else min(deadline, role.silent_until())
            left = None if moment == inf else max(0.0, moment - time.monotonic())
            ready, _, _ = select.select([self._socket], [], [], left)
            if ready:
                return
            now = time.monotonic()
            if now >= role.silent_until() and not role.keepalive(now, False):
                raise self._lost("keepalive ping failed to receive ACK within timeout")
            self.flush()
            if deadline is not None and now >= deadline:
                raise TimeoutError

    def ready(self) -> bool:
        """Whether bytes wait that ``select`` on the socket does not show."""
        return bool(self._secure and self._socket.pending())  # type: ignore[attr-defined]

    def _lost(self, text: str) -> Broken:
        self._socket.close()
        self._role.lost()
        return Broken(text)


def connect(
    host: str,
    port: int,
    *,
    timeout: float,
    tls: ssl.SSLContext | None = None,
    server_name: str = "",
    authority: str = "",
    receive_max: int = RECEIVE_MAX,
    keepalive: tuple[float, float] = (0.0, 20.0),
) -> BlockingConnection:
    """Connect to a TCP address, or to the Unix socket ``host`` when ``port`` is -1. Raises Unreachable."""
    try:
        if port < 0:
            stream = socket.socket(socket.AF_UNIX)
            stream.settimeout(timeout)
            stream.connect(host)
        else:
            stream = socket.create_connection((host, port), timeout)
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if sys.platform == "linux":
                for option, value in (
                    (socket.TCP_KEEPIDLE, _PROBE_SECONDS),
                    (socket.TCP_KEEPINTVL, _PROBE_SECONDS // 5),
                    (socket.TCP_KEEPCNT, 3),
                ):
                    stream.setsockopt(socket.IPPROTO_TCP, option, value)
        if tls is not None:
            stream = tls.wrap_socket(stream, server_hostname=server_name or host)
    except (OSError, UnicodeError) as error:
        raise Unreachable(str(error)) from None
    shown = authority or (host if port < 0 else f"{host}:{port}")
    connection = BlockingConnection(
        stream, shown.encode(), secure=tls is not None, receive_max=receive_max, keepalive=keepalive
    )
    connection.establish(timeout)
    return connection
