"""Keys and ranges: how they are written, and how a namespace turns relative ones into absolute ones."""

from __future__ import annotations

from typing import Final, Protocol

from petcd.errors import EmptyKey

Key = bytes | str
Value = bytes | str

EVERYTHING: Final = b"\0"
"""As a range end: no end. As key and end together: all keys."""


class HasLease(Protocol):
    """What may stand where a lease's id is wanted."""

    @property
    def id(self) -> int: ...


def to_bytes(text: Key | Value) -> bytes:
    return text.encode() if isinstance(text, str) else text


def lease_id(lease: int | HasLease) -> int:
    return lease if isinstance(lease, int) else lease.id


def prefix_end(prefix: bytes) -> bytes:
    """The end of the range of keys that start with ``prefix``."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else EVERYTHING


def key_range(key: Key, end: Key | None, *, prefix: bool, from_key: bool) -> tuple[bytes, bytes]:
    """Key and range end as the wire wants them. At most one of ``end``, ``prefix`` and ``from_key``."""
    if end is None and not prefix and not from_key:
        return to_bytes(key), b""
    if (end is not None) + prefix + from_key > 1:
        raise ValueError("end, prefix and from_key exclude each other")
    first = to_bytes(key)
    if prefix:
        return (first, prefix_end(first)) if first else (EVERYTHING, EVERYTHING)
    if from_key:
        return first or EVERYTHING, EVERYTHING
    return first, to_bytes(end) if end is not None else b""


def absolute(namespace: bytes, key: bytes, end: bytes) -> tuple[bytes, bytes]:
    """A range of a namespace as one of the store: "no end" becomes the namespace's own end.

    The key that is the namespace's prefix itself is no member: its relative name would be empty, which etcd
    does not allow. Raises EmptyKey, as the server would without a namespace.
    """
    if not namespace:
        return key, end
    if not key:
        raise EmptyKey
    if not end:
        return namespace + key, b""
    return namespace + key, prefix_end(namespace) if end == EVERYTHING else namespace + end
