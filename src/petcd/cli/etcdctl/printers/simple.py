"""``-w simple``: what a person reads, and what most scripts cut (contract cli section 3)."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from petcd.cli.etcdctl.commands import complain, write
from petcd.cli.etcdctl.golang import uint64
from petcd.cli.etcdctl.printers import Printer

if TYPE_CHECKING:
    from petcd.cli.etcdctl.printers import EndpointHash, EndpointStatus, Health
    from petcd.pb import authpb, mvccpb
    from petcd.pb import etcdserverpb as pb

ALARMS = {0: "NONE", 1: "NOSPACE", 2: "CORRUPT"}


def _hex(data: bytes) -> bytes:
    return b"".join(b"\\x%02x" % byte for byte in data)


class FormatPrinter(Printer):
    name = "simple"

    def _pair(self, kv: mvccpb.KeyValue) -> bytes:
        key, value = kv.key, kv.value
        if self.hex:
            key, value = _hex(key), _hex(value)
        return value + b"\n" if self.value_only else b"%b\n%b\n" % (key, value)

    def _bytes(self, data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def get(self, response: pb.RangeResponse) -> None:
        self._bytes(b"".join(map(self._pair, response.kvs)))

    def put(self, response: pb.PutResponse) -> None:
        self._bytes(b"OK\n" + (self._pair(response.prev_kv) if response.prev_kv else b""))

    def delete(self, response: pb.DeleteRangeResponse) -> None:
        self._bytes(b"%d\n" % response.deleted + b"".join(map(self._pair, response.prev_kvs)))

    def txn(self, response: pb.TxnResponse) -> None:
        write("SUCCESS\n" if response.succeeded else "FAILURE\n")
        for op in response.responses:
            write("\n")
            if op.response_put is not None:
                self.put(op.response_put)
            elif op.response_range is not None:
                self.get(op.response_range)
            elif op.response_delete_range is not None:
                self.delete(op.response_delete_range)

    def watch(self, response: pb.WatchResponse) -> None:
        out = []
        for event in response.events:
            out.append(b"DELETE\n" if event.type == 1 else b"PUT\n")
            if event.prev_kv is not None:
                out.append(self._pair(event.prev_kv))
            if event.kv is not None:
                out.append(self._pair(event.kv))
        self._bytes(b"".join(out))

    def grant(self, response: pb.LeaseGrantResponse) -> None:
        write(f"lease {uint64(response.ID):016x} granted with TTL({response.TTL}s)\n")

    def revoke(self, lease: int, response: pb.LeaseRevokeResponse) -> None:
        write(f"lease {uint64(lease):016x} revoked\n")

    def keep_alive(self, response: pb.LeaseKeepAliveResponse) -> None:
        write(f"lease {uint64(response.ID):016x} keepalived with TTL({response.TTL})\n")

    def time_to_live(self, response: pb.LeaseTimeToLiveResponse, *, keys: bool) -> None:
        lease = f"{uint64(response.ID):016x}"
        if response.grantedTTL == 0 and response.TTL == -1:
            write(f"lease {lease} already expired\n")
            return
        line = f"lease {lease} granted with TTL({response.grantedTTL}s), remaining({response.TTL}s)".encode()
        if keys:
            line += b", attached keys([" + b" ".join(response.keys) + b"])"
        self._bytes(line + b"\n")

    def leases(self, response: pb.LeaseLeasesResponse) -> None:
        lines = [f"found {len(response.leases)} leases"]
        lines += [f"{uint64(lease.ID):016x}" for lease in response.leases]
        write("\n".join(lines) + "\n")

    def alarm(self, response: pb.AlarmResponse) -> None:
        for alarm in response.alarms:
            kind = ALARMS.get(alarm.alarm, str(alarm.alarm))
            member = f"memberID:{alarm.memberID} " if alarm.memberID else ""
            write(f"{member}alarm:{kind}\n")

    def member_list(self, response: pb.MemberListResponse) -> None:
        from petcd.cli.etcdctl.printers import rows

        write("".join(", ".join(rows.member(m)) + "\n" for m in response.members))

    def member_add(self, response: pb.MemberAddResponse) -> None:
        kind = "added as learner to" if response.member and response.member.isLearner else "added to"
        self._member(response.member.ID if response.member else 0, kind, response)

    def _member(self, member: int, what: str, response: Any) -> None:
        cluster = response.header.cluster_id if response.header else 0
        write(f"Member {member:16x} {what} cluster {cluster:16x}\n")

    def member_remove(self, member: int, response: pb.MemberRemoveResponse) -> None:
        self._member(member, "removed from", response)

    def member_update(self, member: int, response: pb.MemberUpdateResponse) -> None:
        self._member(member, "updated in", response)

    def member_promote(self, member: int, response: pb.MemberPromoteResponse) -> None:
        self._member(member, "promoted in", response)

    def endpoint_health(self, rows: list[Health]) -> None:
        for row in rows:
            if row.healthy:
                write(f"{row.endpoint} is healthy: successfully committed proposal: took = {row.took}\n")
            else:
                complain(f"{row.endpoint} is unhealthy: failed to commit proposal: {row.error}")

    def endpoint_status(self, rows: list[EndpointStatus]) -> None:
        from petcd.cli.etcdctl.printers import rows as cells

        write("".join(", ".join(cells.status(row)) + "\n" for row in rows))

    def endpoint_hashkv(self, rows: list[EndpointHash]) -> None:
        from petcd.cli.etcdctl.printers import rows as cells

        write("".join(", ".join(cells.hash_kv(row)) + "\n" for row in rows))

    def move_leader(self, leader: int, target: int, response: pb.MoveLeaderResponse) -> None:
        write(f"Leadership transferred from {leader:x} to {target:x}\n")

    def downgrade(self, action: str, response: pb.DowngradeResponse) -> None:
        write(f"Downgrade {action} success, cluster version {response.version}\n")

    def auth_status(self, response: pb.AuthStatusResponse) -> None:
        enabled = "true" if response.enabled else "false"
        write(f"Authentication Status: {enabled}\nAuthRevision: {response.authRevision}\n")

    def user_add(self, user: str, response: pb.AuthUserAddResponse) -> None:
        write(f"User {user} created\n")

    def user_delete(self, user: str, response: pb.AuthUserDeleteResponse) -> None:
        write(f"User {user} deleted\n")

    def user_get(self, user: str, response: pb.AuthUserGetResponse) -> None:
        write(f"User: {user}\n" + " ".join(["Roles:", *response.roles]) + "\n")

    def user_list(self, response: pb.AuthUserListResponse) -> None:
        write("".join(f"{user}\n" for user in response.users))

    def user_password(self, response: pb.AuthUserChangePasswordResponse) -> None:
        write("Password updated\n")

    def user_grant_role(self, user: str, role: str, response: pb.AuthUserGrantRoleResponse) -> None:
        write(f"Role {role} is granted to user {user}\n")

    def user_revoke_role(self, user: str, role: str, response: pb.AuthUserRevokeRoleResponse) -> None:
        write(f"Role {role} is revoked from user {user}\n")

    def role_add(self, role: str, response: pb.AuthRoleAddResponse) -> None:
        write(f"Role {role} created\n")

    def role_delete(self, role: str, response: pb.AuthRoleDeleteResponse) -> None:
        write(f"Role {role} deleted\n")

    def role_get(self, role: str, response: pb.AuthRoleGetResponse) -> None:
        out = [f"Role {role}\n".encode("utf-8", "surrogateescape")]
        root = role == "root" and not response.perm
        for title, wanted in ((b"KV Read:\n", (0, 2)), (b"KV Write:\n", (1, 2))):
            out.append(title)
            if root:
                out.append(b"\t[, <open ended>\n")
            out.extend(_permission(perm) for perm in response.perm if perm.permType in wanted)
        self._bytes(b"".join(out))

    def role_list(self, response: pb.AuthRoleListResponse) -> None:
        write("".join(f"{role}\n" for role in response.roles))

    def role_grant_permission(self, role: str, response: pb.AuthRoleGrantPermissionResponse) -> None:
        write(f"Role {role} updated\n")

    def role_revoke_permission(
        self, role: str, key: bytes, end: bytes, response: pb.AuthRoleRevokePermissionResponse
    ) -> None:
        name = role.encode("utf-8", "surrogateescape")
        if not end:
            self._bytes(b"Permission of key %b is revoked from role %b\n" % (key, name))
        else:
            shown = b"<open ended>" if end == b"\0" else end + b")"
            self._bytes(b"Permission of range [%b, %b is revoked from role %b\n" % (key, shown, name))


def _permission(perm: authpb.Permission) -> bytes:
    if not perm.range_end:
        return b"\t%b\n" % perm.key
    if perm.range_end == b"\0":
        return b"\t[%b, <open ended>\n" % perm.key
    line = b"\t[%b, %b)" % (perm.key, perm.range_end)
    if prefix_end(perm.key) == perm.range_end and perm.key:
        line += b" (prefix %b)" % perm.key
    return line + b"\n"


def prefix_end(prefix: bytes) -> bytes:
    """The end of the range of keys that start with ``prefix``; one zero byte when there is no end."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else b"\0"
