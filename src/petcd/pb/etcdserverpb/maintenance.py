"""Messages of the Maintenance service: status, alarms, hashes, snapshot, downgrade.

Source: contract/wire-v3.md section 1.1 (package etcdserverpb, rpc.proto).
"""

# ruff: noqa: N815 - attributes keep the exact spelling of the protobuf fields

from __future__ import annotations

from enum import IntEnum

from petcd.pb.etcdserverpb.header import ResponseHeader, Rpc
from petcd.pb.message import (
    bool_,
    bytes_,
    enum,
    enumeration,
    int64,
    message,
    repeated,
    repeated_string,
    string,
    uint32,
    uint64,
)


class HashRequest(Rpc):
    """No fields."""


class HashKVRequest(Rpc):
    revision: int = int64(1)


class HashKVResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)
    hash: int = uint32(2)
    compact_revision: int = int64(3)
    hash_revision: int = int64(4)


class HashResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)
    hash: int = uint32(2)


class SnapshotRequest(Rpc):
    """No fields."""


class SnapshotResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)
    remaining_bytes: int = uint64(2)
    blob: bytes = bytes_(3)
    version: str = string(4)


class DefragmentRequest(Rpc):
    """No fields."""


class DefragmentResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)


class MoveLeaderRequest(Rpc):
    targetID: int = uint64(1)


class MoveLeaderResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)


@enumeration("etcdserverpb.AlarmRequest.AlarmAction")
class AlarmAction(IntEnum):
    GET = 0
    ACTIVATE = 1
    DEACTIVATE = 2


@enumeration("etcdserverpb.AlarmType")
class AlarmType(IntEnum):
    NONE = 0
    NOSPACE = 1
    CORRUPT = 2


class AlarmRequest(Rpc):
    action: int = enum(1, AlarmAction)
    memberID: int = uint64(2)
    alarm: int = enum(3, AlarmType)


class AlarmMember(Rpc):
    memberID: int = uint64(1)
    alarm: int = enum(2, AlarmType)


class AlarmResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)
    alarms: list[AlarmMember] = repeated(2, AlarmMember)


@enumeration("etcdserverpb.DowngradeRequest.DowngradeAction")
class DowngradeAction(IntEnum):
    VALIDATE = 0
    ENABLE = 1
    CANCEL = 2


class DowngradeRequest(Rpc):
    action: int = enum(1, DowngradeAction)
    version: str = string(2)


class DowngradeResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)
    version: str = string(2)


class DowngradeVersionTestRequest(Rpc):
    ver: str = string(1)


class StatusRequest(Rpc):
    """No fields."""


class DowngradeInfo(Rpc):
    enabled: bool = bool_(1)
    targetVersion: str = string(2)


class StatusResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)
    version: str = string(2)
    dbSize: int = int64(3)
    leader: int = uint64(4)
    raftIndex: int = uint64(5)
    raftTerm: int = uint64(6)
    raftAppliedIndex: int = uint64(7)
    errors: list[str] = repeated_string(8)
    dbSizeInUse: int = int64(9)
    isLearner: bool = bool_(10)
    storageVersion: str = string(11)
    dbSizeQuota: int = int64(12)
    downgradeInfo: DowngradeInfo | None = message(13, DowngradeInfo)
