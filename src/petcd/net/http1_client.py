"""The client's side of an HTTP/1.1 connection, through h11, on the Net seam.

    dial(world, address, on_open, on_failure, seconds_max=2.0)
    connection.request("GET", "/version", headers, handler, seconds_max=5.0)

A connection carries one exchange at a time and is kept alive for the next. Its handler hears the head, the
pieces of the body, the end - or, instead of what is missing of these, one failure. A body may be handed over
whole, or in pieces with ``send_body``; then ``writable`` says whether more is wanted, and ``on_writable``
when it is again. An exchange that never ends (a stream between members) takes the connection over
once it has seen the head: from then on it gets the bytes as they arrive, and ``BodyReader`` takes the
transfer coding off.

Bounds: a head beyond ``header_bytes_max``, a body beyond ``body_bytes_max`` and an exchange that lasts
longer than its ``seconds_max`` are failures. After a failure the connection is closed.
Source: RFC 9112.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import h11

from petcd.seams.clock import Timer
from petcd.seams.net import Address
from petcd.seams.world import World

if TYPE_CHECKING:
    import ssl

HeaderFields = Sequence[tuple[str, str]]


class HttpFault(Exception):
    """The other side does not speak HTTP/1.1 as it should; carries a short text."""


@dataclass(frozen=True, slots=True)
class HttpClientLimits:
    header_bytes_max: int = 64 << 10
    body_bytes_max: int = 100 << 20
    unsent_bytes_high: int = 1 << 20
    unsent_bytes_low: int = 256 << 10


class ResponseHandler:
    """One exchange, as it is told. Exactly one of ``on_end`` and ``on_failure`` ends it."""

    __slots__ = ()

    def on_head(self, status: int, headers: dict[str, str]) -> None:
        """Names are in lower case; of a repeated header the first counts."""

    def on_body(self, data: bytes) -> None: ...

    def on_end(self) -> None: ...

    def on_failure(self, reason: str) -> None: ...

    def on_writable(self) -> None:
        """More of the request's body may be sent."""


class ByteReceiver(Protocol):
    """Who has taken a connection over."""

    def receive(self, data: bytes) -> None: ...

    def lost(self, reason: str) -> None:
        """No more bytes will come. "" when the other side ended in good order."""
        ...


class HttpClientConnection:
    """One connection; an ``asyncio`` protocol. Made by ``dial``."""

    __slots__ = (
        "_answered",
        "_body_left",
        "_clock",
        "_deadline",
        "_h11",
        "_handler",
        "_host",
        "_limits",
        "_paused",
        "_receiver",
        "_transport",
        "closed",
        "exchanges",
        "on_idle_close",
    )

    def __init__(self, world: World, host: str, limits: HttpClientLimits) -> None:
        self._clock = world.clock
        self._host = host
        self._limits = limits
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.header_bytes_max)
        self._transport: Any = None
        self._handler: ResponseHandler | None = None
        self._receiver: ByteReceiver | None = None
        self._deadline: Timer | None = None
        self._body_left = 0
        self._answered = False
        self._paused = False
        self.closed = False
        self.exchanges = 0
        """How many were begun."""
        self.on_idle_close: Callable[[HttpClientConnection], object] | None = None
        """Told when the connection ends between two exchanges."""

    # ---- one exchange

    @property
    def idle(self) -> bool:
        """Open, and free for an exchange."""
        return not self.closed and self._handler is None and self._receiver is None

    @property
    def answered(self) -> bool:
        """Whether any byte of an answer to the present exchange has come."""
        return self._answered

    def request(
        self,
        method: str,
        target: str,
        headers: HeaderFields,
        handler: ResponseHandler,
        *,
        body: bytes | None = b"",
        seconds_max: float = 0.0,
    ) -> None:
        """Begin an exchange. ``body`` None: it follows through ``send_body`` and ``end_body``, chunked."""
        assert self.idle, "one exchange at a time"
        self._handler = handler
        self._answered = False
        self._body_left = self._limits.body_bytes_max
        self.exchanges += 1
        fields = [("Host", self._host), *headers]
        if body is None:
            fields.append(("Transfer-Encoding", "chunked"))
        elif body or method == "POST":
            fields.append(("Content-Length", str(len(body))))
        if seconds_max:
            self._deadline = self._clock.call_later(seconds_max, self._expire)
        out = [self._h11.send(h11.Request(method=method, target=target, headers=fields))]
        if body is not None:
            if body:
                out.append(self._h11.send(h11.Data(data=body)))
            out.append(self._h11.send(h11.EndOfMessage()))
        self._transport.write(b"".join([piece for piece in out if piece]))

    def send_body(self, data: bytes) -> None:
        """The next piece of a body that was announced with None. In vain once the exchange has ended."""
        if not self.closed and self._h11.our_state is h11.SEND_BODY:
            self._transport.write(self._h11.send(h11.Data(data=data)))

    def end_body(self) -> None:
        if not self.closed and self._h11.our_state is h11.SEND_BODY:
            self._transport.write(self._h11.send(h11.EndOfMessage()))

    @property
    def writable(self) -> bool:
        """False while the other side has yet to take a good deal of what was sent."""
        return not self._paused

    @property
    def unsent_bytes(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def take_over(self, receiver: ByteReceiver) -> None:
        """Only in ``on_head``: the rest of the connection belongs to ``receiver``, as bytes off the wire.

        What has come already is handed over before this returns; the handler hears nothing more.
        """
        assert self._handler is not None
        self._stop_timer()
        self._handler = None
        self._receiver = receiver
        data = self._h11.trailing_data[0]
        if data:
            receiver.receive(data)

    def set_reading(self, reading: bool) -> None:
        """Pause or resume what comes from the socket."""
        if not self.closed and self._transport is not None:
            if reading:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def close(self) -> None:
        """End the connection; the handler hears nothing more."""
        self._handler = None
        self._receiver = None
        self.on_idle_close = None
        self._end()

    # ---- asyncio's protocol

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(self._limits.unsent_bytes_high, self._limits.unsent_bytes_low)

    def data_received(self, data: bytes) -> None:
        if self._receiver is not None:
            self._receiver.receive(data)
        elif self._handler is not None:
            self._answered = True
            self._feed(data)
        else:
            self._end()  # nobody was asked for anything

    def eof_received(self) -> bool:
        if self._receiver is not None:
            self._lost("")
        elif self._handler is not None:
            self._feed(b"")
        self._end()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._lost(str(error) if error is not None else "connection closed")
        self._end()
        self._transport = None

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._handler is not None:
            self._handler.on_writable()

    # ---- inside

    def _feed(self, data: bytes) -> None:
        try:
            self._h11.receive_data(data)
            while self._handler is not None:
                event = self._h11.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return
                if isinstance(event, h11.ConnectionClosed):
                    self._fail("unexpected EOF")
                    return
                self._take(event)
        except h11.RemoteProtocolError as error:
            self._fail(f"malformed HTTP response: {error}" if data else "unexpected EOF")

    def _take(self, event: Any) -> None:
        handler = self._handler
        assert handler is not None
        if isinstance(event, h11.Response):
            handler.on_head(event.status_code, _header_dict(event.headers))
        elif isinstance(event, h11.Data):
            self._body_left -= len(event.data)
            if self._body_left < 0:
                self._fail("response body too large")
                return
            handler.on_body(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            self._stop_timer()
            self._handler = None
            if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
                self._h11.start_next_cycle()
            else:  # "Connection: close", or an answer before the end of our body
                self._end()
            handler.on_end()

    def _expire(self) -> None:
        self._deadline = None
        self._fail("timeout")

    def _fail(self, reason: str) -> None:
        self._lost(reason)
        self._end()

    def _lost(self, reason: str) -> None:
        self._stop_timer()
        handler, self._handler = self._handler, None
        receiver, self._receiver = self._receiver, None
        if handler is not None:
            handler.on_failure(reason)
        if receiver is not None:
            receiver.lost(reason)

    def _end(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._stop_timer()
        transport = self._transport
        if transport is not None:
            if transport.get_write_buffer_size():
                transport.abort()  # nobody waits for the rest, and a dead peer would keep it for ever
            else:
                transport.close()
        forget, self.on_idle_close = self.on_idle_close, None
        if forget is not None:
            forget(self)

    def _stop_timer(self) -> None:
        timer, self._deadline = self._deadline, None
        if timer is not None:
            timer.cancel()


class Dialling:
    """A connection being made. Exactly one of the two callbacks comes, unless it is cancelled."""

    __slots__ = (
        "_address",
        "_cancelled",
        "_limits",
        "_on_failure",
        "_on_open",
        "_task",
        "_timer",
        "_tls",
        "_world",
    )

    def __init__(
        self,
        world: World,
        address: Address,
        on_open: Callable[[HttpClientConnection], object],
        on_failure: Callable[[str], object],
        seconds_max: float,
        tls: ssl.SSLContext | None,
        limits: HttpClientLimits,
    ) -> None:
        self._world = world
        self._address = address
        self._on_open = on_open
        self._on_failure = on_failure
        self._tls = tls
        self._limits = limits
        self._cancelled = False
        self._timer = world.clock.call_later(seconds_max, self._expire)
        self._task = asyncio.get_running_loop().create_task(self._run())

    def cancel(self) -> None:
        """Neither callback will come."""
        self._cancelled = True
        self._timer.cancel()
        self._task.cancel()

    def _expire(self) -> None:
        self._cancelled = True
        self._task.cancel()
        self._on_failure(f"dial tcp {_host_text(self._address)}: i/o timeout")

    async def _run(self) -> None:
        address = self._address
        connection = HttpClientConnection(self._world, _host_text(address), self._limits)
        failure = ""
        try:
            await self._world.net.connect(address, lambda: connection, tls=self._tls)
        except (OSError, UnicodeError) as error:
            failure = str(error)
        except asyncio.CancelledError:
            connection.close()
            raise
        self._timer.cancel()
        # Not from here: nobody looks at a task that has failed.
        self._world.clock.call_soon(self._tell, connection, failure)

    def _tell(self, connection: HttpClientConnection, failure: str) -> None:
        if self._cancelled:
            connection.close()
        elif failure or connection.closed:
            self._on_failure(f"dial tcp {_host_text(self._address)}: {failure or 'connection closed'}")
        else:
            self._on_open(connection)


DEFAULT_LIMITS: Final = HttpClientLimits()


def dial(
    world: World,
    address: Address,
    on_open: Callable[[HttpClientConnection], object],
    on_failure: Callable[[str], object],
    *,
    seconds_max: float,
    tls: ssl.SSLContext | None = None,
    limits: HttpClientLimits = DEFAULT_LIMITS,
) -> Dialling:
    """Connect to ``address`` within ``seconds_max``."""
    return Dialling(world, address, on_open, on_failure, seconds_max, tls, limits)


class BodyReader:
    """Takes the transfer coding off a body that has no end, without h11's work for each chunk.

    ``feed`` returns the bytes of the body in what came. ``ended`` is True after the last chunk.
    """

    __slots__ = ("_chunked", "_head", "_left", "ended")

    def __init__(self, headers: dict[str, str]) -> None:
        """``headers`` of the answer. Raises: HttpFault where the body has a known length or coding."""
        coding = headers.get("transfer-encoding", "").strip().lower()
        if coding not in ("", "chunked"):
            raise HttpFault(f"unsupported transfer encoding {coding!r}")
        self._chunked = coding == "chunked"
        self._left = 0
        """Bytes of the present chunk to come, with the line end after it."""
        self._head = b""
        """A size line, or a chunk's line end, of which a part has come."""
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        """Raises: HttpFault."""
        if not self._chunked:
            return data
        left = self._left
        if not left and not self._head:
            i = data.find(b"\r\n", 0, 8)
            if i > 0 and _SMALL_SIZES.get(data[:i]) == len(data) - i - 4 and data.endswith(b"\r\n"):
                return data[i + 2 : -2]  # one whole chunk: what a member that is not in a hurry sends
        if not left:
            # Most often whole chunks arrive, one at a time.
            data = self._head + data
            self._head = b""
        elif left > 2 + len(data):
            self._left = left - len(data)
            return data
        out = []
        i, end = 0, len(data)
        while i < end and not self.ended:
            if left:
                size = left - 2
                if size > 0:
                    piece = data[i : i + size]
                    out.append(piece)
                    i += len(piece)
                    left -= len(piece)
                if left > 2:
                    break
                i, left = self._line_end(data, i, left)
                continue
            stop = data.find(b"\r\n", i, i + _SIZE_LINE_MAX)
            if stop < 0:
                if end - i >= _SIZE_LINE_MAX:
                    raise HttpFault("chunk size line too long")
                self._head = data[i:]
                break
            size = _chunk_size(data[i:stop])
            i = stop + 2
            if size:
                left = size + 2
            else:
                self.ended = True
        self._left = left
        return out[0] if len(out) == 1 else b"".join(out)

    def _line_end(self, data: bytes, i: int, left: int) -> tuple[int, int]:
        """Pass over what has come of the line end after a chunk's data."""
        here = data[i : i + left]
        if not b"\r\n"[2 - left :].startswith(here):
            raise HttpFault("chunk is not ended by a line end")
        return i + len(here), left - len(here)


_SIZE_LINE_MAX: Final = 256
_SMALL_SIZES: Final = {b"%x" % n: n for n in range(1, 2048)}
_HEX: Final = frozenset(b"0123456789abcdefABCDEF")


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].rstrip()
    if not digits or len(digits) > 15 or not _HEX.issuperset(digits):
        raise HttpFault("malformed chunk size")
    return int(digits, 16)


def _header_dict(headers: Any) -> dict[str, str]:
    out: dict[str, str] = {}
    for name, value in headers:
        out.setdefault(name.decode("ascii", "replace"), value.decode("latin-1"))
    return out


def _host_text(address: Address) -> str:
    if address.port < 0:
        return address.host
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"
