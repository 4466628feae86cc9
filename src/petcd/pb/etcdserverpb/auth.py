"""Messages of the Auth service.

Source: contract/wire-v3.md section 1.1 (package etcdserverpb, rpc.proto).
"""

# ruff: noqa: N815 - attributes keep the exact spelling of the protobuf fields

from __future__ import annotations

from petcd.pb import authpb
from petcd.pb.etcdserverpb.header import ResponseHeader, Rpc
from petcd.pb.message import bool_, bytes_, message, repeated, repeated_string, string, uint64


class AuthEnableRequest(Rpc):
    """No fields."""


class AuthDisableRequest(Rpc):
    """No fields."""


class AuthStatusRequest(Rpc):
    """No fields."""


class AuthenticateRequest(Rpc):
    name: str = string(1)
    password: str = string(2)


class AuthUserAddRequest(Rpc):
    name: str = string(1)
    password: str = string(2)
    options: authpb.UserAddOptions | None = message(3, authpb.UserAddOptions)
    hashedPassword: str = string(4)


class AuthUserGetRequest(Rpc):
    name: str = string(1)


class AuthUserDeleteRequest(Rpc):
    name: str = string(1)


class AuthUserChangePasswordRequest(Rpc):
    name: str = string(1)
    password: str = string(2)
    hashedPassword: str = string(3)


class AuthUserGrantRoleRequest(Rpc):
    user: str = string(1)
    role: str = string(2)


class AuthUserRevokeRoleRequest(Rpc):
    name: str = string(1)
    role: str = string(2)


class AuthRoleAddRequest(Rpc):
    name: str = string(1)


class AuthRoleGetRequest(Rpc):
    role: str = string(1)


class AuthUserListRequest(Rpc):
    """No fields."""


class AuthRoleListRequest(Rpc):
    """No fields."""


class AuthRoleDeleteRequest(Rpc):
    role: str = string(1)


class AuthRoleGrantPermissionRequest(Rpc):
    name: str = string(1)
    perm: authpb.Permission | None = message(2, authpb.Permission)


class AuthRoleRevokePermissionRequest(Rpc):
    role: str = string(1)
    key: bytes = bytes_(2)
    range_end: bytes = bytes_(3)


class AuthEnableResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)


class AuthDisableResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)


class AuthStatusResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)
    enabled: bool = bool_(2)
    authRevision: int = uint64(3)


class AuthenticateResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)
    token: str = string(2)


class AuthUserAddResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)


class AuthUserGetResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)
    roles: list[str] = repeated_string(2)


class AuthUserDeleteResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)


class AuthUserChangePasswordResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)


class AuthUserGrantRoleResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)


class AuthUserRevokeRoleResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)


class AuthRoleAddResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)


class AuthRoleGetResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)
    perm: list[authpb.Permission] = repeated(2, authpb.Permission)


class AuthRoleListResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)
    roles: list[str] = repeated_string(2)


class AuthUserListResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)
    users: list[str] = repeated_string(2)


class AuthRoleDeleteResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)


class AuthRoleGrantPermissionResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)


class AuthRoleRevokePermissionResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)
