"""What a normal raft entry holds (raft_internal.proto), and the WAL metadata record (etcdserver.proto).

Source: contract/wire-v3.md sections 1.2 and 1.3 (package etcdserverpb).
"""

from __future__ import annotations

from petcd.pb import membershippb
from petcd.pb.etcdserverpb.auth import (
    AuthDisableRequest,
    AuthEnableRequest,
    AuthRoleAddRequest,
    AuthRoleDeleteRequest,
    AuthRoleGetRequest,
    AuthRoleGrantPermissionRequest,
    AuthRoleListRequest,
    AuthRoleRevokePermissionRequest,
    AuthStatusRequest,
    AuthUserAddRequest,
    AuthUserChangePasswordRequest,
    AuthUserDeleteRequest,
    AuthUserGetRequest,
    AuthUserGrantRoleRequest,
    AuthUserListRequest,
    AuthUserRevokeRoleRequest,
)
from petcd.pb.etcdserverpb.header import Rpc
from petcd.pb.etcdserverpb.kv import (
    CompactionRequest,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    TxnRequest,
)
from petcd.pb.etcdserverpb.lease import LeaseCheckpointRequest, LeaseGrantRequest, LeaseRevokeRequest
from petcd.pb.etcdserverpb.maintenance import AlarmRequest, DowngradeVersionTestRequest
from petcd.pb.message import bool_, int64, message, string, uint64


class _Proto2(Rpc):
    """Base of the messages of etcdserver.proto."""

    PACKAGE = "etcdserverpb"
    SYNTAX = "proto2"


class Request(_Proto2):
    """A v2 request, which <= 3.6 logs for members' attributes and the cluster version (section 1.2).

    Its strings were never checked for UTF-8; foreign bytes are kept as lone surrogates.
    """

    ID: int = uint64(1, always=True)
    Method: str = string(2, always=True, strict=False)
    Path: str = string(3, always=True, strict=False)
    Val: str = string(4, always=True, strict=False)
    Dir: bool = bool_(5, always=True)
    PrevValue: str = string(6, always=True, strict=False)
    PrevIndex: int = uint64(7, always=True)
    PrevExist: bool | None = bool_(8, oneof="_PrevExist")
    Expiration: int = int64(9, always=True)
    Wait: bool = bool_(10, always=True)
    Since: int = uint64(11, always=True)
    Recursive: bool = bool_(12, always=True)
    Sorted: bool = bool_(13, always=True)
    Quorum: bool = bool_(14, always=True)
    Time: int = int64(15, always=True)
    Stream: bool = bool_(16, always=True)
    Refresh: bool | None = bool_(17, oneof="_Refresh")


class Metadata(_Proto2):
    """Data of the first record of every WAL segment."""

    NodeID: int = uint64(1, always=True)
    ClusterID: int = uint64(2, always=True)


class RequestHeader(Rpc):
    """Who asked: the id the answer is waited for under and, with auth on, the user and its revision."""

    ID: int = uint64(1)
    username: str = string(2)
    auth_revision: int = uint64(3)


class InternalAuthenticateRequest(Rpc):
    """A login whose token was already chosen, so that all members agree on it."""

    name: str = string(1)
    password: str = string(2)
    simple_token: str = string(3)


class InternalRaftRequest(Rpc):
    """The payload of a normal entry: a header, and exactly one of the other members.

    ``v2`` went away in 3.7. It stays here because it is what tells this message from a raw ``Request``, which
    a leader <= 3.5 also logs: a method name is never a valid ``Request``, so decoding fails.
    """

    HOT = (4,)

    ID: int = uint64(1)
    v2: Request | None = message(2, Request)
    range: RangeRequest | None = message(3, RangeRequest)
    put: PutRequest | None = message(4, PutRequest)
    delete_range: DeleteRangeRequest | None = message(5, DeleteRangeRequest)
    txn: TxnRequest | None = message(6, TxnRequest)
    compaction: CompactionRequest | None = message(7, CompactionRequest)
    lease_grant: LeaseGrantRequest | None = message(8, LeaseGrantRequest)
    lease_revoke: LeaseRevokeRequest | None = message(9, LeaseRevokeRequest)
    alarm: AlarmRequest | None = message(10, AlarmRequest)
    lease_checkpoint: LeaseCheckpointRequest | None = message(11, LeaseCheckpointRequest)
    header: RequestHeader | None = message(100, RequestHeader)
    auth_enable: AuthEnableRequest | None = message(1000, AuthEnableRequest)
    auth_disable: AuthDisableRequest | None = message(1011, AuthDisableRequest)
    authenticate: InternalAuthenticateRequest | None = message(1012, InternalAuthenticateRequest)
    auth_status: AuthStatusRequest | None = message(1013, AuthStatusRequest)
    auth_user_add: AuthUserAddRequest | None = message(1100, AuthUserAddRequest)
    auth_user_delete: AuthUserDeleteRequest | None = message(1101, AuthUserDeleteRequest)
    auth_user_get: AuthUserGetRequest | None = message(1102, AuthUserGetRequest)
    auth_user_change_password: AuthUserChangePasswordRequest | None = message(
        1103, AuthUserChangePasswordRequest
    )
    auth_user_grant_role: AuthUserGrantRoleRequest | None = message(1104, AuthUserGrantRoleRequest)
    auth_user_revoke_role: AuthUserRevokeRoleRequest | None = message(1105, AuthUserRevokeRoleRequest)
    auth_user_list: AuthUserListRequest | None = message(1106, AuthUserListRequest)
    auth_role_list: AuthRoleListRequest | None = message(1107, AuthRoleListRequest)
    auth_role_add: AuthRoleAddRequest | None = message(1200, AuthRoleAddRequest)
    auth_role_delete: AuthRoleDeleteRequest | None = message(1201, AuthRoleDeleteRequest)
    auth_role_get: AuthRoleGetRequest | None = message(1202, AuthRoleGetRequest)
    auth_role_grant_permission: AuthRoleGrantPermissionRequest | None = message(
        1203, AuthRoleGrantPermissionRequest
    )
    auth_role_revoke_permission: AuthRoleRevokePermissionRequest | None = message(
        1204, AuthRoleRevokePermissionRequest
    )
    cluster_version_set: membershippb.ClusterVersionSetRequest | None = message(
        1300, membershippb.ClusterVersionSetRequest
    )
    cluster_member_attr_set: membershippb.ClusterMemberAttrSetRequest | None = message(
        1301, membershippb.ClusterMemberAttrSetRequest
    )
    downgrade_info_set: membershippb.DowngradeInfoSetRequest | None = message(
        1302, membershippb.DowngradeInfoSetRequest
    )
    downgrade_version_test: DowngradeVersionTestRequest | None = message(9900, DowngradeVersionTestRequest)


class EmptyResponse(Rpc):
    """Holds nothing."""
