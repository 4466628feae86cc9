"""Every command there is: its name, its group, its summary and the module that holds it."""

from __future__ import annotations

import os
from typing import Final

from petcd.cli.etcdctl.commands import Command, complain
from petcd.cli.etcdctl.grammar import boolean
from petcd.cli.etcdctl.options import GLOBAL_FLAGS

ROOT: Final = Command(
    "etcdctl",
    "A simple command line client for etcd3.",
    persistent=GLOBAL_FLAGS,
    children=(
        Command("get", "Gets the key or a range of keys", "kv", group="kv"),
        Command("put", "Puts the given key into the store", "kv", group="kv"),
        Command("del", "Removes the specified key or range of keys [key, range_end)", "kv", group="kv"),
        Command("compaction", "Compacts the event history in etcd", "kv", group="kv"),
        Command("txn", "Txn processes all the requests in one transaction", "txn", group="kv"),
        Command("watch", "Watches events stream on keys or prefixes", "watch", group="kv"),
        Command(
            "lease",
            "Lease related commands",
            group="kv",
            children=(
                Command("grant", "Creates leases", "lease"),
                Command("revoke", "Revokes leases", "lease"),
                Command("timetolive", "Get lease information", "lease"),
                Command("list", "List all active leases", "lease"),
                Command("keep-alive", "Keeps leases alive (renew)", "lease"),
            ),
        ),
        Command(
            "member",
            "Membership related commands",
            group="cluster",
            children=(
                Command("list", "Lists all members in the cluster", "member"),
                Command("add", "Adds a member into the cluster", "member"),
                Command("remove", "Removes a member from the cluster", "member"),
                Command("update", "Updates a member in the cluster", "member"),
                Command("promote", "Promotes a non-voting member in the cluster", "member"),
            ),
        ),
        Command(
            "endpoint",
            "Endpoint related commands",
            group="cluster",
            persistent=(boolean("cluster", "use all endpoints from the cluster member list"),),
            children=(
                Command(
                    "health",
                    "Checks the healthiness of endpoints specified in `--endpoints` flag",
                    "endpoint",
                ),
                Command(
                    "status",
                    "Prints out the status of endpoints specified in `--endpoints` flag",
                    "endpoint",
                ),
                Command(
                    "hashkv",
                    "Prints the KV history hash for each endpoint in --endpoints",
                    "endpoint",
                ),
            ),
        ),
        Command(
            "alarm",
            "Alarm related commands",
            group="cluster",
            children=(
                Command("list", "Lists all alarms", "maintenance"),
                Command("disarm", "Disarms all alarms", "maintenance"),
            ),
        ),
        Command(
            "defrag",
            "Defragments the storage of the etcd members with given endpoints",
            "maintenance",
            group="cluster",
        ),
        Command(
            "move-leader",
            "Transfers leadership to another etcd cluster member.",
            "maintenance",
            group="cluster",
        ),
        Command(
            "snapshot",
            "Manages etcd node snapshots",
            group="cluster",
            children=(
                Command("save", "Stores an etcd node backend snapshot to a given file", "snapshot"),
                Command("status", "Gets backend snapshot status of a given file", "snapshot"),
                Command("restore", "Restores an etcd member snapshot to an etcd directory", "snapshot"),
            ),
        ),
        Command(
            "downgrade",
            "Downgrade related commands",
            group="cluster",
            children=(
                Command("validate", "Validate downgrade capability before starting downgrade", "maintenance"),
                Command("enable", "Start a downgrade action to cluster", "maintenance"),
                Command("cancel", "Cancel the ongoing downgrade action to cluster", "maintenance"),
            ),
        ),
        Command("make-mirror", "Makes a mirror at the destination etcd cluster", "mirror", group="util"),
        Command("lock", "Acquires a named lock", "concurrency", group="concurrency"),
        Command(
            "elect",
            "Observes and participates in leader election",
            "concurrency",
            group="concurrency",
        ),
        Command(
            "auth",
            "Enable or disable authentication",
            group="auth",
            children=(
                Command("enable", "Enables authentication", "auth"),
                Command("disable", "Disables authentication", "auth"),
                Command("status", "Returns authentication status", "auth"),
            ),
        ),
        Command(
            "user",
            "User related commands",
            group="auth",
            children=(
                Command("add", "Adds a new user", "user"),
                Command("delete", "Deletes a user", "user"),
                Command("get", "Gets detailed information of a user", "user"),
                Command("list", "Lists all users", "user"),
                Command("passwd", "Changes password of user", "user"),
                Command("grant-role", "Grants a role to a user", "user"),
                Command("revoke-role", "Revokes a role from a user", "user"),
            ),
        ),
        Command(
            "role",
            "Role related commands",
            group="auth",
            children=(
                Command("add", "Adds a new role", "role"),
                Command("delete", "Deletes a role", "role"),
                Command("get", "Gets detailed information of a role", "role"),
                Command("list", "Lists all roles", "role"),
                Command("grant-permission", "Grants a key to a role", "role"),
                Command("revoke-permission", "Revokes a key from a role", "role"),
            ),
        ),
        Command(
            "check",
            "commands for checking properties of the etcd cluster",
            group="util",
            children=(
                Command("perf", "Check the performance of the etcd cluster", "check"),
                Command(
                    "datascale",
                    "Check the memory usage of holding data for different workloads on a given endpoint.",
                    "check",
                ),
            ),
        ),
        Command(
            "completion",
            "Generate completion script",
            "completion",
            group="util",
        ),
        Command("version", "Prints the version of etcdctl", "version", group="util"),
        Command("options", "Prints the list of global command-line options", "version", group="util"),
    ),
)


def refuse_api_version() -> int:
    """``ETCDCTL_API``: 2 and 3 pass in silence, anything else is refused as 3.4 does (section 2.1)."""
    version = os.environ.pop("ETCDCTL_API", "")
    if version in ("", "2", "3"):
        return 0
    complain(f"unsupported API version {version}")
    return 1
