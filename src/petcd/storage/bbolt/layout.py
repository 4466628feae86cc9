"""The bytes of a bbolt file: pages, metas, elements (contract/disk.md 4).

A page is a header of 16 bytes, then its elements, then what they point at; page N lies at N times the page
size. Pages 0 and 1 are the metas, of which the valid one of the higher transaction counts. Everything is
little-endian.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

PAGE_BYTES: Final = 4096
"""What we write. What we read says its own."""

PAGE_BYTES_MIN: Final = 1024
PAGE_BYTES_MAX: Final = 1 << 16

HEADER: Final = struct.Struct("<QHHI")
"""Page id, flags, count, overflow: the number of further pages that belong to this one."""
HEADER_BYTES: Final = 16

BRANCH: Final = 0x01
LEAF: Final = 0x02
META: Final = 0x04
FREELIST: Final = 0x10

LEAF_ELEMENT: Final = struct.Struct("<IIII")
"""Flags, distance from the element to its key, key size, value size."""
BRANCH_ELEMENT: Final = struct.Struct("<IIQ")
"""Distance from the element to its key, key size, child page."""
ELEMENT_BYTES: Final = 16

IS_BUCKET: Final = 0x01
"""Flag of a leaf element whose value is a bucket."""

BUCKET: Final = struct.Struct("<QQ")
"""Root page (0: the page follows inline), sequence."""
BUCKET_BYTES: Final = 16

KEY_BYTES_MAX: Final = 32768

NO_FREELIST: Final = 0xFFFF_FFFF_FFFF_FFFF
"""Instead of the free list's page: the reader works it out."""

_META: Final = struct.Struct("<IIIIQQQQQ")
_CHECKSUM: Final = struct.Struct("<Q")
_MAGIC: Final = 0xED0CDAED
_VERSION: Final = 2
META_BYTES: Final = HEADER_BYTES + _META.size + _CHECKSUM.size

_FNV_BASIS: Final = 14695981039346656037
_FNV_PRIME: Final = 1099511628211
_U64: Final = (1 << 64) - 1


class Meta(NamedTuple):
    """One of the two roots of the file."""

    page_bytes: int
    root: int
    """Page of the bucket of buckets."""
    freelist: int
    high_water: int
    """Number of pages in use: the next page to hand out."""
    transaction: int


def fnv1a(data: bytes) -> int:
    """FNV-1a of 64 bits."""
    value = _FNV_BASIS
    for byte in data:
        value = (value ^ byte) * _FNV_PRIME & _U64
    return value


def encode_meta(number: int, meta: Meta) -> bytes:
    """Meta page ``number``, without padding."""
    body = _META.pack(
        _MAGIC,
        _VERSION,
        meta.page_bytes,
        0,
        meta.root,
        0,
        meta.freelist,
        meta.high_water,
        meta.transaction,
    )
    return HEADER.pack(number, META, 0, 0) + body + _CHECKSUM.pack(fnv1a(body))


def decode_meta(page: bytes) -> Meta | None:
    """The meta in the beginning of a page, None when that is no valid one."""
    if len(page) < META_BYTES:
        return None
    body = page[HEADER_BYTES : HEADER_BYTES + _META.size]
    magic, version, page_bytes, _, root, _, freelist, high_water, transaction = _META.unpack(body)
    if magic != _MAGIC or version != _VERSION:
        return None
    if _CHECKSUM.unpack_from(page, HEADER_BYTES + _META.size)[0] != fnv1a(body):
        return None
    if not PAGE_BYTES_MIN <= page_bytes <= PAGE_BYTES_MAX or page_bytes & (page_bytes - 1):
        return None
    return Meta(page_bytes, root, freelist, high_water, transaction)
