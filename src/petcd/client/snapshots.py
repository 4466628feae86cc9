"""A snapshot's stream into a file, checked on the way."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from petcd.pb.etcdserverpb.maintenance import SnapshotResponse

_WRITE_BYTES: Final = 4 << 20
_CHECKSUM_BYTES: Final = hashlib.sha256().digest_size


class SnapshotDamaged(Exception):
    """The file that came does not match the checksum at its end."""


@dataclass(frozen=True, slots=True)
class SnapshotProgress:
    """How far a snapshot has come, in bytes."""

    received: int
    total: int
    """As the server tells now; the checksum at the end may come on top."""


@dataclass(frozen=True, slots=True)
class SavedSnapshot:
    """A snapshot's file."""

    path: Path
    size: int
    """Bytes, with the 32 of the checksum."""
    version: str
    """Of the server's storage, since 3.6; empty before."""


class _Checked:
    """Hashes all but the last 32 bytes of what passes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._held = b""

    def write(self, data: bytes) -> None:
        self._file.write(data)
        data = self._held + data
        self._hash.update(memoryview(data)[: max(0, len(data) - _CHECKSUM_BYTES)])
        self._held = data[-_CHECKSUM_BYTES:]

    def finish(self) -> None:
        if self._held != self._hash.digest():
            raise SnapshotDamaged("the snapshot does not match its checksum")
        self._file.flush()
        os.fsync(self._file.fileno())


async def save(
    pieces: AsyncGenerator[SnapshotResponse, None],
    path: Path,
    progress: Callable[[SnapshotProgress], object] | None,
) -> SavedSnapshot:
    """Write what comes to ``path``; the disk's work is done beside the loop. Raises SnapshotDamaged."""
    part = path.with_name(path.name + ".part")
    size, version = 0, ""
    waiting: list[bytes] = []
    waiting_bytes = 0
    try:
        with await asyncio.to_thread(part.open, "wb") as file:
            checked = _Checked(file)
            async with aclosing(pieces):
                async for piece in pieces:
                    size += len(piece.blob)
                    version = piece.version or version
                    waiting.append(piece.blob)
                    waiting_bytes += len(piece.blob)
                    if waiting_bytes >= _WRITE_BYTES:
                        await asyncio.to_thread(checked.write, b"".join(waiting))
                        waiting, waiting_bytes = [], 0
                    if progress is not None:
                        progress(SnapshotProgress(size, size + piece.remaining_bytes))
            await asyncio.to_thread(checked.write, b"".join(waiting))
            await asyncio.to_thread(checked.finish)
        await asyncio.to_thread(part.replace, path)
        await asyncio.to_thread(_sync_directory, path.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return SavedSnapshot(path, size, version)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
