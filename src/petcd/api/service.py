"""What all services share: the member behind them and the checks in front of every handler.

Order of the common checks: contract wire-v3 section 3.2.
"""

from __future__ import annotations

from typing import Any

from petcd import errors
from petcd.errors import Code
from petcd.net.grpc import Call
from petcd.server.member import Member


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


def malformed(call: Any, error: Exception) -> None:
    """Answer a message that is no protobuf."""
    call.fail(Code.INTERNAL, f"grpc: error unmarshalling request: {error}")


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
