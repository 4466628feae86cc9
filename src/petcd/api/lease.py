"""The Lease service (contract wire-v3 section 5)."""

from __future__ import annotations

from typing import Final

from petcd import errors
from petcd.api.service import UNREAD_BYTES_MAX, UNREAD_TEXT, Service, malformed, malformed_text
from petcd.errors import EtcdError
from petcd.net.grpc import Call, Method, Stream
from petcd.pb import DecodeError
from petcd.pb.etcdserverpb import (
    LeaseCheckpoint,
    LeaseCheckpointRequest,
    LeaseGrantRequest,
    LeaseKeepAliveRequest,
    LeaseLeasesRequest,
    LeaseRevokeRequest,
    LeaseTimeToLiveRequest,
)
from petcd.pb.wire import varint
from petcd.server import applier
from petcd.server.quota import LEASE_COST

_RETRY_SECONDS: Final = 0.05
_INT64_MAX: Final = (1 << 63) - 1


class LeaseService(Service):
    """etcdserverpb.Lease."""

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
        body = self.member.header() + b"\x10" + varint(request.ID) if request.ID else self.member.header()
        lease = self.member.lessor.get(request.ID)
        if lease is None:
            call.reply(body + b"\x18" + varint(-1))
            return
        left = lease.remaining_seconds(self.member.clock.monotonic())
        if left:
            body += b"\x18" + varint(left)
        body += b"\x20" + varint(lease.ttl)
        if request.keys:
            body += b"".join([b"\x2a" + varint(len(key)) + key for key in sorted(lease.keys)])
        call.reply(body)

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
    """One keep-alive stream: an answer per request, in order."""

    __slots__ = ("_ended", "_half_closed", "_queue", "_service", "_since", "_stream")

    def __init__(self, service: LeaseService, stream: Stream) -> None:
        self._service = service
        self._stream = stream
        self._queue: list[int] = []
        self._since = 0.0
        self._half_closed = False
        self._ended = False

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

    def on_writable(self) -> None:
        return

    def _work(self) -> None:
        """Answer the requests in front, until one has to wait."""
        member = self._service.member
        while self._queue and not self._ended:
            lease_id = self._queue[0]
            header = member.header()
            now = member.clock.monotonic()
            if member.lessor.is_expired(lease_id, now):
                # Its end has been proposed; the answer is known when that is applied.
                if now - self._since > member.config.request_timeout_seconds:
                    self._end(errors.RequestTimeout.code, errors.RequestTimeout.text)
                    return
                member.clock.call_later(_RETRY_SECONDS, self._work)
                return
            if member.lessor.needs_checkpoint_reset(lease_id):
                self._reset_checkpoint(lease_id)
            try:
                ttl = member.lessor.renew(lease_id, now)
            except errors.LeaseNotFound:
                ttl = 0
            except EtcdError as error:
                if now - self._since > member.config.request_timeout_seconds:
                    self._end(error.code, error.text)
                else:
                    member.clock.call_later(_RETRY_SECONDS, self._work)
                return
            del self._queue[0]
            self._since = now
            answer = header + b"\x10" + varint(lease_id) if lease_id else header
            self._stream.send(answer + b"\x18" + varint(ttl) if ttl else answer)
        if self._half_closed:
            self._end(0, "")

    def _reset_checkpoint(self, lease_id: int) -> None:
        checkpoint = LeaseCheckpoint(ID=lease_id, remaining_TTL=0)
        self._service.member.propose_message(
            applier.LEASE_CHECKPOINT, LeaseCheckpointRequest(checkpoints=[checkpoint])
        )

    def _end(self, code: int, text: str) -> None:
        if not self._ended:
            self._ended = True
            self._stream.close(code, text)
