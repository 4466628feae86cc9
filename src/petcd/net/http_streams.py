"""HTTP requests that come over HTTP/2, as browsers and curl send them to a TLS listener.

On a plaintext port HTTP/2 means gRPC; below TLS the content type decides (wire-v3.md 2.2), so one
connection may carry both. The exchange is the one of HTTP/1.1; only what is behind it differs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from petcd.net.grpc.router import RequestHead
from petcd.net.grpc.server import GrpcServerConnection
from petcd.net.http import Headers, HttpExchange, HttpRequest, HttpRouter
from petcd.net.http2 import frames
from petcd.net.http2.connection import Http2Stream
from petcd.net.http2.headers import literals, status_field

_HOP_BY_HOP = frozenset((b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"proxy-connection"))


def opener(router: HttpRouter) -> Callable[[GrpcServerConnection, int, RequestHead, bool], HttpStream]:
    """What ``Service.on_http`` wants."""
    return lambda conn, sid, head, _end_stream: HttpStream(router, conn, sid, head)


class HttpStream(Http2Stream):
    """One request and its answer; the sink of its exchange."""

    __slots__ = (
        "_body_left",
        "_chunks",
        "_conn",
        "_done",
        "_exchange",
        "_route",
        "_router",
        "_sid",
        "receive_left",
        "remote_closed",
    )

    def __init__(self, router: HttpRouter, conn: GrpcServerConnection, sid: int, head: RequestHead) -> None:
        self.receive_left = conn.limits.stream_window_bytes
        self.remote_closed = False
        self._router = router
        self._conn = conn
        self._sid = sid
        self._chunks: list[bytes] = []
        self._done = False
        method, headers = "GET", []
        for name, value in head.fields:
            if name == b":method":
                method = value.decode("latin-1")
            elif name == b":authority":
                headers.append((b"host", value))
            elif name[:1] != b":":
                headers.append((name, value))
        request = HttpRequest(method, head.path.decode("latin-1"), headers, "2.0", secure=True)
        self._route = router.route(request.path)
        self._body_left = self._route.body_bytes_max
        self._exchange = HttpExchange(request, self)

    def begin(self) -> None:
        """The connection knows the stream: a streaming route may start."""
        if self._route.streaming:
            self._guard(self._router.run, self._route, self._exchange)
        elif self._route.admit is not None:
            self._guard(self._route.admit, self._exchange)

    def on_data(self, data: bytes, start: int, end: int, end_stream: bool) -> None:
        exchange = self._exchange
        if self._done:
            return
        if self._route.streaming:
            if start < end and exchange.on_body is not None:
                self._guard(exchange.on_body, data[start:end])
            if end_stream and exchange.on_body_end is not None:
                self._guard(exchange.on_body_end)
            return
        self._body_left -= end - start
        if self._body_left < 0:
            exchange.text(413, "413 Request Entity Too Large")
            return
        if start < end:
            self._chunks.append(data[start:end])
        if end_stream:
            exchange.request.body = b"".join(self._chunks)
            self._chunks = []
            self._guard(self._router.run, self._route, exchange)

    def on_reset(self, code: int) -> None:
        if not self._done:
            self._done = True
            self._guard(self._exchange.disconnect)

    def on_window(self) -> None:
        if self._exchange.on_writable is not None and not self._done:
            self._guard(self._exchange.on_writable)

    def _guard(self, hook: Callable[..., Any], *args: Any) -> None:
        exchange = self._exchange
        try:
            hook(*args)
        except Exception as error:  # noqa: BLE001 - a handler's bug fails its request only
            self._conn.report_bug(exchange.request.path.encode("latin-1", "replace"), error)
            if exchange.state == HttpExchange.WAITING:
                exchange.text(500, "Internal Server Error\n")
            else:
                exchange.abort()

    # ---- the sink

    @property
    def peer(self) -> str:
        return self._conn.peer

    @property
    def pending_bytes(self) -> int:
        sender = self._conn.senders.get(self._sid)
        return (sender.waiting if sender is not None else 0) + self._conn.unflushed()

    def extra_info(self, name: str) -> Any:
        owner = self._conn.owner
        return owner.extra_info(name) if owner is not None else None

    def start(self, status: int, headers: Headers, length: int | None) -> None:
        fields = [(name.lower(), value) for name, value in headers if name.lower() not in _HOP_BY_HOP]
        if length is not None:
            fields.append((b"content-length", b"%d" % length))
        self._conn.put_headers(self._sid, status_field(status) + literals(fields), 0)

    def data(self, chunk: bytes) -> None:
        if not self._done:
            self._conn.queue(self._sid, chunk, None, self)

    def data_now(self, chunk: bytes) -> int:
        self.data(chunk)
        self.flush()
        return self.pending_bytes

    def end(self) -> None:
        if not self._done:
            self._done = True
            self._conn.queue(self._sid, b"", b"", None)

    def flush(self) -> None:
        """Nothing to do: the connection's streams share one write at the end of the turn."""

    def set_reading(self, reading: bool) -> None:
        """Nothing to do: the stream's window bounds what comes."""

    def abort(self) -> None:
        if not self._done:
            self._done = True
            conn, sid = self._conn, self._sid
            conn.forget(sid)
            conn.put(frames.rst_stream(sid, frames.INTERNAL_ERROR))
            if not self.remote_closed:
                conn.detach(sid)
