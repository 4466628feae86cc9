"""Messages of the KV service: range, put, delete, transaction, compaction.

Source: contract/wire-v3.md section 1.1 (package etcdserverpb, rpc.proto).
"""

from __future__ import annotations

from enum import IntEnum

from petcd.pb import mvccpb
from petcd.pb.etcdserverpb.header import ResponseHeader, Rpc
from petcd.pb.message import bool_, bytes_, enum, enumeration, int64, message, repeated


@enumeration("etcdserverpb.RangeRequest.SortOrder")
class SortOrder(IntEnum):
    NONE = 0
    ASCEND = 1
    DESCEND = 2


@enumeration("etcdserverpb.RangeRequest.SortTarget")
class SortTarget(IntEnum):
    KEY = 0
    VERSION = 1
    CREATE = 2
    MOD = 3
    VALUE = 4


class RangeRequest(Rpc):
    key: bytes = bytes_(1)
    range_end: bytes = bytes_(2)
    limit: int = int64(3)
    revision: int = int64(4)
    sort_order: int = enum(5, SortOrder)
    sort_target: int = enum(6, SortTarget)
    serializable: bool = bool_(7)
    keys_only: bool = bool_(8)
    count_only: bool = bool_(9)
    min_mod_revision: int = int64(10)
    max_mod_revision: int = int64(11)
    min_create_revision: int = int64(12)
    max_create_revision: int = int64(13)


class RangeResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)
    kvs: list[mvccpb.KeyValue] = repeated(2, mvccpb.KeyValue)
    more: bool = bool_(3)
    count: int = int64(4)


class PutRequest(Rpc):
    key: bytes = bytes_(1)
    value: bytes = bytes_(2)
    lease: int = int64(3)
    prev_kv: bool = bool_(4)
    ignore_value: bool = bool_(5)
    ignore_lease: bool = bool_(6)


class PutResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)
    prev_kv: mvccpb.KeyValue | None = message(2, mvccpb.KeyValue)


class DeleteRangeRequest(Rpc):
    key: bytes = bytes_(1)
    range_end: bytes = bytes_(2)
    prev_kv: bool = bool_(3)


class DeleteRangeResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)
    deleted: int = int64(2)
    prev_kvs: list[mvccpb.KeyValue] = repeated(3, mvccpb.KeyValue)


@enumeration("etcdserverpb.Compare.CompareResult")
class CompareResult(IntEnum):
    EQUAL = 0
    GREATER = 1
    LESS = 2
    NOT_EQUAL = 3


@enumeration("etcdserverpb.Compare.CompareTarget")
class CompareTarget(IntEnum):
    VERSION = 0
    CREATE = 1
    MOD = 2
    VALUE = 3
    LEASE = 4


class Compare(Rpc):
    result: int = enum(1, CompareResult)
    target: int = enum(2, CompareTarget)
    key: bytes = bytes_(3)
    version: int | None = int64(4, oneof="target_union")
    create_revision: int | None = int64(5, oneof="target_union")
    mod_revision: int | None = int64(6, oneof="target_union")
    value: bytes | None = bytes_(7, oneof="target_union")
    lease: int | None = int64(8, oneof="target_union")
    range_end: bytes = bytes_(64)


class TxnRequest(Rpc):
    compare: list[Compare] = repeated(1, Compare)
    success: list[RequestOp] = repeated(2, "etcdserverpb.RequestOp")
    failure: list[RequestOp] = repeated(3, "etcdserverpb.RequestOp")


class RequestOp(Rpc):
    request_range: RangeRequest | None = message(1, RangeRequest, oneof="request")
    request_put: PutRequest | None = message(2, PutRequest, oneof="request")
    request_delete_range: DeleteRangeRequest | None = message(3, DeleteRangeRequest, oneof="request")
    request_txn: TxnRequest | None = message(4, TxnRequest, oneof="request")


class TxnResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)
    succeeded: bool = bool_(2)
    responses: list[ResponseOp] = repeated(3, "etcdserverpb.ResponseOp")


class ResponseOp(Rpc):
    response_range: RangeResponse | None = message(1, RangeResponse, oneof="response")
    response_put: PutResponse | None = message(2, PutResponse, oneof="response")
    response_delete_range: DeleteRangeResponse | None = message(3, DeleteRangeResponse, oneof="response")
    response_txn: TxnResponse | None = message(4, TxnResponse, oneof="response")


class CompactionRequest(Rpc):
    revision: int = int64(1)
    physical: bool = bool_(2)


class CompactionResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)


class RangeStreamResponse(Rpc):
    range_response: RangeResponse | None = message(1, RangeResponse)
