"""The bytes of the write-ahead log: frames, records, the checksum chain (contract/disk.md 2.1 to 2.5).

A segment is a sequence of frames, each aligned to 8 bytes::

    u64 LE   low 56 bits: n, the record's length; top byte: 0x80 | p when p > 0 bytes of padding follow
    n bytes  walpb.Record: 1 type, 2 crc, 3 data
    p bytes  zeros, p = (8 - n mod 8) mod 8

The checksum is CRC-32C carried on from record to record over ``data`` alone. A crc record restarts the chain
with the value it holds. Everything here works on bytes at hand; ``reader`` and ``log`` do the files.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable
from typing import Final, NamedTuple

from google_crc32c import extend

from petcd.pb.wire import PAIRS, varint

METADATA: Final = 1
ENTRY: Final = 2
STATE: Final = 3
CRC: Final = 4
SNAPSHOT: Final = 5

SEGMENT_BYTES: Final = 64_000_000
"""A segment that reached this length after a save is cut."""

SECTOR_BYTES: Final = 512
"""The least a disk writes at once: a torn write leaves whole sectors untouched, thus zero."""

_U64: Final = struct.Struct("<Q")
_pack_length: Final = _U64.pack

_CACHED_DATA_BYTES_MAX: Final = 4096


class _Shape(NamedTuple):
    """What all frames of one record type and one data length share, when the crc takes five bytes."""

    head: bytes
    """Length field, type, and the tag of the crc."""
    middles: tuple[bytes, ...]
    """The crc's last byte (indexed by its top four bits), the data's tag and length."""
    padding: bytes


def _shape(record_type: int, data_bytes: int) -> _Shape:
    length = varint(data_bytes)
    kind = b"\x08" + varint(record_type) + b"\x10"
    n = len(kind) + 5 + 1 + len(length) + data_bytes
    padding = -n % 8
    field = n | (0x80 | padding) << 56 if padding else n
    return _Shape(
        _pack_length(field) + kind,
        tuple(bytes((top, 0x1A)) + length for top in range(16)),
        bytes(padding),
    )


_shapes: Final[defaultdict[int, dict[int, _Shape]]] = defaultdict(dict)
"""By record type and length of the data."""


def _learn(record_type: int, data_bytes: int) -> _Shape:
    shape = _shape(record_type, data_bytes)
    if data_bytes <= _CACHED_DATA_BYTES_MAX:
        _shapes[record_type][data_bytes] = shape
    return shape


def frame(record_type: int, crc: int, data: bytes | None) -> bytes:
    """One frame, any record; ``data`` None leaves field 3 out, as crc records do."""
    top = crc >> 28
    if top and data is not None:  # one crc in sixteen has fewer than five bytes: the slow way
        data_bytes = len(data)
        shape = _shapes[record_type].get(data_bytes) or _learn(record_type, data_bytes)
        return b"".join(
            (
                shape.head,
                PAIRS[crc & 0x3FFF],
                PAIRS[crc >> 14 & 0x3FFF],
                shape.middles[top],
                data,
                shape.padding,
            )
        )
    body = b"\x08" + varint(record_type) + b"\x10" + varint(crc)
    if data is not None:
        body += b"\x1a" + varint(len(data)) + data
    n = len(body)
    padding = -n % 8
    return _pack_length(n | (0x80 | padding) << 56 if padding else n) + body + bytes(padding)


def chain(record_type: int, crc: int, data: bytes) -> tuple[bytes, int]:
    """The frame of a record that continues the chain from ``crc``, and the chain's new value."""
    crc = extend(crc, data)
    return frame(record_type, crc, data), crc


def append_entries(parts: list[bytes], crc: int, entries: Iterable[tuple[int, bytes]]) -> tuple[int, int]:
    """Append the frames of ``entries`` (index, encoded raftpb.Entry) to ``parts``.

    Returns the chain's new value and the last index (0 when there was no entry).
    Cost: 0.7 µs an entry of 300 bytes, so it is all tables: per length one shape, per crc three look-ups.
    """
    low, shapes = PAIRS, _shapes[ENTRY]
    extend_crc = extend
    index = 0
    for index, data in entries:  # noqa: B007 - the last one is the result
        crc = extend_crc(crc, data)
        top = crc >> 28
        if top:
            data_bytes = len(data)
            try:
                head, middles, padding = shapes[data_bytes]
            except KeyError:
                head, middles, padding = _learn(ENTRY, data_bytes)
            parts += (head, low[crc & 0x3FFF], low[crc >> 14 & 0x3FFF], middles[top], data, padding)
        else:
            parts.append(frame(ENTRY, crc, data))
    return crc, index


def segment_head(crc: int, metadata: bytes, hard_state: bytes | None) -> tuple[bytes, int]:
    """The first records of a segment after the first: crc, metadata, state if there is one (2.4)."""
    parts = [frame(CRC, crc, None)]
    part, crc = chain(METADATA, crc, metadata)
    parts.append(part)
    if hard_state is not None:
        part, crc = chain(STATE, crc, hard_state)
        parts.append(part)
    return b"".join(parts), crc


def segment_name(sequence: int, index: int) -> str:
    """``index`` is that of the first entry that can be in the segment."""
    return f"{sequence:016x}-{index:016x}.wal"


def parse_segment_name(name: str) -> tuple[int, int] | None:
    """(sequence, index), or None when ``name`` is not a segment's."""
    if not name.endswith(".wal"):
        return None
    sequence, dash, index = name[:-4].partition("-")
    if dash == "" or not _is_hex(sequence) or not _is_hex(index):
        return None
    return int(sequence, 16), int(index, 16)


def _is_hex(text: str) -> bool:
    return 0 < len(text) <= 16 and all(c in "0123456789abcdefABCDEF" for c in text)


def is_torn(buffer: bytes, start: int, size: int, file_offset: int) -> bool:
    """Whether one sector's share of ``buffer[start : start + size]`` is entirely zero (2.7).

    ``file_offset`` is where these bytes stand in their file. Only the last segment is ever asked.
    """
    at, end = file_offset, file_offset + size
    while at < end:
        stop = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES)
        if not any(buffer[start + at - file_offset : start + stop - file_offset]):
            return True
        at = stop
    return False
