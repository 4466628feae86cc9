"""Users, roles and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from petcd.client.keys import Key, key_range
from petcd.client.pool import Pool
from petcd.pb import authpb
from petcd.pb.etcdserverpb import auth as pb
from petcd.pb.message import Message

Access = Literal["read", "write", "readwrite"]
M = TypeVar("M", bound="Message")

_SERVICE: Final = b"/etcdserverpb.Auth/"
_ACCESS: Final[tuple[Access, ...]] = ("read", "write", "readwrite")


@dataclass(frozen=True, slots=True)
class AuthStatus:
    """Whether users are asked who they are."""

    enabled: bool
    revision: int
    """Grows with every change of users, roles and permissions."""


@dataclass(frozen=True, slots=True)
class Permission:
    """What a role may do with a key or a range."""

    access: Access
    key: bytes
    end: bytes = b""
    """As on the wire: empty for a single key, one zero byte for no end."""


class Auth:
    """The calls of the Auth service. All but ``status`` and ``authenticate`` need a user of the root role
    while authentication is on."""

    def __init__(self, pool: Pool, timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout

    async def _call(
        self, method: bytes, request: Message, response: type[M], *, repeatable: bool = False
    ) -> M:
        return await self._pool.call(
            _SERVICE + method, request, response, repeatable=repeatable, timeout=self._timeout
        )

    async def status(self) -> AuthStatus:
        """Whether authentication is on. Etcd has this since 3.5 (and 3.4.31)."""
        answer = await self._call(
            b"AuthStatus", pb.AuthStatusRequest(), pb.AuthStatusResponse, repeatable=True
        )
        return AuthStatus(answer.enabled, answer.authRevision)

    async def enable(self) -> None:
        """Turn authentication on. There must be a user ``root`` with the role ``root``."""
        await self._call(b"AuthEnable", pb.AuthEnableRequest(), pb.AuthEnableResponse)

    async def disable(self) -> None:
        await self._call(b"AuthDisable", pb.AuthDisableRequest(), pb.AuthDisableResponse)

    async def authenticate(self, user: str, password: str) -> str:
        """The token a server gives for a name and a password. The client's own calls go on as they were."""
        request = pb.AuthenticateRequest(name=user, password=password)
        return (await self._call(b"Authenticate", request, pb.AuthenticateResponse, repeatable=True)).token

    # --- users ----------------------------------------------------------------------------------------

    async def users(self) -> list[str]:
        """All names."""
        answer = await self._call(
            b"UserList", pb.AuthUserListRequest(), pb.AuthUserListResponse, repeatable=True
        )
        return answer.users

    async def user(self, name: str) -> list[str]:
        """The roles of a user. Raises UserNotFound."""
        answer = await self._call(
            b"UserGet", pb.AuthUserGetRequest(name=name), pb.AuthUserGetResponse, repeatable=True
        )
        return answer.roles

    async def add_user(self, name: str, password: str = "", *, no_password: bool = False) -> None:
        """``no_password``: it is known by its certificate's common name only."""
        request = pb.AuthUserAddRequest(
            name=name, password=password, options=authpb.UserAddOptions(no_password=no_password)
        )
        await self._call(b"UserAdd", request, pb.AuthUserAddResponse)

    async def delete_user(self, name: str) -> None:
        await self._call(b"UserDelete", pb.AuthUserDeleteRequest(name=name), pb.AuthUserDeleteResponse)

    async def change_password(self, name: str, password: str) -> None:
        request = pb.AuthUserChangePasswordRequest(name=name, password=password)
        await self._call(b"UserChangePassword", request, pb.AuthUserChangePasswordResponse)

    async def grant_role(self, user: str, role: str) -> None:
        request = pb.AuthUserGrantRoleRequest(user=user, role=role)
        await self._call(b"UserGrantRole", request, pb.AuthUserGrantRoleResponse)

    async def revoke_role(self, user: str, role: str) -> None:
        request = pb.AuthUserRevokeRoleRequest(name=user, role=role)
        await self._call(b"UserRevokeRole", request, pb.AuthUserRevokeRoleResponse)

    # --- roles ----------------------------------------------------------------------------------------

    async def roles(self) -> list[str]:
        """All names."""
        answer = await self._call(
            b"RoleList", pb.AuthRoleListRequest(), pb.AuthRoleListResponse, repeatable=True
        )
        return answer.roles

    async def role(self, name: str) -> list[Permission]:
        """What a role may do. Raises RoleNotFound."""
        answer = await self._call(
            b"RoleGet", pb.AuthRoleGetRequest(role=name), pb.AuthRoleGetResponse, repeatable=True
        )
        return [Permission(_ACCESS[perm.permType], perm.key, perm.range_end) for perm in answer.perm]

    async def add_role(self, name: str) -> None:
        await self._call(b"RoleAdd", pb.AuthRoleAddRequest(name=name), pb.AuthRoleAddResponse)

    async def delete_role(self, name: str) -> None:
        await self._call(b"RoleDelete", pb.AuthRoleDeleteRequest(role=name), pb.AuthRoleDeleteResponse)

    async def grant_permission(
        self,
        role: str,
        access: Access,
        key: Key,
        end: Key | None = None,
        *,
        prefix: bool = False,
        from_key: bool = False,
    ) -> None:
        """Let a role read or write a key, or a range written as for ``get``."""
        first, last = key_range(key, end, prefix=prefix, from_key=from_key)
        perm = authpb.Permission(permType=_ACCESS.index(access), key=first, range_end=last)
        request = pb.AuthRoleGrantPermissionRequest(name=role, perm=perm)
        await self._call(b"RoleGrantPermission", request, pb.AuthRoleGrantPermissionResponse)

    async def revoke_permission(
        self,
        role: str,
        key: Key,
        end: Key | None = None,
        *,
        prefix: bool = False,
        from_key: bool = False,
    ) -> None:
        """Take back what was granted for exactly this key or range. Raises PermissionNotGranted."""
        first, last = key_range(key, end, prefix=prefix, from_key=from_key)
        request = pb.AuthRoleRevokePermissionRequest(role=role, key=first, range_end=last)
        await self._call(b"RoleRevokePermission", request, pb.AuthRoleRevokePermissionResponse)
