"""backup: a stopped member's data as a member of its own (contract cli section 5.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from petcd.cli.etcdctl.grammar import boolean, string
from petcd.cli.etcdutl.commands import Tool
from petcd.cli.etcdutl.files import fail, os_text

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context


def _backup(context: Context) -> None:
    from random import SystemRandom

    from petcd.cli.etcdutl import datadir
    from petcd.cli.etcdutl.files import DISK, database
    from petcd.cli.etcdutl.snapshot import logger
    from petcd.server.backup import BackupPaths, back_up

    flags = context.flags
    data_dir: str = flags["data-dir"].rstrip("/")
    snap = datadir.snap_dir(data_dir)
    wal = flags["wal-dir"].rstrip("/") or f"{data_dir}/member/wal"
    paths = BackupPaths(snap, wal, flags["backup-dir"].rstrip("/"), flags["backup-wal-dir"].rstrip("/"))
    for path in (snap, wal):
        if not DISK.is_dir(path):
            fail(f"open {path}: no such file or directory")
    path = datadir.our_database(data_dir) or datadir.go_database(data_dir)
    try:
        with database(path, flags["timeout"]) as (_, found):
            back_up(DISK, SystemRandom(), found, paths, with_v3=flags["with-v3"], logger=logger())
    except OSError as error:
        fail(os_text("open", str(error.filename or path), error))


COMMANDS: Final = {
    "backup": Tool(
        _backup,
        "backup --data-dir=... --backup-dir={output}",
        (
            string("data-dir", "path of the data directory of a stopped member"),
            string("wal-dir", "path of its write-ahead log, when that has a directory of its own"),
            string("backup-dir", "path of the directory to be made"),
            string("backup-wal-dir", "path of its write-ahead log, when that is to have one of its own"),
            boolean("with-v3", "copy the keys, too", default=True),
        ),
        "Backs up the data of a stopped member. The copy is started with --force-new-cluster.",
        required=("data-dir", "backup-dir"),
    ),
}
