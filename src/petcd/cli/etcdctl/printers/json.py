"""``-w json``: one line per response, Go's encoding/json of the messages (contract cli section 1.5)."""

from __future__ import annotations

from binascii import b2a_base64
from typing import TYPE_CHECKING, Any, Final

from petcd.cli.etcdctl.commands import write
from petcd.cli.etcdctl.printers import Printer

if TYPE_CHECKING:
    from petcd.cli.etcdctl.printers import EndpointHash, EndpointStatus, Health
    from petcd.pb import etcdserverpb as pb
    from petcd.pb.message import Message

_ESCAPES: Final = {number: f"\\u{number:04x}" for number in (*range(0x20), 0x3C, 0x3E, 0x26, 0x2028, 0x2029)}
_ESCAPES.update({0x08: "\\b", 0x0C: "\\f", 0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t", 0x22: '\\"', 0x5C: "\\\\"})
_ESCAPES.update(dict.fromkeys(range(56448, 56576), "�"))


def string(text: str) -> str:
    """A JSON string with Go's escapes; bytes that are no UTF-8 become U+FFFD."""
    return f'"{text.translate(_ESCAPES)}"'


def base64(data: bytes) -> str:
    return f'"{b2a_base64(data, newline=False).decode()}"'


def _value(field: Any, value: Any, *, hexadecimal: bool) -> str:
    kind = field.kind
    if kind == "message":
        return encode(value, hexadecimal=hexadecimal)
    if kind == "bytes":
        return base64(value)
    if kind == "string":
        return string(value)
    if kind == "bool":
        return "true" if value else "false"
    if hexadecimal and field.name in ("ID", "cluster_id", "member_id"):
        return f'"{value:x}"'
    return str(int(value))


def members(message: Message, *, hexadecimal: bool = False) -> list[str]:
    """The ``"name":value`` parts of a message; what is zero or empty is left out."""
    out: list[str] = []
    for field in type(message).FIELDS:
        value = getattr(message, field.attribute)
        if field.oneof and value is not None:
            out.append(f'"Response":{{"{field.name}":{_value(field, value, hexadecimal=hexadecimal)}}}')
        elif field.repeated:
            if value:
                items = ",".join(_value(field, item, hexadecimal=hexadecimal) for item in value)
                out.append(f'"{field.name}":[{items}]')
        elif value is not None and (field.kind == "message" or value):
            out.append(f'"{field.name}":{_value(field, value, hexadecimal=hexadecimal)}')
    return out


def encode(message: Message, *, hexadecimal: bool = False) -> str:
    return "{" + ",".join(members(message, hexadecimal=hexadecimal)) + "}"


def _inlined(response: Any, *parts: str) -> str:
    """Lease responses carry the header's fields beside their own."""
    header = members(response.header) if response.header else []
    return "{" + ",".join([*header, *parts]) + "}"


class FormatPrinter(Printer):
    name = "json"

    def _plain(self, response: Message) -> None:
        write(encode(response) + "\n")

    def get(self, response: pb.RangeResponse) -> None:
        self._plain(response)

    def put(self, response: pb.PutResponse) -> None:
        self._plain(response)

    def delete(self, response: pb.DeleteRangeResponse) -> None:
        self._plain(response)

    def txn(self, response: pb.TxnResponse) -> None:
        self._plain(response)

    def watch(self, response: pb.WatchResponse) -> None:
        header = encode(response.header) if response.header else "{}"
        events = ",".join(map(encode, response.events))
        write(
            f'{{"Header":{header},"Events":[{events}],"CompactRevision":{response.compact_revision},'
            f'"Canceled":{"true" if response.canceled else "false"},'
            f'"Created":{"true" if response.created else "false"},'
            f'"CancelReason":{string(response.cancel_reason)}}}\n'
        )

    def grant(self, response: pb.LeaseGrantResponse) -> None:
        parts = (f'"ID":{response.ID}', f'"TTL":{response.TTL}', f'"Error":{string(response.error)}')
        write(_inlined(response, *parts) + "\n")

    def revoke(self, lease: int, response: pb.LeaseRevokeResponse) -> None:
        self._plain(response)

    def keep_alive(self, response: pb.LeaseKeepAliveResponse) -> None:
        write(_inlined(response, f'"ID":{response.ID}', f'"TTL":{response.TTL}') + "\n")

    def time_to_live(self, response: pb.LeaseTimeToLiveResponse, *, keys: bool) -> None:
        attached = "[" + ",".join(map(base64, response.keys)) + "]" if response.keys else "null"
        parts = (
            f'"id":{response.ID}',
            f'"ttl":{response.TTL}',
            f'"granted-ttl":{response.grantedTTL}',
            f'"keys":{attached}',
        )
        write(_inlined(response, *parts) + "\n")

    def leases(self, response: pb.LeaseLeasesResponse) -> None:
        ids = ",".join(f'{{"id":{lease.ID}}}' for lease in response.leases)
        write(_inlined(response, f'"leases":[{ids}]') + "\n")

    def alarm(self, response: pb.AlarmResponse) -> None:
        self._plain(response)

    def _members(self, response: Message) -> None:
        write(encode(response, hexadecimal=self.hex) + "\n")

    def member_list(self, response: pb.MemberListResponse) -> None:
        self._members(response)

    def member_add(self, response: pb.MemberAddResponse) -> None:
        self._members(response)

    def member_remove(self, member: int, response: pb.MemberRemoveResponse) -> None:
        self._members(response)

    def member_update(self, member: int, response: pb.MemberUpdateResponse) -> None:
        self._members(response)

    def member_promote(self, member: int, response: pb.MemberPromoteResponse) -> None:
        self._members(response)

    def endpoint_health(self, rows: list[Health]) -> None:
        out = []
        for row in rows:
            error = f',"error":{string(row.error)}' if row.error else ""
            out.append(
                f'{{"endpoint":{string(row.endpoint)},"health":{"true" if row.healthy else "false"},'
                f'"took":{string(row.took)}{error}}}'
            )
        write("[" + ",".join(out) + "]\n")

    def endpoint_status(self, rows: list[EndpointStatus]) -> None:
        out = [f'{{"Endpoint":{string(row.endpoint)},"Status":{encode(row.status)}}}' for row in rows]
        write(("[" + ",".join(out) + "]" if out else "null") + "\n")

    def endpoint_hashkv(self, rows: list[EndpointHash]) -> None:
        out = [f'{{"Endpoint":{string(row.endpoint)},"HashKV":{encode(row.response)}}}' for row in rows]
        write(("[" + ",".join(out) + "]" if out else "null") + "\n")

    def move_leader(self, leader: int, target: int, response: pb.MoveLeaderResponse) -> None:
        self._plain(response)

    def downgrade(self, action: str, response: pb.DowngradeResponse) -> None:
        self._plain(response)

    def auth_status(self, response: pb.AuthStatusResponse) -> None:
        self._plain(response)

    def user_add(self, user: str, response: pb.AuthUserAddResponse) -> None:
        self._plain(response)

    def user_delete(self, user: str, response: pb.AuthUserDeleteResponse) -> None:
        self._plain(response)

    def user_get(self, user: str, response: pb.AuthUserGetResponse) -> None:
        self._plain(response)

    def user_list(self, response: pb.AuthUserListResponse) -> None:
        self._plain(response)

    def user_password(self, response: pb.AuthUserChangePasswordResponse) -> None:
        self._plain(response)

    def user_grant_role(self, user: str, role: str, response: pb.AuthUserGrantRoleResponse) -> None:
        self._plain(response)

    def user_revoke_role(self, user: str, role: str, response: pb.AuthUserRevokeRoleResponse) -> None:
        self._plain(response)

    def role_add(self, role: str, response: pb.AuthRoleAddResponse) -> None:
        self._plain(response)

    def role_delete(self, role: str, response: pb.AuthRoleDeleteResponse) -> None:
        self._plain(response)

    def role_get(self, role: str, response: pb.AuthRoleGetResponse) -> None:
        self._plain(response)

    def role_list(self, response: pb.AuthRoleListResponse) -> None:
        self._plain(response)

    def role_grant_permission(self, role: str, response: pb.AuthRoleGrantPermissionResponse) -> None:
        self._plain(response)

    def role_revoke_permission(
        self, role: str, key: bytes, end: bytes, response: pb.AuthRoleRevokePermissionResponse
    ) -> None:
        self._plain(response)
