"""Messages on the two streams between members.

``message`` stream: an eight-byte length, then the message. ``msgapp`` stream: a tag byte, then a link
heartbeat (nothing), an AppEntries (entries and the commit index; the rest follows from what went before) or
a complete message. Numbers are big-endian. Both ends of a msgapp stream keep the term and index that the
next AppEntries continues; they begin at 0 with every connection.

Readers take bytes as they arrive, however they are cut, and return the messages that are complete. Bytes of
a message that is not complete are kept as they came and joined once. Whatever the bytes are, a reader
raises nothing but ``StreamFault``, and it keeps no more than ``MESSAGE_BYTES_MAX`` of them.
Source: contract page "peer", 2.3 and 2.4.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from petcd.pb.wire import DecodeError
from petcd.peer.codec import Route, decode_entry, decode_message, encode_entry, encode_message
from petcd.raft import MSG_APP, MSG_HEARTBEAT, Entry, Message

MESSAGE_BYTES_MAX: Final = 512 << 20

U64: Final = Struct(">Q")
_pack: Final = U64.pack
_unpack: Final = U64.unpack_from

MESSAGE_LINK_HEARTBEAT: Final = bytes.fromhex("0000000000000002 0808")
MSGAPP_LINK_HEARTBEAT: Final = b"\x00"

_APP_ENTRIES: Final = 1
_MESSAGE: Final = 2
_HEAD: Final = Struct(">BQ")
_NO_ENTRIES: Final = _HEAD.pack(_APP_ENTRIES, 0)
_ENTRY_BYTES: Final = 128
"""What an entry costs beside its bytes: a flood of empty ones counts, too."""


class StreamFault(Exception):
    """Bytes that are no messages; carries a short text."""


# --- writing ---------------------------------------------------------------------------------------------


class MessageWriter:
    """The ``message`` stream; keeps no state."""

    __slots__ = ()

    link_heartbeat: Final = MESSAGE_LINK_HEARTBEAT

    def write(self, message: Message, out: list[bytes]) -> None:
        """Append the pieces of one message to ``out``."""
        body = encode_message(message)
        out.append(_pack(len(body)))
        out.append(body)


class MsgAppWriter:
    """The ``msgapp`` stream of one connection."""

    __slots__ = ("_index", "_term")

    link_heartbeat: Final = MSGAPP_LINK_HEARTBEAT

    def __init__(self) -> None:
        self._term = 0
        self._index = 0

    def write(self, message: Message, out: list[bytes]) -> None:
        """Append the pieces of one MsgApp to ``out``."""
        term = message.term
        entries = message.entries
        if message.index == self._index and message.log_term == self._term == term:
            if entries:
                out.append(_HEAD.pack(_APP_ENTRIES, len(entries)))
                for entry in entries:
                    encoded = entry.encoded
                    if encoded is None:
                        encoded = encode_entry(entry)
                    out.append(_pack(len(encoded)))
                    out.append(encoded)
                self._index += len(entries)
            else:
                out.append(_NO_ENTRIES)
            out.append(_pack(message.commit))
            return
        body = encode_message(message)
        out.append(_HEAD.pack(_MESSAGE, len(body)))
        out.append(body)
        self._term = term
        self._index = entries[-1].index if entries else message.index


# --- reading ---------------------------------------------------------------------------------------------


class _Reader:
    """Gathers bytes until what they begin is complete."""

    __slots__ = ("_have", "_need", "_pieces")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._have = 0
        self._need = 0

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete with ``data``; link heartbeats are left out. Raises: StreamFault."""
        if self._pieces:
            self._pieces.append(data)
            self._have += len(data)
            if self._have < self._need:
                return []
            data = b"".join(self._pieces)
            self._pieces = []
        out: list[Message] = []
        try:
            used, need = self._parse(data, out)
        except DecodeError as error:
            raise StreamFault(str(error)) from error
        if used < len(data):
            rest = data[used:] if used else data
            self._pieces = [rest]
            self._have = len(rest)
            self._need = need
        return out

    @property
    def midway(self) -> bool:
        """A message has begun and is not complete."""
        return bool(self._pieces)

    def _parse(self, data: bytes, out: list[Message]) -> tuple[int, int]:
        """Take what is complete. Returns the bytes used and the least number that may complete the rest."""
        raise StreamFault("no such stream")


class MessageReader(_Reader):
    """The ``message`` stream of one connection, read by ``to`` from ``from_``."""

    __slots__ = ("_route",)

    def __init__(self, from_: int, to: int) -> None:
        super().__init__()
        self._route = Route(to, from_)

    def _parse(self, data: bytes, out: list[Message]) -> tuple[int, int]:
        i, end = 0, len(data)
        while end - i >= 8:
            (size,) = _unpack(data, i)
            if size > MESSAGE_BYTES_MAX:
                raise StreamFault("error limit exceeded")
            stop = i + 8 + size
            if stop > end:
                return i, 8 + size
            message = decode_message(data, i + 8, stop, self._route)
            i = stop
            if message.from_ or message.to or message.type != MSG_HEARTBEAT:
                out.append(message)
        return i, 8


class MsgAppReader(_Reader):
    """The ``msgapp`` stream of one connection, read by ``to`` from ``from_``."""

    __slots__ = ("_bytes", "_entries", "_from", "_index", "_left", "_term", "_to")

    def __init__(self, from_: int, to: int) -> None:
        super().__init__()
        self._from = from_
        self._to = to
        self._term = 0
        self._index = 0
        self._left = -1
        """Entries that the present AppEntries still brings; -1 between messages."""
        self._entries: list[Entry] = []
        self._bytes = 0

    @property
    def midway(self) -> bool:
        return self._left >= 0 or bool(self._pieces)

    def _parse(self, data: bytes, out: list[Message]) -> tuple[int, int]:
        i, end = 0, len(data)
        while i < end:
            if self._left < 0:
                tag = data[i]
                if tag == 0:
                    i += 1
                    continue
                if tag > 2:
                    raise StreamFault(f"unhandled type of message: {tag}")
                if end - i < 9:
                    return i, 9
                (size,) = _unpack(data, i + 1)
                if tag == _APP_ENTRIES:
                    self._left = size
                    self._bytes = 0
                    i += 9
                    continue
                if size > MESSAGE_BYTES_MAX:
                    raise StreamFault("error limit exceeded")
                stop = i + 9 + size
                if stop > end:
                    return i, 9 + size
                message = decode_message(data, i + 9, stop)
                i = stop
                if message.type != MSG_APP:
                    raise StreamFault("a message other than MsgApp on the msgapp stream")
                self._term = message.term
                entries = message.entries
                self._index = entries[-1].index if entries else message.index
                out.append(message)
                continue
            if end - i < 8:
                return i, 8
            (number,) = _unpack(data, i)
            if not self._left:
                i += 8
                self._finish(number, out)
                continue
            if self._bytes + number > MESSAGE_BYTES_MAX:
                raise StreamFault("error limit exceeded")
            stop = i + 8 + number
            if stop > end:
                return i, 8 + number
            self._bytes += number + _ENTRY_BYTES
            self._entries.append(decode_entry(data, i + 8, stop))
            self._left -= 1
            i = stop
        return i, 1

    def _finish(self, commit: int, out: list[Message]) -> None:
        entries, self._entries = self._entries, []
        self._left = -1
        index, term = self._index, self._term
        self._index += len(entries)
        out.append(Message(MSG_APP, self._to, self._from, term, term, index, entries or (), commit))
