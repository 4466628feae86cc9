"""The JSON gateway: the gRPC methods as POSTs of JSON (contract wire-v3 sections 2.3 to 2.6).

Calls go through the same handlers as gRPC's: ``GatewayCall`` and ``GatewayStream`` look to them like a call
and a stream. A gateway call never has the identity of a client certificate (CVE-2018-16886).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from petcd.errors import Code, EtcdError
from petcd.net.grpc import Method
from petcd.net.grpc.calls import DEADLINE_TEXT
from petcd.net.grpc.status import parse_timeout
from petcd.net.http import HttpExchange, HttpRouter
from petcd.pb.json import JsonError, dumps, loads
from petcd.pb.services import METHODS, MethodSpec
from petcd.seams import Clock, Timer
from petcd.server.member import Member

_JSON: Final = (b"content-type", b"application/json")
_METADATA: Final = (b"grpc-metadata-content-type", b"application/grpc")
_PENDING_BYTES_MAX: Final = 1 << 20
"""What a client of a stream may leave unread before the stream waits for it."""
_UNCHECKED_BYTES_MAX: Final = 64 << 10
_POLL_SECONDS: Final = 0.05
_BODY_BYTES_PER_MESSAGE_BYTE: Final = 2
"""Base64 makes four bytes of three, and then there are names and spaces."""

HTTP_STATUS: Final = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}


class GatewayHead:
    """Request headers as gRPC metadata."""

    __slots__ = ("_metadata", "note", "path")

    def __init__(self, exchange: HttpExchange, path: bytes) -> None:
        self.path = path
        self._metadata: dict[bytes, bytes] = {}
        for name, value in exchange.request.headers:
            if name == b"authorization":
                self._metadata.setdefault(b"authorization", value)
            if name.startswith(b"grpc-metadata-"):
                self._metadata.setdefault(name[len(b"grpc-metadata-") :], value)
            else:
                self._metadata.setdefault(b"grpcgateway-" + name, value)
        self.note: Any = None

    def metadata(self, name: bytes) -> bytes | None:
        return self._metadata.get(name)


class GatewayCall:
    """One unary call that came as JSON."""

    __slots__ = ("_exchange", "_over", "_spec", "cancelled", "deadline", "head", "timer")

    def __init__(self, exchange: HttpExchange, spec: MethodSpec, head: GatewayHead) -> None:
        self._exchange = exchange
        self._spec = spec
        self._over = False
        self.timer: Timer | None = None
        self.head = head
        self.cancelled = False
        self.deadline = 0.0

    @property
    def peer(self) -> str:
        return self._exchange.peer

    @property
    def congested(self) -> bool:
        return False

    def metadata(self, name: bytes) -> bytes | None:
        return self.head.metadata(name)

    def defer(self, resume: Callable[[], None]) -> None:
        resume()

    def reply(self, message: bytes) -> None:
        if self._end():
            answer = self._spec.response.decode(message)
            self._exchange.respond(200, [_JSON, _METADATA], dumps(answer).encode())

    def reply_parts(self, parts: list[bytes]) -> None:
        self.reply(b"".join(parts))

    def fail(self, code: int, text: str) -> None:
        if self._end():
            respond_error(self._exchange, code, text)

    def _end(self) -> bool:
        """Whether the call was not over yet."""
        if self._over:
            return False
        self._over = True
        if self.timer is not None:
            self.timer.cancel()
        return True


class GatewayStream:
    """One streaming call that came as JSON: a line of JSON per message."""

    __slots__ = (
        "_clock",
        "_ended",
        "_exchange",
        "_json",
        "_spec",
        "_unchecked",
        "blocked",
        "cancelled",
        "closed",
        "deadline",
        "handler",
        "head",
        "timer",
    )

    def __init__(
        self,
        exchange: HttpExchange,
        spec: MethodSpec,
        head: GatewayHead,
        clock: Clock,
        ended: Callable[[GatewayStream], object],
        body_bytes_max: int,
    ) -> None:
        self._exchange = exchange
        self._spec = spec
        self._clock = clock
        self._ended = ended
        self._json = JsonValues(body_bytes_max)
        self._unchecked = 0
        self.head = head
        self.blocked = False
        """The client does not keep up; ``on_writable`` follows."""
        self.closed = False
        self.cancelled = False
        self.deadline = 0.0
        self.handler: Any = None
        self.timer: Timer | None = None

    @property
    def peer(self) -> str:
        return self._exchange.peer

    @property
    def pending_bytes(self) -> int:
        return self._exchange.pending_bytes

    def metadata(self, name: bytes) -> bytes | None:
        return self.head.metadata(name)

    def send(self, message: bytes) -> None:
        if not self.closed:
            self._start()
            line = b'{"result":' + dumps(self._spec.response.decode(message)).encode() + b"}\n"
            self._exchange.send(line)
            self._unchecked += len(line)
            if self._unchecked > _UNCHECKED_BYTES_MAX and not self.blocked:
                self._unchecked = 0
                if self._exchange.pending_bytes > _PENDING_BYTES_MAX:
                    self.blocked = True
                    self._clock.call_later(_POLL_SECONDS, self._poll)

    def _poll(self) -> None:
        """Sockets take more than our bound before they say that they are full, so they do not say when they
        are not."""
        if self.closed:
            return
        if self._exchange.pending_bytes > _PENDING_BYTES_MAX // 2:
            self._clock.call_later(_POLL_SECONDS, self._poll)
        else:
            self.blocked = False
            self._hear(self.handler.on_writable)

    def close(self, code: int = 0, text: str = "") -> None:
        if not self._end():
            return
        if code and self._exchange.state == HttpExchange.WAITING:
            body = {"error": {"code": int(code), "message": text}}
            self._exchange.respond(_status(code), [_JSON], _dump(body) + b"\n")
            return
        self._start()
        if code:
            self._exchange.send(_dump({"error": {"code": int(code), "message": text}}) + b"\n")
        self._exchange.end()

    def _start(self) -> None:
        if self._exchange.state == HttpExchange.WAITING:
            self._exchange.start(200, [_JSON, _METADATA])

    def _end(self) -> bool:
        """Whether the stream was not over yet."""
        if self.closed:
            return False
        self.closed = True
        if self.timer is not None:
            self.timer.cancel()
        self._ended(self)
        return True

    def end(self, code: int, text: str) -> None:
        """End it from our side and tell the handler."""
        if not self.closed:
            self.close(code, text)
            self.disconnected(over=True)

    def disconnected(self, *, over: bool = False) -> None:
        if over or self._end():
            self.cancelled = True
            if self.handler is not None:
                self.handler.on_cancel()

    # -- the request's body ----------------------------------------------------------------------------

    def on_body(self, data: bytes) -> None:
        """Messages as their JSON arrives."""
        if self.closed:
            return
        try:
            for value in self._json.feed(data):
                self._hear(self.handler.on_message, loads(self._spec.request, value).encode())
        except JsonError as error:
            self._refuse(str(error))

    def on_body_end(self) -> None:
        if self.closed:
            return
        rest = self._json.rest()
        if rest:
            try:
                message = loads(self._spec.request, rest).encode()
            except JsonError as error:
                self._refuse(str(error))
                return
            self._hear(self.handler.on_message, message)
        if not self.closed:
            self._hear(self.handler.on_half_close)

    def _refuse(self, text: str) -> None:
        if self._exchange.state == HttpExchange.WAITING:
            respond_error(self._exchange, Code.INVALID_ARGUMENT, text)
        self.end(Code.INVALID_ARGUMENT, text)

    def _hear(self, hook: Callable[..., object], *args: bytes) -> None:
        """Let the handler hear; a row of the error table that it raises ends the stream."""
        if not self.closed:
            try:
                hook(*args)
            except EtcdError as error:
                self.end(error.code, error.text)


class Gateway:
    """The routes of the gateway over the handlers of a member."""

    def __init__(self, methods: Sequence[Method], member: Member) -> None:
        self._methods = {method.path: method for method in methods}
        self._member = member
        self._message_bytes_max = member.config.receive_bytes_max
        self._body_bytes_max = self._message_bytes_max * _BODY_BYTES_PER_MESSAGE_BYTE
        self._streams: dict[GatewayStream, None] = {}

    def end_streams(self, code: int, text: str) -> None:
        """Close what would go on for ever."""
        for stream in list(self._streams):
            stream.end(code, text)

    def add_to(self, router: HttpRouter) -> None:
        for spec in METHODS:
            method = self._methods.get(spec.path.encode())
            if method is None:
                continue
            for path in spec.gateway:
                handler = self._handler(spec, method)
                for name in (path, path.replace("/v3/", "/v3beta/", 1)):
                    router.add(
                        name,
                        handler,
                        streaming=spec.client_stream,
                        body_bytes_max=self._body_bytes_max,
                    )
        router.add("/v3", _to_the_slash)
        router.add("/v3/", _not_found, prefix=True)
        router.add("/v3beta/", _not_found, prefix=True)

    def _handler(self, spec: MethodSpec, method: Method) -> Callable[[HttpExchange], None]:
        def handle(exchange: HttpExchange) -> None:
            if exchange.request.method != "POST":
                respond_error(exchange, Code.UNIMPLEMENTED, "Method Not Allowed")
                return
            head = GatewayHead(exchange, method.path)
            timeout = exchange.request.header(b"grpc-timeout")
            seconds = parse_timeout(timeout) if timeout is not None else None
            if timeout is not None and seconds is None:
                text = timeout.decode("utf-8", "replace")
                respond_error(exchange, Code.INVALID_ARGUMENT, f"invalid grpc-timeout: {text}")
                return
            if spec.client_stream or spec.server_stream:
                self._stream(spec, method, exchange, head, seconds)
            else:
                self._unary(spec, method, exchange, head, seconds)

        return handle

    def _unary(
        self,
        spec: MethodSpec,
        method: Method,
        exchange: HttpExchange,
        head: GatewayHead,
        seconds: float | None,
    ) -> None:
        try:
            message = loads(spec.request, exchange.request.body).encode()
        except JsonError as error:
            respond_error(exchange, Code.INVALID_ARGUMENT, str(error))
            return
        if len(message) > self._message_bytes_max:
            text = f"grpc: received message larger than max ({len(message)} vs. {self._message_bytes_max})"
            respond_error(exchange, Code.RESOURCE_EXHAUSTED, text)
            return
        call: Any = GatewayCall(exchange, spec, head)
        if seconds is not None:
            call.timer = self._member.clock.call_later(
                seconds, call.fail, Code.DEADLINE_EXCEEDED, DEADLINE_TEXT
            )
        run_unary(method, call, message)

    def _stream(
        self,
        spec: MethodSpec,
        method: Method,
        exchange: HttpExchange,
        head: GatewayHead,
        seconds: float | None,
    ) -> None:
        clock = self._member.clock
        stream: Any = GatewayStream(exchange, spec, head, clock, self._forget, self._body_bytes_max)
        assert method.stream is not None
        try:
            stream.handler = method.stream(stream)
        except EtcdError as error:
            stream.close(error.code, error.text)
            return
        self._streams[stream] = None
        exchange.on_disconnect = stream.disconnected
        if seconds is not None:
            stream.timer = clock.call_later(seconds, stream.end, Code.DEADLINE_EXCEEDED, DEADLINE_TEXT)
        if spec.client_stream:
            exchange.on_body = stream.on_body
            exchange.on_body_end = stream.on_body_end
        else:
            stream.on_body(exchange.request.body.strip() or b"{}")
            stream.on_body_end()

    def _forget(self, stream: GatewayStream) -> None:
        self._streams.pop(stream, None)


class JsonValues:
    """Cuts a body into its JSON values as it arrives: requests are objects, one after the other."""

    __slots__ = ("_bytes_max", "_depth", "_in_text", "_seen", "_value")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._value = bytearray()
        self._seen = 0
        self._depth = 0
        self._in_text = False

    def feed(self, data: bytes) -> list[bytes]:
        """The values that are complete now. Raises: JsonError for one that is too large."""
        value = self._value
        value += data
        found = []
        at = self._seen
        while match := _MARK.search(value, at):
            at = match.end()
            mark = match[0]
            if self._in_text:
                if mark == b'"':
                    self._in_text = False
                elif mark == b"\\":
                    if at == len(value):  # what is escaped has not arrived
                        at -= 1
                        break
                    at += 1
            elif mark == b'"':
                self._in_text = True
            elif mark in b"{[":
                self._depth += 1
            elif mark in b"}]":
                self._depth -= 1
                if self._depth <= 0:
                    found.append(bytes(value[:at]))
                    del value[:at]
                    self._depth = at = 0
        else:
            at = len(value)
        self._seen = at
        if len(value) > self._bytes_max:
            raise JsonError("request is too large")
        return found

    def rest(self) -> bytes:
        """What follows the last complete value, spaces left out."""
        return bytes(self._value).strip(b" \t\r\n")


_MARK: Final = re.compile(rb'["\\{}\[\]]')


def run_unary(method: Method, call: Any, message: bytes) -> None:
    """Call a handler as a connection would: a row of the error table that it raises is its answer."""
    assert method.unary is not None
    try:
        method.unary(call, message)
    except EtcdError as error:
        call.fail(error.code, error.text)


def respond_error(exchange: HttpExchange, code: int, text: str) -> None:
    headers = [_JSON]
    if code == Code.UNAUTHENTICATED:
        headers.append((b"www-authenticate", text.encode()))
    exchange.respond(_status(code), headers, _dump({"code": int(code), "message": text}))


def _to_the_slash(exchange: HttpExchange) -> None:
    """Go's answer to a directory without its slash."""
    headers = [(b"content-type", b"text/html; charset=utf-8"), (b"location", b"/v3/")]
    exchange.respond(301, headers, b'<a href="/v3/">Moved Permanently</a>.\n\n')


def _not_found(exchange: HttpExchange) -> None:
    respond_error(exchange, Code.NOT_FOUND, "Not Found")


def _status(code: int) -> int:
    return HTTP_STATUS.get(Code(code), 500) if 0 <= code <= 16 else 500


def _dump(shape: dict[str, Any]) -> bytes:
    return json.dumps(shape, separators=(",", ":"), ensure_ascii=False).encode()
