"""The protobuf wire format below the messages: varints, tags, skipping what is unknown.

Promises: whatever the bytes, a reader here returns or raises ``DecodeError``, and touches each byte at most
once. Positions may be left past the end of the enclosing message; its decoder compares once, at its end,
so no reader pays for a bound in the middle (an index past the whole input raises ``IndexError``, which
the decoders turn into ``DecodeError``).

Limits are those of the protobuf runtimes: a varint has at most ten bytes and 64 bits, a field number
lies in [1, 2**29), messages and groups nest 100 deep.
Source: protobuf encoding specification; contract/wire-v3.md section 1, general rules.
"""

from __future__ import annotations

from typing import Final

NESTING_MAX: Final = 100
"""Deepest nesting of messages and groups a decoder follows."""

VARINTS_SMALL_MAX: Final = 2048
"""``VARINTS`` holds the encodings of ``[0, VARINTS_SMALL_MAX)``."""

VARINTS: Final = tuple(
    bytes((n,)) if n < 128 else bytes((n & 127 | 128, n >> 7)) for n in range(VARINTS_SMALL_MAX)
)
"""Encoded small varints; the hot writers index it directly."""

MORE: Final = tuple(bytes((n | 128,)) for n in range(128))
"""A varint's byte that is not its last."""

PAIRS: Final = tuple([low + high for high in MORE for low in MORE])
"""The low fourteen bits of a longer varint: two bytes with more to come."""

_UINT64_MASK: Final = (1 << 64) - 1


class DecodeError(ValueError):
    """Bytes that are not the message they were said to be; carries a short text."""


_heads: Final[dict[int, bytes]] = {}
"""All but the low fourteen bits of large numbers seen lately, encoded: 16,384 ids or revisions in a row share
them."""

_HEADS_MAX: Final = 4096


def varint(n: int) -> bytes:
    """Encode ``n``; a negative number as 64-bit two's complement (ten bytes)."""
    if 0 <= n < 2048:
        return VARINTS[n]
    if n < 0:
        n &= _UINT64_MASK
    if n < 262144:
        return MORE[n & 127] + VARINTS[n >> 7]
    head = n >> 14
    return PAIRS[n & 16383] + (_heads.get(head) or _learn(head))


def _learn(head: int) -> bytes:
    encoded = varint(head)
    if len(_heads) >= _HEADS_MAX:
        _heads.clear()
    _heads[head] = encoded
    return encoded


def long_varint(data: bytes, i: int) -> tuple[int, int]:
    """Read the varint at ``i``: its unsigned 64-bit value, and the position after it.

    Raises: DecodeError above ten bytes or 64 bits; IndexError where ``data`` ends first.
    """
    # Unrolled: revisions have three or four bytes, ids nine or ten. Each byte is added with its "more" bit,
    # and the bits that were set are taken off at the end.
    value = data[i]
    if value < 128:
        return value, i + 1
    value += (byte := data[i + 1]) << 7
    if byte < 128:
        return value - 0x80, i + 2
    value += (byte := data[i + 2]) << 14
    if byte < 128:
        return value - 0x4080, i + 3
    value += (byte := data[i + 3]) << 21
    if byte < 128:
        return value - 0x204080, i + 4
    value += (byte := data[i + 4]) << 28
    if byte < 128:
        return value - 0x10204080, i + 5
    value += (byte := data[i + 5]) << 35
    if byte < 128:
        return value - 0x810204080, i + 6
    value += (byte := data[i + 6]) << 42
    if byte < 128:
        return value - 0x40810204080, i + 7
    value += (byte := data[i + 7]) << 49
    if byte < 128:
        return value - 0x2040810204080, i + 8
    value += (byte := data[i + 8]) << 56
    if byte < 128:
        return value - 0x102040810204080, i + 9
    byte = data[i + 9]
    if byte < 2:
        return value + (byte << 63) - 0x8102040810204080, i + 10
    raise DecodeError("varint longer than ten bytes" if byte > 127 else "varint overflows 64 bits")


def tag(number: int, wire_type: int) -> bytes:
    """The encoded tag of a field."""
    return varint(number << 3 | wire_type)


def delimited(encoded_tag: bytes, body: bytes) -> bytes:
    """A length-delimited field: tag, length, body."""
    n = len(body)
    return encoded_tag + (VARINTS[n] if n < 2048 else varint(n)) + body


def skip(data: bytes, i: int, end: int, field_tag: int) -> int:
    """Pass over the value at ``i`` of an unknown field whose tag was just read; the position after it.

    Raises: DecodeError for field number 0 or out of range, a wire type that does not exist, an end of a
    group that was not begun, groups that are not closed before ``end`` or nest too deep.
    """
    if field_tag < 8 or field_tag > 0xFFFFFFFF:
        raise DecodeError("illegal field number")
    wire_type = field_tag & 7
    if wire_type == 2:
        n, i = long_varint(data, i)
        return i + n
    if wire_type == 0:
        return long_varint(data, i)[1]
    if wire_type == 1:
        return i + 8
    if wire_type == 5:
        return i + 4
    if wire_type == 3:
        return _skip_group(data, i, end, field_tag >> 3)
    raise DecodeError("unexpected end of group" if wire_type == 4 else "illegal wire type")


def _skip_group(data: bytes, i: int, end: int, number: int) -> int:
    """Pass over a group's fields and its end mark. Flat, so that hostile nesting costs no stack."""
    open_groups = [number]
    while open_groups:
        if i >= end:
            raise DecodeError("group is not closed")
        field_tag, i = long_varint(data, i)
        if field_tag & 7 == 3 and 8 < field_tag <= 0xFFFFFFFF:
            if len(open_groups) >= NESTING_MAX:
                raise DecodeError("groups nest too deep")
            open_groups.append(field_tag >> 3)
        elif field_tag & 7 == 4:
            if open_groups.pop() != field_tag >> 3:
                raise DecodeError("group is closed by another's end")
        else:
            i = skip(data, i, end, field_tag)
    return i
