"""The frames of HTTP/2 as bytes (RFC 9113 sections 4, 6, 7) and the two kinds of faults a peer can commit.

A frame is a 24-bit length, a type, flags, a 31-bit stream id and the payload. ``FRAME`` reads length and
type as one word, because that is one unpack per frame.
"""

from __future__ import annotations

import struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY_FLAG: Final = 0x20

NO_ERROR: Final = 0
PROTOCOL_ERROR: Final = 1
INTERNAL_ERROR: Final = 2
FLOW_CONTROL_ERROR: Final = 3
SETTINGS_TIMEOUT: Final = 4
STREAM_CLOSED: Final = 5
FRAME_SIZE_ERROR: Final = 6
REFUSED_STREAM: Final = 7
CANCEL: Final = 8
COMPRESSION_ERROR: Final = 9
CONNECT_ERROR: Final = 10
ENHANCE_YOUR_CALM: Final = 11
INADEQUATE_SECURITY: Final = 12
HTTP_1_1_REQUIRED: Final = 13

ERROR_NAMES: Final = (
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
)

SETTINGS_HEADER_TABLE_SIZE: Final = 1
SETTINGS_ENABLE_PUSH: Final = 2
SETTINGS_MAX_CONCURRENT_STREAMS: Final = 3
SETTINGS_INITIAL_WINDOW_SIZE: Final = 4
SETTINGS_MAX_FRAME_SIZE: Final = 5
SETTINGS_MAX_HEADER_LIST_SIZE: Final = 6

WINDOW_DEFAULT: Final = 65535
WINDOW_MAX: Final = (1 << 31) - 1
STREAM_ID_MAX: Final = (1 << 31) - 1
FRAME_BYTES_DEFAULT: Final = 16384
FRAME_BYTES_LIMIT: Final = (1 << 24) - 1

FRAME: Final = struct.Struct(">IBI")
"""(length << 8 | type, flags, stream id with its reserved bit)."""
U32: Final = struct.Struct(">I")
TWO_U32: Final = struct.Struct(">II")
SETTING: Final = struct.Struct(">HI")
_GOAWAY: Final = struct.Struct(">IBIII")
_WORD_PAYLOAD: Final = struct.Struct(">IBII")

SETTINGS_ACK: Final = FRAME.pack(SETTINGS, ACK, 0)


class ProtocolFault(Exception):
    """The peer broke the protocol of the whole connection: GOAWAY with ``code``, then close."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def error_name(code: int) -> str:
    return ERROR_NAMES[code] if code < len(ERROR_NAMES) else f"0x{code:x}"


def frame(kind: int, flags: int, sid: int, payload: bytes = b"") -> bytes:
    return FRAME.pack(len(payload) << 8 | kind, flags, sid) + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join([SETTING.pack(key, value) for key, value in pairs]))


def rst_stream(sid: int, code: int) -> bytes:
    return _WORD_PAYLOAD.pack(4 << 8 | RST_STREAM, 0, sid, code)


def window_update(sid: int, increment: int) -> bytes:
    return _WORD_PAYLOAD.pack(4 << 8 | WINDOW_UPDATE, 0, sid, increment)


def goaway(last_sid: int, code: int, text: bytes = b"") -> bytes:
    return _GOAWAY.pack((8 + len(text)) << 8 | GOAWAY, 0, 0, last_sid, code) + text


def ping(payload: bytes, flags: int = 0) -> bytes:
    return FRAME.pack(8 << 8 | PING, flags, 0) + payload
