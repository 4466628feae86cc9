"""Ids: of members, of clusters and of requests.

Source: contract disk section 10 (members, clusters), wire-v3 section 1.2 (requests).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

_LOW_48: int = (1 << 48) - 1


def _first_eight(text: bytes) -> int:
    return int.from_bytes(hashlib.sha1(text, usedforsecurity=False).digest()[:8], "big")


def member_id(peer_urls: Iterable[str], token: str, unix_seconds: int | None = None) -> int:
    """The id of a member: of a bootstrap when ``unix_seconds`` is None, else of one added at that time."""
    text = "".join(sorted(peer_urls)) + token
    if unix_seconds is not None:
        text += str(unix_seconds)
    return _first_eight(text.encode())


def cluster_id(member_ids: Iterable[int]) -> int:
    return _first_eight(b"".join(one.to_bytes(8, "big") for one in sorted(member_ids)))


class RequestIds:
    """Ids that no other member, and no earlier life of this one, gives out.

    The top 16 bits are the member's, the next 40 the milliseconds of the start, the low 8 a counter; the
    lower 48 bits grow as one number.
    """

    __slots__ = ("_low", "_prefix")

    def __init__(self, member: int, wall_ns: int) -> None:
        self._prefix = (member & 0xFFFF) << 48
        self._low = (wall_ns // 1_000_000 & (1 << 40) - 1) << 8

    def next(self) -> int:
        self._low = low = (self._low + 1) & _LOW_48
        return self._prefix | low


def hex_id(number: int) -> str:
    """As etcd prints ids in names and logs: lower-case hexadecimal without padding."""
    return f"{number:x}"
