"""Whether a member that believes to lead may act on it without asking the others.

A process that was stopped for a while, or whose loop hung, may wake up as the leader of a term that is over
and not know it yet: messages that say so are still in its sockets. What a leader does without the log,
renewing and ending leases, must wait until a quorum has confirmed it. Source: contract peer section 8.4;
history, leases renewed by a leader of the past.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from petcd.server.member import Member

_GAP_TICKS: Final = 3
"""Heartbeat intervals without a sign of life after which this member doubts itself."""


class LeadCheck:
    """Watches the time of one member's own loop."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._clock = member.clock
        self._tick_seconds = member.config.heartbeat_ms / 1000
        self._gap_seconds = _GAP_TICKS * self._tick_seconds
        self._latest = self._clock.monotonic()
        self._sure = True
        self._asking = False
        self._clock.call_later(self._tick_seconds, self._tick)

    def is_sure(self, now: float) -> bool:
        """Whether what this member believes of the leader can be relied on. If not, it finds out: ask again
        a little later."""
        if now - self._latest > self._gap_seconds or not self._sure:
            self._doubt()
        return self._sure

    def _tick(self) -> None:
        if self._member.stopped:
            return
        now = self._clock.monotonic()
        if now - self._latest > self._gap_seconds:
            self._doubt()
        self._latest = now
        self._clock.call_later(self._tick_seconds, self._tick)

    def _doubt(self) -> None:
        self._sure = False
        if not self._asking:
            self._asking = True
            self._member.read(_confirmed, self, None)

    # -- as the waiter of its own read -----------------------------------------------------------------

    def reply(self, _message: bytes, /) -> None:
        self._asking = False
        self._sure = True
        self._latest = self._clock.monotonic()

    def fail(self, _code: int, _text: str, /) -> None:
        self._asking = False


def _confirmed(waiter: LeadCheck, _request: None) -> None:
    """A read-index round came back: whoever leads now was asked after the gap."""
    waiter.reply(b"")
