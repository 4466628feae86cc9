"""Hashes and counts of a database at rest, for tools: one or two passes, and no index.

A running member knows each key's newest revision from its index, at several hundred bytes a key. Here a
record costs 18 bytes: which record of a key is the newest is found from 64-bit hashes of the keys, a part of
them at a time. Two keys of one hash would be taken for one; with a million keys that happens once in 40
million runs.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import google_crc32c

from petcd import errors
from petcd.mvcc.hashing import KVHash
from petcd.mvcc.keyvalue import key_of
from petcd.mvcc.revision import PLAIN_BYTES, bound
from petcd.pb.wire import DecodeError
from petcd.storage.atrest import Database, last_revision
from petcd.storage.bbolt import BboltFile
from petcd.storage.errors import CorruptError
from petcd.storage.schema import (
    BUCKETS,
    FINISHED_COMPACT_REV,
    KEY,
    META,
    SCHEDULED_COMPACT_REV,
    STORAGE_VERSION,
    decode_compact_rev,
)

Progress = Callable[[int], object]
"""Told how many bytes of keys and values have gone by."""

_PARTS: Final = 64


class Newest:
    """Which of many records is the last one of its key. An empty record is one of the empty key."""

    __slots__ = ("_parts", "_path", "_puts")

    def __init__(self, path: str) -> None:
        self._path = path
        self._parts = [(array("q"), array("Q")) for _ in range(_PARTS)]
        self._puts = bytearray()

    def add(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Take in records in the order of their revisions. Raises: CorruptError."""
        parts, puts = self._parts, self._puts
        at = len(puts)
        for rev, value in pairs:
            try:
                key = hash(key_of(value))
            except DecodeError as error:
                raise CorruptError(self._path, f"the record of revision {rev.hex()}: {error}") from error
            hashes, places = parts[key & 63]
            hashes.append(key)
            places.append(at)
            puts.append(len(rev) == PLAIN_BYTES)
            at += 1

    def live(self) -> bytearray:
        """One byte a record, 1 where it is the newest of its key and no tombstone."""
        puts = self._puts
        flags = bytearray(len(puts))
        for hashes, places in self._parts:
            for at in dict(zip(hashes, places, strict=True)).values():
                flags[at] = puts[at]
        return flags


class FileStatus(NamedTuple):
    """What ``snapshot status`` says of a file."""

    hash: int
    """CRC-32C over every bucket's name, keys and values."""
    revision: int
    """The greatest in ``key``."""
    live_keys: int
    """Keys that are not deleted: the total of releases since 3.6."""
    records: int
    """Pairs in all buckets: the total of releases before."""
    size_bytes: int
    version: str
    """The storage version; empty for releases before 3.6."""


def file_status(database: Database, progress: Progress | None = None) -> FileStatus:
    """Read all of a database, looking at every page of a bbolt file on the way.

    Raises: CorruptError. Cost: 3 µs a record.
    """
    newest = Newest(database.path)
    crc: int = google_crc32c.value(b"")
    records = done = 0

    def visit(name: bytes, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        nonlocal crc, records, done
        data = b"".join([part for pair in pairs for part in pair]) if pairs else name
        crc = google_crc32c.extend(crc, data)
        records += len(pairs)
        if name == KEY:
            newest.add(pairs)
        if progress is not None:
            done += len(data)
            progress(done)

    if isinstance(database, BboltFile):
        database.verify(visit)
    else:
        for bucket in BUCKETS:
            visit(bucket, ())
            for pairs in database.batches(bucket):
                visit(bucket, pairs)
    version = database.get(META, STORAGE_VERSION) or b""
    return FileStatus(
        hash=crc,
        revision=last_revision(database),
        live_keys=newest.live().count(1),
        records=records,
        size_bytes=database.size_bytes,
        version=version.decode("ascii", "replace"),
    )


def file_hash(database: Database, rev: int = 0, progress: Progress | None = None) -> KVHash:
    """The HashKV that a member opened on this database would answer, at ``rev`` (0: the newest).

    Raises: Compacted, FutureRev, CorruptError. Cost: 1.5 µs a record, twice that after a compaction.
    """
    marks = [database.get(META, name) for name in (FINISHED_COMPACT_REV, SCHEDULED_COMPACT_REV)]
    compacted = max(decode_compact_rev(mark) if mark is not None else -1 for mark in marks)
    current = max(last_revision(database), compacted, 1)
    if 0 < rev < compacted:
        raise errors.Compacted
    if rev > current:
        raise errors.FutureRev
    rev = rev if rev > 0 else current
    kept = _kept(database, rev, compacted) if compacted > 0 else None
    old_end = bound(compacted)
    crc: int = google_crc32c.value(b"key")
    at = done = 0
    for pairs in database.batches(KEY):
        pairs, more = _up_to(pairs, bound(rev))
        parts: list[bytes] = []
        for pair in pairs:
            if kept is None or pair[0] >= old_end or kept[at]:
                parts += pair
            at += 1
        data = b"".join(parts)
        crc = google_crc32c.extend(crc, data)
        if progress is not None:
            done += len(data)
            progress(done)
        if not more:
            break
    return KVHash(crc, rev, compacted)


def _kept(database: Database, rev: int, compacted: int) -> bytearray:
    """Which records at or below the compact revision count: what a compaction at ``rev`` would keep.

    Where nothing lives at ``rev``, what the last compaction kept.
    """
    for last in (rev, compacted):
        newest = Newest(database.path)
        for pairs in database.batches(KEY):
            pairs, more = _up_to(pairs, bound(last))
            newest.add(pairs)
            if not more:
                break
        flags = newest.live()
        if last == rev and any(flags):
            return flags
    return flags


def _up_to(pairs: list[tuple[bytes, bytes]], end: bytes) -> tuple[list[tuple[bytes, bytes]], bool]:
    """The pairs below ``end``, and whether there may be more."""
    if pairs[-1][0] < end:
        return pairs, True
    return [pair for pair in pairs if pair[0] < end], False
