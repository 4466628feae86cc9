"""Every command of etcdutl, and its global flags (contract cli section 5.1)."""

from __future__ import annotations

from typing import Final

from petcd.cli.etcdctl.grammar import duration, string
from petcd.cli.etcdutl.commands import Node

_SECOND: Final = 1_000_000_000

GLOBAL_FLAGS: Final = (
    string(
        "write-out",
        "set the output format (fields, json, protobuf, simple, table)",
        "w",
        default="simple",
    ),
    duration(
        "timeout", "how long to wait for the lock on a database file (0: for ever)", default=10 * _SECOND
    ),
)

ROOT: Final = Node(
    "etcdutl",
    "An administrative command line tool for the files of an etcd member.",
    persistent=GLOBAL_FLAGS,
    children=(
        Node("completion", "Generates a completion script", "completion"),
        Node("defrag", "Defragments the storage of a stopped member", "defrag"),
        Node("hashkv", "Prints the KV history hash of a given file", "hashkv"),
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
