"""Reading a bbolt file, page by page, trusting nothing in it.

A file may come from a peer, from a backup, from a disk that lost something: every offset, count, flag and
page id is checked before it is used, the depth of the trees and the number of pages visited are bounded, and
keys must ascend throughout. What does not hold is a ``CorruptError``; nothing else is raised, whatever the
bytes are. Memory: one path of branch pages and one leaf.

The file must not change meanwhile: a Go server's ``db`` may be read only when that server is stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, NoReturn

from petcd.seams.disk import File
from petcd.storage.bbolt.layout import (
    BRANCH,
    BRANCH_ELEMENT,
    BUCKET,
    BUCKET_BYTES,
    ELEMENT_BYTES,
    FREELIST,
    HEADER,
    HEADER_BYTES,
    IS_BUCKET,
    KEY_BYTES_MAX,
    LEAF,
    LEAF_ELEMENT,
    META_BYTES,
    NO_FREELIST,
    PAGE_BYTES_MIN,
    Meta,
    decode_meta,
)
from petcd.storage.errors import CorruptError, UnrecognizedError
from petcd.storage.schema import BUCKETS, Bucket

_DEPTH_MAX: Final = 64
"""Of a tree. A real one of 2^32 keys has less, even with two children to a page."""

_WHOLE_PAGE_BYTES_MAX: Final = 256 << 20
"""Of a page with its overflow pages; four of the largest requests that a server can sensibly take fit."""

_UNKNOWN_MAX: Final = 16
"""Names of unknown buckets that are remembered."""

_FREELIST_COUNT_LARGE: Final = 0xFFFF


class _Root(NamedTuple):
    """Where a bucket's tree begins: a page, or for small buckets the page itself."""

    page: int
    inline: bytes


class PageCount(NamedTuple):
    """What a full check counted."""

    pages: int
    """Up to the high-water mark, both metas included."""
    reachable: int
    """In trees, both metas and the free list included."""
    keys: int
    """In all known buckets."""


class _Budget:
    """Pages that one walk may still visit; a full check also notes which ones it saw."""

    __slots__ = ("left", "seen")

    def __init__(self, pages: int, seen: bytearray | None = None) -> None:
        self.left = pages
        self.seen = seen


class BboltFile:
    """An open bbolt file: its buckets, as a ``View`` of them (``petcd.storage.backend``).

    Buckets that etcd does not have are left aside (``unknown``).
    """

    def __init__(self, file: File, *, damaged: bool = False) -> None:
        """Look at the metas and the bucket of buckets. Raises: CorruptError.

        With ``damaged`` the metas are all that must be right, and ``leaf_at`` all that can be asked.
        """
        self._file = file
        self._file_bytes = file.size()
        self.meta = self._choose_meta()
        meta = self.meta
        if not damaged and meta.high_water * meta.page_bytes > self._file_bytes:
            self._corrupt(
                f"truncated: {meta.high_water} pages of {meta.page_bytes} bytes are in use, the file has "
                f"{self._file_bytes} bytes"
            )
        self.size_bytes = meta.high_water * meta.page_bytes
        """Up to the high-water mark: what servers report as the size of the database."""
        self.unknown: list[bytes] = []
        """Names of buckets that are not etcd's; the first of them, when there are many."""
        self._roots: dict[bytes, _Root] = {}
        if not damaged:
            self._read_roots()

    @property
    def path(self) -> str:
        return self._file.path

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """Those of etcd's buckets that are there."""
        return tuple(bucket for bucket in BUCKETS if bucket in self._roots)

    # ------------------------------------------------------------------ a view

    def get(self, bucket: Bucket, key: bytes, /) -> bytes | None:
        """The value; None too when the bucket is missing. Raises: CorruptError."""
        for found, value in self.iterate(bucket, key):
            return value if found == key else None
        return None

    def range(
        self, bucket: Bucket, start: bytes, end: bytes | None, /, limit: int = 0
    ) -> list[tuple[bytes, bytes]]:
        """Pairs of ``[start, end)`` in key order, at most ``limit`` of them (0: all).

        Raises: CorruptError.
        """
        pairs: list[tuple[bytes, bytes]] = []
        for pair in self.iterate(bucket, start, end):
            pairs.append(pair)
            if len(pairs) == limit:
                break
        return pairs

    def iterate(
        self, bucket: Bucket, start: bytes = b"", end: bytes | None = None, /
    ) -> Iterator[tuple[bytes, bytes]]:
        """Pairs of ``[start, end)`` in key order; of a missing bucket none. Raises: CorruptError."""
        root = self._roots.get(bucket)
        if root is None:
            return
        for leaf in self._leaves(root, start, _Budget(self.meta.high_water)):
            if (start and leaf[0][0] < start) or (end is not None and leaf[-1][0] >= end):
                for pair in leaf:
                    if end is not None and pair[0] >= end:
                        return
                    if pair[0] >= start:
                        yield pair
            else:
                yield from leaf

    def batches(self, bucket: Bucket) -> Iterator[list[tuple[bytes, bytes]]]:
        """All pairs in key order, a page at a time: half the cost of one by one. Raises: CorruptError."""
        root = self._roots.get(bucket)
        return iter(()) if root is None else self._leaves(root, b"", _Budget(self.meta.high_water))

    def last_key(self, bucket: Bucket) -> bytes | None:
        """The greatest key. Raises: CorruptError."""
        return next((key for key, _ in self.backwards(bucket)), None)

    def backwards(self, bucket: Bucket) -> Iterator[tuple[bytes, bytes]]:
        """All pairs from the last to the first. Raises: CorruptError."""
        root = self._roots.get(bucket)
        if root is None:
            return
        budget = _Budget(self.meta.high_water)
        page, flags, count = self._root_page(root, budget)
        levels: list[list[tuple[bytes, int]]] = []
        number = root.page
        while True:
            if flags == BRANCH:
                if len(levels) == _DEPTH_MAX:
                    self._corrupt(f"a tree deeper than {_DEPTH_MAX} pages", number)
                levels.append(self._branch(number, page, count))
            else:
                yield from reversed(self._leaf(number, page, count, 0))
            while levels and not levels[-1]:
                levels.pop()
            if not levels:
                return
            number = levels[-1].pop()[1]
            page, flags, count = self._page(number, budget)

    def close(self) -> None:
        """Nothing to give up; the file is its opener's."""

    def leaf_at(self, number: int) -> tuple[list[tuple[bytes, bytes]], int]:
        """The pairs of a leaf that holds no buckets, and how many pages it takes: for damaged files.

        Of any other page no pairs. Raises: CorruptError.
        """
        page, flags, count = self._whole_page(number)
        pages = len(page) // self.meta.page_bytes
        if flags != LEAF:
            return [], 1
        first = LEAF_ELEMENT.unpack_from(page, HEADER_BYTES) if count else (0,)
        return ([], pages) if first[0] else (self._leaf(number, page, count, 0), pages)

    # ------------------------------------------------------------------ the whole file

    def verify(
        self, visit: Callable[[bytes, Sequence[tuple[bytes, bytes]]], object] | None = None
    ) -> PageCount:
        """Visit every page: each is reachable once or free, and all keys are in order.

        ``visit`` is shown every bucket in the order of their names, etcd's or not: once without pairs, then a
        page of pairs at a time. Raises: CorruptError.
        """
        meta = self.meta
        seen = bytearray(meta.high_water)
        seen[0] = seen[1] = 1
        budget = _Budget(meta.high_water, seen)
        keys = 0
        for roots in self._leaves(_Root(meta.root, b""), b"", budget, IS_BUCKET):
            for name, value in roots:
                if visit is not None:
                    visit(name, ())
                for leaf in self._leaves(self._root(name, value), b"", budget):
                    if name in self._roots:
                        keys += len(leaf)
                    if visit is not None:
                        visit(name, leaf)
        free = self._freelist(seen)
        reachable = seen.count(1)
        if free is not None and reachable + free != meta.high_water:
            lost = meta.high_water - reachable - free
            self._corrupt(f"{lost} pages are neither in use nor free")
        return PageCount(meta.high_water, reachable, keys)

    def _freelist(self, seen: bytearray) -> int | None:
        """Check the stored free list, and count it; None when none is stored."""
        meta = self.meta
        if meta.freelist == NO_FREELIST:
            return None
        page, flags, count = self._whole_page(meta.freelist)
        if flags != FREELIST:
            self._corrupt(f"page {meta.freelist} is no free list (flags {flags:#x})", meta.freelist)
        for number in range(meta.freelist, meta.freelist + len(page) // meta.page_bytes):
            if seen[number]:
                self._corrupt(f"page {number} is in use twice", number)
            seen[number] = 1
        at = HEADER_BYTES
        if count == _FREELIST_COUNT_LARGE:
            count = int.from_bytes(page[at : at + 8], "little")
            at += 8
        if at + 8 * count > len(page):
            self._corrupt(f"a free list of {count} ids does not fit its page", meta.freelist)
        last = 1
        for number in memoryview(page)[at : at + 8 * count].cast("Q"):
            if not last < number < meta.high_water:
                self._corrupt(f"the free list has page {number} after {last}", meta.freelist)
            if seen[number]:
                self._corrupt(f"page {number} is in use and free", number)
            last = number
        return count

    # ------------------------------------------------------------------ metas and buckets

    def _choose_meta(self) -> Meta:
        first = decode_meta(self._pread(META_BYTES, 0))
        second = None
        if first is not None:
            second = decode_meta(self._pread(META_BYTES, first.page_bytes))
        else:
            # The size of a page is then found by where the second one lies.
            for shift in range(16):
                page_bytes = PAGE_BYTES_MIN << shift
                second = decode_meta(self._pread(META_BYTES, page_bytes))
                if second is not None and second.page_bytes == page_bytes:
                    break
                second = None
        metas = [meta for meta in (first, second) if meta is not None]
        if not metas:
            raise UnrecognizedError(self.path, "not a bbolt file, or both of its meta pages are damaged")
        if len(metas) == 2 and metas[0].page_bytes != metas[1].page_bytes:
            metas.pop()
        meta = max(metas, key=lambda one: one.transaction)
        if meta.high_water < 3 or not 2 <= meta.root < meta.high_water:
            self._corrupt(f"root page {meta.root} of {meta.high_water}")
        return meta

    def _read_roots(self) -> None:
        budget = _Budget(self.meta.high_water)
        for leaf in self._leaves(_Root(self.meta.root, b""), b"", budget, IS_BUCKET):
            for name, value in leaf:
                if name not in BUCKETS:
                    if len(self.unknown) < _UNKNOWN_MAX:
                        self.unknown.append(name)
                    continue
                self._roots[name] = self._root(name, value)

    def _root(self, name: bytes, value: bytes) -> _Root:
        if len(value) < BUCKET_BYTES:
            self._corrupt(f"bucket {name.decode(errors='backslashreplace')}: a header of {len(value)} bytes")
        page, _sequence = BUCKET.unpack_from(value)
        return _Root(page, value[BUCKET_BYTES:] if page == 0 else b"")

    # ------------------------------------------------------------------ trees

    def _leaves(
        self, root: _Root, start: bytes, budget: _Budget, leaf_flags: int = 0
    ) -> Iterator[list[tuple[bytes, bytes]]]:
        """The leaves that are not empty, from the one on that can hold ``start``."""
        page, flags, count = self._root_page(root, budget)
        if flags == LEAF:
            leaf = self._leaf(root.page, page, count, leaf_flags)
            if leaf:
                yield leaf
            return
        last = b""
        # Per level the children left to visit: lower bound, page, upper bound.
        levels = [self._children(root.page, page, count, b"", None, start)]
        while levels:
            child = next(levels[-1], None)
            if child is None:
                levels.pop()
                continue
            low, number, high = child
            page, flags, count = self._page(number, budget)
            if flags == BRANCH:
                if len(levels) == _DEPTH_MAX:
                    self._corrupt(f"a tree deeper than {_DEPTH_MAX} pages", number)
                levels.append(self._children(number, page, count, low, high, start))
                continue
            leaf = self._leaf(number, page, count, leaf_flags)
            if leaf:
                first = leaf[0][0]
                if first < low or (last and first <= last) or (high is not None and leaf[-1][0] >= high):
                    self._corrupt("its keys are not those that the branch above announces", number)
                last = leaf[-1][0]
                yield leaf

    def _children(
        self, number: int, page: bytes, count: int, low: bytes, high: bytes | None, start: bytes
    ) -> Iterator[tuple[bytes, int, bytes | None]]:
        children = self._branch(number, page, count)
        if children[0][0] < low or (high is not None and children[-1][0] >= high):
            self._corrupt("its keys are not those that the branch above announces", number)
        skip = 0
        if start:
            # The last child whose first key is not above ``start``.
            skip = max(sum(key <= start for key, _ in children) - 1, 0)
        bounds: Iterable[bytes | None] = [*(key for key, _ in children[skip + 1 :]), high]
        return ((key, child, above) for (key, child), above in zip(children[skip:], bounds, strict=True))

    # ------------------------------------------------------------------ pages

    def _root_page(self, root: _Root, budget: _Budget | None = None) -> tuple[bytes, int, int]:
        if root.page:
            return self._page(root.page, budget)
        page = root.inline
        if len(page) < HEADER_BYTES:
            self._corrupt(f"an inline bucket of {len(page)} bytes")
        _number, flags, count, _overflow = HEADER.unpack_from(page)
        if flags != LEAF:
            self._corrupt(f"an inline bucket that is no leaf (flags {flags:#x})")
        return page, LEAF, count

    def _page(self, number: int, budget: _Budget | None = None) -> tuple[bytes, int, int]:
        """A page of a tree with what overflows it, its kind, its count."""
        page, flags, count = self._whole_page(number)
        if flags not in (BRANCH, LEAF):
            self._corrupt(f"it is in a tree and neither branch nor leaf (flags {flags:#x})", number)
        if budget is not None:
            pages = len(page) // self.meta.page_bytes
            budget.left -= pages
            if budget.left < 0:
                self._corrupt("pages are reached more than once", number)
            seen = budget.seen
            if seen is not None:
                for one in range(number, number + pages):
                    if seen[one]:
                        self._corrupt(f"page {one} is in use twice", number)
                    seen[one] = 1
        return page, flags, count

    def _whole_page(self, number: int) -> tuple[bytes, int, int]:
        meta = self.meta
        if not 2 <= number < meta.high_water:
            self._corrupt(f"page {number} of {meta.high_water} is pointed at")
        page_bytes = meta.page_bytes
        page = self._pread(page_bytes, number * page_bytes)
        if len(page) != page_bytes:
            self._corrupt("it cannot be read to its end", number)
        own_number, flags, count, overflow = HEADER.unpack_from(page)
        if own_number != number:
            self._corrupt(f"it says that it is page {own_number}", number)
        if overflow:
            if number + overflow >= meta.high_water:
                self._corrupt(f"{overflow} overflow pages reach beyond the last", number)
            more = overflow * page_bytes
            if more > _WHOLE_PAGE_BYTES_MAX:
                self._corrupt(f"{overflow} overflow pages are too many", number)
            page += self._pread(more, (number + 1) * page_bytes)
            if len(page) != page_bytes + more:
                self._corrupt("it cannot be read to its end", number)
        return page, flags, count

    def _leaf(self, number: int, page: bytes, count: int, want_flags: int) -> list[tuple[bytes, bytes]]:
        data_at = HEADER_BYTES + ELEMENT_BYTES * count
        page_end = len(page)
        if data_at > page_end:
            self._corrupt(f"{count} elements do not fit", number)
        pairs: list[tuple[bytes, bytes]] = []
        append = pairs.append
        last = b""
        element_at = HEADER_BYTES
        for flags, distance, key_bytes, value_bytes in LEAF_ELEMENT.iter_unpack(page[HEADER_BYTES:data_at]):
            key_at = element_at + distance
            value_at = key_at + key_bytes
            end = value_at + value_bytes
            if key_at < data_at or end > page_end or key_bytes > KEY_BYTES_MAX:
                self._corrupt("an element points outside", number)
            key = page[key_at:value_at]
            if key <= last:
                self._corrupt("an empty key" if not key else "its keys do not ascend", number)
            if flags != want_flags:
                self._corrupt(f"an element has flags {flags:#x} where {want_flags:#x} belongs", number)
            append((key, page[value_at:end]))
            last = key
            element_at += ELEMENT_BYTES
        return pairs

    def _branch(self, number: int, page: bytes, count: int) -> list[tuple[bytes, int]]:
        data_at = HEADER_BYTES + ELEMENT_BYTES * count
        page_end = len(page)
        if not count:
            self._corrupt("a branch without children", number)
        if data_at > page_end:
            self._corrupt(f"{count} elements do not fit", number)
        children: list[tuple[bytes, int]] = []
        last = b""
        element_at = HEADER_BYTES
        for distance, key_bytes, child in BRANCH_ELEMENT.iter_unpack(page[HEADER_BYTES:data_at]):
            key_at = element_at + distance
            end = key_at + key_bytes
            if key_at < data_at or end > page_end or key_bytes > KEY_BYTES_MAX:
                self._corrupt("an element points outside", number)
            key = page[key_at:end]
            if key <= last:
                self._corrupt("an empty key" if not key else "its keys do not ascend", number)
            children.append((key, child))
            last = key
            element_at += ELEMENT_BYTES
        return children

    def _pread(self, size: int, offset: int) -> bytes:
        try:
            return self._file.pread(size, offset)
        except OSError as error:
            raise CorruptError(
                self.path, f"cannot be read: {error.strerror or error}", offset=offset
            ) from error

    def _corrupt(self, reason: str, page: int | None = None) -> NoReturn:
        if page is None:
            raise CorruptError(self.path, reason)
        where = f"page {page}: {reason}" if page else f"an inline bucket: {reason}"
        raise CorruptError(self.path, where, offset=page * self.meta.page_bytes if page else None)
