"""What a backend's LMDB environment looks like inside: opened, written in bulk, read.

Buckets are LMDB's named databases. Keys longer than LMDB allows (511 bytes; only user and role names can be)
are stored under their beginning and a digest, with the whole key before the value. ``lmdb_backend`` is the
backend of a running member on top of this, ``lmdb_reader`` a file at rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import lmdb

from petcd.pb.wire import DecodeError, long_varint, varint
from petcd.seams.disk import Disk
from petcd.storage.schema import BUCKETS, FIXED_KEYS, KEY, Bucket

MAP_BYTES: Final = 16 << 30
"""Address space reserved for the file, twice etcd's largest sensible quota; grown by doubling when spent."""

READERS_MAX: Final = 126

KEY_BYTES_MAX: Final = 511
_DIGEST_BYTES: Final = 32
PLAIN_KEY_BYTES_MAX: Final = KEY_BYTES_MAX - _DIGEST_BYTES - 1
"""Longer keys are stored escaped, at 511 bytes exactly, a length that no plain key has."""

_BUILD_PAIRS: Final = 10_000
"""Pairs to a transaction of a bulk write."""

Batch = tuple[Bucket, Sequence[tuple[bytes, bytes]]]
"""Pairs of one bucket, in ascending order."""


def open_env(path: str, map_bytes: int, *, sync: bool) -> Any:
    return lmdb.open(
        path,
        subdir=False,
        map_size=map_bytes,
        max_dbs=len(BUCKETS),
        max_readers=READERS_MAX,
        mode=0o600,
        sync=sync,
        metasync=sync,
    )


def open_buckets(env: Any) -> dict[Bucket, Any]:
    with env.begin(write=True) as txn:
        return {bucket: env.open_db(bucket, txn=txn) for bucket in BUCKETS}


def build_file(
    path: str, batches: Iterable[Batch], *, disk: Disk, map_bytes: int = MAP_BYTES, sync: bool = True
) -> None:
    """Make a complete backend file holding ``batches``, synced but for its name in the directory; blocks.

    The batches of one bucket come one behind the other, in ascending order. Nothing stays at ``path`` after a
    failure. Cost: 1 µs a pair; memory: one transaction of 10,000 pairs. Raises: OSError, lmdb.Error, and what
    ``batches`` raises.
    """
    env = open_env(path, map_bytes, sync=False)
    try:
        dbs = open_buckets(env)
        waiting: list[Batch] = []
        count = 0
        for bucket, pairs in batches:
            waiting.append((bucket, pairs))
            count += len(pairs)
            if count >= _BUILD_PAIRS:
                _put_batches(env, dbs, waiting)
                waiting, count = [], 0
        _put_batches(env, dbs, waiting)
        if sync:
            env.sync(True)
    except BaseException:
        env.close()
        disk.remove(path)
        raise
    finally:
        env.close()
        disk.remove(path + "-lock")


def _put_batches(env: Any, dbs: dict[Bucket, Any], batches: list[Batch]) -> None:
    while True:
        try:
            with env.begin(write=True) as txn:
                for bucket, pairs in batches:
                    put_pairs(txn, dbs[bucket], bucket, pairs)
        except lmdb.MapFullError:
            env.set_mapsize(env.info()["map_size"] * 2)
        else:
            return


def put_pairs(txn: Any, db: Any, bucket: Bucket, pairs: Sequence[tuple[bytes, bytes]]) -> int:
    """Put ascending pairs into an open transaction; returns how many got in."""
    if bucket not in FIXED_KEYS:
        pairs = sorted(escape(key, value) for key, value in pairs)
    with txn.cursor(db) as cursor:
        # Revisions only grow, so the usual pairs go behind the last key, filling pages whole.
        append = bucket == KEY and bool(pairs) and (not cursor.last() or pairs[0][0] > cursor.key())
        _, added = cursor.putmulti(pairs, append=append)
    count: int = added
    return count


def escaped_key(key: bytes) -> bytes:
    if len(key) <= PLAIN_KEY_BYTES_MAX:
        return key
    return key[: PLAIN_KEY_BYTES_MAX + 1] + hashlib.sha256(key).digest()


def escape(key: bytes, value: bytes) -> tuple[bytes, bytes]:
    if len(key) <= PLAIN_KEY_BYTES_MAX:
        return key, value
    return escaped_key(key), varint(len(key)) + key + value


def _unescape(value: bytes) -> tuple[bytes, bytes]:
    """Raises: DecodeError."""
    try:
        size, at = long_varint(value, 0)
    except IndexError as error:
        raise DecodeError("a long key ends early") from error
    if at + size > len(value):
        raise DecodeError("a long key ends early")
    return value[at : at + size], value[at + size :]


def get_value(txn: Any, db: Any, key: bytes) -> bytes | None:
    if not key:
        return None  # LMDB has no empty keys, and refuses to be asked
    value: bytes | None = txn.get(escaped_key(key), None, db)
    if value is not None and len(key) > PLAIN_KEY_BYTES_MAX:
        return _unescape(value)[1]
    return value


def pairs_from(txn: Any, db: Any, start: bytes) -> Iterator[tuple[bytes, bytes]]:
    cursor = txn.cursor(db)
    # An escaped key sorts by its beginning, which is not above its whole.
    if not (cursor.set_range(start[: PLAIN_KEY_BYTES_MAX + 1]) if start else cursor.first()):
        return iter(())
    pairs: Iterator[tuple[bytes, bytes]] = cursor.iternext()
    return pairs


def pairs_between(
    txn: Any, db: Any, bucket: Bucket, start: bytes, end: bytes | None, limit: int
) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    if bucket in FIXED_KEYS:
        for pair in pairs_from(txn, db, start):
            if end is not None and pair[0] >= end:
                break
            found.append(pair)
            if len(found) == limit:
                break
        return found
    # Escaped keys of one beginning lie in the order of their digests, so a limit is applied at the end.
    for key, value in pairs_from(txn, db, start):
        if len(key) == KEY_BYTES_MAX:
            key, value = _unescape(value)
            if key < start or (end is not None and key >= end):
                continue
        elif end is not None and key >= end:
            break
        found.append((key, value))
    found.sort()
    return found[:limit] if limit else found


class LmdbPairs:
    """The buckets as a read transaction sees them; who has one inherits this."""

    __slots__ = ("_dbs", "_txn")

    def __init__(self, dbs: dict[Bucket, Any], txn: Any) -> None:
        self._dbs = dbs
        self._txn = txn

    def get(self, bucket: Bucket, key: bytes, /) -> bytes | None:
        return get_value(self._txn, self._dbs[bucket], key)

    def range(
        self, bucket: Bucket, start: bytes, end: bytes | None, /, limit: int = 0
    ) -> list[tuple[bytes, bytes]]:
        return pairs_between(self._txn, self._dbs[bucket], bucket, start, end, limit)

    def iterate(
        self, bucket: Bucket, start: bytes = b"", end: bytes | None = None, /
    ) -> Iterator[tuple[bytes, bytes]]:
        if bucket not in FIXED_KEYS:
            yield from self.range(bucket, start, end)
            return
        for pair in pairs_from(self._txn, self._dbs[bucket], start):
            if end is not None and pair[0] >= end:
                return
            yield pair
