"""The Cluster service: the list of members, and its changes (contract wire-v3 sections 3.3 and 8.3).

Its headers carry no revision: members are no keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from petcd.api.service import Service, malformed
from petcd.errors import EtcdError
from petcd.net.grpc import Call, Method
from petcd.pb import DecodeError
from petcd.pb.etcdserverpb import (
    MemberAddRequest,
    MemberListRequest,
    MemberPromoteRequest,
    MemberRemoveRequest,
    MemberUpdateRequest,
)
from petcd.pb.wire import varint
from petcd.server.member import Member
from petcd.server.membership import ClusterMember
from petcd.server.proposals import Waiter
from petcd.server.reconfiguration import Reconfiguration


class Cluster(Service):
    """etcdserverpb.Cluster."""

    def __init__(self, member: Member, reconfiguration: Reconfiguration | None = None) -> None:
        super().__init__(member)
        self.reconfiguration = reconfiguration or Reconfiguration(member)

    def methods(self) -> list[Method]:
        return [
            Method(b"/etcdserverpb.Cluster/MemberAdd", unary=self.member_add),
            Method(b"/etcdserverpb.Cluster/MemberRemove", unary=self.member_remove),
            Method(b"/etcdserverpb.Cluster/MemberUpdate", unary=self.member_update),
            Method(b"/etcdserverpb.Cluster/MemberList", unary=self.member_list),
            Method(b"/etcdserverpb.Cluster/MemberPromote", unary=self.member_promote),
        ]

    # -- the list --------------------------------------------------------------------------------------

    def member_list(self, call: Call, message: bytes) -> None:
        try:
            request = MemberListRequest.decode(message)
        except DecodeError as error:
            malformed(call, error)
            return
        if self.refused(call):
            return
        if request.linearizable:
            self.member.read(self.answer_member_list, call, request)
        else:
            self.answer_member_list(call, request)

    def answer_member_list(self, call: Waiter, _request: MemberListRequest) -> None:
        call.reply(self.member.bare_header() + _members(self.member.membership.in_order(), b"\x12"))

    # -- changes ---------------------------------------------------------------------------------------

    def member_add(self, call: Call, message: bytes) -> None:
        try:
            request = MemberAddRequest.decode(message)
        except DecodeError as error:
            malformed(call, error)
            return
        if self.refused(call):
            return
        new = self.reconfiguration.new_member(request.peerURLs, is_learner=request.isLearner)

        def done(error: EtcdError | None) -> None:
            if self._answered(call, error):
                return
            members = self.member.membership.in_order()
            call.reply(self.member.bare_header() + _members([new], b"\x12") + _members(members, b"\x1a"))
            self.member.flush_edges()

        self.reconfiguration.add(new, done)

    def member_remove(self, call: Call, message: bytes) -> None:
        try:
            request = MemberRemoveRequest.decode(message)
        except DecodeError as error:
            malformed(call, error)
            return
        if not self.refused(call):
            self.reconfiguration.remove(request.ID, self._answer_with_members(call))

    def member_update(self, call: Call, message: bytes) -> None:
        try:
            request = MemberUpdateRequest.decode(message)
        except DecodeError as error:
            malformed(call, error)
            return
        if not self.refused(call):
            self.reconfiguration.update(request.ID, request.peerURLs, self._answer_with_members(call))

    def member_promote(self, call: Call, message: bytes) -> None:
        try:
            request = MemberPromoteRequest.decode(message)
        except DecodeError as error:
            malformed(call, error)
            return
        if self.refused(call):
            return
        token = call.head.metadata(b"token") or call.head.metadata(b"authorization") or b""
        self.reconfiguration.promote(request.ID, token.decode("latin-1"), self._answer_with_members(call))

    def _answer_with_members(self, call: Call) -> Callable[[EtcdError | None], None]:
        def done(error: EtcdError | None) -> None:
            if not self._answered(call, error):
                self.answer_member_list(call, MemberListRequest())
                self.member.flush_edges()

        return done

    def _answered(self, call: Call, error: EtcdError | None) -> bool:
        """Fail the call when there is an error; whether there was."""
        if error is None:
            return False
        call.fail(error.code, error.text)
        self.member.flush_edges()
        return True


def _members(members: Iterable[ClusterMember], tag: bytes) -> bytes:
    """A repeated Member field."""
    parts = []
    for one in members:
        body = one.to_message().encode()
        parts.append(tag + varint(len(body)) + body)
    return b"".join(parts)
