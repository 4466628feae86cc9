"""The Cluster service: MemberList. Changes of membership come with clusters of several members."""

from __future__ import annotations

from petcd.api.service import Service, malformed
from petcd.net.grpc import Call, Method
from petcd.pb import DecodeError
from petcd.pb.etcdserverpb import MemberListRequest
from petcd.pb.wire import varint
from petcd.server.proposals import Waiter


class Cluster(Service):
    """etcdserverpb.Cluster."""

    def methods(self) -> list[Method]:
        return [Method(b"/etcdserverpb.Cluster/MemberList", unary=self.member_list)]

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
        parts = [self.member.bare_header()]
        for one in self.member.membership.in_order():
            body = one.to_message().encode()
            parts.append(b"\x12" + varint(len(body)) + body)
        call.reply(b"".join(parts))
