"""The JSON gateway: the gRPC methods as POSTs of JSON (contract wire-v3 sections 2.3 to 2.6).

Calls go through the same handlers as gRPC's: ``GatewayCall`` and ``GatewayStream`` look to them like a call
and a stream. A gateway call never has the identity of a client certificate (CVE-2018-16886).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from petcd.errors import Code, EtcdError
from petcd.net.grpc import Method
from petcd.net.grpc.status import parse_timeout
from petcd.net.http import HttpExchange, HttpRouter
from petcd.pb.json import JsonError, dumps, loads, loads_at
from petcd.pb.message import Message
from petcd.pb.services import METHODS, MethodSpec
from petcd.server.member import Member

_JSON: Final = (b"content-type", b"application/json")
_METADATA: Final = (b"grpc-metadata-content-type", b"application/grpc")
_PENDING_BYTES_MAX: Final = 1 << 20

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

    __slots__ = ("_metadata", "path", "plain")

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
        self.plain = all(name.startswith(b"grpcgateway-") for name in self._metadata)

    def metadata(self, name: bytes) -> bytes | None:
        return self._metadata.get(name)


class GatewayCall:
    """One unary call that came as JSON."""

    __slots__ = ("_exchange", "_over", "_spec", "cancelled", "deadline", "head")

    def __init__(self, exchange: HttpExchange, spec: MethodSpec, head: GatewayHead) -> None:
        self._exchange = exchange
        self._spec = spec
        self._over = False
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
        if not self._over:
            self._over = True
            answer = self._spec.response.decode(message)
            self._exchange.respond(200, [_JSON, _METADATA], dumps(answer).encode())

    def reply_parts(self, parts: list[bytes]) -> None:
        self.reply(b"".join(parts))

    def fail(self, code: int, text: str) -> None:
        if not self._over:
            self._over = True
            respond_error(self._exchange, code, text)


class GatewayStream:
    """One streaming call that came as JSON: a line of JSON per message."""

    __slots__ = ("_exchange", "_spec", "cancelled", "closed", "deadline", "handler", "head")

    def __init__(self, exchange: HttpExchange, spec: MethodSpec, head: GatewayHead) -> None:
        self._exchange = exchange
        self._spec = spec
        self.head = head
        self.closed = False
        self.cancelled = False
        self.deadline = 0.0
        self.handler: Any = None

    @property
    def peer(self) -> str:
        return self._exchange.peer

    @property
    def pending_bytes(self) -> int:
        return self._exchange.pending_bytes

    @property
    def blocked(self) -> bool:
        return self._exchange.pending_bytes > _PENDING_BYTES_MAX

    def metadata(self, name: bytes) -> bytes | None:
        return self.head.metadata(name)

    def send(self, message: bytes) -> None:
        if not self.closed:
            self._start()
            self._exchange.send(b'{"result":' + dumps(self._spec.response.decode(message)).encode() + b"}\n")

    def close(self, code: int = 0, text: str = "") -> None:
        if self.closed:
            return
        self.closed = True
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

    def disconnected(self) -> None:
        if not self.closed:
            self.closed = self.cancelled = True
            self.handler.on_cancel()


class Gateway:
    """The routes of the gateway over the handlers of a member."""

    def __init__(self, methods: Sequence[Method], member: Member) -> None:
        self._methods = {method.path: method for method in methods}
        self._member = member

    def add_to(self, router: HttpRouter) -> None:
        for spec in METHODS:
            method = self._methods.get(spec.path.encode())
            if method is None:
                continue
            for path in spec.gateway:
                handler = self._handler(spec, method)
                router.add(path, handler)
                router.add(path.replace("/v3/", "/v3beta/", 1), handler)
        router.add("/v3/", _not_found, prefix=True)
        router.add("/v3beta/", _not_found, prefix=True)

    def _handler(self, spec: MethodSpec, method: Method) -> Callable[[HttpExchange], None]:
        def handle(exchange: HttpExchange) -> None:
            if exchange.request.method != "POST":
                respond_error(exchange, Code.UNIMPLEMENTED, "Method Not Allowed")
                return
            head = GatewayHead(exchange, method.path)
            timeout = exchange.request.header(b"grpc-timeout")
            if timeout is not None and parse_timeout(timeout) is None:
                text = timeout.decode("utf-8", "replace")
                respond_error(exchange, Code.INVALID_ARGUMENT, f"invalid grpc-timeout: {text}")
                return
            if spec.client_stream or spec.server_stream:
                self._stream(spec, method, exchange, head)
            else:
                self._unary(spec, method, exchange, head, timeout)

        return handle

    def _unary(
        self,
        spec: MethodSpec,
        method: Method,
        exchange: HttpExchange,
        head: GatewayHead,
        timeout: bytes | None,
    ) -> None:
        try:
            request = loads(spec.request, exchange.request.body or b"{}")
        except JsonError as error:
            respond_error(exchange, Code.INVALID_ARGUMENT, str(error))
            return
        call: Any = GatewayCall(exchange, spec, head)
        seconds = parse_timeout(timeout) if timeout is not None else None
        if seconds is not None:
            self._member.clock.call_later(
                seconds, call.fail, Code.DEADLINE_EXCEEDED, "context deadline exceeded"
            )
        assert method.unary is not None
        run_unary(method, call, request)

    def _stream(self, spec: MethodSpec, method: Method, exchange: HttpExchange, head: GatewayHead) -> None:
        requests: list[Message] = []
        text = exchange.request.body.decode("utf-8", "replace")
        position = 0
        try:
            while True:
                request, position = loads_at(spec.request, text, position)
                if request is None:
                    break
                requests.append(request)
        except JsonError as error:
            respond_error(exchange, Code.INVALID_ARGUMENT, str(error))
            return
        stream: Any = GatewayStream(exchange, spec, head)
        assert method.stream is not None
        try:
            stream.handler = method.stream(stream)
            exchange.on_disconnect = stream.disconnected
            exchange.on_writable = stream.handler.on_writable
            for request in requests:
                stream.handler.on_message(request.encode())
            stream.handler.on_half_close()
        except EtcdError as error:
            stream.close(error.code, error.text)


def run_unary(method: Method, call: Any, request: Message) -> None:
    """Call a handler as a connection would: a row of the error table that it raises is its answer."""
    assert method.unary is not None
    try:
        method.unary(call, request.encode())
    except EtcdError as error:
        call.fail(error.code, error.text)


def respond_error(exchange: HttpExchange, code: int, text: str) -> None:
    headers = [_JSON]
    if code == Code.UNAUTHENTICATED:
        headers.append((b"www-authenticate", text.encode()))
    exchange.respond(_status(code), headers, _dump({"code": int(code), "message": text}))


def _not_found(exchange: HttpExchange) -> None:
    respond_error(exchange, Code.NOT_FOUND, "Not Found")


def _status(code: int) -> int:
    return HTTP_STATUS.get(Code(code), 500) if 0 <= code <= 16 else 500


def _dump(shape: dict[str, Any]) -> bytes:
    return json.dumps(shape, separators=(",", ":"), ensure_ascii=False).encode()
