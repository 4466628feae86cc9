"""Header blocks (RFC 7541), through the ``hpack`` library, with what came out remembered by the bytes that
went in.

A client's second call to a method repeats the block of its first byte for byte, all of it indices into the
table that the first call filled. So a decoded block may be remembered, under two conditions that
``HeaderDecoder`` keeps: a block that inserts into the dynamic table (or resizes it) is never remembered,
and whatever was remembered is dropped as soon as the table changes, because the same indices then mean
other fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Generic, TypeVar, cast

from hpack import Decoder, Encoder, HPACKError, OversizedHeaderListError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from petcd.net.http2.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, ProtocolFault

T = TypeVar("T")
Field = tuple[bytes, bytes]

BLOCKS_MAX: Final = 256
"""Remembered blocks of one connection; beyond that all are dropped and learned anew."""
BLOCK_BYTES_MAX: Final = 2048
"""Longer blocks are not worth their memory."""
_SIZE_UPDATES_MAX: Final = 4
"""RFC 7541 4.2 needs two dynamic table size updates at the head of a block; more is a flood."""


class _CountingTable(HeaderTable):
    """The dynamic table, with its insertions counted."""

    def __init__(self) -> None:
        super().__init__()
        self.insertions = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.insertions += 1
        super().add(name, value)


def _state(table: _CountingTable) -> tuple[int, int, int]:
    # A resize alone can only evict, so length and size bound say whether anything moved.
    return table.insertions, len(table.dynamic_entries), table.maxsize


_SHORT_BYTES_MAX: Final = 63
_STATIC: Final[tuple[Field, ...]] = ((b"", b""), *HeaderTable.STATIC_TABLE)
_DYNAMIC: Final = len(_STATIC)
"""The first index of the dynamic table."""


def _refuse_size_updates(block: bytes) -> None:
    """The library takes any number of size updates at the head of a block; each costs us more than its
    byte."""
    pos = count = 0
    size = len(block)
    while pos < size and block[pos] & 0xE0 == 0x20:
        count += 1
        if count > _SIZE_UPDATES_MAX:
            raise ProtocolFault(ENHANCE_YOUR_CALM, "too many table size updates")
        if block[pos] & 0x1F == 0x1F:
            pos += 1
            while pos < size and block[pos] & 0x80:
                pos += 1
        pos += 1


class HeaderDecoder(Generic[T]):
    """One connection's decoder; ``T`` is what the role makes of a block's fields.

    ``blocks`` maps the bytes of a block to that T. The hot path looks there itself; only on a miss does it
    call ``decode`` and then, having made its T, ``remember``.
    """

    __slots__ = ("_decoder", "_table", "_unchanged", "blocks")

    def __init__(self, list_bytes_max: int) -> None:
        self.blocks: dict[bytes, T] = {}
        self._decoder = Decoder(max_header_list_size=list_bytes_max)
        self._decoder.header_table = self._table = _CountingTable()
        self._unchanged = False

    def decode(self, block: bytes) -> list[Field]:
        """The fields in order.

        Raises ProtocolFault: after it the table is unknown, so the connection must end.
        """
        self._unchanged = False
        if block[:1] >= b"\x20" and block[:1] < b"\x40":
            _refuse_size_updates(block)
        before = _state(self._table)
        fields: list[Field] = []
        try:
            pos = self._decode_short(block, fields) if len(block) <= _SHORT_BYTES_MAX else 0
            if pos < len(block):
                if pos and block[pos] & 0xE0 == 0x20:
                    raise ProtocolFault(COMPRESSION_ERROR, "a table size update after a field")
                fields += cast("list[Field]", self._decoder.decode(block[pos:] if pos else block, raw=True))
        except OversizedHeaderListError:
            raise ProtocolFault(ENHANCE_YOUR_CALM, "header list too large") from None
        except (HPACKError, IndexError, ValueError, OverflowError) as error:
            # The library's own text may quote the whole block.
            raise ProtocolFault(COMPRESSION_ERROR, f"broken header block: {type(error).__name__}") from error
        if _state(self._table) == before:
            self._unchanged = True
        elif self.blocks:
            self.blocks.clear()
        return fields

    def _decode_short(self, block: bytes, fields: list[Field]) -> int:
        """Decode the usual representations as far as they go; how far that was.

        A client that sets deadlines inserts a new ``grpc-timeout`` with every call, so its blocks never
        repeat. What they are made of are indices and one literal; reading these here, through the library's
        table and Huffman code, costs a fifth of the library's general way, which takes over where something
        else begins. A short block cannot name enough entries to exceed the bound on a header list.
        """
        entries, pos, size = self._table.dynamic_entries, 0, len(block)
        while pos < size:
            byte = block[pos]
            if byte >= 0x80:  # indexed field
                index = byte & 0x7F
                if index == 0x7F:
                    pos += 1
                    if block[pos] >= 0x80:
                        return pos - 1
                    index += block[pos]
                elif not index:
                    return pos
                fields.append(_STATIC[index] if index < _DYNAMIC else entries[index - _DYNAMIC])
                pos += 1
            elif byte > 0x40:  # literal with incremental indexing, indexed name
                index, at = byte & 0x3F, pos + 1
                if index == 0x3F:
                    if block[at] >= 0x40:
                        return pos
                    index += block[at]
                    at += 1
                length = block[at]
                at += 1
                end = at + (length & 0x7F)
                if length & 0x7F == 0x7F or end > size:
                    return pos
                name = _STATIC[index][0] if index < _DYNAMIC else entries[index - _DYNAMIC][0]
                value = block[at:end]
                if length & 0x80:
                    value = decode_huffman(value)
                self._table.add(name, value)
                fields.append((name, value))
                pos = end
            else:
                return pos
        return pos

    def remember(self, block: bytes, meaning: T) -> None:
        """Keep what the block just decoded means, unless that block changed the table."""
        if not self._unchanged or len(block) > BLOCK_BYTES_MAX:
            return
        if len(self.blocks) >= BLOCKS_MAX:
            self.blocks.clear()
        self.blocks[block] = meaning


class HeaderEncoder:
    """One connection's encoder of request heads, remembered by key in the same way."""

    __slots__ = ("_encoder", "_remembered", "_table", "latest", "recall")

    def __init__(self) -> None:
        self._encoder = Encoder()
        self._encoder.header_table = self._table = _CountingTable()
        self._remembered: dict[object, bytes] = {}
        self.recall: Callable[[object], bytes | None] = self._remembered.get
        """The block for a key, where it is remembered: ``encode`` without its fields."""
        self.latest: dict[bytes, tuple[object, object, bytes]] = {}
        """The caller's own notes, forgotten when the blocks are: by path the last metadata and time limit
        whose block is remembered, and the block."""

    def encode(self, key: object, fields: Iterable[Field]) -> bytes:
        """The block for ``fields``; ``key`` stands for them and must determine them."""
        known = self._remembered.get(key)
        if known is not None:
            return known
        before = _state(self._table)
        block: bytes = self._encoder.encode(fields, huffman=False)
        if _state(self._table) != before:
            self._forget()
        elif len(self._remembered) < BLOCKS_MAX:
            self._remembered[key] = block
        return block

    def resize(self, table_bytes_max: int) -> None:
        """The peer's SETTINGS_HEADER_TABLE_SIZE; more than 4096 is not used."""
        size = min(table_bytes_max, 4096)
        # Set to what it is, the library forgets a change that it has not announced yet.
        if size != self._encoder.header_table_size:
            self._forget()
            self._encoder.header_table_size = size

    def _forget(self) -> None:
        self._remembered.clear()
        self.latest.clear()


def hpack_integer(value: int, prefix_bits: int, first: int) -> bytes:
    """RFC 7541 5.1."""
    limit = (1 << prefix_bits) - 1
    if value < limit:
        return bytes((first | value,))
    out = bytearray((first | limit,))
    value -= limit
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def literal(name: bytes, value: bytes) -> bytes:
    """A field that neither end puts into its table: constant bytes, whatever was sent before."""
    return b"\x00" + hpack_integer(len(name), 7, 0) + name + hpack_integer(len(value), 7, 0) + value


def literals(fields: Sequence[Field]) -> bytes:
    return b"".join([literal(name, value) for name, value in fields])


STATUS_200: Final = b"\x88"
"""Static table index 8."""


def status_field(status: int) -> bytes:
    """``:status`` for any code, by its name's static index."""
    if status == 200:
        return STATUS_200
    return b"\x08\x03" + str(status).encode()
