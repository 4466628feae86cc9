"""Leases asked of the leader by members that are not: only the leader counts their time.

One request at a time over HTTP to the leader's peer URLs, repeated every 50 ms, and with whoever leads then,
until there is an answer or the request's time is over. Source: contract peer section 8.4, wire-v3 section 5.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Final

from petcd import errors
from petcd.errors import EtcdError
from petcd.pb import DecodeError
from petcd.pb.etcdserverpb import LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveResponse
from petcd.pb.leasepb import LeaseInternalRequest, LeaseInternalResponse
from petcd.server.peering import PeerAnswer

if TYPE_CHECKING:
    from petcd.pb.etcdserverpb import LeaseTimeToLiveRequest
    from petcd.server.member import Member

LEASES_PATH: Final = "/leases"
LEASES_INTERNAL_PATH: Final = "/leases/internal"
RETRY_SECONDS: Final = 0.05
_HEADERS: Final = (("Content-Type", "application/protobuf"),)
_OK: Final = 200
_NOT_FOUND: Final = 404


class Here(Enum):
    """The leader that was asked for is this member, by now."""

    HERE = 0


HERE: Final = Here.HERE

Outcome = bytes | EtcdError | Here | None


class LeaseQuestion:
    """One question to the leader, whoever that is. ``answered`` hears a body, None when the lease is
    unknown there, HERE when this member can tell, or why there is no answer; exactly once, unless
    ``cancel`` comes first."""

    __slots__ = ("_accept", "_answered", "_body", "_cancelled", "_member", "_path", "_until")

    def __init__(
        self,
        member: Member,
        path: str,
        body: bytes,
        accept: Callable[[bytes], bool],
        answered: Callable[[Outcome], object],
    ) -> None:
        self._member = member
        self._path = path
        self._body = body
        self._accept = accept
        """Whether a body answers the question; another one is asked for again."""
        self._answered = answered
        self._until = member.clock.monotonic() + member.config.request_timeout_seconds
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True

    def ask(self) -> None:
        """Ask now, or as soon as there is somebody to ask."""
        if self._cancelled:
            return
        member = self._member
        left = self._until - member.clock.monotonic()
        if member.stopping or member.stopped:
            self._answered(errors.Stopped())
        elif member.lessor.primary:
            self._answered(HERE)
        elif left <= 0:
            self._answered(self._too_late())
        elif (leader := self._leader_urls()) is None:
            member.clock.call_later(RETRY_SECONDS, self.ask)
        else:
            member.peers.request(
                leader,
                "POST",
                self._path,
                self._on_answer,
                body=self._body,
                headers=_HEADERS,
                timeout_seconds=left,
            )

    def _leader_urls(self) -> tuple[str, ...] | None:
        """None while nobody else leads. A leader that is not the primary yet waits for itself."""
        member = self._member
        leader = member.membership.members.get(member.lead)
        if leader is None or leader.id == member.id:
            return None
        return leader.peer_urls

    def _too_late(self) -> EtcdError:
        member = self._member
        if member.lead not in member.membership.members:
            return errors.NoLeader()
        if member.is_leader:
            return errors.NotPrimaryLessor()
        return errors.RequestTimeout()

    def _on_answer(self, answer: PeerAnswer) -> None:
        if self._cancelled:
            return
        if answer.status == _OK and self._accept(answer.body):
            self._answered(answer.body)
        elif answer.status == _NOT_FOUND:
            self._answered(None)
        else:
            self._member.clock.call_later(RETRY_SECONDS, self.ask)


def ask_renewal(
    member: Member, lease_id: int, done: Callable[[int | EtcdError | Here], object]
) -> LeaseQuestion:
    """Renew a lease at the leader: its TTL, 0 when there is no such lease. Call ``ask`` on the result."""
    ttl = 0

    def accept(body: bytes) -> bool:
        nonlocal ttl
        try:
            response = LeaseKeepAliveResponse.decode(body)
        except DecodeError:
            return False
        ttl = response.TTL
        return lease_id == response.ID

    def answered(outcome: Outcome) -> None:
        if isinstance(outcome, (EtcdError, Here)):
            done(outcome)
        else:
            done(0 if outcome is None else ttl)

    return LeaseQuestion(member, LEASES_PATH, LeaseKeepAliveRequest(ID=lease_id).encode(), accept, answered)


def ask_time_to_live(
    member: Member,
    request: LeaseTimeToLiveRequest,
    done: Callable[[LeaseTimeToLiveResponse | EtcdError | Here | None], object],
) -> LeaseQuestion:
    """What the leader knows of a lease; None when there is none. Call ``ask`` on the result."""
    found: LeaseTimeToLiveResponse | None = None

    def accept(body: bytes) -> bool:
        nonlocal found
        try:
            found = LeaseInternalResponse.decode(body).LeaseTimeToLiveResponse
        except DecodeError:
            return False
        return found is not None and found.ID == request.ID

    def answered(outcome: Outcome) -> None:
        if isinstance(outcome, (EtcdError, Here)):
            done(outcome)
        else:
            done(None if outcome is None else found)

    body = LeaseInternalRequest(LeaseTimeToLiveRequest=request).encode()
    return LeaseQuestion(member, LEASES_INTERNAL_PATH, body, accept, answered)
