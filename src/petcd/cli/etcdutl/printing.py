"""The two results that have output formats: a file's status and its hash (contract cli 5.2, 5.4)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from petcd.cli.etcdctl.commands import BAD_FEATURE, Exit, write
from petcd.cli.etcdctl.golang import size

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context
    from petcd.mvcc.filehash import FileStatus
    from petcd.mvcc.hashing import KVHash

_FORMATS: Final = ("simple", "json", "fields", "table", "protobuf")


class Cell:
    """One value: its names, and its texts for people and for programs."""

    __slots__ = ("field", "head", "json", "plain", "shown")

    def __init__(self, json: str, field: str, head: str, shown: str, plain: str) -> None:
        self.json = json
        self.field = field
        self.head = head
        self.shown = shown
        self.plain = plain


def check_format(context: Context) -> str:
    """The format asked for; refuses one that does not exist, before any work is done."""
    name: str = context.flags["write-out"]
    if name not in _FORMATS:
        raise Exit(BAD_FEATURE, "unsupported output format")
    return name


def show(name: str, cells: list[Cell]) -> None:
    """One row in the format ``name``."""
    if name == "protobuf":
        raise Exit(BAD_FEATURE, "protobuf not supported as output format")
    if name == "simple":
        write(", ".join(cell.shown for cell in cells) + "\n")
    elif name == "json":
        from petcd.cli.etcdctl.printers.json import string

        pairs = ",".join(
            f'"{cell.json}":{cell.plain if cell.plain.lstrip("-").isdigit() else string(cell.plain)}'
            for cell in cells
        )
        write("{" + pairs + "}\n")
    elif name == "fields":
        write("".join(f'"{cell.field}" : {cell.plain}\n' for cell in cells))
    else:
        from petcd.cli.etcdctl.printers.table import render

        ascii_only = os.environ.get("PETCDCTL_TABLES") == "ascii"
        write(render([cell.head for cell in cells], [[cell.shown for cell in cells]], ascii_only=ascii_only))


def status_cells(status: FileStatus, *, since_36: bool) -> list[Cell]:
    """Up to 3.5 records are counted instead of keys, and there is no version."""
    total = status.live_keys if since_36 else status.records
    cells = [
        Cell("hash", "Hash", "hash", f"{status.hash:x}", str(status.hash)),
        Cell("revision", "Revision", "revision", str(status.revision), str(status.revision)),
        Cell("totalKey", "Keys", "total keys", str(total), str(total)),
        Cell("totalSize", "Size", "total size", size(status.size_bytes), str(status.size_bytes)),
    ]
    if since_36:
        cells.append(Cell("version", "Version", "version", status.version, status.version))
    return cells


def hash_cells(found: KVHash) -> list[Cell]:
    rows = (
        ("hash", "Hash", "hash", found.hash),
        ("hashRevision", "Hash revision", "hash revision", found.revision),
        ("compactRevision", "Compact revision", "compact revision", found.compact_revision),
    )
    return [Cell(json, field, head, str(value), str(value)) for json, field, head, value in rows]
