"""migrate: the storage version of a stopped member's database (contract cli section 5.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from petcd.cli.etcdctl.commands import ERROR, Exit, bad_args
from petcd.cli.etcdctl.golang import ParseError, parse_int, quote
from petcd.cli.etcdctl.grammar import boolean, string
from petcd.cli.etcdutl.commands import Tool

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context
    from petcd.logs import Logger
    from petcd.server.schemaversion import Version
    from petcd.storage.backend import Backend, View
    from petcd.storage.bbolt.writer import Overrides
    from petcd.storage.wal import WalEntry


def _migrate(context: Context) -> None:
    from petcd.cli.etcdutl import datadir
    from petcd.cli.etcdutl.files import check_exists
    from petcd.cli.etcdutl.snapshot import logger
    from petcd.storage.schema import META, STORAGE_VERSION, TERM

    flags = context.flags
    data_dir: str = flags["data-dir"].rstrip("/")
    timeout: int = flags["timeout"]
    target = _target(flags["target-version"])
    log = logger()

    def plan(found: Backend | View) -> tuple[bytes | None] | None:
        # Under the lock: the member may have stopped a moment ago, after writing more.
        values = found.get(META, STORAGE_VERSION), found.get(META, TERM)
        return _plan(values, target, _entries(data_dir), log, force=flags["force"])

    if datadir.our_database(data_dir):
        with datadir.our_backend(data_dir, timeout) as backend:
            change = plan(backend)
            if change is None:
                return
            if change[0]:
                backend.put(META, STORAGE_VERSION, change[0])
            else:
                backend.delete(META, STORAGE_VERSION)
            backend.flush(lambda: None)
        return

    def overrides(found: View) -> Overrides | None:
        change = plan(found)
        return None if change is None else {(META, STORAGE_VERSION): change[0]}

    path = datadir.go_database(data_dir)
    check_exists(path)
    datadir.rewrite_go_database(path, timeout, choose=overrides)


def _target(text: str) -> Version:
    from petcd.server.schemaversion import OLDEST, Version

    if text.count(".") != 1:
        bad_args(f'wrong target version format, expected "X.Y", got {quote(text)}')
    try:
        target = Version(*map(parse_int, text.split(".")))
    except ParseError as error:
        bad_args(f"failed to parse target version: {error}")
    if target < OLDEST:
        shown = quote(f"{target.major}.{target.minor}")
        bad_args(f'target version {shown} not supported. Minimal "{OLDEST.major}.{OLDEST.minor}"')
    return target


def _entries(data_dir: str) -> list[WalEntry]:
    """What the log holds behind the newest snapshot."""
    from petcd.cli.etcdutl.files import DISK
    from petcd.server.backup import newest_snapshot
    from petcd.storage.wal import read_log

    wal_dir = f"{data_dir}/member/wal"
    newest = newest_snapshot(DISK, f"{data_dir}/member/snap", wal_dir)
    return read_log(DISK, wal_dir, newest).entries


def _plan(
    values: tuple[bytes | None, bytes | None],
    target: Version,
    entries: list[WalEntry],
    log: Logger,
    *,
    force: bool,
) -> tuple[bytes | None] | None:
    """The storage version to be written (None in it: to be removed), None when nothing is to be done."""
    from petcd.server.schemaversion import MigrationError, check, detect, is_known, stored

    try:
        current = detect(*values)
    except MigrationError as error:
        log.error(
            "failed to detect storage version. "
            "Please make sure you are using data dir from etcd v3.5 and older"
        )
        raise Exit(ERROR, str(error)) from None
    if current == target:
        log.info("storage version up-to-date", **{"storage-version": str(current)})
        return None
    version = stored(target)
    try:
        check(current, target, entries)
    except MigrationError as error:
        if not force or not is_known(target):
            raise Exit(ERROR, str(error)) from None
        log.info("normal migrate failed, trying with force", error=str(error))
        if version is None:
            log.warn("forcefully cleared storage version")
        else:
            log.warn("forcefully set storage version", **{"storage-version": str(target)})
    else:
        log.info("updated storage version", **{"new-storage-version": str(target)})
    return (version,)


COMMANDS: Final = {
    "migrate": Tool(
        _migrate,
        "migrate",
        (
            string("data-dir", "path of the data directory of a stopped member"),
            string("target-version", 'version to migrate to, in the form "X.Y"; 3.5 is the oldest'),
            boolean("force", "write the version even where the migration is not safe"),
        ),
        "Migrates the storage schema of a stopped member to another version.",
        required=("data-dir", "target-version"),
    ),
}
