"""Methods by the exact bytes of ``:path``, and what a request's header block means once decoded.

A ``RequestHead`` is made once per distinct header block and shared by all calls that send the same one, so
the whole judgement of a request (pseudo-headers, content type, method, encoding) is paid once per
connection, not per call.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from petcd.errors import Code
from petcd.net.grpc.messages import decompressor_text, go_quote
from petcd.net.grpc.stats import MethodStats
from petcd.net.grpc.status import refusal_block
from petcd.net.http2.headers import Field

if TYPE_CHECKING:
    from petcd.net.grpc.calls import Call, Stream, StreamHandler

UnaryHandler = Callable[["Call", bytes], None]
StreamOpener = Callable[["Stream"], "StreamHandler"]


class Method:
    """One method: exactly one of ``unary`` and ``stream`` is set.

    ``unary(call, message)`` must sooner or later call ``call.reply`` or ``call.fail`` (raising
    ``EtcdError`` at once is the same as failing with it). ``stream(stream)`` returns the handler that hears
    the stream's messages.
    """

    __slots__ = ("path", "stats", "stream", "unary")

    def __init__(
        self, path: bytes, unary: UnaryHandler | None = None, stream: StreamOpener | None = None
    ) -> None:
        if (unary is None) == (stream is None):
            raise ValueError("a method is either unary or streaming")
        self.path = path
        self.unary = unary
        self.stream = stream
        self.stats = MethodStats(unary is not None)


class Router:
    """The table of methods."""

    __slots__ = ("_services", "methods")

    def __init__(self, methods: Iterable[Method] = ()) -> None:
        self.methods: dict[bytes, Method] = {}
        self._services: set[bytes] = set()
        for method in methods:
            self.add(method)

    def add(self, method: Method) -> None:
        if method.path in self.methods or method.path[:1] != b"/":
            raise ValueError(f"bad or repeated path {method.path!r}")
        self.methods[method.path] = method
        self._services.add(method.path[1:].rpartition(b"/")[0])

    def unary(self, path: bytes, handler: UnaryHandler) -> None:
        self.add(Method(path, unary=handler))

    def stream(self, path: bytes, opener: StreamOpener) -> None:
        self.add(Method(path, stream=opener))

    def refusal(self, path: bytes) -> str:
        """The text for a path that is not in the table, as Go words it."""
        service, slash, name = path[1:].rpartition(b"/")
        if path[:1] != b"/" or not slash:
            return f"malformed method name: {go_quote(path)}"
        if service in self._services:
            return f"unknown method {_text(name)} for service {_text(service)}"
        return f"unknown service {_text(service)}"


_NO_STATS: Final = MethodStats(True)
"""Where calls without a method are counted, for nobody to read."""


class RequestHead:
    """The decoded fields of a request and the judgement on them.

    ``refusal``: answer with this block at once; ``malformed``: RST_STREAM PROTOCOL_ERROR (RFC 9113 8.1.1);
    ``http``: not gRPC at all, though well formed.
    """

    __slots__ = (
        "_metadata",
        "encoding",
        "fields",
        "http",
        "malformed",
        "method",
        "note",
        "path",
        "refusal",
        "stats",
        "unary",
    )

    def __init__(self, fields: list[Field]) -> None:
        self.fields = fields
        self.path = b""
        self.method: Method | None = None
        self.unary: UnaryHandler | None = None
        """Set only when nothing but the message is left to look at: the fast path's test."""
        self.refusal: bytes | None = None
        self.malformed = False
        self.http = False
        self.encoding: bytes | None = None
        self.note: Any = None
        """What whoever serves the method has found out about these fields: heads come again and again."""
        self.stats = _NO_STATS
        self._metadata: dict[bytes, list[bytes]] | None = None

    def metadata(self, name: bytes) -> bytes | None:
        """The first value; names are lower case, ``-bin`` values are decoded."""
        values = self.metadata_all(name)
        return values[0] if values else None

    get = metadata

    def metadata_all(self, name: bytes) -> list[bytes]:
        table = self._metadata
        if table is None:
            table = {}
            for key, value in self.fields:
                table.setdefault(key, []).append(value)
            self._metadata = table
        values = table.get(name)
        if values is None:
            return []
        if name.endswith(b"-bin"):
            return [decoded for value in values for decoded in _decode_bin(value)]
        return values


def _decode_bin(value: bytes) -> list[bytes]:
    out = []
    for part in value.split(b","):
        part = part.strip()
        try:
            out.append(base64.b64decode(part + b"=" * (-len(part) % 4), validate=True))
        except binascii.Error:
            continue
    return out


_PSEUDO: Final = frozenset((b":method", b":scheme", b":path", b":authority"))
_CONNECTION_FIELDS: Final = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade")
)
_UPPER: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_NAME_FORBIDDEN: Final = _UPPER | frozenset(range(0x21)) | frozenset(range(0x7F, 0x100)) | frozenset(b":")


def read_head(fields: list[Field], router: Router, list_bytes_max: int, http: bool) -> RequestHead:
    """Judge a request's fields; its deadline is judged apart.

    ``http`` says that requests other than gRPC's have somewhere to go.
    """
    head = RequestHead(fields)
    pseudo: dict[bytes, bytes] = {}
    content_type = None
    regular = False
    size = hosts = 0
    for name, value in fields:
        size += len(name) + len(value) + 32
        if name[:1] == b":":
            if regular or name in pseudo or name not in _PSEUDO:
                head.malformed = True
                return head
            pseudo[name] = value
            continue
        regular = True
        if not name or not _NAME_FORBIDDEN.isdisjoint(name) or name in _CONNECTION_FIELDS:
            head.malformed = True
            return head
        if b"\n" in value or b"\r" in value or b"\0" in value:
            head.malformed = True
            return head
        if name == b"te":
            if value != b"trailers":
                head.malformed = True
                return head
        elif name == b"content-type":
            content_type = value
        elif name == b"grpc-encoding":
            head.encoding = value
        elif name == b"host":
            hosts += 1
    path = pseudo.get(b":path")
    if not path or b":method" not in pseudo or b":scheme" not in pseudo:
        head.malformed = True
        return head
    head.path = path
    _judge(head, router, pseudo[b":method"], content_type, http)
    if hosts > 1:
        head.refusal = refusal_block(
            Code.INTERNAL, f"num values of host: {hosts}, must only have 1 value as per HTTP/2 spec", 400
        )
    if size > list_bytes_max:
        head.refusal = refusal_block(
            Code.RESOURCE_EXHAUSTED, f"header list larger than max ({size} vs. {list_bytes_max})"
        )
    if head.method is not None and head.refusal is None:
        head.unary = head.method.unary
    return head


def _judge(
    head: RequestHead,
    router: Router,
    verb: bytes,
    content_type: bytes | None,
    http: bool,
) -> None:
    if content_type is None or not is_grpc(content_type):
        head.http = http
        if not http:
            quoted = go_quote(content_type or b"")
            head.refusal = refusal_block(
                Code.INVALID_ARGUMENT, f"invalid gRPC request content-type {quoted}", 415
            )
        return
    if verb != b"POST":
        head.refusal = refusal_block(
            Code.INTERNAL,
            f"http2Server.operateHeaders parsed a :method field: {_text(verb)} which should be POST",
            405,
        )
        return
    method = router.methods.get(head.path)
    if method is None:
        head.refusal = refusal_block(Code.UNIMPLEMENTED, router.refusal(head.path))
        return
    head.method = method
    head.stats = method.stats
    if head.encoding is not None and head.encoding != b"identity":
        head.refusal = refusal_block(Code.UNIMPLEMENTED, decompressor_text(head.encoding))


def is_grpc(content_type: bytes) -> bool:
    """``application/grpc``, alone or followed by ``+subtype`` or ``;parameter``."""
    lowered = content_type.lower()
    return lowered == b"application/grpc" or lowered.startswith((b"application/grpc+", b"application/grpc;"))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
