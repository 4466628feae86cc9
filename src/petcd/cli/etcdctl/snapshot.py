"""snapshot save: a member's backend as a file (contract cli section 3.15)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from petcd.cli.etcdctl import methods
from petcd.cli.etcdctl.commands import INTERRUPTED, Exit, Leaf, bad_args, write
from petcd.cli.etcdctl.session import CallFailed
from petcd.pb.etcdserverpb import maintenance as pb

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context

_CHECKSUM_BYTES: Final = 32
_SECTOR_BYTES: Final = 512


def _save(context: Context) -> None:
    if len(context.arguments) != 1:
        bad_args("snapshot save expects one argument <filename>")
    path = Path(context.arguments[0])
    context.settle()
    endpoints = context.endpoints()
    if len(endpoints) != 1:
        shown = " ".join(endpoints)
        raise Exit(INTERRUPTED, f"snapshot must be requested to one selected node, not multiple [{shown}]")
    explicit = "command-timeout" in context.flags.changed
    session = context.session if explicit else context.timeless()
    part = path.with_name(path.name + ".part")
    try:
        number = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise Exit(INTERRUPTED, f"could not open {part} (open {part}: {reason})") from None
    size, version = 0, ""
    try:
        with os.fdopen(number, "wb") as file:
            stream = session.stream(methods.SNAPSHOT, deadline=session.deadline)
            stream.send(pb.SnapshotRequest().encode())
            stream.half_close()
            while (message := stream.receive()) is not None:
                piece = pb.SnapshotResponse.decode(message)
                file.write(piece.blob)
                size += len(piece.blob)
                version = piece.version or version
            if size % _SECTOR_BYTES != _CHECKSUM_BYTES:
                raise Exit(INTERRUPTED, f"sha256 checksum not found [bytes: {size}]")
            file.flush()
            os.fsync(file.fileno())
    except CallFailed as failure:
        part.unlink(missing_ok=True)
        raise Exit(INTERRUPTED, failure.message) from None
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    try:
        part.rename(path)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise Exit(
            INTERRUPTED, f"could not rename {part} to {path} (rename {part} {path}: {reason})"
        ) from None
    write(f"Snapshot saved at {path}\n")
    if version:
        write(f"Server version {version}\n")


COMMANDS: Final = {
    "snapshot save": Leaf(
        _save, "save <filename>", (), "Stores an etcd node backend snapshot to a given file"
    ),
}
