"""Requests in a few words, for the log: sizes instead of values, and etcd's layout where it has one.

Source: contract config-metrics section 7.4, ``apply request took too long``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from petcd.pb.etcdserverpb import (
    CompactionRequest,
    DeleteRangeRequest,
    InternalRaftRequest,
    PutRequest,
    RangeRequest,
    TxnRequest,
)
from petcd.pb.message import Message
from petcd.pb.wire import DecodeError
from petcd.raft import Entry

_KEY_BYTES_MAX: Final = 64


def describe_batch(batch: Sequence[object]) -> str:
    """The first of a batch of requests or log entries, and how many more there are."""
    if not batch:
        return ""
    first = describe_entry(batch[0]) if isinstance(batch[0], Entry) else describe(batch[0])
    return first if len(batch) == 1 else f"{first} and {len(batch) - 1} more"


def describe_entry(entry: Entry) -> str:
    """The request in a log entry."""
    try:
        envelope = InternalRaftRequest.decode(entry.data)
    except DecodeError:
        return f"entry:<index:{entry.index} size:{len(entry.data)} >"
    for field in InternalRaftRequest.FIELDS:
        request = getattr(envelope, field.attribute)
        if field.kind == "message" and field.name != "header" and request is not None:
            number = envelope.ID or (envelope.header.ID if envelope.header is not None else 0)
            return f"header:<ID:{number} > {field.name}:<{describe(request)} >"
    return f"entry:<index:{entry.index} size:{len(entry.data)} >"


def describe(request: object) -> str:
    """One request without its values."""
    match request:
        case PutRequest():
            return f"key:{_quote(request.key)} value_size:{len(request.value)}"
        case RangeRequest() | DeleteRangeRequest():
            end = f" range_end:{_quote(request.range_end)}" if request.range_end else ""
            return f"key:{_quote(request.key)}{end}"
        case TxnRequest():
            return (
                f"compare:{len(request.compare)} success:{len(request.success)} "
                f"failure:{len(request.failure)}"
            )
        case CompactionRequest():
            return f"revision:{request.revision}"
        case Message():
            return f"{type(request).__name__} size:{len(request.encode())}"
    return type(request).__name__


def go_duration(seconds: float) -> str:
    """A duration as Go prints it: ``1.5s``, ``203.5ms``, ``12µs``."""
    if seconds >= 1:
        return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"
    if seconds >= 0.001:
        return f"{seconds * 1e3:.6f}".rstrip("0").rstrip(".") + "ms"
    return f"{seconds * 1e6:.3f}".rstrip("0").rstrip(".") + "µs"


def _quote(key: bytes) -> str:
    text = key[:_KEY_BYTES_MAX].decode("latin-1").encode("unicode_escape").decode().replace('"', '\\"')
    return f'"{text}"' if len(key) <= _KEY_BYTES_MAX else f'"{text}…"'
