"""Every command of etcdutl, and its global flags (contract cli section 5.1)."""

from __future__ import annotations

from typing import Final

from petcd.cli.etcdctl.grammar import duration, string
from petcd.cli.etcdutl.commands import Node

_SECOND: Final = 1_000_000_000

TIMEOUT: Final = duration(
    "timeout", "how long to wait for the lock on a database file (0: for ever)", default=10 * _SECOND
)
WRITE_OUT: Final = string(
    "write-out", "set the output format (fields, json, protobuf, simple, table)", "w", default="simple"
)


def dump_db() -> tuple[Node, ...]:
    """The commands of dump-db, which is a tool of its own, too."""
    return (
        Node("hash", "Prints the hash of a database", "dumpdb"),
        Node("iterate-bucket", "Lists the records of a bucket, the last one first", "dumpdb"),
        Node("list-bucket", "Lists the names of all buckets", "dumpdb"),
        Node("scan-keys", "Lists the records of keys page by page", "dumpdb"),
    )


ROOT: Final = Node(
    "etcdutl",
    "An administrative command line tool for the files of an etcd member.",
    persistent=(TIMEOUT, WRITE_OUT),
    children=(
        Node("backup", "Backs up the data of a stopped member as a member of its own", "backup"),
        Node(
            "check",
            "Checks the data of a stopped member",
            children=(Node("v2store", "Looks for content of the v2 API", "check"),),
        ),
        Node("completion", "Generates a completion script", "completion"),
        Node("defrag", "Defragments the storage of a stopped member", "defrag"),
        Node("dump-db", "Lists what a database holds", children=dump_db()),
        Node("dump-logs", "Lists the entries of a write-ahead log", "dumplogs"),
        Node("hashkv", "Prints the KV history hash of a given file", "hashkv"),
        Node("migrate", "Migrates the storage schema of a stopped member to another version", "migrate"),
        Node(
            "snapshot",
            "Manages etcd node snapshots",
            children=(
                Node("restore", "Restores an etcd member snapshot to an etcd directory", "snapshot"),
                Node("status", "Gets backend snapshot status of a given file", "snapshot"),
            ),
        ),
        Node("version", "Prints the version of etcdutl", "version"),
    ),
)
