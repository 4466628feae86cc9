"""A revision is its backend key: bytes whose order is the order of revisions.

8-byte big-endian main, ``_``, 8-byte big-endian sub; a tombstone has a trailing ``t`` (contract/disk.md 5.1).
Within one main the subs count the changes of that transaction, so a tombstone's extra byte never decides an
order. Because the bytes serve as index entry, buffer key and backend key, nothing is packed or unpacked
on the way of a put or a get.
"""

from __future__ import annotations

from typing import Final

PLAIN_BYTES: Final = 17
"""Length of the revision of a put."""
TOMBSTONE_BYTES: Final = 18
"""Length of the revision of a deletion."""

FIRST_SUB: Final = b"_" + bytes(8)
"""What follows the main revision in the first change of a transaction."""

MAIN_MAX: Final = 2**63 - 1


def make(main: int, sub: int, *, tombstone: bool = False) -> bytes:
    """The backend key of change number ``sub`` of revision ``main``."""
    rev = main.to_bytes(8, "big") + b"_" + sub.to_bytes(8, "big")
    return rev + b"t" if tombstone else rev


def main_of(rev: bytes) -> int:
    return int.from_bytes(rev[:8], "big")


def sub_of(rev: bytes) -> int:
    return int.from_bytes(rev[9:17], "big")


def bound(main: int) -> bytes:
    """Bytes above every revision with this main or a lower one, and below all others; ``main`` >= -1."""
    return (main + 1).to_bytes(8, "big")
