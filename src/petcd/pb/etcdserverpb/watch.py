"""Messages of the Watch service.

Source: contract/wire-v3.md section 1.1 (package etcdserverpb, rpc.proto).
"""

from __future__ import annotations

from enum import IntEnum

from petcd.pb import mvccpb
from petcd.pb.etcdserverpb.header import ResponseHeader, Rpc
from petcd.pb.message import bool_, bytes_, enumeration, int64, message, repeated, repeated_enum, string


@enumeration("etcdserverpb.WatchCreateRequest.FilterType")
class FilterType(IntEnum):
    NOPUT = 0
    NODELETE = 1


class WatchCreateRequest(Rpc):
    key: bytes = bytes_(1)
    range_end: bytes = bytes_(2)
    start_revision: int = int64(3)
    progress_notify: bool = bool_(4)
    filters: list[int] = repeated_enum(5, FilterType)
    prev_kv: bool = bool_(6)
    watch_id: int = int64(7)
    fragment: bool = bool_(8)


class WatchCancelRequest(Rpc):
    watch_id: int = int64(1)


class WatchProgressRequest(Rpc):
    """No fields."""


class WatchRequest(Rpc):
    create_request: WatchCreateRequest | None = message(1, WatchCreateRequest, oneof="request_union")
    cancel_request: WatchCancelRequest | None = message(2, WatchCancelRequest, oneof="request_union")
    progress_request: WatchProgressRequest | None = message(3, WatchProgressRequest, oneof="request_union")


class WatchResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)
    watch_id: int = int64(2)
    created: bool = bool_(3)
    canceled: bool = bool_(4)
    compact_revision: int = int64(5)
    cancel_reason: str = string(6)
    fragment: bool = bool_(7)
    events: list[mvccpb.Event] = repeated(11, mvccpb.Event)
