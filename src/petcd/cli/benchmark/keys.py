"""Keys and values as etcd's tool makes them: a varint padded with zeros, and random bytes."""

from __future__ import annotations

import os
from typing import Final

from petcd.cli.benchmark.failures import Failure

ALL: Final = b"\0"
"""As a range end: no end. As key and end together: all keys."""
_VARINT_BITS: Final = 7


def numbered(number: int, size: int) -> bytes:
    """The key of that number: a zigzag varint, as Go's ``binary.PutVarint`` writes it, and zeros."""
    left = number << 1
    out = bytearray()
    while left >= 1 << _VARINT_BITS:
        out.append(left & 0x7F | 0x80)
        left >>= _VARINT_BITS
    out.append(left)
    return bytes(out).ljust(size, b"\0")


def check_space(size: int, space: int) -> None:
    """Raises Failure when ``space`` numbers do not fit into keys of ``size`` bytes."""
    if space <= 0:
        raise Failure(f"expected positive --key-space-size, got ({space})")
    needed = len(numbered(space - 1, 0))
    if size < needed:
        raise Failure(f"--key-size {size} is too small for --key-space-size {space}: it takes {needed} bytes")


def value(size: int) -> bytes:
    return os.urandom(size)
