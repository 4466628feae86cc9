"""``mvccpb.KeyValue`` as bytes: written by splice, read by hand.

The stored bytes are hashed by HashKV and must be the same on every member: fields in ascending order, zero
fields left out (contract/wire-v3.md 1.4). What is read here was written here or by another etcd, so the
fields come in that order; a value of another order still decodes, through the general decoder.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from petcd.pb import mvccpb
from petcd.pb.splice import key_value, tombstone
from petcd.pb.wire import VARINTS

KEY_HEADS: Final = tuple(b"\x0a" + n for n in VARINTS[:512])
"""Tag and length of a key of that many bytes."""


__all__ = ["KEY_HEADS", "KeyValue", "decode", "key_of", "key_value", "tombstone", "without_value"]


class KeyValue(NamedTuple):
    """The decoded record; all zero but the key for a tombstone."""

    key: bytes
    create_revision: int
    mod_revision: int
    version: int
    value: bytes
    lease: int


def decode(data: bytes) -> KeyValue:
    """Read a stored record.

    Raises: petcd.pb.DecodeError when the bytes are no KeyValue.
    """
    try:
        return _decode_ordered(data)
    except (IndexError, _UnusualOrder):
        m = mvccpb.KeyValue.decode(data)
        return KeyValue(m.key, m.create_revision, m.mod_revision, m.version, m.value, m.lease)


class _UnusualOrder(Exception):
    """The fields are not the six of KeyValue in ascending order."""


def _read_varint(data: bytes, i: int) -> tuple[int, int]:
    n = data[i]
    i += 1
    if n < 128:
        return n, i
    n &= 127
    shift = 7
    while True:
        b = data[i]
        i += 1
        if b < 128:
            return n | b << shift, i
        n |= (b & 127) << shift
        shift += 7


def _decode_ordered(data: bytes) -> KeyValue:
    key = value = b""
    create = mod = version = lease = 0
    i = 0
    end = len(data)
    tag = -1
    while i < end:
        last, tag = tag, data[i]
        if tag <= last:
            raise _UnusualOrder
        n, i = _read_varint(data, i + 1)
        if tag == 0x0A:
            key = data[i : i + n]
            i += n
        elif tag == 0x10:
            create = n
        elif tag == 0x18:
            mod = n
        elif tag == 0x20:
            version = n
        elif tag == 0x2A:
            value = data[i : i + n]
            i += n
        elif tag == 0x30:
            lease = n - (1 << 64) if n >> 63 else n
        else:
            raise _UnusualOrder
    if i != end:
        raise _UnusualOrder
    return KeyValue(key, create, mod, version, value, lease)


def key_of(data: bytes) -> bytes:
    """Only the key, which comes first."""
    if data[:1] == b"\x0a":
        n = data[1]
        if n < 128:
            return data[2 : 2 + n]
    return decode(data).key


def without_value(data: bytes) -> bytes:
    """The record as keys_only gives it since 3.7: no value and no lease."""
    kv = decode(data)
    return key_value(kv.key, kv.create_revision, kv.mod_revision, kv.version, b"", 0)
