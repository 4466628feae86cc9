"""The Maintenance service of one member: Status, Alarm, Defragment, Hash, HashKV (contract wire-v3, 10)."""

from __future__ import annotations

from petcd import ETCD_VERSION, errors
from petcd.api.service import Service, malformed
from petcd.api.snapshot import SnapshotHandler, Snapshots
from petcd.errors import EtcdError
from petcd.mvcc import KVHash
from petcd.net.grpc import Call, Method, Stream
from petcd.pb import DecodeError
from petcd.pb.etcdserverpb import (
    AlarmMember,
    AlarmRequest,
    DefragmentRequest,
    DowngradeInfo,
    HashKVRequest,
    HashRequest,
    MoveLeaderRequest,
    StatusRequest,
    StatusResponse,
)
from petcd.pb.wire import varint
from petcd.server import alarms as alarm
from petcd.server import applier
from petcd.server.member import Member
from petcd.server.proposals import Waiter
from petcd.server.quota import DEFAULT_BYTES


class Maintenance(Service):
    """etcdserverpb.Maintenance."""

    def __init__(self, member: Member) -> None:
        super().__init__(member)
        self.snapshots = Snapshots(member)

    def methods(self) -> list[Method]:
        return [
            Method(b"/etcdserverpb.Maintenance/Alarm", unary=self.alarm),
            Method(b"/etcdserverpb.Maintenance/Status", unary=self.status),
            Method(b"/etcdserverpb.Maintenance/Defragment", unary=self.defragment),
            Method(b"/etcdserverpb.Maintenance/Hash", unary=self.hash),
            Method(b"/etcdserverpb.Maintenance/HashKV", unary=self.hash_kv),
            Method(b"/etcdserverpb.Maintenance/MoveLeader", unary=self.move_leader),
            Method(b"/etcdserverpb.Maintenance/Snapshot", stream=self.snapshot),
        ]

    def status(self, call: Call, message: bytes) -> None:
        try:
            StatusRequest.decode(message)
        except DecodeError as error:
            malformed(call, error)
            return
        if self.refused(call, for_learners=True):
            return
        call.reply(self.member.header() + self.status_response().encode())

    def status_response(self) -> StatusResponse:
        """Everything but the header."""
        member = self.member
        problems = [] if member.lead else [errors.NoLeader.text]
        problems += [describe_alarm(*pair) for pair in member.alarms.get()]
        own = member.membership.members.get(member.id)
        return StatusResponse(
            version=ETCD_VERSION,
            dbSize=member.backend.size(),
            leader=member.lead,
            raftIndex=member.node.commit_index,
            raftTerm=member.node.term,
            raftAppliedIndex=member.applied,
            errors=problems,
            dbSizeInUse=member.backend.size_in_use(),
            isLearner=own is not None and own.is_learner,
            storageVersion=member.storage_version,
            dbSizeQuota=member.config.quota_backend_bytes or DEFAULT_BYTES,
            downgradeInfo=DowngradeInfo(
                enabled=bool(member.membership.downgrade_target),
                targetVersion=member.membership.downgrade_target,
            ),
        )

    def alarm(self, call: Call, message: bytes) -> None:
        try:
            request = AlarmRequest.decode(message)
        except DecodeError as error:
            malformed(call, error)
            return
        if not self.refused(call):
            self.member.propose(applier.ALARM, message, request, call)

    def defragment(self, call: Call, message: bytes) -> None:
        try:
            DefragmentRequest.decode(message)
        except DecodeError as error:
            malformed(call, error)
            return
        if self.refused(call):
            return

        def failed(error: BaseException) -> None:
            self.member.logger.error("failed to defragment", error=str(error))
            call.fail(errors.Code.UNKNOWN, str(error))
            self.member.flush_edges()

        def done() -> None:
            call.reply(b"")
            self.member.flush_edges()

        self.member.defragment(done, failed)

    def hash(self, call: Call, message: bytes) -> None:
        try:
            HashRequest.decode(message)
        except DecodeError as error:
            malformed(call, error)
            return
        if self.refused(call):
            return

        def done(value: int) -> None:
            call.reply(self.member.header() + b"\x10" + varint(value))
            self.member.flush_edges()

        self.member.hash(done)

    def hash_kv(self, call: Call, message: bytes) -> None:
        try:
            request = HashKVRequest.decode(message)
        except DecodeError as error:
            malformed(call, error)
            return
        if not self.refused(call):
            self.answer_hash_kv(call, request)

    def answer_hash_kv(self, call: Waiter, request: HashKVRequest) -> None:
        member = self.member

        def done(kv: KVHash) -> None:
            body = b"\x10" + varint(kv.hash) + b"\x18" + varint(kv.compact_revision)
            call.reply(member.header() + body + b"\x20" + varint(kv.revision))
            member.flush_edges()

        try:
            member.hash_kv(request.revision, done)
        except EtcdError as error:
            call.fail(error.code, error.text)

    def move_leader(self, call: Call, message: bytes) -> None:
        """The leader hands over; the answer comes when the other one is seen to lead."""
        try:
            request = MoveLeaderRequest.decode(message)
        except DecodeError as error:
            malformed(call, error)
            return
        if self.refused(call):
            return
        member = self.member
        if not member.is_leader:
            raise errors.NotLeader
        transferee = member.membership.members.get(request.targetID)
        if transferee is None or transferee.is_learner:
            raise errors.BadLeaderTransferee

        def done(error: EtcdError | None) -> None:
            if error is None:
                call.reply(b"")
            else:
                call.fail(error.code, error.text)
            member.flush_edges()

        member.transfer_leader(request.targetID, done)

    def snapshot(self, stream: Stream) -> SnapshotHandler:
        self.check_stream(stream, for_learners=True)
        return SnapshotHandler(self.snapshots, stream)


def describe_alarm(member_id: int, which: int) -> str:
    """The text form of an AlarmMember: fields that are zero are left out."""
    record = AlarmMember(memberID=member_id, alarm=which)
    parts = []
    if record.memberID:
        parts.append(f"memberID:{record.memberID}")
    if record.alarm:
        parts.append(f"alarm:{alarm.NAMES.get(record.alarm, str(record.alarm))}")
    return " ".join(parts)
