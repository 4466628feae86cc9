"""Messages of the Cluster service: membership as clients see it.

Source: contract/wire-v3.md section 1.1 (package etcdserverpb, rpc.proto).
"""

# ruff: noqa: N815 - attributes keep the exact spelling of the protobuf fields

from __future__ import annotations

from petcd.pb.etcdserverpb.header import ResponseHeader, Rpc
from petcd.pb.message import bool_, message, repeated, repeated_string, string, uint64


class Member(Rpc):
    ID: int = uint64(1)
    name: str = string(2)
    peerURLs: list[str] = repeated_string(3)
    clientURLs: list[str] = repeated_string(4)
    isLearner: bool = bool_(5)


class MemberAddRequest(Rpc):
    peerURLs: list[str] = repeated_string(1)
    isLearner: bool = bool_(2)


class MemberAddResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)
    member: Member | None = message(2, Member)
    members: list[Member] = repeated(3, Member)


class MemberRemoveRequest(Rpc):
    ID: int = uint64(1)


class MemberRemoveResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)
    members: list[Member] = repeated(2, Member)


class MemberUpdateRequest(Rpc):
    ID: int = uint64(1)
    peerURLs: list[str] = repeated_string(2)


class MemberUpdateResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)
    members: list[Member] = repeated(2, Member)


class MemberListRequest(Rpc):
    linearizable: bool = bool_(1)


class MemberListResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)
    members: list[Member] = repeated(2, Member)


class MemberPromoteRequest(Rpc):
    ID: int = uint64(1)


class MemberPromoteResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)
    members: list[Member] = repeated(2, Member)
