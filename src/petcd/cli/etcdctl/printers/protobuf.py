"""``-w protobuf``: the encoded response message, without a newline (contract cli section 2.10)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from petcd.cli.etcdctl.printers import Printer

if TYPE_CHECKING:
    from petcd.pb import etcdserverpb as pb
    from petcd.pb.message import Message


def _emit(message: Message) -> None:
    sys.stdout.buffer.write(message.encode())
    sys.stdout.buffer.flush()


def _emit_header(response: Any) -> None:
    if response.header is not None:
        _emit(response.header)


class FormatPrinter(Printer):
    name = "protobuf"

    def get(self, response: pb.RangeResponse) -> None:
        _emit(response)

    def put(self, response: pb.PutResponse) -> None:
        _emit(response)

    def delete(self, response: pb.DeleteRangeResponse) -> None:
        _emit(response)

    def txn(self, response: pb.TxnResponse) -> None:
        _emit(response)

    def watch(self, response: pb.WatchResponse) -> None:
        kept = type(response)(
            header=response.header,
            created=response.created,
            canceled=response.canceled,
            compact_revision=response.compact_revision,
            events=response.events,
        )
        _emit(kept)

    # The Go printer sees only the header of these four.

    def grant(self, response: pb.LeaseGrantResponse) -> None:
        _emit_header(response)

    def keep_alive(self, response: pb.LeaseKeepAliveResponse) -> None:
        _emit_header(response)

    def time_to_live(self, response: pb.LeaseTimeToLiveResponse, *, keys: bool) -> None:
        _emit_header(response)

    def leases(self, response: pb.LeaseLeasesResponse) -> None:
        _emit_header(response)

    def revoke(self, lease: int, response: pb.LeaseRevokeResponse) -> None:
        _emit(response)

    def alarm(self, response: pb.AlarmResponse) -> None:
        _emit(response)

    def member_list(self, response: pb.MemberListResponse) -> None:
        _emit(response)

    def member_add(self, response: pb.MemberAddResponse) -> None:
        _emit(response)

    def member_remove(self, member: int, response: pb.MemberRemoveResponse) -> None:
        _emit(response)

    def member_update(self, member: int, response: pb.MemberUpdateResponse) -> None:
        _emit(response)

    def member_promote(self, member: int, response: pb.MemberPromoteResponse) -> None:
        _emit(response)

    def move_leader(self, leader: int, target: int, response: pb.MoveLeaderResponse) -> None:
        _emit(response)

    def downgrade(self, action: str, response: pb.DowngradeResponse) -> None:
        _emit(response)

    def auth_status(self, response: pb.AuthStatusResponse) -> None:
        _emit(response)

    def user_add(self, user: str, response: pb.AuthUserAddResponse) -> None:
        _emit(response)

    def user_delete(self, user: str, response: pb.AuthUserDeleteResponse) -> None:
        _emit(response)

    def user_get(self, user: str, response: pb.AuthUserGetResponse) -> None:
        _emit(response)

    def user_list(self, response: pb.AuthUserListResponse) -> None:
        _emit(response)

    def user_password(self, response: pb.AuthUserChangePasswordResponse) -> None:
        _emit(response)

    def user_grant_role(self, user: str, role: str, response: pb.AuthUserGrantRoleResponse) -> None:
        _emit(response)

    def user_revoke_role(self, user: str, role: str, response: pb.AuthUserRevokeRoleResponse) -> None:
        _emit(response)

    def role_add(self, role: str, response: pb.AuthRoleAddResponse) -> None:
        _emit(response)

    def role_delete(self, role: str, response: pb.AuthRoleDeleteResponse) -> None:
        _emit(response)

    def role_get(self, role: str, response: pb.AuthRoleGetResponse) -> None:
        _emit(response)

    def role_list(self, response: pb.AuthRoleListResponse) -> None:
        _emit(response)

    def role_grant_permission(self, role: str, response: pb.AuthRoleGrantPermissionResponse) -> None:
        _emit(response)

    def role_revoke_permission(
        self, role: str, key: bytes, end: bytes, response: pb.AuthRoleRevokePermissionResponse
    ) -> None:
        _emit(response)
