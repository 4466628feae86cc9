"""gRPC's message frames: a compression flag, a 32-bit length, the message; cut anywhere by DATA frames."""

from __future__ import annotations

from petcd.errors import Code
from petcd.net.grpc.status import MESSAGE_PREFIX


class GrpcFault(Exception):
    """A stream of messages that cannot be read on; the call ends with this status."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class MessageReader:
    """Cuts messages out of DATA. A message too large is refused by its length, before its bytes are kept."""

    __slots__ = ("_buffer", "_bytes_max", "_need", "encoding")

    def __init__(self, bytes_max: int, encoding: bytes | None = None) -> None:
        self._bytes_max = bytes_max
        self._buffer: bytearray | None = None
        self._need = 5
        self.encoding = encoding
        """The ``grpc-encoding`` announced, for the text of a refusal."""

    @property
    def partial_bytes(self) -> int:
        """How much of an unfinished message is held."""
        return len(self._buffer) if self._buffer is not None else 0

    def feed(self, data: bytes, start: int, end: int) -> list[bytes]:
        """The messages that ``data[start:end]`` completes. Raises GrpcFault."""
        buffer = self._buffer
        if buffer is not None:
            buffer += data[start:end] if end - start != len(data) else data
            if len(buffer) < self._need:
                return []
            data = bytes(buffer)
            start, end = 0, len(data)
            self._buffer = None
        messages = []
        need = 5
        while end - start >= 5:
            flag, size = MESSAGE_PREFIX.unpack_from(data, start)
            if flag:
                self._refuse_flag(flag)
            if size > self._bytes_max:
                raise GrpcFault(
                    Code.RESOURCE_EXHAUSTED,
                    f"grpc: received message larger than max ({size} vs. {self._bytes_max})",
                )
            stop = start + 5 + size
            if stop > end:
                need = 5 + size
                break
            messages.append(data[start + 5 : stop])
            start = stop
        if start < end:
            self._buffer = bytearray(data[start:end])
            self._need = need
        return messages

    def _refuse_flag(self, flag: int) -> None:
        if flag != 1:
            raise GrpcFault(Code.INTERNAL, f"grpc: received unexpected payload format {flag}")
        encoding = self.encoding
        if encoding is None or encoding == b"identity":
            raise GrpcFault(Code.INTERNAL, "grpc: compressed flag set with identity or empty encoding")
        raise GrpcFault(Code.UNIMPLEMENTED, decompressor_text(encoding))


def decompressor_text(encoding: bytes) -> str:
    return f"grpc: Decompressor is not installed for grpc-encoding {go_quote(encoding)}"


def go_quote(raw: bytes) -> str:
    """Go's ``%q`` for what appears in our texts."""
    out = []
    for char in raw.decode("utf-8", "backslashreplace"):
        if char in '"\\':
            out.append("\\" + char)
        elif char.isprintable():
            out.append(char)
        else:
            out.append({"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char, f"\\x{ord(char):02x}"))
    return '"' + "".join(out) + '"'
