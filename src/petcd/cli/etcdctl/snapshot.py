"""snapshot save: a member's backend as a file (contract cli section 3.15).

snapshot status and restore moved to etcdutl; here they still run as in 3.5, after a word about that.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from petcd.cli.etcdctl import methods
from petcd.cli.etcdctl.commands import BAD_CONNECTION, INTERRUPTED, Exit, Leaf, bad_args, complain, write
from petcd.cli.etcdctl.session import CallFailed
from petcd.cli.etcdutl.snapshot import RESTORE_FLAGS
from petcd.cli.progress import Bar
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
    try:
        session = context.session if explicit else context.timeless()
    except Exit as refused:
        # To log in is a part of saving.
        status = INTERRUPTED if refused.status == BAD_CONNECTION else refused.status
        raise Exit(status, refused.message) from None
    part = path.with_name(path.name + ".part")
    try:
        number = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise Exit(INTERRUPTED, f"could not open {part} (open {part}: {reason})") from None
    size, version = 0, ""
    bar = Bar()
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
                bar("saving", size, size + piece.remaining_bytes)
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
    finally:
        bar.close()
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


def _deprecated(name: str) -> None:
    complain(f"Deprecated: Use `etcdutl snapshot {name}` instead.\n")


def _status(context: Context) -> None:
    from petcd.cli.etcdutl.snapshot import show_status

    _deprecated("status")
    context.settle()
    show_status(context, since_36=False)


def _restore(context: Context) -> None:
    from petcd.cli.etcdutl.snapshot import restore

    _deprecated("restore")
    restore(context)


COMMANDS: Final = {
    "snapshot save": Leaf(
        _save, "save <filename>", (), "Stores an etcd node backend snapshot to a given file"
    ),
    "snapshot status": Leaf(
        _status, "status <filename>", (), "Gets backend snapshot status of a given file (use etcdutl)"
    ),
    "snapshot restore": Leaf(
        _restore,
        "restore <filename> --data-dir {output dir} [options]",
        RESTORE_FLAGS,
        "Restores an etcd member snapshot to an etcd directory (use etcdutl)",
    ),
}
