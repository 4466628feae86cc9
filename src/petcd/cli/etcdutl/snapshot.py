"""snapshot status and restore (contract cli sections 5.2, 5.3); etcdctl's older forms go through here too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from petcd.cli.etcdctl.commands import bad_args
from petcd.cli.etcdctl.grammar import Flag, boolean, string, unsigned
from petcd.cli.etcdutl.commands import Tool
from petcd.cli.etcdutl.printing import check_format, show, status_cells
from petcd.cli.progress import Bar

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context
    from petcd.logs import Logger

_MAP_BYTES: Final = 10 << 30
_TIMEOUT: Final = 10 * 10**9
"""Nanoseconds that etcdctl, which has no flag for it, waits for the lock on a database."""

RESTORE_FLAGS: Final[tuple[Flag, ...]] = (
    string("data-dir", "path to the output data directory"),
    string("wal-dir", "path to the WAL directory (use --data-dir if none given)"),
    string(
        "initial-cluster",
        "initial cluster configuration for restore bootstrap",
        default="default=http://localhost:2380",
    ),
    string(
        "initial-cluster-token",
        "initial cluster token for the etcd cluster during restore bootstrap",
        default="etcd-cluster",
    ),
    string(
        "initial-advertise-peer-urls",
        "list of this member's peer URLs to advertise to the rest of the cluster",
        default="http://localhost:2380",
    ),
    string("name", "human-readable name for this member", default="default"),
    boolean(
        "skip-hash-check",
        "ignore snapshot integrity hash value (required if copied from data directory)",
    ),
    unsigned("bump-revision", "how much to increase the latest revision after restore"),
    boolean("mark-compacted", "mark the latest revision after restore as the point of scheduled compaction"),
    unsigned(
        "initial-memory-map-size",
        "accepted for compatibility; the map grows as needed",
        default=_MAP_BYTES,
    ),
)


def _status(context: Context) -> None:
    show_status(context, since_36=True)


def show_status(context: Context, *, since_36: bool) -> None:
    """``since_36`` chooses what is counted and shown: releases differ."""
    from petcd.cli.etcdutl.files import check_exists, database, fail
    from petcd.mvcc.filehash import file_status
    from petcd.storage.errors import CorruptError, StorageError

    if len(context.arguments) != 1:
        bad_args("snapshot status requires exactly one argument")
    name = check_format(context)
    path = context.arguments[0]
    check_exists(path)
    bar = Bar()
    try:
        with database(path, context.flags.values.get("timeout", _TIMEOUT)) as (_, found):
            size = found.size_bytes
            status = file_status(found, lambda done: bar("checking", done, size))
    except CorruptError as error:
        fail(f"snapshot file integrity check failed. 1 errors found.\n{error}")
    except StorageError as error:
        fail(str(error))
    finally:
        bar.close()
    show(name, status_cells(status, since_36=since_36))


def restore(context: Context) -> None:
    """Restore by the flags ``RESTORE_FLAGS``."""
    from petcd.cli.etcd.hostinfo import resolve
    from petcd.cli.etcd.settings import parse_cluster
    from petcd.cli.etcdutl.files import DISK, fail, locked_as_it_is
    from petcd.server.config import Config, ConfigError
    from petcd.server.restoring import RestoreError, RestoreOptions
    from petcd.server.restoring import restore as carry_out
    from petcd.server.url import UrlError, parse_urls
    from petcd.storage.errors import StorageError, UnrecognizedError

    if len(context.arguments) != 1:
        bad_args("snapshot restore requires exactly one argument")
    flags = context.flags
    if bool(flags["bump-revision"]) != flags["mark-compacted"]:
        bad_args("--mark-compacted required if --revision-bump > 0")
    name = flags["name"]
    bar = Bar()
    try:
        config = Config(
            name=name,
            data_dir=(flags["data-dir"] or f"{name}.etcd").rstrip("/") or "/",
            wal_dir=flags["wal-dir"].rstrip("/"),
            advertise_peer_urls=parse_urls(flags["initial-advertise-peer-urls"]),
            initial_cluster=parse_cluster(flags["initial-cluster"]),
            initial_cluster_token=flags["initial-cluster-token"],
        )
        options = RestoreOptions(flags["skip-hash-check"], flags["bump-revision"], flags["mark-compacted"])
        path, timeout = context.arguments[0], flags.values.get("timeout", _TIMEOUT)
        with locked_as_it_is(path, timeout):
            carry_out(DISK, path, config, options, logger=logger(), progress=bar, resolve=resolve)
    except (ConfigError, UrlError) as error:
        fail(str(error).removeprefix("error setting up initial cluster: "))
    except UnrecognizedError:
        fail("invalid database")
    except (RestoreError, StorageError) as error:
        fail(str(error))
    finally:
        bar.close()


def logger() -> Logger:
    """Lines on stderr in zap's console form, as etcdutl's."""
    from petcd.cli.etcd.logging import Output, write_to
    from petcd.logs import Logger

    return Logger(Output("console", [write_to(2)]))


COMMANDS: Final = {
    "snapshot status": Tool(
        _status,
        "status <filename>",
        (),
        "Shows the hash, the newest revision, the number of keys, the size and the storage version of a "
        "snapshot file.",
    ),
    "snapshot restore": Tool(
        restore,
        "restore <filename> --data-dir {output dir} [options]",
        RESTORE_FLAGS,
        "Makes the data directory of a member of a new cluster out of a snapshot file.",
    ),
}
