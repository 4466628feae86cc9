"""Leases in true time: none ends early on any member's clock, and each ends when its time is over.

A client relies on a lease for its TTL from the moment it sent the grant or the keep-alive that was answered.
A member's clock may run fast, so that much earlier it may rightly end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.linearizability.histories import WRITE, Call, Wrong
from tests.linearizability.statemachine import StateMachine

from petcd.pb import etcdserverpb as pb


@dataclass(slots=True)
class Renewal:
    """One keep-alive of one client."""

    lease: int
    member: str
    sent: float
    answered: float | None = None
    ttl: int = 0
    """As answered; 0: there is no such lease."""


def check_leases(
    machine: StateMachine,
    calls: Sequence[Call],
    renewals: Iterable[Renewal],
    entry_times: Mapping[int, float],
    *,
    rate_max: float,
) -> None:
    """Raises: Wrong when a lease that no client revoked ended while one could rely on it."""
    asked = {call.request_id for call in calls if isinstance(call.request, pb.LeaseRevokeRequest)}
    grants = {
        call.request.ID: (call, machine.answers[call.request_id].index)
        for call in calls
        if call.kind == WRITE
        and isinstance(call.request, pb.LeaseGrantRequest)
        and call.answer is not None
        and call.request_id in machine.answers
        and machine.answers[call.request_id].error is None
    }
    by_lease: dict[int, list[Renewal]] = {}
    for renewal in renewals:
        if renewal.answered is not None and renewal.ttl > 0:
            by_lease.setdefault(renewal.lease, []).append(renewal)
    for index, request_id, lease_id in machine.revocations:
        if request_id in asked:
            continue
        at = entry_times[index]
        grant = grants.get(lease_id)
        if grant is not None:
            call = grant[0]
            assert isinstance(call.request, pb.LeaseGrantRequest)
            ttl = max(call.request.TTL, 1)
            _check(lease_id, at, call.invoke, ttl, rate_max, str(call))
        for renewal in by_lease.get(lease_id, ()):
            if renewal.answered is not None and renewal.answered <= at:
                _check(lease_id, at, renewal.sent, renewal.ttl, rate_max, str(renewal))


def _check(lease_id: int, at: float, since: float, ttl: int, rate_max: float, why: str) -> None:
    if at < since + ttl / rate_max:
        raise Wrong(
            f"lease {lease_id:x} ended at {at:.6f}, {since + ttl / rate_max - at:.3f} s early; "
            f"a client relied on {why}"
        )
