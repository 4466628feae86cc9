"""``-w fields``: one ``"Name" : value`` per line (contract cli section 1.6, texts of 3.6 and later)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from petcd.cli.etcdctl.commands import write
from petcd.cli.etcdctl.golang import quote, uint64
from petcd.cli.etcdctl.printers import Printer
from petcd.cli.etcdctl.printers.rows import yes

if TYPE_CHECKING:
    from petcd.cli.etcdctl.printers import EndpointHash, EndpointStatus, Health
    from petcd.pb import etcdserverpb as pb
    from petcd.pb import mvccpb

PERMISSIONS = {0: "READ", 1: "WRITE", 2: "READWRITE"}


def _line(name: str, value: object) -> str:
    return f'"{name}" : {value}\n'


class FormatPrinter(Printer):
    name = "fields"

    def _id(self, value: int) -> str:
        return f"{value:x}" if self.hex else str(value)

    def _lease(self, value: int) -> str:
        return f"{uint64(value):016x}" if self.hex else str(value)

    def _header(self, response: Any) -> str:
        header = response.header
        if header is None:
            return ""
        out = _line("ClusterID", self._id(header.cluster_id)) + _line("MemberID", self._id(header.member_id))
        if header.revision:
            out += _line("Revision", header.revision)
        return out + _line("RaftTerm", header.raft_term)

    def _pair(self, kv: mvccpb.KeyValue, prefix: str = "") -> str:
        return (
            _line(prefix + "Key", quote(kv.key))
            + _line(prefix + "CreateRevision", kv.create_revision)
            + _line(prefix + "ModRevision", kv.mod_revision)
            + _line(prefix + "Version", kv.version)
            + _line(prefix + "Value", quote(kv.value))
            + _line(prefix + "Lease", self._lease(kv.lease))
        )

    def get(self, response: pb.RangeResponse) -> None:
        out = [self._header(response), *map(self._pair, response.kvs)]
        write("".join(out) + _line("More", yes(response.more)) + _line("Count", response.count))

    def put(self, response: pb.PutResponse) -> None:
        previous = self._pair(response.prev_kv, "Prev") if response.prev_kv else ""
        write(self._header(response) + previous)

    def delete(self, response: pb.DeleteRangeResponse) -> None:
        out = [self._pair(kv, "Prev") for kv in response.prev_kvs]
        write(self._header(response) + _line("Deleted", response.deleted) + "".join(out))

    def txn(self, response: pb.TxnResponse) -> None:
        write(self._header(response) + _line("Succeeded", yes(response.succeeded)))
        for op in response.responses:
            if op.response_put is not None:
                self.put(op.response_put)
            elif op.response_range is not None:
                self.get(op.response_range)
            elif op.response_delete_range is not None:
                self.delete(op.response_delete_range)

    def watch(self, response: pb.WatchResponse) -> None:
        out = [self._header(response)]
        for event in response.events:
            out.append(_line("Type", "DELETE" if event.type == 1 else "PUT"))
            if event.prev_kv is not None:
                out.append(self._pair(event.prev_kv, "Prev"))
            if event.kv is not None:
                out.append(self._pair(event.kv))
        write("".join(out))

    def grant(self, response: pb.LeaseGrantResponse) -> None:
        write(self._header(response) + _line("ID", self._lease(response.ID)) + _line("TTL", response.TTL))

    def revoke(self, lease: int, response: pb.LeaseRevokeResponse) -> None:
        write(self._header(response))

    def keep_alive(self, response: pb.LeaseKeepAliveResponse) -> None:
        write(self._header(response) + _line("ID", self._lease(response.ID)) + _line("TTL", response.TTL))

    def time_to_live(self, response: pb.LeaseTimeToLiveResponse, *, keys: bool) -> None:
        write(
            self._header(response)
            + _line("ID", self._lease(response.ID))
            + _line("TTL", response.TTL)
            + _line("GrantedTTL", response.grantedTTL)
            + "".join(_line("Key", quote(key)) for key in response.keys)
        )

    def leases(self, response: pb.LeaseLeasesResponse) -> None:
        ids = "".join(_line("ID", self._lease(lease.ID)) for lease in response.leases)
        write(self._header(response) + ids)

    def alarm(self, response: pb.AlarmResponse) -> None:
        from petcd.cli.etcdctl.printers.simple import ALARMS

        out = [self._header(response)]
        for alarm in response.alarms:
            kind = ALARMS.get(alarm.alarm, str(alarm.alarm))
            out.append(_line("MemberID", self._id(alarm.memberID)) + _line("AlarmType", kind) + "\n")
        write("".join(out))

    def member_list(self, response: pb.MemberListResponse) -> None:
        out = [self._header(response)]
        for member in response.members:
            out.append(_line("ID", self._id(member.ID)) + _line("Name", quote(member.name)))
            out.extend(_line("PeerURL", quote(url)) for url in member.peerURLs)
            out.extend(_line("ClientURL", quote(url)) for url in member.clientURLs)
            out.append(_line("IsLearner", yes(member.isLearner)) + "\n")
        write("".join(out))

    def endpoint_health(self, rows: list[Health]) -> None:
        for row in rows:
            write(
                _line("Endpoint", quote(row.endpoint))
                + _line("Health", yes(row.healthy))
                + _line("Took", row.took)
                + _line("Error", row.error)
                + "\n"
            )

    def endpoint_status(self, rows: list[EndpointStatus]) -> None:
        for row in rows:
            s = row.status
            info = s.downgradeInfo
            write(
                self._header(s)
                + _line("Version", quote(s.version))
                + _line("StorageVersion", quote(s.storageVersion))
                + _line("DBSize", s.dbSize)
                + _line("DBSizeInUse", s.dbSizeInUse)
                + _line("DBSizeQuota", s.dbSizeQuota)
                + _line("Leader", self._id(s.leader))
                + _line("IsLearner", yes(s.isLearner))
                + _line("RaftIndex", s.raftIndex)
                + _line("RaftTerm", s.raftTerm)
                + _line("RaftAppliedIndex", s.raftAppliedIndex)
                + _line("Errors", "[" + " ".join(s.errors) + "]")
                + _line("Endpoint", quote(row.endpoint))
                + _line("DowngradeTargetVersion", quote(info.targetVersion if info else ""))
                + _line("DowngradeEnabled", yes(info and info.enabled))
                + "\n"
            )

    def endpoint_hashkv(self, rows: list[EndpointHash]) -> None:
        for row in rows:
            write(
                self._header(row.response)
                + _line("Endpoint", quote(row.endpoint))
                + _line("Hash", row.response.hash)
                + _line("HashRevision", row.response.hash_revision)
                + "\n"
            )

    def _only_header(self, response: Any) -> None:
        write(self._header(response))

    def user_add(self, user: str, response: pb.AuthUserAddResponse) -> None:
        self._only_header(response)

    def user_delete(self, user: str, response: pb.AuthUserDeleteResponse) -> None:
        self._only_header(response)

    def user_password(self, response: pb.AuthUserChangePasswordResponse) -> None:
        self._only_header(response)

    def user_grant_role(self, user: str, role: str, response: pb.AuthUserGrantRoleResponse) -> None:
        self._only_header(response)

    def user_revoke_role(self, user: str, role: str, response: pb.AuthUserRevokeRoleResponse) -> None:
        self._only_header(response)

    def role_add(self, role: str, response: pb.AuthRoleAddResponse) -> None:
        self._only_header(response)

    def role_delete(self, role: str, response: pb.AuthRoleDeleteResponse) -> None:
        self._only_header(response)

    def role_get(self, role: str, response: pb.AuthRoleGetResponse) -> None:
        out = [self._header(response)]
        for perm in response.perm:
            kind = PERMISSIONS.get(perm.permType, str(perm.permType))
            out.append(f'"PermType" :  {kind}\n')
            out.append(_line("Key", quote(perm.key)) + _line("RangeEnd", quote(perm.range_end)))
        write("".join(out))

    def role_list(self, response: pb.AuthRoleListResponse) -> None:
        names = "".join(f" {quote(role)}" for role in response.roles)
        write(self._header(response) + f'"Roles" :{names}\n')

    def role_grant_permission(self, role: str, response: pb.AuthRoleGrantPermissionResponse) -> None:
        self._only_header(response)

    def role_revoke_permission(
        self, role: str, key: bytes, end: bytes, response: pb.AuthRoleRevokePermissionResponse
    ) -> None:
        self._only_header(response)
