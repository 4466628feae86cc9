"""The gRPC services: every method with its messages, its shape and its paths on the JSON gateway.

Source: contract/wire-v3.md section 2.1.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from petcd.pb import etcdserverpb as rpc
from petcd.pb import healthpb, v3electionpb, v3lockpb
from petcd.pb.message import Message


class MethodSpec(NamedTuple):
    """One method of a service."""

    service: str
    name: str
    request: type[Message]
    response: type[Message]
    gateway: tuple[str, ...]
    """Paths of the JSON gateway, all POST."""
    client_stream: bool
    server_stream: bool

    @property
    def path(self) -> str:
        """The gRPC path, ``/package.Service/Method``."""
        return f"/{self.service}/{self.name}"


def _method(
    service: str,
    name: str,
    request: type[Message],
    response: type[Message],
    *gateway: str,
    client_stream: bool = False,
    server_stream: bool = False,
) -> MethodSpec:
    return MethodSpec(service, name, request, response, gateway, client_stream, server_stream)


METHODS: Final = (
    # etcdserverpb.KV
    _method("etcdserverpb.KV", "Range", rpc.RangeRequest, rpc.RangeResponse, "/v3/kv/range"),
    _method("etcdserverpb.KV", "RangeStream", rpc.RangeRequest, rpc.RangeStreamResponse, server_stream=True),
    _method("etcdserverpb.KV", "Put", rpc.PutRequest, rpc.PutResponse, "/v3/kv/put"),
    _method(
        "etcdserverpb.KV",
        "DeleteRange",
        rpc.DeleteRangeRequest,
        rpc.DeleteRangeResponse,
        "/v3/kv/deleterange",
    ),
    _method("etcdserverpb.KV", "Txn", rpc.TxnRequest, rpc.TxnResponse, "/v3/kv/txn"),
    _method("etcdserverpb.KV", "Compact", rpc.CompactionRequest, rpc.CompactionResponse, "/v3/kv/compaction"),
    # etcdserverpb.Watch
    _method(
        "etcdserverpb.Watch",
        "Watch",
        rpc.WatchRequest,
        rpc.WatchResponse,
        "/v3/watch",
        client_stream=True,
        server_stream=True,
    ),
    # etcdserverpb.Lease
    _method(
        "etcdserverpb.Lease", "LeaseGrant", rpc.LeaseGrantRequest, rpc.LeaseGrantResponse, "/v3/lease/grant"
    ),
    _method(
        "etcdserverpb.Lease",
        "LeaseRevoke",
        rpc.LeaseRevokeRequest,
        rpc.LeaseRevokeResponse,
        "/v3/lease/revoke",
        "/v3/kv/lease/revoke",
    ),
    _method(
        "etcdserverpb.Lease",
        "LeaseKeepAlive",
        rpc.LeaseKeepAliveRequest,
        rpc.LeaseKeepAliveResponse,
        "/v3/lease/keepalive",
        client_stream=True,
        server_stream=True,
    ),
    _method(
        "etcdserverpb.Lease",
        "LeaseTimeToLive",
        rpc.LeaseTimeToLiveRequest,
        rpc.LeaseTimeToLiveResponse,
        "/v3/lease/timetolive",
        "/v3/kv/lease/timetolive",
    ),
    _method(
        "etcdserverpb.Lease",
        "LeaseLeases",
        rpc.LeaseLeasesRequest,
        rpc.LeaseLeasesResponse,
        "/v3/lease/leases",
        "/v3/kv/lease/leases",
    ),
    # etcdserverpb.Cluster
    _method(
        "etcdserverpb.Cluster",
        "MemberAdd",
        rpc.MemberAddRequest,
        rpc.MemberAddResponse,
        "/v3/cluster/member/add",
    ),
    _method(
        "etcdserverpb.Cluster",
        "MemberRemove",
        rpc.MemberRemoveRequest,
        rpc.MemberRemoveResponse,
        "/v3/cluster/member/remove",
    ),
    _method(
        "etcdserverpb.Cluster",
        "MemberUpdate",
        rpc.MemberUpdateRequest,
        rpc.MemberUpdateResponse,
        "/v3/cluster/member/update",
    ),
    _method(
        "etcdserverpb.Cluster",
        "MemberList",
        rpc.MemberListRequest,
        rpc.MemberListResponse,
        "/v3/cluster/member/list",
    ),
    _method(
        "etcdserverpb.Cluster",
        "MemberPromote",
        rpc.MemberPromoteRequest,
        rpc.MemberPromoteResponse,
        "/v3/cluster/member/promote",
    ),
    # etcdserverpb.Maintenance
    _method(
        "etcdserverpb.Maintenance", "Alarm", rpc.AlarmRequest, rpc.AlarmResponse, "/v3/maintenance/alarm"
    ),
    _method(
        "etcdserverpb.Maintenance", "Status", rpc.StatusRequest, rpc.StatusResponse, "/v3/maintenance/status"
    ),
    _method(
        "etcdserverpb.Maintenance",
        "Defragment",
        rpc.DefragmentRequest,
        rpc.DefragmentResponse,
        "/v3/maintenance/defragment",
    ),
    _method("etcdserverpb.Maintenance", "Hash", rpc.HashRequest, rpc.HashResponse, "/v3/maintenance/hash"),
    _method(
        "etcdserverpb.Maintenance", "HashKV", rpc.HashKVRequest, rpc.HashKVResponse, "/v3/maintenance/hashkv"
    ),
    _method(
        "etcdserverpb.Maintenance",
        "Snapshot",
        rpc.SnapshotRequest,
        rpc.SnapshotResponse,
        "/v3/maintenance/snapshot",
        server_stream=True,
    ),
    _method(
        "etcdserverpb.Maintenance",
        "MoveLeader",
        rpc.MoveLeaderRequest,
        rpc.MoveLeaderResponse,
        "/v3/maintenance/transfer-leadership",
    ),
    _method(
        "etcdserverpb.Maintenance",
        "Downgrade",
        rpc.DowngradeRequest,
        rpc.DowngradeResponse,
        "/v3/maintenance/downgrade",
    ),
    # etcdserverpb.Auth
    _method(
        "etcdserverpb.Auth", "AuthEnable", rpc.AuthEnableRequest, rpc.AuthEnableResponse, "/v3/auth/enable"
    ),
    _method(
        "etcdserverpb.Auth",
        "AuthDisable",
        rpc.AuthDisableRequest,
        rpc.AuthDisableResponse,
        "/v3/auth/disable",
    ),
    _method(
        "etcdserverpb.Auth", "AuthStatus", rpc.AuthStatusRequest, rpc.AuthStatusResponse, "/v3/auth/status"
    ),
    _method(
        "etcdserverpb.Auth",
        "Authenticate",
        rpc.AuthenticateRequest,
        rpc.AuthenticateResponse,
        "/v3/auth/authenticate",
    ),
    _method(
        "etcdserverpb.Auth", "UserAdd", rpc.AuthUserAddRequest, rpc.AuthUserAddResponse, "/v3/auth/user/add"
    ),
    _method(
        "etcdserverpb.Auth", "UserGet", rpc.AuthUserGetRequest, rpc.AuthUserGetResponse, "/v3/auth/user/get"
    ),
    _method(
        "etcdserverpb.Auth",
        "UserList",
        rpc.AuthUserListRequest,
        rpc.AuthUserListResponse,
        "/v3/auth/user/list",
    ),
    _method(
        "etcdserverpb.Auth",
        "UserDelete",
        rpc.AuthUserDeleteRequest,
        rpc.AuthUserDeleteResponse,
        "/v3/auth/user/delete",
    ),
    _method(
        "etcdserverpb.Auth",
        "UserChangePassword",
        rpc.AuthUserChangePasswordRequest,
        rpc.AuthUserChangePasswordResponse,
        "/v3/auth/user/changepw",
    ),
    _method(
        "etcdserverpb.Auth",
        "UserGrantRole",
        rpc.AuthUserGrantRoleRequest,
        rpc.AuthUserGrantRoleResponse,
        "/v3/auth/user/grant",
    ),
    _method(
        "etcdserverpb.Auth",
        "UserRevokeRole",
        rpc.AuthUserRevokeRoleRequest,
        rpc.AuthUserRevokeRoleResponse,
        "/v3/auth/user/revoke",
    ),
    _method(
        "etcdserverpb.Auth", "RoleAdd", rpc.AuthRoleAddRequest, rpc.AuthRoleAddResponse, "/v3/auth/role/add"
    ),
    _method(
        "etcdserverpb.Auth", "RoleGet", rpc.AuthRoleGetRequest, rpc.AuthRoleGetResponse, "/v3/auth/role/get"
    ),
    _method(
        "etcdserverpb.Auth",
        "RoleList",
        rpc.AuthRoleListRequest,
        rpc.AuthRoleListResponse,
        "/v3/auth/role/list",
    ),
    _method(
        "etcdserverpb.Auth",
        "RoleDelete",
        rpc.AuthRoleDeleteRequest,
        rpc.AuthRoleDeleteResponse,
        "/v3/auth/role/delete",
    ),
    _method(
        "etcdserverpb.Auth",
        "RoleGrantPermission",
        rpc.AuthRoleGrantPermissionRequest,
        rpc.AuthRoleGrantPermissionResponse,
        "/v3/auth/role/grant",
    ),
    _method(
        "etcdserverpb.Auth",
        "RoleRevokePermission",
        rpc.AuthRoleRevokePermissionRequest,
        rpc.AuthRoleRevokePermissionResponse,
        "/v3/auth/role/revoke",
    ),
    # v3lockpb.Lock
    _method("v3lockpb.Lock", "Lock", v3lockpb.LockRequest, v3lockpb.LockResponse, "/v3/lock/lock"),
    _method("v3lockpb.Lock", "Unlock", v3lockpb.UnlockRequest, v3lockpb.UnlockResponse, "/v3/lock/unlock"),
    # v3electionpb.Election
    _method(
        "v3electionpb.Election",
        "Campaign",
        v3electionpb.CampaignRequest,
        v3electionpb.CampaignResponse,
        "/v3/election/campaign",
    ),
    _method(
        "v3electionpb.Election",
        "Proclaim",
        v3electionpb.ProclaimRequest,
        v3electionpb.ProclaimResponse,
        "/v3/election/proclaim",
    ),
    _method(
        "v3electionpb.Election",
        "Leader",
        v3electionpb.LeaderRequest,
        v3electionpb.LeaderResponse,
        "/v3/election/leader",
    ),
    _method(
        "v3electionpb.Election",
        "Observe",
        v3electionpb.LeaderRequest,
        v3electionpb.LeaderResponse,
        "/v3/election/observe",
        server_stream=True,
    ),
    _method(
        "v3electionpb.Election",
        "Resign",
        v3electionpb.ResignRequest,
        v3electionpb.ResignResponse,
        "/v3/election/resign",
    ),
    # grpc.health.v1.Health
    _method("grpc.health.v1.Health", "Check", healthpb.HealthCheckRequest, healthpb.HealthCheckResponse),
    _method(
        "grpc.health.v1.Health",
        "Watch",
        healthpb.HealthCheckRequest,
        healthpb.HealthCheckResponse,
        server_stream=True,
    ),
    _method("grpc.health.v1.Health", "List", healthpb.HealthListRequest, healthpb.HealthListResponse),
)

SERVICES: Final = {
    service: tuple(method for method in METHODS if method.service == service)
    for service in dict.fromkeys(method.service for method in METHODS)
}
"""Methods by the service's full name."""
