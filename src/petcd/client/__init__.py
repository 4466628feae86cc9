"""The client of etcd's v3 API. See docs/client.md.

Names are imported on first use: ``petcd.client.blocking``, the connection of one-shot programs, then costs
no asyncio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from petcd.client.auth import Access, Auth, AuthStatus, Permission
    from petcd.client.client import Client
    from petcd.client.cluster import Cluster, Member
    from petcd.client.conditions import Comparison, Property, compare
    from petcd.client.errors import CompactedWatch, LeaseLost, StoreRewound, WatchCanceled
    from petcd.client.events import Disconnected, Event, Notice, Progress, Resumed
    from petcd.client.keyspace import Keyspace
    from petcd.client.kv import Delete, Get, Operation, Put, Txn
    from petcd.client.leases import Granted, Lease, Leases, TimeToLive
    from petcd.client.maintenance import Alarm, AlarmType, HashKV, Maintenance, Status
    from petcd.client.results import DeleteResult, GetResult, KeyValue, PutResult, TxnResult
    from petcd.client.snapshots import SavedSnapshot, SnapshotDamaged, SnapshotProgress
    from petcd.client.tls import Tls
    from petcd.client.transaction import Transaction
    from petcd.client.watches import Watch
    from petcd.net.grpc.client import TransportFailure

_HOMES: Final = {
    "petcd.client.auth": (
        "Access",
        "Auth",
        "AuthStatus",
        "Permission",
    ),
    "petcd.client.client": ("Client",),
    "petcd.client.cluster": (
        "Cluster",
        "Member",
    ),
    "petcd.client.conditions": (
        "Comparison",
        "Property",
        "compare",
    ),
    "petcd.client.errors": (
        "CompactedWatch",
        "LeaseLost",
        "StoreRewound",
        "WatchCanceled",
    ),
    "petcd.client.events": (
        "Disconnected",
        "Event",
        "Notice",
        "Progress",
        "Resumed",
    ),
    "petcd.client.keyspace": ("Keyspace",),
    "petcd.client.kv": (
        "Delete",
        "Get",
        "Operation",
        "Put",
        "Txn",
    ),
    "petcd.client.leases": (
        "Granted",
        "Lease",
        "Leases",
        "TimeToLive",
    ),
    "petcd.client.maintenance": (
        "Alarm",
        "AlarmType",
        "HashKV",
        "Maintenance",
        "Status",
    ),
    "petcd.client.results": (
        "DeleteResult",
        "GetResult",
        "KeyValue",
        "PutResult",
        "TxnResult",
    ),
    "petcd.client.snapshots": (
        "SavedSnapshot",
        "SnapshotDamaged",
        "SnapshotProgress",
    ),
    "petcd.client.tls": ("Tls",),
    "petcd.client.transaction": ("Transaction",),
    "petcd.client.watches": ("Watch",),
    "petcd.net.grpc.client": ("TransportFailure",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            from importlib import import_module

            value = getattr(import_module(home), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Client",
    "Keyspace",
    "Tls",
    "Get",
    "Put",
    "Delete",
    "Txn",
    "Operation",
    "Transaction",
    "compare",
    "Comparison",
    "Property",
    "KeyValue",
    "GetResult",
    "PutResult",
    "DeleteResult",
    "TxnResult",
    "Watch",
    "Event",
    "Progress",
    "Disconnected",
    "Resumed",
    "Notice",
    "Leases",
    "Lease",
    "Granted",
    "TimeToLive",
    "Auth",
    "AuthStatus",
    "Permission",
    "Access",
    "Cluster",
    "Member",
    "Maintenance",
    "Status",
    "HashKV",
    "Alarm",
    "AlarmType",
    "SavedSnapshot",
    "SnapshotProgress",
    "SnapshotDamaged",
    "CompactedWatch",
    "StoreRewound",
    "WatchCanceled",
    "LeaseLost",
    "TransportFailure",
]
