"""An LMDB file looked at from outside: its meta pages, and whether all pages they reach are there.

LMDB maps its file and trusts it: a page that is missing or damaged kills the process, with SIGBUS or by an
assertion. So the file is read by ordinary means first. Layout: LMDB's data version 1 on 64-bit machines,
little-endian::

    page    u64 number, u16 pad, u16 flags, u16 lower, u16 upper (overflow: u32 pages), then u16 offsets of
            nodes up to lower, and nodes from upper on
    node    (leaf) u32 size, u16 flags, u16 key size, key, then the value, the number of its first overflow
            page, or the tree of a bucket; (branch) u48 page, u16 key size, key
    meta    (pages 0 and 1, at offset 16) u32 magic, u32 version, u64 address, u64 map size, two trees,
            u64 last page, u64 transaction; the one of the higher transaction counts
    tree    u32 pad (the page size, in the first), u16 flags, u16 depth, u64 branch pages, leaf pages,
            overflow pages, entries, root page
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from petcd.seams.disk import File
from petcd.storage.errors import CorruptError


class Tree(NamedTuple):
    """Where a tree begins."""

    root: int
    depth: int


class Meta(NamedTuple):
    """What a meta page says."""

    page_bytes: int
    last_page: int
    transaction: int
    tree_pages: int
    """Pages of the free list's and the bucket list's trees."""
    free: Tree
    main: Tree
    """The tree of the buckets' trees."""


_META: Final = struct.Struct("<16xIIQQ" + "IHHQQQQQ" * 2 + "QQ")
_MAGIC: Final = 0xBEEFC0DE
_DATA_VERSION: Final = 1
_META_PAGES: Final = 2
_NO_PAGE: Final = (1 << 64) - 1
_NUMBER_BYTES: Final = 8
_PAGE: Final = struct.Struct("<Q2xHHH")
_OVERFLOW_PAGE: Final = struct.Struct("<Q2xHI")
_NODE: Final = struct.Struct("<HHHH")
_TREE: Final = struct.Struct("<IHHQQQQQ")
_BRANCH, _LEAF, _OVERFLOW = 0x01, 0x02, 0x04
_KINDS: Final = 0x6F
"""The page flags that say what a page is: not those of pages in memory."""
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
        free=Tree(free[7], free[2]),
        main=Tree(main[7], main[2]),
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


def check_file(file: File, *, every_page: bool = False) -> None:
    """Refuse a file that is no LMDB file, or that lost pages which its newest meta page reaches.

    ``every_page`` looks at all of these even where the file is as long as it should be, as one must before
    LMDB reads a file that may be damaged. Damage within keys and values is not seen: they have no checksum.

    Raises: CorruptError. Cost of every page: 0.5 µs a record.
    """
    meta = newest_meta(file)
    file_bytes = file.size()
    if file_bytes >= (meta.last_page + 1) * meta.page_bytes and not every_page:
        return
    # Pages that were freed again in the transaction that took them need never have been written, so a file
    # may rightly be shorter. Rare enough to look at every page.
    check = _Check(file, file_bytes, meta)
    check.walk(meta.free, fanout_min=1)  # LMDB may leave a branch of one there
    for tree in check.walk(meta.main):
        check.walk(tree)


class _Check:
    """A look at all pages of trees."""

    def __init__(self, file: File, file_bytes: int, meta: Meta) -> None:
        self._file = file
        self._file_bytes = file_bytes
        self._page_bytes = meta.page_bytes
        self._end = min(meta.last_page + 1, -(-file_bytes // meta.page_bytes))
        self._seen = bytearray(self._end)

    def walk(self, tree: Tree, *, fanout_min: int = 2) -> list[Tree]:
        """All pages of a tree; the trees that its leaves hold. Raises: CorruptError."""
        found: list[Tree] = []
        waiting = [tree] if tree.root != _NO_PAGE else []
        while waiting:
            number, depth = waiting.pop()
            if depth > 1:
                page, offsets = self._nodes(number, _BRANCH, fanout_min)
                for offset in offsets:
                    low, high, top, _ = _NODE.unpack_from(page, offset)
                    waiting.append(Tree(low | high << 16 | top << 32, depth - 1))
            else:
                found += self._leaf(number)
        return found

    def _leaf(self, number: int) -> list[Tree]:
        found: list[Tree] = []
        end = self._page_bytes
        unpack = _NODE.unpack_from
        page, offsets = self._nodes(number, _LEAF, 1)
        for offset in offsets:
            low, high, flags, key_bytes = unpack(page, offset)
            size = low | high << 16
            at = offset + _NODE.size + key_bytes
            if at + (_NUMBER_BYTES if flags == _BIG_DATA else size) > end:
                raise self._damaged(number, "a record reaches beyond it")
            if flags == _BIG_DATA:
                self._overflow(int.from_bytes(page[at : at + 8], "little"), size)
            elif flags == _SUB_DATA and size == _TREE.size:
                _, tree_flags, depth, *_, root = _TREE.unpack_from(page, at)
                if tree_flags:
                    raise self._damaged(number, "a bucket of an unknown kind")
                found.append(Tree(root, depth))
            elif flags:
                raise self._damaged(number, "a record of an unknown kind")
        return found

    def _nodes(self, number: int, kind: int, count_min: int) -> tuple[bytes, Sequence[int]]:
        """A page of a tree, and the offsets of its nodes, whose heads lie within it."""
        self._take(number, 1)
        page_bytes = self._page_bytes
        page = self._file.pread(page_bytes, number * page_bytes)
        own_number, flags, lower, upper = _PAGE.unpack_from(page)
        if own_number != number or flags & _KINDS != kind:
            raise CorruptError(self._file.path, f"page {number} is not part of a tree")
        count = (lower - _PAGE.size) // 2
        if count < count_min or not lower <= upper <= page_bytes:
            raise self._damaged(number, "its bounds cannot be")
        offsets = struct.unpack_from(f"<{count}H", page, _PAGE.size)
        if min(offsets) < upper or max(offsets) + _NODE.size > page_bytes:
            raise self._damaged(number, "a record lies outside it")
        return page, offsets

    def _overflow(self, first: int, size: int) -> None:
        """The pages of a large value."""
        pages = -(-(_PAGE.size + size) // self._page_bytes)
        self._take(first, pages)
        head = self._file.pread(_PAGE.size, first * self._page_bytes)
        number, flags, count = _OVERFLOW_PAGE.unpack(head)
        if number != first or flags & _KINDS != _OVERFLOW or count < pages:
            raise CorruptError(self._file.path, f"page {first} does not begin a large value")

    def _take(self, first: int, count: int) -> None:
        """These pages are there, and nobody else's."""
        if (first + count) * self._page_bytes > self._file_bytes:
            raise CorruptError(
                self._file.path, f"truncated: page {first} is missing, the file has {self._file_bytes} bytes"
            )
        if first < _META_PAGES or first + count > self._end or any(self._seen[first : first + count]):
            raise self._damaged(first, "it is in use twice, or free")
        self._seen[first : first + count] = b"\1" * count

    def _damaged(self, number: int, how: str) -> CorruptError:
        return CorruptError(self._file.path, f"page {number} is damaged: {how}")
