"""The client of etcd's v3 API. See docs/client.md.

Names are imported on first use: ``petcd.client.blocking``, the connection of one-shot programs, then costs
no asyncio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from petcd.client.client import Client
    from petcd.client.errors import CompactedWatch, LeaseLost, WatchCanceled
    from petcd.client.kv import Comparison, Delete, Get, Put, Txn, compare
    from petcd.client.leases import Lease, TimeToLive
    from petcd.client.results import DeleteResult, GetResult, KeyValue, PutResult, TxnResult
    from petcd.client.watches import Event, Progress, Resumed, Watch
    from petcd.net.grpc.client import TransportFailure

_HOMES: Final = {
    "petcd.client.client": ("Client",),
    "petcd.client.errors": ("CompactedWatch", "LeaseLost", "WatchCanceled"),
    "petcd.client.kv": ("Comparison", "Delete", "Get", "Put", "Txn", "compare"),
    "petcd.client.leases": ("Lease", "TimeToLive"),
    "petcd.client.results": ("DeleteResult", "GetResult", "KeyValue", "PutResult", "TxnResult"),
    "petcd.client.watches": ("Event", "Progress", "Resumed", "Watch"),
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
    "Get",
    "Put",
    "Delete",
    "Txn",
    "compare",
    "Comparison",
    "GetResult",
    "PutResult",
    "DeleteResult",
    "TxnResult",
    "KeyValue",
    "Watch",
    "Event",
    "Progress",
    "Resumed",
    "Lease",
    "TimeToLive",
    "CompactedWatch",
    "WatchCanceled",
    "LeaseLost",
    "TransportFailure",
]
