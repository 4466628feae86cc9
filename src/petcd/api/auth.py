"""The Auth service of a member without authentication: that it is off (contract wire-v3 section 9).

Users and roles come with the security of clusters; what is missing answers as an unknown method.
"""

from __future__ import annotations

from petcd import errors
from petcd.api.service import Service, malformed
from petcd.net.grpc import Call, Method
from petcd.pb import DecodeError
from petcd.pb.etcdserverpb import AuthenticateRequest, AuthStatusRequest, AuthStatusResponse

_FRESH_REVISION = 1
"""The revision of an auth store that nothing was ever done to."""


class Auth(Service):
    """etcdserverpb.Auth."""

    def methods(self) -> list[Method]:
        return [
            Method(b"/etcdserverpb.Auth/AuthStatus", unary=self.status),
            Method(b"/etcdserverpb.Auth/Authenticate", unary=self.authenticate),
        ]

    def status(self, call: Call, message: bytes) -> None:
        try:
            AuthStatusRequest.decode(message)
        except DecodeError as error:
            malformed(call, error)
            return
        if not self.refused(call):
            body = AuthStatusResponse(enabled=False, authRevision=_FRESH_REVISION).encode()
            call.reply(self.member.header() + body)

    def authenticate(self, call: Call, message: bytes) -> None:
        try:
            AuthenticateRequest.decode(message)
        except DecodeError as error:
            malformed(call, error)
            return
        if not self.refused(call):
            raise errors.AuthNotEnabled
