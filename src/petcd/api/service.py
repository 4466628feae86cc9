"""What all services share: the member behind them and the checks in front of every handler.

Order of the common checks: contract wire-v3 section 3.2.
"""

from __future__ import annotations

from enum import IntEnum
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


class _Wish(IntEnum):
    """What a request's metadata ask of the member, as far as every service must know."""

    NOTHING = 0
    A_LEADER = 1
    UNREADABLE = 2
    """The client's version is no text."""


NOTHING: Final = _Wish.NOTHING
"""What nearly all ask: the handlers of every day look at the note themselves."""
_A_LEADER: Final = _Wish.A_LEADER
_UNREADABLE: Final = _Wish.UNREADABLE

_LEADERLESS_ELECTIONS: Final = 3
"""So many looks, one an election timeout, must find no leader before streams that want one are ended."""


class Service:
    """A group of gRPC methods of one member."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self._members = member.membership
        self._leader_guard = LeaderGuard(member)

    def refused(self, call: Call, *, for_learners: bool = False) -> bool:
        """Answer and return True when no handler may see this call: this member is a learner, which answers
        next to nothing, or the call wants a leader and there is none."""
        if self._members.learner_count and not for_learners and self.member.is_learner:
            error = errors.NotSupportedForLearner
            call.fail(error.code, error.text)
            return True
        wish = _wish(call.head)
        if wish is NOTHING:
            return False
        if wish is _UNREADABLE:
            call.fail(errors.InvalidClientAPIVersion.code, errors.InvalidClientAPIVersion.text)
            return True
        if self.member.lead == 0:
            call.fail(errors.NoLeader.code, errors.NoLeader.text)
            return True
        return False

    def check_stream(self, stream: Stream, *, for_learners: bool = False) -> None:
        """The same for a stream that opens. Raises: NotSupportedForLearner, InvalidClientAPIVersion,
        NoLeader."""
        if self._members.learner_count and not for_learners and self.member.is_learner:
            raise errors.NotSupportedForLearner
        wish = _wish(stream.head)
        if wish is _UNREADABLE:
            raise errors.InvalidClientAPIVersion
        if wish is _A_LEADER:
            if self.member.lead == 0:
                raise errors.NoLeader
            self._leader_guard.add(stream)

    def lacks_space(self, call: Waiter, cost: int) -> bool:
        """Whether a write of this cost does not fit: its call then fails as soon as the alarm is up."""
        member = self.member
        if member.quota.allows(member.backend.size(), cost):
            return False
        member.raise_nospace(partial(call.fail, errors.NoSpace.code, errors.NoSpace.text))
        return True


class LeaderGuard:
    """Ends the streams that want a leader when this member has known none for three election timeouts.

    Slower than refusing new calls: to open a stream again costs more. Runs only while there are such streams.
    """

    def __init__(self, member: Member) -> None:
        self._member = member
        self._streams: set[Stream] = set()
        self._leaderless_count = 0
        self._looking = False

    def add(self, stream: Stream) -> None:
        self._streams.add(stream)
        if not self._looking:
            self._looking = True
            self._leaderless_count = 0
            self._look_later()

    def _look_later(self) -> None:
        self._member.clock.call_later(self._member.config.election_ms / 1000, self._look)

    def _look(self) -> None:
        member = self._member
        self._streams = {stream for stream in self._streams if not stream.closed}
        if not self._streams or member.stopped:
            self._looking = False
            self._streams.clear()
            return
        self._leaderless_count = 0 if member.lead else self._leaderless_count + 1
        if self._leaderless_count >= _LEADERLESS_ELECTIONS:
            streams, self._streams = self._streams, set()
            for stream in streams:
                stream.handler.on_cancel()
                stream.close(errors.NoLeader.code, errors.NoLeader.text)
            member.flush_edges()
        self._look_later()


def _wish(head: Any) -> _Wish:
    """Found out once for each distinct list of header fields."""
    wish: _Wish = head.note
    if wish is None:
        version = head.metadata(b"client-api-version")
        if version is not None and not _is_utf8(version):
            wish = _UNREADABLE
        elif head.metadata(b"hasleader") == b"true":
            wish = _A_LEADER
        else:
            wish = NOTHING
        head.note = wish
    return wish


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
