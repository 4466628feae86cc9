"""The NOSPACE alarm of this member: raised once, however many writes have found no space meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from petcd.pb.etcdserverpb import AlarmRequest
from petcd.server import alarms as alarm
from petcd.server.applier import ALARM

if TYPE_CHECKING:
    from petcd.server.member import Member


def _nothing() -> None:
    return


class SpaceAlarm:
    """Raises the alarm through the log. It is its own waiter: every answer is as good."""

    __slots__ = ("_member", "_waiting")

    def __init__(self, member: Member) -> None:
        self._member = member
        self._waiting: list[Callable[[], object]] = []

    def start(self, then: Callable[[], object] = _nothing) -> None:
        """Raise the alarm for this member, unless it is up already; ``then`` when it is, or cannot be."""
        member = self._member
        if member.alarms.is_active(member.id, alarm.NOSPACE):
            then()
            return
        self._waiting.append(then)
        if len(self._waiting) == 1:
            request = AlarmRequest(action=alarm.ACTIVATE, memberID=member.id, alarm=alarm.NOSPACE)
            member.propose_message(ALARM, request, self)

    def reply(self, _message: bytes, /) -> None:
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then()

    def fail(self, _code: int, _text: str, /) -> None:
        self.reply(b"")
