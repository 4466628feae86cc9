"""An LMDB file looked at from outside: its meta pages, and whether all pages they reach are there.

LMDB maps its file and trusts it; touching a page beyond the end kills the process with SIGBUS. So the file is
read by ordinary means first. Layout: LMDB's data version 1 on 64-bit machines, little-endian::

    page    u64 number, u16 pad, u16 flags, u16 lower, u16 upper (overflow: u32 pages), then nodes
    meta    (pages 0 and 1, at offset 16) u32 magic, u32 version, u64 address, u64 map size, two trees,
            u64 last page, u64 transaction; the one of the higher transaction counts
    tree    u32 pad (the page size, in the first), u16 flags, u16 depth, u64 branch pages, leaf pages,
            overflow pages, entries, root page
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from petcd.seams.disk import File
from petcd.storage.errors import CorruptError


class Meta(NamedTuple):
    """What a meta page says."""

    page_bytes: int
    last_page: int
    transaction: int
    tree_pages: int
    """Pages of the free list's and the bucket list's trees."""
    roots: tuple[int, int]
    """Root pages of these two trees."""


_META: Final = struct.Struct("<16xIIQQ" + "IHHQQQQQ" * 2 + "QQ")
_MAGIC: Final = 0xBEEFC0DE
_DATA_VERSION: Final = 1
_NO_PAGE: Final = (1 << 64) - 1
_PAGE: Final = struct.Struct("<Q2xHI")
_BRANCH, _LEAF, _OVERFLOW = 0x01, 0x02, 0x04
_BIG_DATA, _SUB_DATA = 0x01, 0x02


def _parse_meta(page: bytes) -> Meta | None:
    if len(page) < _META.size:
        return None
    fields = _META.unpack_from(page)
    magic, version = fields[0], fields[1]
    if magic != _MAGIC or version != _DATA_VERSION:
        return None
    free, main = fields[4:12], fields[12:20]
    return Meta(
        page_bytes=free[0],
        last_page=fields[20],
        transaction=fields[21],
        tree_pages=sum(free[3:6]) + sum(main[3:6]),
        roots=(free[7], main[7]),
    )


def newest_meta(file: File) -> Meta:
    """Raises: CorruptError when neither meta page is one."""
    first = _parse_meta(file.pread(_META.size, 0))
    page_bytes = first.page_bytes if first is not None else 4096
    second = _parse_meta(file.pread(_META.size, page_bytes))
    metas = [meta for meta in (first, second) if meta is not None]
    if len(metas) < 2 or page_bytes < 512:
        raise CorruptError(file.path, "not a backend file: its meta pages are damaged")
    return max(metas, key=lambda meta: meta.transaction)


def check_file(file: File) -> None:
    """Refuse a file that is no LMDB file, or that lost pages which its newest meta page reaches.

    Raises: CorruptError.
    """
    meta = newest_meta(file)
    file_bytes = file.size()
    if file_bytes >= (meta.last_page + 1) * meta.page_bytes:
        return
    # Pages that were freed again in the transaction that took them need never have been written, so a file
    # may rightly be shorter. Rare enough to look at every page.
    for root in meta.roots:
        if root != _NO_PAGE:
            _check_tree(file, file_bytes, meta.page_bytes, root)


def _check_tree(file: File, file_bytes: int, page_bytes: int, root: int) -> None:
    waiting = [root]
    while waiting:
        number = waiting.pop()
        if (number + 1) * page_bytes > file_bytes:
            raise CorruptError(
                file.path, f"truncated: page {number} is missing, the file has {file_bytes} bytes"
            )
        page = file.pread(page_bytes, number * page_bytes)
        own_number, flags, bounds = _PAGE.unpack_from(page)
        if own_number != number or not flags & (_BRANCH | _LEAF):
            raise CorruptError(file.path, f"page {number} is not part of a tree")
        count = ((bounds & 0xFFFF) - 16) // 2
        for offset in struct.unpack_from(f"<{count}H", page, 16):
            low, high, node_flags, key_bytes = struct.unpack_from("<HHHH", page, offset)
            if flags & _BRANCH:
                waiting.append(low | high << 16 | node_flags << 32)
                continue
            data_at = offset + 8 + key_bytes
            if node_flags & _SUB_DATA:
                (sub_root,) = struct.unpack_from("<Q", page, data_at + 40)
                if sub_root != _NO_PAGE:
                    waiting.append(sub_root)
            elif node_flags & _BIG_DATA:
                (first,) = struct.unpack_from("<Q", page, data_at)
                pages = -(-(16 + (low | high << 16)) // page_bytes)
                if (first + pages) * page_bytes > file_bytes:
                    raise CorruptError(
                        file.path, f"truncated: page {first} is missing, the file has {file_bytes} bytes"
                    )
