"""Compaction on a schedule, in etcd's two modes (contract config-metrics section 9.1).

Periodic: the revision is noted every tenth of the interval, and the log is compacted to what it was a
retention ago. Revision: every five minutes all but the newest N revisions go. Only the leader compacts.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from petcd import errors
from petcd.pb.etcdserverpb import CompactionRequest
from petcd.seams import Timer
from petcd.server.applier import COMPACTION
from petcd.server.member import Member

_HOUR_SECONDS: Final = 3600.0
_REVISION_INTERVAL_SECONDS: Final = 300.0
_SAMPLES_PER_INTERVAL: Final = 10


class AutoCompactor(Protocol):
    def start(self) -> None: ...

    def stop(self) -> None: ...


class _Attempt:
    """Waits for one scheduled compaction; "compacted already" counts as done."""

    def __init__(self, owner: PeriodicCompactor | RevisionCompactor, rev: int) -> None:
        self._owner = owner
        self._rev = rev

    def reply(self, _message: bytes, /) -> None:
        self._owner.succeeded(self._rev)

    def fail(self, _code: int, text: str, /) -> None:
        if text == errors.Compacted.text:
            self._owner.succeeded(self._rev)
        else:
            self._owner.failed(self._rev, text)


class PeriodicCompactor:
    """Keeps the last ``retention_seconds`` of history."""

    def __init__(self, member: Member, retention_seconds: float) -> None:
        self._member = member
        self._retention = retention_seconds
        self._interval = min(retention_seconds, _HOUR_SECONDS)
        self._step = self._interval / _SAMPLES_PER_INTERVAL
        self._revisions: deque[int] = deque(maxlen=round(retention_seconds / self._step) + 1)
        """The oldest is the one of a retention ago."""
        self._next = 0.0
        self._last_rev = 0
        self._timer: Timer | None = None

    def start(self) -> None:
        self._next = self._member.clock.monotonic() + self._retention
        self._sample()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def succeeded(self, rev: int) -> None:
        self._last_rev = rev
        self._next = self._member.clock.monotonic() + self._interval
        self._member.logger.info("completed auto periodic compaction", revision=rev)

    def failed(self, rev: int, text: str) -> None:
        self._member.logger.warn("failed auto periodic compaction", revision=rev, error=text)

    def _sample(self) -> None:
        member = self._member
        self._revisions.append(member.store.rev)
        # Half a step early is in time: timers do not add up exactly.
        if member.clock.monotonic() >= self._next - self._step / 2 and member.is_leader:
            rev = self._revisions[0]
            if rev != self._last_rev:
                member.logger.info("starting auto periodic compaction", revision=rev)
                member.propose_message(COMPACTION, CompactionRequest(revision=rev), _Attempt(self, rev))
        self._timer = member.clock.call_later(self._step, self._sample)


class RevisionCompactor:
    """Keeps the newest ``retention`` revisions."""

    def __init__(self, member: Member, retention: int) -> None:
        self._member = member
        self._retention = retention
        self._last_rev = 0
        self._timer: Timer | None = None

    def start(self) -> None:
        self._timer = self._member.clock.call_later(_REVISION_INTERVAL_SECONDS, self._round)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def succeeded(self, rev: int) -> None:
        self._last_rev = rev
        self._member.logger.info("completed auto revision compaction", revision=rev)

    def failed(self, rev: int, text: str) -> None:
        self._member.logger.warn("failed auto revision compaction", revision=rev, error=text)

    def _round(self) -> None:
        member = self._member
        rev = member.store.rev - self._retention
        if rev > 0 and rev != self._last_rev and member.is_leader:
            member.logger.info("starting auto revision compaction", revision=rev)
            member.propose_message(COMPACTION, CompactionRequest(revision=rev), _Attempt(self, rev))
        self._timer = member.clock.call_later(_REVISION_INTERVAL_SECONDS, self._round)


def auto_compactor(member: Member) -> AutoCompactor | None:
    """The compactor the configuration asks for, if any."""
    retention = member.config.compaction_retention
    if retention <= 0:
        return None
    if member.config.auto_compaction_mode == "revision":
        return RevisionCompactor(member, int(retention))
    return PeriodicCompactor(member, retention)
