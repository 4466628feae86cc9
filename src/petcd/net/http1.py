"""The server's side of an HTTP/1.1 connection, through h11.

A machine without I/O, like the HTTP/2 one: ``receive`` takes bytes, ``out`` gathers them, ``wake``
is called when the first appears.

What a client may do wrong: garbage is answered 400 and the connection closed, headers beyond 1 MiB 431, a
body beyond the route's limit 413 (decided by Content-Length where there is one), and headers that take more
than ``header_seconds_max`` end the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h11

from petcd.net.http import Headers, HttpExchange, HttpRequest, HttpRouter, Route


@dataclass(frozen=True, slots=True)
class Http1Limits:
    header_bytes_max: int = 1 << 20
    header_seconds_max: float = 300.0
    """From the first byte of a request to the end of its body."""
    idle_seconds_max: float = 300.0
    """Between two requests."""
    stalled_seconds_max: float = 120.0
    """A client that takes nothing of an answer for so long loses its connection."""


class Http1Connection:
    """One client's HTTP/1.1 connection: requests one after the other."""

    __slots__ = (
        "_body_left",
        "_chunked",
        "_chunks",
        "_continue_sent",
        "_exchange",
        "_h11",
        "_limits",
        "_now",
        "_on_bug",
        "_reading",
        "_route",
        "_router",
        "deadline",
        "draining",
        "failed",
        "finished",
        "out",
        "owner",
        "peer",
        "secure",
        "stalled_since",
        "wake",
    )

    def __init__(
        self,
        router: HttpRouter,
        limits: Http1Limits,
        now: Callable[[], float],
        wake: Callable[[Any], object],
        peer: str = "",
        secure: bool = False,
        on_bug: Callable[[bytes, Exception], object] | None = None,
    ) -> None:
        self._router = router
        self._limits = limits
        self._now = now
        self._on_bug = on_bug
        self.wake = wake
        self.peer = peer
        self.secure = secure
        self.owner: Any = None
        self.out: list[bytes] = []
        self.failed = False
        self.finished = False
        self.draining = False
        self.deadline = now() + limits.header_seconds_max
        """The owner closes the connection when this has passed; 0.0 while an answer is awaited from us."""
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_bytes_max)
        self._exchange: HttpExchange | None = None
        self._chunked = False
        self._route: Route | None = None
        self._chunks: list[bytes] = []
        self._body_left = 0
        self._continue_sent = False
        self._reading = False
        self.stalled_since = 0.0
        """When the socket became full; 0.0 while it is not."""

    # ---- receiving

    def receive(self, data: bytes) -> None:
        if self.failed or self.finished:
            return
        if not self.deadline and self._exchange is None:
            self.deadline = self._now() + self._limits.header_seconds_max
        try:
            self._h11.receive_data(data)
        except h11.RemoteProtocolError:
            self._refuse(400)
            return
        self._run()

    def eof(self) -> None:
        """The client will send no more: most often it is gone, but it may still wait for its answer.

        So a handler that asked to hear of disconnections is told, as by Go; any other may finish.
        """
        exchange = self._exchange
        if exchange is None or exchange.on_disconnect is not None or self._h11.their_state is h11.SEND_BODY:
            self.lost()
            self.finished = True
            self.wake(self)

    def _run(self) -> None:
        """Take events until more bytes or our own answer are needed."""
        if self._reading:
            return  # an answer given within a handler: the loop below goes on by itself
        self._reading = True
        try:
            while not self.failed and not self.finished:
                event = self._h11.next_event()
                if event is h11.NEED_DATA:
                    if self._h11.they_are_waiting_for_100_continue and not self._continue_sent:
                        self._continue_sent = True
                        self._send(h11.InformationalResponse(status_code=100, headers=[]))
                    return
                if event is h11.PAUSED:
                    # Requests ahead of their turn wait inside h11, which knows no bound of its own.
                    if len(self._h11.trailing_data[0]) > self._limits.header_bytes_max:
                        self.abort()
                    return
                if isinstance(event, h11.ConnectionClosed):
                    return
                self._event(event)
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint)
        finally:
            self._reading = False

    def _event(self, event: Any) -> None:
        if isinstance(event, h11.Request):
            self._begin(event)
        elif isinstance(event, h11.Data):
            self._body(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            exchange, route = self._exchange, self._route
            self.deadline = 0.0
            if exchange is None or route is None:
                return
            if route.streaming:
                if exchange.on_body_end is not None:
                    self._guard(exchange, exchange.on_body_end)
                return
            exchange.request.body = b"".join(self._chunks)
            self._chunks = []
            self._guard(exchange, self._router.run, route, exchange)

    def _begin(self, event: Any) -> None:
        request = HttpRequest(
            event.method.decode("ascii"),
            event.target.decode("latin-1"),
            list(event.headers),
            event.http_version.decode("ascii"),
            self.secure,
        )
        route = self._route = self._router.route(request.path)
        exchange = self._exchange = HttpExchange(request, self)
        self._continue_sent = False
        self._body_left = route.body_bytes_max
        length = request.header(b"content-length")
        if length is not None and int(length) > route.body_bytes_max and not route.streaming:
            self._refuse(413)
            return
        if route.streaming:
            self.deadline = 0.0
            self._guard(exchange, self._router.run, route, exchange)
        elif route.admit is not None:
            self._guard(exchange, route.admit, exchange)

    def _body(self, data: bytes) -> None:
        exchange, route = self._exchange, self._route
        if exchange is None or route is None:
            return
        if route.streaming:
            if exchange.on_body is not None:
                self._guard(exchange, exchange.on_body, data)
            return
        self._body_left -= len(data)
        if self._body_left < 0:
            self._refuse(413)
            return
        self._chunks.append(data)

    def _guard(self, exchange: HttpExchange, hook: Callable[..., Any], *args: Any) -> None:
        try:
            hook(*args)
        except Exception as error:  # noqa: BLE001 - a handler's bug fails its request only
            if self._on_bug is not None:
                self._on_bug(exchange.request.path.encode("latin-1", "replace"), error)
            if exchange.state == HttpExchange.WAITING:
                exchange.text(500, "Internal Server Error\n")
            else:
                exchange.abort()

    def _refuse(self, status: int) -> None:
        """Answer what cannot be served, if an answer is still possible, and close."""
        exchange, self._exchange = self._exchange, None
        text = f"{status} {_REASONS.get(status, 'Bad Request')}".encode()
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers = [
                (b"content-type", b"text/plain; charset=utf-8"),
                (b"connection", b"close"),
                (b"content-length", b"%d" % len(text)),
            ]
            self._send(
                h11.Response(status_code=status, headers=headers, reason=_REASONS.get(status, "").encode())
            )
            self._send(h11.Data(data=text))
        if exchange is not None:
            exchange.disconnect()
        self.failed = True
        self.wake(self)

    # ---- answering (the sink of an exchange)

    @property
    def pending_bytes(self) -> int:
        waiting = sum(map(len, self.out))
        return waiting + (self.owner.unwritten_bytes() if self.owner is not None else 0)

    def extra_info(self, name: str) -> Any:
        return self.owner.extra_info(name) if self.owner is not None else None

    def start(self, status: int, headers: Headers, length: int | None) -> None:
        fields = list(headers)
        if length is not None:
            fields.append((b"content-length", b"%d" % length))
        if self.draining:
            fields.append((b"connection", b"close"))
        before = len(self.out)
        self._send(h11.Response(status_code=status, headers=fields, reason=_REASONS.get(status, "").encode()))
        head = b"".join(self.out[before:]).lower()
        self._chunked = length is None and b"transfer-encoding: chunked" in head

    def data(self, chunk: bytes) -> None:
        if not self._chunked:
            self._send(h11.Data(data=chunk))
        elif chunk:
            # What h11 makes of it, for a tenth of the time: members write thousands of these a second.
            if not self.out:
                self.wake(self)
            self.out += (b"%x\r\n" % len(chunk), chunk, b"\r\n")

    def data_now(self, chunk: bytes) -> int:
        owner = self.owner
        if owner is None:
            return 0
        if self._chunked and not self.out:
            pending: int = owner.write_now(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            return pending
        self.data(chunk)
        owner.write()
        return self.pending_bytes

    def end(self) -> None:
        self._send(h11.EndOfMessage())
        self._exchange = None
        self._chunks = []
        if self._h11.our_state is h11.MUST_CLOSE or self._h11.their_state is not h11.DONE or self.draining:
            # An answer before the end of the body: what is left of it is not worth reading.
            self.finished = True
            self.wake(self)
            return
        self._h11.start_next_cycle()
        self.deadline = self._now() + self._limits.idle_seconds_max
        self._run()

    def abort(self) -> None:
        self.failed = True
        self.wake(self)

    def flush(self) -> None:
        if self.owner is not None:
            self.owner.write()

    def set_reading(self, reading: bool) -> None:
        if self.owner is not None:
            self.owner.set_reading(reading)

    def _send(self, event: Any) -> None:
        data = self._h11.send(event)
        if data:
            if not self.out:
                self.wake(self)
            self.out.append(data)

    def take(self) -> bytes:
        data = b"".join(self.out)
        self.out.clear()
        return data

    def pause(self) -> None:
        self.stalled_since = self._now()

    def resume(self) -> None:
        self.stalled_since = 0.0
        exchange = self._exchange
        if exchange is not None and exchange.on_writable is not None:
            self._guard(exchange, exchange.on_writable)

    def drain(self) -> None:
        """Close after the request under way, or now."""
        self.draining = True
        if self._exchange is None:
            self.finished = True
            self.wake(self)

    def lost(self) -> None:
        self.failed = True
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.disconnect()


_REASONS = {
    100: "Continue",
    200: "OK",
    201: "Created",
    204: "No Content",
    301: "Moved Permanently",
    304: "Not Modified",
    307: "Temporary Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    410: "Gone",
    412: "Precondition Failed",
    413: "Request Entity Too Large",
    421: "Misdirected Request",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
