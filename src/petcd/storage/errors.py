"""What can be wrong with files: one small family, never sent over the wire.

``StorageError`` is what a caller catches. Below it a class says which of four things happened, since they
call for different acts: the bytes are damaged (``CorruptError``; an operator must restore), the write did not
get through (``WriteFailed``; the member must stop or wait for room), somebody else holds the files
(``LockedError``), or these files are not for this program (``IncompatibleError``).
"""

from __future__ import annotations

import errno


class StorageError(Exception):
    """Something about the member's files; the message names the file and is written for an operator."""


class CorruptError(StorageError):
    """Bytes on disk are not what was written there; no repair is safe."""

    def __init__(self, path: str, reason: str, offset: int | None = None) -> None:
        self.path = path
        self.reason = reason
        self.offset = offset
        where = path if offset is None else f"{path} at offset {offset}"
        super().__init__(f"{where}: {reason}")


class UnrecognizedError(CorruptError):
    """The file does not even begin as one of its kind."""


class TornError(CorruptError):
    """The file ends inside a record, as after a crash while writing: the one damage that is repaired."""


class CrcMismatch(CorruptError):
    """A record's checksum does not fit, and no sector of it is empty: not a torn write."""


class IndexGapError(CorruptError):
    """An entry's index leaves a hole behind the entries before it."""


class MetadataConflict(CorruptError):
    """Two segments of one log carry different member or cluster ids."""


class SnapshotMismatch(CorruptError):
    """The log holds a snapshot record of the wanted index with another term."""


class SnapshotNotFound(StorageError):
    """No snapshot record, or no readable snapshot file, is the wanted one."""


class WalNotFound(StorageError):
    """No segment of the log reaches back to the wanted index."""


class LockedError(StorageError):
    """Another process, or another member of this one, holds these files."""


class IncompatibleError(StorageError):
    """The files are sound and not for this program."""


class FutureVersionError(IncompatibleError):
    """Written by a release newer than this one."""


class WrittenByGoError(IncompatibleError):
    """A data directory of Go etcd, whose backend is a bbolt file."""


class WriteFailed(StorageError):
    """The operating system refused a write, a sync or a rename; the cause is chained."""


class DiskFullError(WriteFailed):
    """No room left on the device, or the quota of the file system is spent."""


class NotWritableError(WriteFailed):
    """A read-only file system, or missing permissions."""


class ClosedError(StorageError):
    """The log or backend was closed, or gave up after a failed write; nothing more is written through it."""


def write_failed(path: str, act: str, error: OSError) -> WriteFailed:
    """The typed error for an OSError met while doing ``act`` to ``path``; raise it ``from`` the error."""
    words = f"{path}: cannot {act}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(words)
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return NotWritableError(words)
    return WriteFailed(words)
