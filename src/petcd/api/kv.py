"""The KV service: checks at the door, then the log or the store (contract wire-v3 section 3).

A handler may raise a row of the error table; the connection answers the call with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from petcd import errors
from petcd.api.ranges import LargeRanges, is_large
from petcd.api.rangestream import RangeStreamHandler
from petcd.api.service import NOTHING, Service, malformed
from petcd.errors import EtcdError
from petcd.mvcc import (
    apply_txn,
    check_delete_range,
    check_put,
    check_range,
    check_txn,
    is_read_only,
    is_serializable,
)
from petcd.net.grpc import Call, Method, Stream
from petcd.pb import DecodeError
from petcd.pb.etcdserverpb import (
    CompactionRequest,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    TxnRequest,
)
from petcd.server import applier
from petcd.server.proposals import Waiter
from petcd.server.quota import put_cost, txn_cost

if TYPE_CHECKING:
    from petcd.server.member import Member


class KV(Service):
    """etcdserverpb.KV."""

    def __init__(self, member: Member) -> None:
        super().__init__(member)
        self._large = LargeRanges(member)

    def methods(self) -> list[Method]:
        return [
            Method(b"/etcdserverpb.KV/Range", unary=self.range),
            Method(b"/etcdserverpb.KV/RangeStream", stream=self.range_stream),
            Method(b"/etcdserverpb.KV/Put", unary=self.put),
            Method(b"/etcdserverpb.KV/DeleteRange", unary=self.delete_range),
            Method(b"/etcdserverpb.KV/Txn", unary=self.txn),
            Method(b"/etcdserverpb.KV/Compact", unary=self.compact),
        ]

    # -- reads -----------------------------------------------------------------------------------------

    def range(self, call: Call, message: bytes) -> None:
        try:
            request = RangeRequest.decode(message)
        except DecodeError as error:
            malformed(call, error)
            return
        if (self._members.learner_count or call.head.note is not NOTHING) and self.refused(
            call, for_learners=request.serializable
        ):
            return
        check_range(request)
        if request.serializable:
            self.answer_range(call, request)
        else:
            self.member.read(self.answer_range, call, request)

    def range_stream(self, stream: Stream) -> RangeStreamHandler:
        self.check_stream(stream)
        return RangeStreamHandler(self.member, stream)

    def answer_range(self, call: Call, request: RangeRequest) -> None:
        member = self.member
        member.range_count += 1
        if request.range_end and is_large(member, request):
            self._large.add(call, request)
            return
        try:
            body = member.store.range(request)
        except EtcdError as error:
            call.fail(error.code, error.text)
            return
        member.reads.bytes += len(body)
        call.reply(member.header() + body)

    # -- writes ----------------------------------------------------------------------------------------

    def put(self, call: Call, message: bytes) -> None:
        try:
            request = PutRequest.decode(message)
        except DecodeError as error:
            malformed(call, error)
            return
        if (self._members.learner_count or call.head.note is not NOTHING) and self.refused(call):
            return
        member = self.member
        if member.applier.quota_is_near and self.lacks_space(call, put_cost(request)):
            return
        check_put(request)
        member.propose(applier.PUT, message, request, call)

    def delete_range(self, call: Call, message: bytes) -> None:
        try:
            request = DeleteRangeRequest.decode(message)
        except DecodeError as error:
            malformed(call, error)
            return
        if (self._members.learner_count or call.head.note is not NOTHING) and self.refused(call):
            return
        check_delete_range(request)
        self.member.propose(applier.DELETE_RANGE, message, request, call)

    def txn(self, call: Call, message: bytes) -> None:
        try:
            request = TxnRequest.decode(message)
        except DecodeError as error:
            malformed(call, error)
            return
        if (self._members.learner_count or call.head.note is not NOTHING) and self.refused(call):
            return
        member = self.member
        if member.applier.quota_is_near and self.lacks_space(call, txn_cost(request)):
            return
        check_txn(request, member.config.max_txn_ops)
        if not is_read_only(request):
            member.propose(applier.TXN, message, request, call)
        elif is_serializable(request):
            self.answer_read_only_txn(call, request)
        else:
            member.read(self.answer_read_only_txn, call, request)

    def answer_read_only_txn(self, call: Waiter, request: TxnRequest) -> None:
        try:
            body = apply_txn(self.member.store, request)
        except EtcdError as error:
            call.fail(error.code, error.text)
            return
        call.reply(self.member.header() + body)

    def compact(self, call: Call, message: bytes) -> None:
        try:
            request = CompactionRequest.decode(message)
        except DecodeError as error:
            malformed(call, error)
            return
        if (self._members.learner_count or call.head.note is not NOTHING) and self.refused(call):
            return
        waiter: Waiter = _PhysicalCompaction(call, self.member, request) if request.physical else call
        self.member.propose(applier.COMPACTION, message, request, waiter)


class _PhysicalCompaction:
    """Holds the answer back until the removed revisions are gone from the backend."""

    __slots__ = ("_call", "_member", "_request")

    def __init__(self, call: Waiter, member: Member, request: CompactionRequest) -> None:
        self._call = call
        self._member = member
        self._request = request

    def reply(self, message: bytes, /) -> None:
        self._member.when_compacted(self._request.revision, lambda: self._call.reply(message))

    def fail(self, code: int, text: str, /) -> None:
        if text == errors.Compacted.text:  # it is, but the work for it may still be going on
            self._member.when_compacted(self._request.revision, lambda: self._call.fail(code, text))
        else:
            self._call.fail(code, text)
