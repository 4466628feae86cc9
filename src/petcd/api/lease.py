"""The Lease service (contract wire-v3 section 5)."""

from __future__ import annotations

from functools import partial
from typing import Final

from petcd import errors
from petcd.api.service import UNREAD_BYTES_MAX, UNREAD_TEXT, Service, malformed, malformed_text
from petcd.errors import EtcdError
from petcd.net.grpc import Call, Method, Stream
from petcd.pb import DecodeError
from petcd.pb.etcdserverpb import (
    LeaseGrantRequest,
    LeaseKeepAliveRequest,
    LeaseLeasesRequest,
    LeaseRevokeRequest,
    LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
)
from petcd.pb.wire import varint
from petcd.server import applier
from petcd.server.leadcheck import LeadCheck
from petcd.server.leaseforward import (
    HERE,
    RETRY_SECONDS,
    Here,
    LeaseQuestion,
    ask_renewal,
    ask_time_to_live,
)
from petcd.server.leasing import reset_checkpoint
from petcd.server.member import Member
from petcd.server.quota import LEASE_COST
from petcd.server.reconfiguration import wait_applied

_APPLY_WAIT_SECONDS: Final = 1.0
_INT64_MAX: Final = (1 << 63) - 1


class LeaseService(Service):
    """etcdserverpb.Lease."""

    def __init__(self, member: Member, lead_check: LeadCheck | None = None) -> None:
        super().__init__(member)
        self.lead_check = lead_check or LeadCheck(member)

    def methods(self) -> list[Method]:
        return [
            Method(b"/etcdserverpb.Lease/LeaseGrant", unary=self.grant),
            Method(b"/etcdserverpb.Lease/LeaseRevoke", unary=self.revoke),
            Method(b"/etcdserverpb.Lease/LeaseKeepAlive", stream=self.keep_alive),
            Method(b"/etcdserverpb.Lease/LeaseTimeToLive", unary=self.time_to_live),
            Method(b"/etcdserverpb.Lease/LeaseLeases", unary=self.leases),
        ]

    def grant(self, call: Call, message: bytes) -> None:
        try:
            request = LeaseGrantRequest.decode(message)
        except DecodeError as error:
            malformed(call, error)
            return
        if self.refused(call):
            return
        member = self.member
        if member.applier.quota_is_near and self.lacks_space(call, LEASE_COST):
            return
        if request.ID == 0:
            request.ID = self._new_id()
            message = request.encode()
        member.propose(applier.LEASE_GRANT, message, request, call)

    def _new_id(self) -> int:
        while True:
            lease_id = self.member.ids.next() & _INT64_MAX
            if lease_id and not self.member.lessor.exists(lease_id):
                return lease_id

    def revoke(self, call: Call, message: bytes) -> None:
        try:
            request = LeaseRevokeRequest.decode(message)
        except DecodeError as error:
            malformed(call, error)
            return
        if not self.refused(call):
            self.member.propose(applier.LEASE_REVOKE, message, request, call)

    def time_to_live(self, call: Call, message: bytes) -> None:
        try:
            request = LeaseTimeToLiveRequest.decode(message)
        except DecodeError as error:
            malformed(call, error)
            return
        if self.refused(call):
            return
        member = self.member
        if member.lessor.primary and member.applied >= member.node.commit_index:
            self._answer_time_to_live(call, request)
        elif member.lessor.primary:
            late = errors.TimeoutWaitAppliedIndex
            wait_applied(
                member,
                partial(self._answer_time_to_live, call, request),
                partial(call.fail, late.code, late.text),
            )
        else:
            ask_time_to_live(member, request, partial(self._answer_from_leader, call, request)).ask()

    def _answer_time_to_live(self, call: Call, request: LeaseTimeToLiveRequest) -> None:
        member = self.member
        if not member.lessor.primary:  # it was when the call came
            call.fail(errors.LeaderChanged.code, errors.LeaderChanged.text)
            return
        body = member.header() + b"\x10" + varint(request.ID) if request.ID else member.header()
        lease = member.lessor.get(request.ID)
        if lease is None:
            call.reply(body + b"\x18" + varint(-1))
            return
        left = lease.remaining_seconds(member.clock.monotonic())
        if left:
            body += b"\x18" + varint(left)
        body += b"\x20" + varint(lease.ttl)
        if request.keys:
            body += b"".join([b"\x2a" + varint(len(key)) + key for key in sorted(lease.keys)])
        call.reply(body)

    def _answer_from_leader(
        self,
        call: Call,
        request: LeaseTimeToLiveRequest,
        found: LeaseTimeToLiveResponse | EtcdError | Here | None,
    ) -> None:
        if found is HERE:
            self._answer_time_to_live(call, request)
        elif isinstance(found, EtcdError):
            call.fail(found.code, found.text)
        else:
            response = found if found is not None else LeaseTimeToLiveResponse(ID=request.ID, TTL=-1)
            response.header = None
            call.reply(self.member.header() + response.encode())
        self.member.flush_edges()

    def leases(self, call: Call, message: bytes) -> None:
        try:
            LeaseLeasesRequest.decode(message)
        except DecodeError as error:
            malformed(call, error)
            return
        if self.refused(call):
            return
        parts = [self.member.header()]
        for lease in self.member.lessor.by_remaining():
            body = b"\x08" + varint(lease.id)
            parts.append(b"\x12" + varint(len(body)) + body)
        call.reply(b"".join(parts))

    def keep_alive(self, stream: Stream) -> KeepAlive:
        self.check_stream(stream)
        return KeepAlive(self, stream)


class KeepAlive:
    """One keep-alive stream: an answer per request, in order.

    The leader renews at once. Elsewhere the request in front is with the leader, and those behind it wait.
    """

    __slots__ = ("_ended", "_half_closed", "_question", "_queue", "_service", "_since", "_stream")

    def __init__(self, service: LeaseService, stream: Stream) -> None:
        self._service = service
        self._stream = stream
        self._queue: list[int] = []
        self._since = 0.0
        self._half_closed = False
        self._ended = False
        self._question: LeaseQuestion | None = None

    def on_message(self, message: bytes) -> None:
        try:
            request = LeaseKeepAliveRequest.decode(message)
        except DecodeError as error:
            self._end(errors.Code.INTERNAL, malformed_text(error))
            return
        if self._stream.blocked and self._stream.pending_bytes > UNREAD_BYTES_MAX:
            self._end(errors.Code.RESOURCE_EXHAUSTED, UNREAD_TEXT)
            return
        self._queue.append(request.ID)
        if len(self._queue) == 1:
            self._since = self._service.member.clock.monotonic()
            self._work()

    def on_half_close(self) -> None:
        self._half_closed = True
        if not self._queue:
            self._end(0, "")

    def on_cancel(self) -> None:
        self._ended = True
        if self._question is not None:
            self._question.cancel()

    def on_writable(self) -> None:
        return

    def _work(self) -> None:
        """Answer the requests in front, until one has to wait."""
        member = self._service.member
        lessor = member.lessor
        while self._queue and not self._ended:
            lease_id = self._queue[0]
            now = member.clock.monotonic()
            if not lessor.primary:
                self._ask(lease_id)
                return
            header = member.header()
            if not self._service.lead_check.is_sure(now):
                self._wait(now, errors.NotPrimaryLessor)
                return
            if lessor.is_expired(lease_id, now):
                # Its end has been proposed; the answer is known when that is applied.
                self._wait(now, errors.RequestTimeout)
                return
            reset_checkpoint(member, lease_id)
            try:
                ttl = lessor.renew(lease_id, now)
            except errors.LeaseNotFound:
                if member.applied < member.node.commit_index:  # its grant may be still to be applied
                    self._wait(now, errors.TimeoutWaitAppliedIndex, _APPLY_WAIT_SECONDS)
                    return
                ttl = 0
            del self._queue[0]
            self._since = now
            self._send(header, lease_id, ttl)
        if self._half_closed:
            self._end(0, "")

    def _send(self, header: bytes, lease_id: int, ttl: int) -> None:
        answer = header + b"\x10" + varint(lease_id) if lease_id else header
        self._stream.send(answer + b"\x18" + varint(ttl) if ttl else answer)

    def _wait(self, now: float, late: type[EtcdError], seconds_max: float = 0.0) -> None:
        """Try again soon; end with ``late`` when the request in front has waited too long."""
        member = self._service.member
        if now - self._since > (seconds_max or member.config.request_timeout_seconds):
            self._end(late.code, late.text)
        else:
            member.clock.call_later(RETRY_SECONDS, self._work)

    def _ask(self, lease_id: int) -> None:
        """Have the leader renew it. The header tells this member's state before that."""
        member = self._service.member
        header = member.header()

        def answered(outcome: int | EtcdError | Here) -> None:
            self._question = None
            if isinstance(outcome, EtcdError):
                self._end(outcome.code, outcome.text)
            elif isinstance(outcome, int):
                del self._queue[0]
                self._since = member.clock.monotonic()
                self._send(header, lease_id, outcome)
            self._work()
            member.flush_edges()

        self._question = ask_renewal(member, lease_id, answered)
        self._question.ask()

    def _end(self, code: int, text: str) -> None:
        if not self._ended:
            self._ended = True
            self._stream.close(code, text)
