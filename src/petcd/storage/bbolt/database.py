"""A bbolt file as a member's database: whether it is one, what it says of itself, what is in it.

Buckets of other names than etcd's ten are left out of what is read: no release that this program exchanges
files with has any, nothing here could serve them, and a server given such a file ignores them as well.
``DatabaseInfo.unknown`` names them, for a log line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from petcd.seams.disk import File
from petcd.storage.backend import Item
from petcd.storage.bbolt.reader import BboltFile
from petcd.storage.errors import CorruptError
from petcd.storage.schema import (
    CLUSTER,
    CLUSTER_VERSION,
    CONF_STATE,
    CONSISTENT_INDEX,
    FINISHED_COMPACT_REV,
    KEY,
    META,
    SCHEDULED_COMPACT_REV,
    STORAGE_VERSION,
    TERM,
    Bucket,
    check_storage_version,
    decode_compact_rev,
    decode_conf_state,
)

_REVISION_BYTES: Final = (17, 18)


@dataclass(frozen=True, slots=True)
class DatabaseInfo:
    """What a database says of itself."""

    size_bytes: int
    """Up to the high-water mark; the file may be longer."""
    page_bytes: int
    transaction: int
    buckets: tuple[Bucket, ...]
    unknown: tuple[bytes, ...]
    """Names of buckets that are not etcd's and are left out; not all, when there are many."""
    consistent_index: int
    """0 when it has none, as a file made by hand."""
    term: int
    """0 when it has none: written by 3.4."""
    conf_state: dict[str, Any] | None
    """Fit as keywords; None when it has none: written by 3.4."""
    storage_version: str
    """Empty when it has none: of a cluster up to 3.5."""
    cluster_version: str
    revision: int
    """The greatest in ``key``, or of a compaction."""
    compact_revision: int
    """Of the newest compaction begun."""
    keys: int | None
    """Pairs in all buckets; counted by a full check only."""


def check_database(file: File, *, every_page: bool = False) -> DatabaseInfo:
    """Look whether ``file`` is a whole database that this program understands.

    Reads some pages only: the metas, the bucket of buckets, the paths to the marks. ``every_page`` visits
    all: each is in use once or free, and the keys ascend.

    Raises: CorruptError, FutureVersionError.
    """
    database = BboltFile(file)
    if META not in database.buckets or KEY not in database.buckets:
        raise CorruptError(file.path, "not a member's database: it has no bucket meta or no bucket key")
    path = file.path
    storage_version = database.get(META, STORAGE_VERSION)
    check_storage_version(path, storage_version)
    conf_state = database.get(META, CONF_STATE)
    compact_revision = max(
        decode_compact_rev(database.get(META, SCHEDULED_COMPACT_REV)),
        decode_compact_rev(database.get(META, FINISHED_COMPACT_REV)),
    )
    last = database.last_key(KEY)
    if last is not None and (len(last) not in _REVISION_BYTES or last[8:9] != b"_"):
        raise CorruptError(path, f"a key of {len(last)} bytes in bucket key is no revision")
    revision = int.from_bytes(last[:8], "big") if last is not None else 1
    keys = database.verify().keys if every_page else None
    return DatabaseInfo(
        size_bytes=database.size_bytes,
        page_bytes=database.meta.page_bytes,
        transaction=database.meta.transaction,
        buckets=database.buckets,
        unknown=tuple(database.unknown),
        consistent_index=_number(path, database, CONSISTENT_INDEX),
        term=_number(path, database, TERM),
        conf_state=None if conf_state is None else _conf_state(path, conf_state),
        storage_version=_text(path, storage_version),
        cluster_version=_text(path, database.get(CLUSTER, CLUSTER_VERSION)),
        revision=max(revision, compact_revision, 1),
        compact_revision=compact_revision,
        keys=keys,
    )


def read_database(file: File) -> Iterator[Item]:
    """Everything in etcd's buckets, bucket by bucket in the order of their names, in key order.

    Raises: CorruptError, possibly after a part was read.
    """
    database = BboltFile(file)
    for bucket in database.buckets:
        for key, value in database.iterate(bucket):
            yield bucket, key, value


def _number(path: str, database: BboltFile, key: bytes) -> int:
    value = database.get(META, key)
    if value is None:
        return 0
    if len(value) != 8:
        raise CorruptError(path, f"{key.decode()} has {len(value)} bytes")
    return int.from_bytes(value, "big")


def _conf_state(path: str, value: bytes) -> dict[str, Any]:
    try:
        shape = decode_conf_state(value)
    except (TypeError, RecursionError) as error:
        raise CorruptError(path, "confState is not a configuration") from error
    for ids in shape.values():
        if isinstance(ids, list) and not all(type(one) is int and 0 < one < 1 << 64 for one in ids):
            raise CorruptError(path, "confState is not a configuration")
    return shape


def _text(path: str, value: bytes | None) -> str:
    if value is None:
        return ""
    try:
        return value.decode("ascii")
    except UnicodeDecodeError as error:
        raise CorruptError(path, f"{value!r} is not a version") from error
