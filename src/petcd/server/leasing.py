"""The primary's rounds over its leases: ending those that are over, checkpointing the long ones.

Source: contract wire-v3 section 5.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from petcd import errors
from petcd.pb.etcdserverpb import LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest
from petcd.seams import Timer
from petcd.server.applier import LEASE_CHECKPOINT, LEASE_REVOKE
from petcd.server.leadcheck import LeadCheck
from petcd.server.member import Member

_ROUND_SECONDS: Final = 0.5
_CHECKPOINT_ROUND_SECONDS: Final = 300.0
_REVOKES_IN_FLIGHT_MAX: Final = 16
_CHECKPOINTS_PER_REQUEST_MAX: Final = 1000


class _Revocation:
    """Waits for the end of one lease."""

    __slots__ = ("_lease_id", "_owner")

    def __init__(self, owner: LeaseRounds, lease_id: int) -> None:
        self._owner = owner
        self._lease_id = lease_id

    def reply(self, _message: bytes, /) -> None:
        self._owner.expired(self._lease_id)

    def fail(self, _code: int, text: str, /) -> None:
        self._owner.revoked(self._lease_id, again=text != errors.LeaseNotFound.text)


def reset_checkpoint(member: Member, lease_id: int) -> None:
    """A lease that is renewed must first forget its checkpoint, in the log."""
    if member.lessor.needs_checkpoint_reset(lease_id):
        checkpoint = LeaseCheckpoint(ID=lease_id, remaining_TTL=0)
        member.propose_message(LEASE_CHECKPOINT, LeaseCheckpointRequest(checkpoints=[checkpoint]))


class LeaseRounds:
    """Runs beside a member, on its thread."""

    def __init__(self, member: Member, *, checkpoints: bool, lead_check: LeadCheck | None = None) -> None:
        self._member = member
        self._lead_check = lead_check or LeadCheck(member)
        self._checkpoints = checkpoints
        self._due: deque[int] = deque()
        self._in_flight = 0
        self._proposing = False
        self._timers: list[Timer] = []
        self._next_checkpoint = 0.0

    def start(self) -> None:
        self._next_checkpoint = self._member.clock.monotonic() + _CHECKPOINT_ROUND_SECONDS
        self._timers = [self._member.clock.call_later(_ROUND_SECONDS, self._round)]

    def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()

    def expired(self, lease_id: int) -> None:
        self._member.lessor.expired += 1
        self.revoked(lease_id)

    def revoked(self, lease_id: int, *, again: bool = False) -> None:
        self._in_flight -= 1
        if again and not self._member.stopped:
            self._member.lessor.retry(lease_id)
        self._propose()

    def _round(self) -> None:
        member = self._member
        if member.stopped or member.stopping:
            return
        now = member.clock.monotonic()
        if self._may_end_leases(now):
            if not self._due:
                self._due.extend(member.lessor.take_expired(now))
            self._propose()
            if self._checkpoints and now >= self._next_checkpoint:
                self._next_checkpoint = now + _CHECKPOINT_ROUND_SECONDS
                with self._leading() as leading:
                    if leading:
                        self._checkpoint(now)
        else:
            for lease_id in self._due:
                member.lessor.retry(lease_id)
            self._due.clear()
        self._timers = [member.clock.call_later(_ROUND_SECONDS, self._round)]

    def _may_end_leases(self, now: float) -> bool:
        """Not so for a leader of the past: what it proposes would reach the present one, where clients may
        have renewed the lease."""
        return self._member.lessor.primary and self._lead_check.is_sure(now)

    def _propose(self) -> None:
        """Propose soon what may be in flight; not now, because a turn may be under way."""
        if self._due and not self._proposing:
            self._proposing = True
            self._member.clock.call_soon(self._propose_now)

    def _propose_now(self) -> None:
        """A refusal at once comes back through ``revoked``."""
        self._proposing = False
        with self._leading() as leading:
            while leading and self._due and self._in_flight < _REVOKES_IN_FLIGHT_MAX:
                lease_id = self._due.popleft()
                self._in_flight += 1
                request = LeaseRevokeRequest(ID=lease_id)
                self._member.propose_message(LEASE_REVOKE, request, _Revocation(self, lease_id))

    @contextmanager
    def _leading(self) -> Iterator[bool]:
        """Whether this member leads, now that all it has heard is taken in; what is proposed inside becomes
        entries of its own term, before it can hear more. Otherwise a leader that steps down would hand its
        proposals on to the next one."""
        member = self._member
        member.turn()
        leads = self._may_end_leases(member.clock.monotonic()) and not (member.stopping or member.stopped)
        yield leads
        if leads:
            member.turn()

    def _checkpoint(self, now: float) -> None:
        due = self._member.lessor.due_checkpoints(now)
        for start in range(0, len(due), _CHECKPOINTS_PER_REQUEST_MAX):
            batch = due[start : start + _CHECKPOINTS_PER_REQUEST_MAX]
            checkpoints = [LeaseCheckpoint(ID=lease_id, remaining_TTL=left) for lease_id, left in batch]
            self._member.propose_message(LEASE_CHECKPOINT, LeaseCheckpointRequest(checkpoints=checkpoints))
