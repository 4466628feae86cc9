"""The storage version of a database at rest, and what stands in the way of another (contract disk 12).

A release refuses a database of a newer one, so before an older release is installed the version in the
database is lowered; the log must then hold nothing that the older release would not understand.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from petcd.pb.etcdserverpb import InternalRaftRequest
from petcd.pb.wire import DecodeError
from petcd.raft import ENTRY_CONF_CHANGE, ENTRY_NORMAL
from petcd.storage import schema
from petcd.storage.wal import WalEntry


class Version(NamedTuple):
    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.0"


OLDEST: Final = Version(3, 5)
"""Of those that a database can be migrated to."""
_FIRST_NAMED: Final = Version(3, 6)
"""The first that databases name; before, only terms beside consistent indexes give 3.5 away."""
_NEWEST: Final = Version(*schema.NEWEST_VERSION)


class MigrationError(Exception):
    """``str()`` is etcd's text."""


def detect(storage_version: bytes | None, term: bytes | None) -> Version:
    """The version of a database by two values of ``meta``. Raises: MigrationError, StorageError."""
    found = schema.check_storage_version("backend", storage_version)
    if found is not None:
        return Version(*found)
    if term is None or not schema.decode_u64(term):
        raise MigrationError("missing term information")
    return OLDEST


def check(current: Version, target: Version, entries: Iterable[WalEntry]) -> None:
    """Whether a database can go from one version to another; ``entries`` are those behind its snapshot.

    Raises: MigrationError.
    """
    if current.major != target.major:
        raise MigrationError("changing major storage version is not supported")
    if not is_known(target):
        raise MigrationError(f'version "{Version(_NEWEST.major, _NEWEST.minor + 1)}" is not supported')
    if target < current:
        needed = max((_needed(entry) for entry in entries), default=target)
        if needed > target:
            raise MigrationError(
                f"cannot downgrade storage, WAL contains newer entries, as the target version ({target}) "
                f"is lower than the version ({needed}) detected from WAL logs"
            )


def is_known(target: Version) -> bool:
    """Whether this program could open a database of that version."""
    return target <= _NEWEST


def stored(target: Version) -> bytes | None:
    """What the database names as its version; None: nothing."""
    return str(target).encode() if target >= _FIRST_NAMED else None


_NEEDED: Final = {
    "lease_checkpoint": Version(3, 4),
    "auth_status": Version(3, 5),
    "cluster_version_set": Version(3, 5),
    "cluster_member_attr_set": Version(3, 5),
    "downgrade_info_set": Version(3, 5),
}
_ANY: Final = Version(3, 0)


def _needed(entry: WalEntry) -> Version:
    """The oldest release that understands an entry."""
    if entry.type != ENTRY_NORMAL:
        return _ANY if entry.type == ENTRY_CONF_CHANGE else Version(3, 4)
    try:
        request = InternalRaftRequest.decode(entry.data)
    except DecodeError:
        return _ANY  # a request of the v2 store
    if request.downgrade_version_test is not None:
        major, _, minor = request.downgrade_version_test.ver.partition(".")
        minor = minor.partition(".")[0]
        named = Version(int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else _FIRST_NAMED
        return max(named, _FIRST_NAMED)
    return max(
        (version for name, version in _NEEDED.items() if getattr(request, name) is not None), default=_ANY
    )
