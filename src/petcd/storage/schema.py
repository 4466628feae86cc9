"""The buckets of a member's backend, their well-known keys and values: the schema of Go etcd 3.7.

Sizes and byte orders follow contract/disk.md section 5; a value written here and one written by Go under the
same key are the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, NewType, Protocol

from petcd.storage.errors import CorruptError, FutureVersionError, IncompatibleError

Bucket = NewType("Bucket", bytes)
"""A bucket's name; compare and hash by it."""

ALARM: Final = Bucket(b"alarm")
AUTH: Final = Bucket(b"auth")
AUTH_ROLES: Final = Bucket(b"authRoles")
AUTH_USERS: Final = Bucket(b"authUsers")
CLUSTER: Final = Bucket(b"cluster")
KEY: Final = Bucket(b"key")
LEASE: Final = Bucket(b"lease")
MEMBERS: Final = Bucket(b"members")
MEMBERS_REMOVED: Final = Bucket(b"members_removed")
META: Final = Bucket(b"meta")

BUCKETS: Final = (
    ALARM,
    AUTH,
    AUTH_ROLES,
    AUTH_USERS,
    CLUSTER,
    KEY,
    LEASE,
    MEMBERS,
    MEMBERS_REMOVED,
    META,
)
"""All of them, in the order of their names: hashes and copies walk them so."""

FIXED_KEYS: Final = frozenset({KEY, LEASE, META})
"""Buckets whose keys are short by construction; elsewhere a key may be as long as a user's name."""

# meta
CONSISTENT_INDEX: Final = b"consistent_index"
TERM: Final = b"term"
CONF_STATE: Final = b"confState"
STORAGE_VERSION: Final = b"storageVersion"
SCHEDULED_COMPACT_REV: Final = b"scheduledCompactRev"
FINISHED_COMPACT_REV: Final = b"finishedCompactRev"

# cluster
CLUSTER_VERSION: Final = b"clusterVersion"
DOWNGRADE: Final = b"downgrade"

# auth
AUTH_ENABLED: Final = b"authEnabled"
AUTH_REVISION: Final = b"authRevision"

REMOVED: Final = b"removed"
"""The value in ``members_removed``."""

NEWEST_VERSION: Final = (3, 7)
"""Highest ``storageVersion`` this program understands."""


class ConfStateLike(Protocol):
    """The fields of a configuration, whoever's class it is."""

    @property
    def voters(self) -> Sequence[int]: ...
    @property
    def learners(self) -> Sequence[int]: ...
    @property
    def voters_outgoing(self) -> Sequence[int]: ...
    @property
    def learners_next(self) -> Sequence[int]: ...
    @property
    def auto_leave(self) -> bool: ...


def encode_u64(number: int) -> bytes:
    """Eight bytes, big-endian: indexes, terms, the auth revision, lease ids."""
    return number.to_bytes(8, "big")


def decode_u64(value: bytes) -> int:
    """Raises: CorruptError when it is not eight bytes."""
    if len(value) != 8:
        raise CorruptError("backend", f"a number of {len(value)} bytes")
    return int.from_bytes(value, "big")


def lease_key(lease_id: int) -> bytes:
    """The key in ``lease``: the id as an unsigned 64-bit number, big-endian."""
    return (lease_id & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(8, "big")


def decode_lease_key(key: bytes) -> int:
    """The lease id, signed as on the wire."""
    return int.from_bytes(key, "big", signed=True)


def encode_compact_rev(rev: int) -> bytes:
    """The value of both compaction marks: a revision with sub 0."""
    return rev.to_bytes(8, "big") + b"_\x00\x00\x00\x00\x00\x00\x00\x00"


def decode_compact_rev(value: bytes | None) -> int:
    """The main revision of a compaction mark; 0 when there is none. Raises: CorruptError."""
    if value is None:
        return 0
    if len(value) != 17 or value[8:9] != b"_":
        raise CorruptError("backend", f"a compaction mark of {len(value)} bytes")
    return int.from_bytes(value[:8], "big")


def encode_conf_state(conf: ConfStateLike) -> bytes:
    """``meta/confState``: Go's JSON of raftpb.ConfState, empty lists left out."""
    shape: dict[str, Any] = {}
    for name in ("voters", "learners", "voters_outgoing", "learners_next"):
        ids = list(getattr(conf, name))
        if ids:
            shape[name] = ids
    shape["auto_leave"] = bool(conf.auto_leave)
    return _json(shape)


def decode_conf_state(value: bytes) -> dict[str, Any]:
    """The fields of ``meta/confState`` with their defaults, fit as keywords. Raises: CorruptError."""
    shape = _parse(value, "meta/confState")
    return {
        "voters": list(shape.get("voters") or ()),
        "learners": list(shape.get("learners") or ()),
        "voters_outgoing": list(shape.get("voters_outgoing") or ()),
        "learners_next": list(shape.get("learners_next") or ()),
        "auto_leave": bool(shape.get("auto_leave")),
    }


def member_key(member_id: int) -> bytes:
    """The key in ``members`` and ``members_removed``: hexadecimal without leading zeros."""
    return b"%x" % member_id


def encode_member(
    member_id: int,
    peer_urls: Sequence[str],
    *,
    is_learner: bool = False,
    name: str = "",
    client_urls: Sequence[str] = (),
) -> bytes:
    """The value in ``members``: Go's JSON, empty fields left out."""
    shape: dict[str, Any] = {"id": member_id, "peerURLs": list(peer_urls)}
    if is_learner:
        shape["isLearner"] = True
    if name:
        shape["name"] = name
    if client_urls:
        shape["clientURLs"] = list(client_urls)
    return _json(shape)


def decode_member(value: bytes) -> dict[str, Any]:
    """id, peerURLs, isLearner, name, clientURLs, with defaults. Raises: CorruptError."""
    shape = _parse(value, "a value in members")
    if not isinstance(shape.get("id"), int):
        raise CorruptError("backend", "a member without an id")
    return {
        "id": shape["id"],
        "peerURLs": list(shape.get("peerURLs") or ()),
        "isLearner": bool(shape.get("isLearner")),
        "name": str(shape.get("name") or ""),
        "clientURLs": list(shape.get("clientURLs") or ()),
    }


def check_storage_version(path: str, value: bytes | None) -> tuple[int, int] | None:
    """The release whose schema the file has, None when it does not say (up to 3.5).

    Raises: FutureVersionError, CorruptError.
    """
    if value is None:
        return None
    try:
        major, minor = (int(part) for part in value.split(b".")[:2])
    except ValueError as error:
        raise CorruptError(path, f"storage version {value!r} is not a version") from error
    if (major, minor) > NEWEST_VERSION:
        newest = "{}.{}".format(*NEWEST_VERSION)
        raise FutureVersionError(
            f"{path}: written by etcd {major}.{minor}, which is newer than the {newest} this program "
            "understands; downgrade the cluster first, or start it with that release"
        )
    return major, minor


def refuse_auth(path: str, enabled: bytes | None) -> None:
    """``enabled`` is the value of ``AUTH_ENABLED``. Raises: IncompatibleError when it says so."""
    if enabled == b"\x01":
        raise IncompatibleError(
            f"{path}: authentication is enabled, and this release of petcd has none: whoever reached it "
            "could read and write everything. Disable it with Go etcd first (etcdctl auth disable)"
        )


def _json(shape: dict[str, Any]) -> bytes:
    # Go's encoder escapes these three; nothing else differs for our values.
    text = json.dumps(shape, separators=(",", ":"), ensure_ascii=False)
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode()


def _parse(value: bytes, what: str) -> dict[str, Any]:
    try:
        shape = json.loads(value)
    except ValueError as error:
        raise CorruptError("backend", f"{what} is not JSON") from error
    if not isinstance(shape, dict):
        raise CorruptError("backend", f"{what} is not a JSON object")
    return shape
