"""Files in memory, contents for them, and pages made by hand."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from petcd.storage.bbolt import database_chunks
from petcd.storage.bbolt.layout import (
    BRANCH,
    BUCKET,
    HEADER,
    IS_BUCKET,
    LEAF,
    NO_FREELIST,
    PAGE_BYTES,
    Meta,
    encode_meta,
)
from petcd.storage.bbolt.writer import Overrides
from petcd.storage.schema import KEY, Bucket

Contents = dict[Bucket, dict[bytes, bytes]]


class Bytes:
    """``File`` over bytes."""

    def __init__(self, content: bytes = b"", *, room: int | None = None) -> None:
        self.content = bytearray(content)
        self.room = room
        self.path = "db"
        self.reads: list[int] = []
        self.synced = b""

    def pread(self, size: int, offset: int, /) -> bytes:
        self.reads.append(size)
        return bytes(self.content[offset : offset + size])

    def pwrite(self, data: bytes, offset: int, /) -> None:
        if self.room is not None and offset + len(data) > self.room:
            raise OSError(28, "No space left on device")
        if offset > len(self.content):
            self.content.extend(bytes(offset - len(self.content)))
        self.content[offset : offset + len(data)] = data

    def size(self) -> int:
        return len(self.content)

    def truncate(self, size: int, /) -> None:
        del self.content[size:]

    def allocate(self, size: int, /) -> None:
        raise AssertionError("not needed")

    def sync(self) -> None:
        self.synced = bytes(self.content)

    datasync = sync

    def try_lock(self) -> bool:
        return True

    try_flock = try_lock

    def close(self) -> None:
        return


class Shown:
    """``View`` of a dict."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self.closed = False

    def get(self, bucket: Bucket, key: bytes, /) -> bytes | None:
        return self._contents.get(bucket, {}).get(key)

    def range(
        self, bucket: Bucket, start: bytes, end: bytes | None, /, limit: int = 0
    ) -> list[tuple[bytes, bytes]]:
        pairs = list(self.iterate(bucket, start, end))
        return pairs[:limit] if limit else pairs

    def iterate(
        self, bucket: Bucket, start: bytes = b"", end: bytes | None = None, /
    ) -> Iterator[tuple[bytes, bytes]]:
        for key, value in sorted(self._contents.get(bucket, {}).items()):
            if key >= start and (end is None or key < end):
                yield key, value

    def close(self) -> None:
        self.closed = True


def written(contents: Contents, overrides: Overrides | None = None) -> bytes:
    """The database that holds this."""
    file = Bytes()
    for offset, chunk in database_chunks(Shown(contents), overrides=overrides):
        file.pwrite(chunk, offset)
    return bytes(file.content)


def revision(main: int, sub: int = 0) -> bytes:
    return main.to_bytes(8, "big") + b"_" + sub.to_bytes(8, "big")


# ---------------------------------------------------------------------- by hand


def leaf(number: int, pairs: Sequence[tuple[bytes, bytes]], flags: int = 0) -> bytes:
    """A leaf page, padded; the straightforward way."""
    elements, data = b"", b""
    for position, (key, value) in enumerate(pairs):
        distance = 16 * (len(pairs) - position) + len(data)
        elements += struct.pack("<IIII", flags, distance, len(key), len(value))
        data += key + value
    body = elements + data
    overflow = -(-(16 + len(body)) // PAGE_BYTES) - 1 if number else 0
    page = HEADER.pack(number, LEAF, len(pairs), overflow) + body
    return page.ljust((overflow + 1) * PAGE_BYTES, b"\0") if number else page


def branch(number: int, children: Sequence[tuple[bytes, int]]) -> bytes:
    elements, keys = b"", b""
    for position, (key, child) in enumerate(children):
        distance = 16 * (len(children) - position) + len(keys)
        elements += struct.pack("<IIQ", distance, len(key), child)
        keys += key
    return (HEADER.pack(number, BRANCH, len(children), 0) + elements + keys).ljust(PAGE_BYTES, b"\0")


def database(pages: Sequence[bytes], key_root: int = 3, *, freelist: int = NO_FREELIST) -> bytes:
    """A file whose bucket ``key`` begins at ``key_root``; ``pages`` begin at page 3."""
    root = leaf(2, [(KEY, BUCKET.pack(key_root, 0))], IS_BUCKET)
    body = root + b"".join(pages)
    return metas(2, 2 + len(body) // PAGE_BYTES, freelist=freelist) + body


def metas(root: int, high_water: int, *, freelist: int = NO_FREELIST) -> bytes:
    return b"".join(
        encode_meta(number, Meta(PAGE_BYTES, root, freelist, high_water, 7 - number)).ljust(PAGE_BYTES, b"\0")
        for number in (0, 1)
    )
