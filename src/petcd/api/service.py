"""What all services share: the member behind them and the checks in front of every handler.

Order of the common checks: contract wire-v3 section 3.2.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from petcd import errors
from petcd.errors import Code
from petcd.net.grpc import Call, Stream
from petcd.server.member import Member
from petcd.server.proposals import Waiter

UNREAD_BYTES_MAX: Final = 4 << 20
UNREAD_TEXT: Final = "etcdserver: too many answers are not being read"
"""A stream whose client asks on and on and reads nothing ends with this, in RESOURCE_EXHAUSTED."""


class Service:
    """A group of gRPC methods of one member."""

    def __init__(self, member: Member) -> None:
        self.member = member

    def refused(self, call: Call) -> bool:
        """Answer and return True when no handler may see this call: it wants a leader and there is none."""
        head = call.head
        if head.plain:
            return False
        version = head.metadata(b"client-api-version")
        if version is not None and not _is_utf8(version):
            call.fail(errors.InvalidClientAPIVersion.code, errors.InvalidClientAPIVersion.text)
            return True
        if self.member.lead == 0 and head.metadata(b"hasleader") == b"true":
            call.fail(errors.NoLeader.code, errors.NoLeader.text)
            return True
        return False

    def check_stream(self, stream: Stream) -> None:
        """The same for a stream that opens. Raises: InvalidClientAPIVersion, NoLeader."""
        head = stream.head
        if head.plain:
            return
        version = head.metadata(b"client-api-version")
        if version is not None and not _is_utf8(version):
            raise errors.InvalidClientAPIVersion
        if self.member.lead == 0 and head.metadata(b"hasleader") == b"true":
            raise errors.NoLeader

    def lacks_space(self, call: Waiter, cost: int) -> bool:
        """Whether a write of this cost does not fit: its call then fails as soon as the alarm is up."""
        member = self.member
        if member.quota.allows(member.backend.size(), cost):
            return False
        member.raise_nospace(partial(call.fail, errors.NoSpace.code, errors.NoSpace.text))
        return True


def malformed(call: Any, error: Exception) -> None:
    """Answer a message that is no protobuf."""
    call.fail(Code.INTERNAL, malformed_text(error))


def malformed_text(error: Exception) -> str:
    return f"grpc: error unmarshalling request: {error}"


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
