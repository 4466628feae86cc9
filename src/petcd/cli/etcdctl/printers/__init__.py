"""One printer per output format (contract cli section 2.10). ``Printer`` refuses what a format lacks."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from petcd.cli.etcdctl.commands import BAD_FEATURE, Exit

if TYPE_CHECKING:
    from petcd.pb import etcdserverpb as pb


class Health(NamedTuple):
    """The outcome of one endpoint's health check."""

    endpoint: str
    healthy: bool
    took: str
    error: str = ""


class EndpointStatus(NamedTuple):
    endpoint: str
    status: pb.StatusResponse


class EndpointHash(NamedTuple):
    endpoint: str
    response: pb.HashKVResponse


class Printer:
    """Every response there is to print. A format overrides what it supports."""

    name = ""

    def __init__(self, *, hexadecimal: bool) -> None:
        self.hex = hexadecimal
        self.value_only = False
        """``get --print-value-only``."""

    def unsupported(self) -> NoReturn:
        raise Exit(BAD_FEATURE, f"{self.name} not supported as output format")

    def get(self, response: pb.RangeResponse) -> None:
        self.unsupported()

    def put(self, response: pb.PutResponse) -> None:
        self.unsupported()

    def delete(self, response: pb.DeleteRangeResponse) -> None:
        self.unsupported()

    def txn(self, response: pb.TxnResponse) -> None:
        self.unsupported()

    def watch(self, response: pb.WatchResponse) -> None:
        self.unsupported()

    def grant(self, response: pb.LeaseGrantResponse) -> None:
        self.unsupported()

    def revoke(self, lease: int, response: pb.LeaseRevokeResponse) -> None:
        self.unsupported()

    def keep_alive(self, response: pb.LeaseKeepAliveResponse) -> None:
        self.unsupported()

    def time_to_live(self, response: pb.LeaseTimeToLiveResponse, *, keys: bool) -> None:
        self.unsupported()

    def leases(self, response: pb.LeaseLeasesResponse) -> None:
        self.unsupported()

    def alarm(self, response: pb.AlarmResponse) -> None:
        self.unsupported()

    def member_list(self, response: pb.MemberListResponse) -> None:
        self.unsupported()

    def member_add(self, response: pb.MemberAddResponse) -> None:
        self.unsupported()

    def member_remove(self, member: int, response: pb.MemberRemoveResponse) -> None:
        self.unsupported()

    def member_update(self, member: int, response: pb.MemberUpdateResponse) -> None:
        self.unsupported()

    def member_promote(self, member: int, response: pb.MemberPromoteResponse) -> None:
        self.unsupported()

    def endpoint_health(self, rows: list[Health]) -> None:
        self.unsupported()

    def endpoint_status(self, rows: list[EndpointStatus]) -> None:
        self.unsupported()

    def endpoint_hashkv(self, rows: list[EndpointHash]) -> None:
        self.unsupported()

    def move_leader(self, leader: int, target: int, response: pb.MoveLeaderResponse) -> None:
        self.unsupported()

    def downgrade(self, action: str, response: pb.DowngradeResponse) -> None:
        self.unsupported()

    def auth_status(self, response: pb.AuthStatusResponse) -> None:
        self.unsupported()

    def user_add(self, user: str, response: pb.AuthUserAddResponse) -> None:
        self.unsupported()

    def user_delete(self, user: str, response: pb.AuthUserDeleteResponse) -> None:
        self.unsupported()

    def user_get(self, user: str, response: pb.AuthUserGetResponse) -> None:
        self.unsupported()

    def user_list(self, response: pb.AuthUserListResponse) -> None:
        self.unsupported()

    def user_password(self, response: pb.AuthUserChangePasswordResponse) -> None:
        self.unsupported()

    def user_grant_role(self, user: str, role: str, response: pb.AuthUserGrantRoleResponse) -> None:
        self.unsupported()

    def user_revoke_role(self, user: str, role: str, response: pb.AuthUserRevokeRoleResponse) -> None:
        self.unsupported()

    def role_add(self, role: str, response: pb.AuthRoleAddResponse) -> None:
        self.unsupported()

    def role_delete(self, role: str, response: pb.AuthRoleDeleteResponse) -> None:
        self.unsupported()

    def role_get(self, role: str, response: pb.AuthRoleGetResponse) -> None:
        self.unsupported()

    def role_list(self, response: pb.AuthRoleListResponse) -> None:
        self.unsupported()

    def role_grant_permission(self, role: str, response: pb.AuthRoleGrantPermissionResponse) -> None:
        self.unsupported()

    def role_revoke_permission(
        self, role: str, key: bytes, end: bytes, response: pb.AuthRoleRevokePermissionResponse
    ) -> None:
        self.unsupported()


def make(name: str, *, hexadecimal: bool) -> Printer:
    """The printer of a format; imports only that one."""
    if name not in ("simple", "json", "fields", "table", "protobuf"):
        raise Exit(BAD_FEATURE, "unsupported output format")
    module = import_module(f"petcd.cli.etcdctl.printers.{name}")
    printer: Printer = module.FormatPrinter(hexadecimal=hexadecimal)
    return printer
