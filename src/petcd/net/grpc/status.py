"""How gRPC says things in HTTP/2 fields: status, message, timeout (the gRPC over HTTP/2 specification).

All blocks are literals without indexing, so that they are the same bytes on every connection.
"""

from __future__ import annotations

import struct
from typing import Final

from petcd.errors import Code
from petcd.net.http2.frames import END_HEADERS, END_STREAM, HEADERS
from petcd.net.http2.headers import STATUS_200, literal, status_field

CONTENT_TYPE: Final = b"\x0f\x10\x10application/grpc"
"""Static name 31 (content-type), not indexed."""
RESPONSE_BLOCK: Final = STATUS_200 + CONTENT_TYPE
TRAILERS_OK: Final = literal(b"grpc-status", b"0") + literal(b"grpc-message", b"")

_RESPONSE_HEAD: Final = ((len(RESPONSE_BLOCK) << 8) | HEADERS).to_bytes(4, "big") + bytes((END_HEADERS,))
_TRAILERS_HEAD: Final = ((len(TRAILERS_OK) << 8) | HEADERS).to_bytes(4, "big") + bytes(
    (END_HEADERS | END_STREAM,)
)

HEAD_FRAME: Final = struct.Struct(f">5sI{len(RESPONSE_BLOCK)}s")
REPLY_PREFIX: Final = struct.Struct(f">5sI{len(RESPONSE_BLOCK)}sIBIBI")
"""Response HEADERS, the head of a DATA frame, the head of its gRPC message."""
REPLY_SUFFIX: Final = struct.Struct(f">5sI{len(TRAILERS_OK)}s")
MESSAGE_FRAME: Final = struct.Struct(">IBIBI")
"""The head of a DATA frame and of the one gRPC message in it."""
MESSAGE_PREFIX: Final = struct.Struct(">BI")

RESPONSE_HEAD: Final = _RESPONSE_HEAD
TRAILERS_HEAD: Final = _TRAILERS_HEAD

TEXT_BYTES_MAX: Final = 4096
"""Longer texts are cut: a block must fit the peer's header list and one frame."""

_PLAIN: Final = frozenset(range(0x20, 0x7F)) - {0x25}
_blocks: dict[tuple[int, str], bytes] = {}


def encode_text(text: str) -> bytes:
    """Percent-encode what is not printable ASCII."""
    raw = text.encode("utf-8", "replace")[:TEXT_BYTES_MAX]
    if raw.isascii() and raw.decode("ascii").isprintable() and b"%" not in raw:
        return raw
    return b"".join([bytes((b,)) if b in _PLAIN else b"%%%02X" % b for b in raw])


def decode_text(raw: bytes) -> str:
    """Leniently: what is not a valid escape stays as it is."""
    if b"%" not in raw:
        return raw.decode("utf-8", "replace")
    out = bytearray()
    pos = 0
    while pos < len(raw):
        if raw[pos] == 0x25 and pos + 2 < len(raw):
            try:
                out.append(int(raw[pos + 1 : pos + 3].decode("ascii"), 16))
            except ValueError:
                out.append(0x25)
                pos += 1
            else:
                pos += 3
        else:
            out.append(raw[pos])
            pos += 1
    return out.decode("utf-8", "replace")


def status_block(code: int, text: str) -> bytes:
    """The trailer fields of a status; the last few hundred are remembered."""
    key = (code, text)
    block = _blocks.get(key)
    if block is None:
        block = literal(b"grpc-status", b"%d" % code) + literal(b"grpc-message", encode_text(text))
        if len(_blocks) >= 512:
            _blocks.clear()
        _blocks[key] = block
    return block


def refusal_block(code: int, text: str, http_status: int = 200) -> bytes:
    """A whole answer in one header block ("trailers-only")."""
    return status_field(http_status) + CONTENT_TYPE + status_block(code, text)


_UNITS: Final = {0x48: 3600.0, 0x4D: 60.0, 0x53: 1.0, 0x6D: 1e-3, 0x75: 1e-6, 0x6E: 1e-9}


def parse_timeout(value: bytes) -> float | None:
    """Seconds, or None when malformed: 1 to 8 digits and one of H M S m u n."""
    unit = _UNITS.get(value[-1]) if value else None
    digits = value[:-1]
    if unit is None or not digits.isdigit() or len(digits) > 8:
        return None
    return int(digits) * unit


def format_timeout(seconds: float) -> bytes:
    """The smallest unit that fits 8 digits; never 0, which some servers refuse."""
    micros = max(1, int(seconds * 1e6))
    if micros < 100_000_000:
        return b"%du" % micros
    millis = micros // 1000
    if millis < 100_000_000:
        return b"%dm" % millis
    return b"%dS" % min(millis // 1000, 99_999_999)


HTTP_TO_CODE: Final = {
    400: Code.INTERNAL,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.UNIMPLEMENTED,
    429: Code.UNAVAILABLE,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.UNAVAILABLE,
}
"""What a client makes of an answer that is not gRPC's; anything else is UNKNOWN."""
