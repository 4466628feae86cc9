"""An HTTP request and the answer to it, whatever carries them (HTTP/1.1 through h11, HTTP/2 on TLS
listeners).

A handler gets an ``HttpExchange`` once the request's body is complete, and answers it then or later: at
once with ``respond``, or piece by piece with ``start``, ``send``, ``end``. A route added with
``streaming=True`` gets it when the headers are complete and hears the body through ``on_body``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

Headers = Sequence[tuple[bytes, bytes]]

TEXT: Final = (b"content-type", b"text/plain; charset=utf-8")


class HttpRequest:
    """One request. Header names are lower case; ``query`` follows the question mark, still encoded."""

    __slots__ = ("body", "headers", "method", "path", "query", "secure", "version")

    def __init__(
        self, method: str, target: str, headers: list[tuple[bytes, bytes]], version: str, secure: bool
    ) -> None:
        self.method = method
        if target[:1] != "/" and "://" in target:  # absolute form, as sent to proxies
            target = "/" + target.partition("://")[2].partition("/")[2]
        self.path, _, self.query = target.partition("?")
        self.headers = headers
        self.body = b""
        self.version = version
        self.secure = secure
        """Came over TLS."""

    def header(self, name: bytes) -> bytes | None:
        """The first value of this header."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


class Sink(Protocol):
    """Where an answer goes; the connection behind it."""

    @property
    def peer(self) -> str: ...

    @property
    def pending_bytes(self) -> int: ...

    def start(self, status: int, headers: Headers, length: int | None) -> None: ...

    def data(self, chunk: bytes) -> None: ...

    def data_now(self, chunk: bytes) -> int: ...

    def end(self) -> None: ...

    def abort(self) -> None: ...

    def extra_info(self, name: str) -> Any: ...

    def flush(self) -> None: ...

    def set_reading(self, reading: bool) -> None: ...


class HttpExchange:
    """One request and its answer. Answers after ``disconnected`` are dropped in silence."""

    __slots__ = (
        "_sink",
        "disconnected",
        "extra_headers",
        "on_body",
        "on_body_end",
        "on_disconnect",
        "on_writable",
        "request",
        "state",
    )

    WAITING: Final = 0
    STARTED: Final = 1
    ENDED: Final = 2

    def __init__(self, request: HttpRequest, sink: Sink) -> None:
        self.request = request
        self._sink = sink
        self.state = self.WAITING
        self.disconnected = False
        self.extra_headers: list[tuple[bytes, bytes]] = []
        """Added to whatever answer is given (CORS)."""
        self.on_disconnect: Callable[[], object] | None = None
        """The client went away before the answer was complete."""
        self.on_writable: Callable[[], object] | None = None
        """``pending_bytes`` fell after ``send`` had to wait."""
        self.on_body: Callable[[bytes], object] | None = None
        self.on_body_end: Callable[[], object] | None = None

    @property
    def peer(self) -> str:
        return self._sink.peer

    def extra_info(self, name: str) -> Any:
        """What the transport knows, e.g. ``peercert``."""
        return self._sink.extra_info(name)

    @property
    def pending_bytes(self) -> int:
        """What the client has yet to take."""
        return self._sink.pending_bytes

    def respond(self, status: int, headers: Headers = (), body: bytes = b"") -> None:
        """The whole answer."""
        if self.state != self.WAITING or self.disconnected:
            return
        self.state = self.ENDED
        self._sink.start(status, [*headers, *self.extra_headers], len(body))
        if body and self.request.method != "HEAD":
            self._sink.data(body)
        self._sink.end()

    def text(self, status: int, text: str) -> None:
        self.respond(status, [TEXT], text.encode())

    def start(self, status: int, headers: Headers = ()) -> None:
        """Begin an answer of unknown length."""
        if self.state != self.WAITING or self.disconnected:
            return
        self.state = self.STARTED
        self._sink.start(status, [*headers, *self.extra_headers], None)

    def send(self, chunk: bytes) -> None:
        if self.state == self.STARTED and not self.disconnected and chunk and self.request.method != "HEAD":
            self._sink.data(chunk)

    def send_now(self, chunk: bytes) -> int:
        """``send``, ``flush`` and ``pending_bytes`` in one."""
        if self.state == self.STARTED and not self.disconnected and chunk and self.request.method != "HEAD":
            return self._sink.data_now(chunk)
        return 0

    def end(self) -> None:
        if self.state == self.STARTED and not self.disconnected:
            self.state = self.ENDED
            self._sink.end()

    def abort(self) -> None:
        """Cut the connection (or stream): the client must not take what it got for complete."""
        if not self.disconnected and self.state != self.ENDED:
            self.state = self.ENDED
            self._sink.abort()

    def flush(self) -> None:
        """Write what was sent now, instead of at the end of the turn."""
        if not self.disconnected:
            self._sink.flush()

    def set_reading(self, reading: bool) -> None:
        """Pause or resume the body of a streaming route (HTTP/1.1)."""
        if not self.disconnected:
            self._sink.set_reading(reading)

    # ---- from the connection

    def disconnect(self) -> None:
        if not self.disconnected:
            self.disconnected = True
            if self.state != self.ENDED and self.on_disconnect is not None:
                self.on_disconnect()


HttpHandler = Callable[[HttpExchange], None]


class Route:
    __slots__ = ("admit", "body_bytes_max", "handler", "streaming")

    def __init__(
        self, handler: HttpHandler, streaming: bool, body_bytes_max: int, admit: HttpHandler | None = None
    ) -> None:
        self.handler = handler
        self.streaming = streaming
        self.body_bytes_max = body_bytes_max
        self.admit = admit
        """Sees the head before the body is taken in, and answers what it refuses."""


BODY_BYTES_MAX: Final = 2 << 20


def not_found(exchange: HttpExchange) -> None:
    """Go's answer to an unknown path."""
    exchange.respond(404, [TEXT, (b"x-content-type-options", b"nosniff")], b"404 page not found\n")


class HttpRouter:
    """Paths to handlers: an exact path first, then the longest prefix."""

    __slots__ = ("_exact", "_missing", "_prefixes", "before")

    def __init__(self, missing: HttpHandler = not_found) -> None:
        self._exact: dict[str, Route] = {}
        self._prefixes: list[tuple[str, Route]] = []
        self._missing = Route(missing, streaming=False, body_bytes_max=BODY_BYTES_MAX)
        self.before: Callable[[HttpExchange], bool] | None = None
        """Runs before every handler (host whitelist, CORS); True when it has answered."""

    def add(
        self,
        path: str,
        handler: HttpHandler,
        *,
        prefix: bool = False,
        streaming: bool = False,
        body_bytes_max: int = BODY_BYTES_MAX,
        admit: HttpHandler | None = None,
    ) -> None:
        route = Route(handler, streaming, body_bytes_max, admit)
        if prefix:
            self._prefixes.append((path, route))
            self._prefixes.sort(key=lambda item: -len(item[0]))
        else:
            self._exact[path] = route

    def route(self, path: str) -> Route:
        found = self._exact.get(path)
        if found is not None:
            return found
        for prefix, route in self._prefixes:
            if path.startswith(prefix):
                return route
        return self._missing

    def run(self, route: Route, exchange: HttpExchange) -> None:
        if self.before is not None and self.before(exchange):
            return
        route.handler(exchange)
