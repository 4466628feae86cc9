"""Writing a bbolt file in one pass, from a consistent view of the backend.

Pages are made in the order of the keys and only ever appended: leaves as they fill, and a branch page as
soon as there is enough below it; the metas, which say where everything begins, come last. Memory is one
slice of pairs and one page a level, whatever the size of the database.

The form is the one that Go's own servers write (contract/disk.md 4.9): pages of 4096 bytes, no stored free
list, small buckets inline, all ten buckets there. Leaves are filled whole; like Go's, a leaf or branch holds
two elements at least where there are two, and takes overflow pages for what does not fit.
"""

from __future__ import annotations

import operator
import struct
from bisect import bisect_right
from collections.abc import Generator, Iterator, Mapping
from itertools import accumulate
from typing import Final

from petcd.seams.disk import File
from petcd.storage.backend import View
from petcd.storage.bbolt.layout import (
    BRANCH,
    BRANCH_ELEMENT,
    BUCKET,
    ELEMENT_BYTES,
    HEADER,
    HEADER_BYTES,
    IS_BUCKET,
    LEAF,
    NO_FREELIST,
    PAGE_BYTES,
    Meta,
    encode_meta,
)
from petcd.storage.schema import BUCKETS, Bucket

Overrides = Mapping[tuple[Bucket, bytes], bytes | None]

SLICE_PAIRS: Final = 500
SLICE_BYTES: Final = 256 << 10
"""A slice ends with the pair that reaches one of the two; under a millisecond of work."""

_INLINE_BYTES_MAX: Final = PAGE_BYTES // 4
_ROOM: Final = PAGE_BYTES - HEADER_BYTES
_FIRST_PAGE: Final = 2
_TRANSACTION: Final = 2
"""Of meta page 0; page 1 has the one before, so that a server's first commit writes over the older."""

_PADDING: Final = bytes(PAGE_BYTES)


def write_database(view: View, file: File, *, overrides: Overrides | None = None) -> Iterator[int]:
    """Write what ``view`` shows to the empty ``file``, a slice a step; yields the bytes written so far.

    When the iterator ends, the file is complete and synced, and the last number was its size. ``overrides``
    are written instead of, or beside, what the view has under the same keys; None leaves a key out. What a
    broken-off or failed run leaves has no metas: it is no database to anybody.

    Steps block on the disk, the last one on its sync. Raises: OSError, as the file does.
    """
    size = 0
    for offset, chunk in database_chunks(view, overrides=overrides):
        if chunk:
            file.pwrite(chunk, offset)
            size = max(size, offset + len(chunk))
        yield size
    file.sync()
    yield size


def database_chunks(view: View, *, overrides: Overrides | None = None) -> Generator[tuple[int, bytes]]:
    """The same without a file: chunks and where they belong, in ascending order but for the metas, last.

    A step that had nothing to show for its work yet yields an empty chunk.
    """
    pages = _Pages()
    roots: list[tuple[bytes, bytes]] = []
    for bucket in BUCKETS:
        changed = {key: value for (where, key), value in (overrides or {}).items() if where == bucket}
        pairs = view.iterate(bucket)
        if changed:
            pairs = _overridden(pairs, changed)
        value = yield from _bucket(pages, pairs)
        roots.append((bucket, value))
    tree = _Tree(pages)
    _leaves(tree, roots, IS_BUCKET, last=True)
    root = tree.finish()
    yield pages.take()
    for number in (1, 0):
        meta = Meta(PAGE_BYTES, root, NO_FREELIST, pages.next, _TRANSACTION - number)
        yield number * PAGE_BYTES, encode_meta(number, meta).ljust(PAGE_BYTES, b"\x00")


def _bucket(pages: _Pages, pairs: Iterator[tuple[bytes, bytes]]) -> Generator[tuple[int, bytes], None, bytes]:
    """Write one bucket's pages; returns its value in the bucket of buckets."""
    tree = _Tree(pages)
    rest: list[tuple[bytes, bytes]] = []
    more = True
    first = True
    while more:
        room = SLICE_BYTES
        more = False
        full = SLICE_PAIRS + len(rest)
        append = rest.append
        for pair in pairs:
            append(pair)
            room -= len(pair[1])
            if room < 0 or len(rest) >= full:
                more = True
                break
        if first and not more and _size(rest) <= _INLINE_BYTES_MAX:
            return BUCKET.pack(0, 0) + _leaf_page(0, rest, 0)
        first = False
        rest = _leaves(tree, rest, 0, last=not more)
        yield pages.take()
    return BUCKET.pack(tree.finish(), 0)


def _overridden(
    pairs: Iterator[tuple[bytes, bytes]], changed: dict[bytes, bytes | None]
) -> Iterator[tuple[bytes, bytes]]:
    """The pairs, in order, with those of ``changed`` in the place of theirs."""
    waiting = sorted(changed.items(), reverse=True)
    for pair in pairs:
        while waiting and waiting[-1][0] < pair[0]:
            key, value = waiting.pop()
            if value is not None:
                yield key, value
        if waiting and waiting[-1][0] == pair[0]:
            key, value = waiting.pop()
            if value is not None:
                yield key, value
        else:
            yield pair
    for key, value in reversed(waiting):
        if value is not None:
            yield key, value


def _size(pairs: list[tuple[bytes, bytes]]) -> int:
    return HEADER_BYTES + sum(ELEMENT_BYTES + len(key) + len(value) for key, value in pairs)


# ---------------------------------------------------------------------- leaves


def _leaves(
    tree: _Tree, pairs: list[tuple[bytes, bytes]], flags: int, *, last: bool
) -> list[tuple[bytes, bytes]]:
    """Make leaves of as many pairs as fill them, of all when they are the ``last``; returns the others."""
    # Where each pair ends when all lie one behind the other, elements included.
    ends = list(accumulate([ELEMENT_BYTES + len(key) + len(value) for key, value in pairs]))
    total = len(pairs)
    begin = 0
    before = 0
    pages = tree.pages
    while begin < total or (last and not total and tree.is_empty):
        # Two at least, though they overflow.
        end = max(bisect_right(ends, before + _ROOM, begin), begin + 2)
        if end >= total:
            if not last:
                break
            end = total
        page = pairs[begin:end]
        tree.add(page[0][0] if page else b"", pages.append(_leaf_page(pages.next, page, flags)))
        if end == total:
            return []
        before = ends[end - 1]
        begin = end
    return pairs[begin:]


def _leaf_page(number: int, pairs: list[tuple[bytes, bytes]], flags: int) -> bytes:
    """A leaf, without padding; ``number`` 0 is an inline one."""
    count = len(pairs)
    parts = [part for pair in pairs for part in pair]
    sizes = list(map(len, parts))
    keys, values = sizes[::2], sizes[1::2]
    # An element counts the distance to its key from its own place: each is 16 bytes nearer to the data.
    near = ELEMENT_BYTES * count
    starts = accumulate(map(operator.add, keys, values), initial=near)
    elements = [flags] * (4 * count)
    elements[1::4] = map(operator.sub, starts, range(0, near, ELEMENT_BYTES))
    elements[2::4] = keys
    elements[3::4] = values
    size = HEADER_BYTES + near + sum(sizes)
    overflow = -(-size // PAGE_BYTES) - 1 if number else 0
    head = HEADER.pack(number, LEAF, count, overflow)
    return b"".join((head, struct.pack(f"<{4 * count}I", *elements), *parts))


# ---------------------------------------------------------------------- branches


class _Tree:
    """The branch levels above the pages added to it, each written as soon as it is sure to be full."""

    __slots__ = ("_levels", "pages")

    def __init__(self, pages: _Pages) -> None:
        self.pages = pages
        self._levels: list[_Level] = [_Level()]

    @property
    def is_empty(self) -> bool:
        return not self._levels[0].children

    def add(self, key: bytes, page: int, height: int = 0) -> None:
        """Take in a page by the first key below it."""
        if height == len(self._levels):
            self._levels.append(_Level())
        level = self._levels[height]
        size = ELEMENT_BYTES + len(key)
        # A full page waits until there are two more children: no page may end up with a single one.
        if level.spare == 2:
            self._write(level, height)
        if level.spare or (len(level.children) >= 2 and level.size + size > _ROOM):
            level.spare += 1
            level.spare_bytes += size
        else:
            level.size += size
        level.children.append((key, page))

    def _write(self, level: _Level, height: int) -> None:
        """Write the page of all children but the spare ones, which begin the next."""
        split = len(level.children) - level.spare
        children, level.children = level.children[:split], level.children[split:]
        level.size, level.spare, level.spare_bytes = level.spare_bytes, 0, 0
        self._write_page(children, height)

    def _write_page(self, children: list[tuple[bytes, int]], height: int) -> None:
        pages = self.pages
        self.add(children[0][0], pages.append(_branch_page(pages.next, children)), height + 1)

    def finish(self) -> int:
        """Write what is left, level by level; returns the root page."""
        height = 0
        while True:
            level = self._levels[height]
            if len(level.children) == 1 and height + 1 == len(self._levels):
                return level.children[0][1]
            if level.spare == 1:
                # One child alone does not make a page: the one before goes with it, if it can be spared.
                if len(level.children) > 3:
                    level.spare = 2
                else:
                    level.spare = 0
            if level.spare:
                self._write(level, height)
            children, level.children = level.children, []
            self._write_page(children, height)
            height += 1


class _Level:
    """Children that wait for their branch page: one page full, and up to two spare ones behind it."""

    __slots__ = ("children", "size", "spare", "spare_bytes")

    def __init__(self) -> None:
        self.children: list[tuple[bytes, int]] = []
        self.size = 0
        """Of those that are not spare, with their elements."""
        self.spare = 0
        self.spare_bytes = 0


def _branch_page(number: int, children: list[tuple[bytes, int]]) -> bytes:
    """A branch, without padding."""
    count = len(children)
    distance = ELEMENT_BYTES * count
    elements = bytearray()
    for key, child in children:
        elements += BRANCH_ELEMENT.pack(distance, len(key), child)
        distance += len(key) - ELEMENT_BYTES
    keys = b"".join([key for key, _ in children])
    size = HEADER_BYTES + len(elements) + len(keys)
    return HEADER.pack(number, BRANCH, count, -(-size // PAGE_BYTES) - 1) + elements + keys


class _Pages:
    """The pages made and not yet taken, one behind the other."""

    __slots__ = ("_parts", "_taken", "next")

    def __init__(self) -> None:
        self.next = _FIRST_PAGE
        self._taken = _FIRST_PAGE
        self._parts: list[bytes] = []

    def append(self, page: bytes) -> int:
        """Take in the next page, whose number is ``next``; returns that."""
        number = self.next
        size = len(page)
        count = -(-size // PAGE_BYTES)
        self._parts.append(page)
        rest = count * PAGE_BYTES - size
        if rest:
            self._parts.append(_PADDING[:rest])
        self.next = number + count
        return number

    def take(self) -> tuple[int, bytes]:
        """All of them, and their offset."""
        offset = self._taken * PAGE_BYTES
        chunk = b"".join(self._parts)
        self._parts.clear()
        self._taken = self.next
        return offset, chunk
