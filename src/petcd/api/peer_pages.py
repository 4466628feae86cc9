"""What the peer URLs answer beside raft: members, versions, hashes, leases, promotions.

Byte for byte as other members read it, Go's among them: errors are lines of plain text, ids in JSON are
numbers. Source: contract peer sections 1, 8.4 and 8.5.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from petcd import errors
from petcd.api.http import JSON, NOSNIFF, version_page
from petcd.errors import EtcdError
from petcd.mvcc import KVHash
from petcd.net.http import TEXT, HttpExchange, HttpRouter
from petcd.pb import DecodeError
from petcd.pb.etcdserverpb import (
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    LeaseTimeToLiveResponse,
    ResponseHeader,
)
from petcd.pb.leasepb import LeaseInternalRequest, LeaseInternalResponse
from petcd.server.ids import hex_id
from petcd.server.leadcheck import LeadCheck
from petcd.server.leaseforward import LEASES_INTERNAL_PATH, LEASES_PATH, RETRY_SECONDS
from petcd.server.leasing import reset_checkpoint
from petcd.server.member import Member
from petcd.server.membership import id_not_found, not_learner
from petcd.server.reconfiguration import Reconfiguration, wait_applied

_PROTOBUF: Final = (b"content-type", b"application/protobuf")
_PLAIN: Final = (b"content-type", b"text/plain")
_LEASE_BYTES_MAX: Final = 64 * 1024
_PROMOTE_PREFIX: Final = "/members/promote/"
_LEASE_NOT_FOUND: Final = "lease not found"
_APPLY_TIMEOUT: Final = "waiting for node to catch up its applied index has timed out"

_PROMOTE_REFUSALS: Final[dict[type[EtcdError], tuple[int, str]]] = {
    errors.MemberNotFound: (404, str(id_not_found())),
    errors.MemberNotLearner: (412, str(not_learner())),
    errors.LearnerNotReady: (412, errors.LearnerNotReady.text),
}
"""Members tell each other the membership's own texts, not those of the client's API."""


class PeerPages:
    """The handlers; ``add_to`` puts them on the router of the peer listener."""

    def __init__(
        self,
        member: Member,
        reconfiguration: Reconfiguration | None = None,
        lead_check: LeadCheck | None = None,
    ) -> None:
        self._member = member
        self._reconfiguration = reconfiguration or Reconfiguration(member)
        self._lead_check = lead_check or LeadCheck(member)

    def add_to(self, router: HttpRouter) -> None:
        router.add("/members", self.members)
        router.add(_PROMOTE_PREFIX, self.promote, prefix=True)
        router.add("/members/hashkv", self.hash_kv)
        router.add(LEASES_PATH, self.renew_lease)
        router.add(LEASES_INTERNAL_PATH, self.describe_lease)
        router.add("/version", self.version)
        router.add("/downgrade/enabled", self.downgrade_enabled)

    # -- the cluster -----------------------------------------------------------------------------------

    def members(self, exchange: HttpExchange) -> None:
        if _allows(exchange, "GET"):
            body = self._member.membership.to_json().encode() + b"\n"
            exchange.respond(200, [self._cluster_id(), JSON], body)

    def version(self, exchange: HttpExchange) -> None:
        version_page(self._member, exchange)

    def downgrade_enabled(self, exchange: HttpExchange) -> None:
        if _allows(exchange, "GET"):
            exchange.extra_headers.append(self._cluster_id())
            self._member.read(self._answer_downgrade_enabled, _Page(exchange), None)

    def _answer_downgrade_enabled(self, page: _Page, _request: None) -> None:
        enabled = bool(self._member.membership.downgrade_target)
        page.exchange.respond(200, [_PLAIN], b"true" if enabled else b"false")

    def promote(self, exchange: HttpExchange) -> None:
        if not _allows(exchange, "POST"):
            return
        exchange.extra_headers.append(self._cluster_id())
        text = exchange.request.path.removeprefix(_PROMOTE_PREFIX)
        number = int(text) if text.isascii() and text.isdecimal() and len(text) < 100 else 1 << 64
        if number >= 1 << 64:
            _error(exchange, 404, f"member {text} not found in cluster")
            return
        token = exchange.request.header(b"authorization") or b""

        def done(error: EtcdError | None) -> None:
            if error is None:
                body = self._member.membership.to_json().encode() + b"\n"
                exchange.respond(200, [JSON], body)
                return
            self._member.logger.warn(
                "failed to promote a member", **{"member-id": hex_id(number)}, error=error.text
            )
            known = _PROMOTE_REFUSALS.get(type(error))
            if known is not None:
                _error(exchange, *known)
            else:
                exchange.respond(500, [JSON], b'{"message":"Internal Server Error"}')

        self._reconfiguration.promote(number, token.decode("latin-1"), done)

    # -- hashes ----------------------------------------------------------------------------------------

    def hash_kv(self, exchange: HttpExchange) -> None:
        """A GET with a body, which says at which revision."""
        if not _allows(exchange, "GET"):
            return
        member = self._member
        cluster_id = exchange.request.header(b"x-etcd-cluster-id")
        if cluster_id and cluster_id.decode("latin-1") != hex_id(member.cluster_id):
            _error(exchange, 412, "cluster ID mismatch")
            return
        try:
            revision = parse_hash_kv_request(exchange.request.body)
        except ValueError as error:
            member.logger.warn("failed to unmarshal request", error=str(error))
            _error(exchange, 400, "error unmarshalling request")
            return

        def done(kv: KVHash) -> None:
            exchange.respond(200, [self._cluster_id(), JSON], hash_kv_json(member.store.rev, kv))

        try:
            member.hash_kv(revision, done)
        except EtcdError as error:
            text = error.text.removeprefix("etcdserver: ")
            member.logger.warn("failed to get hashKV", **{"requested-revision": revision}, error=text)
            _error(exchange, 400, text)

    # -- leases ----------------------------------------------------------------------------------------

    def renew_lease(self, exchange: HttpExchange) -> None:
        if not self._takes_lease_request(exchange):
            return
        try:
            request = LeaseKeepAliveRequest.decode(exchange.request.body)
        except DecodeError:
            _error(exchange, 400, "error unmarshalling request")
            return
        self._when_applied(exchange, lambda: self._renew(exchange, request.ID))

    def _renew(self, exchange: HttpExchange, lease_id: int) -> None:
        member = self._member
        if exchange.disconnected or member.stopped:
            exchange.abort()
            return
        now = member.clock.monotonic()
        lessor = member.lessor
        if not lessor.primary:
            _error(exchange, 400, errors.NotPrimaryLessor.text)
            return
        if not self._lead_check.is_sure(now) or lessor.is_expired(lease_id, now):
            # Expired: its end is on its way through the log, and only then known.
            member.clock.call_later(RETRY_SECONDS, self._renew, exchange, lease_id)
            return
        reset_checkpoint(member, lease_id)
        try:
            ttl = lessor.renew(lease_id, now)
        except errors.LeaseNotFound:
            _error(exchange, 404, _LEASE_NOT_FOUND)
            return
        exchange.respond(200, [_PROTOBUF], LeaseKeepAliveResponse(ID=lease_id, TTL=ttl).encode())

    def describe_lease(self, exchange: HttpExchange) -> None:
        if not self._takes_lease_request(exchange):
            return
        try:
            request = LeaseInternalRequest.decode(exchange.request.body).LeaseTimeToLiveRequest
        except DecodeError:
            request = None
        if request is None:
            _error(exchange, 400, "error unmarshalling request")
            return
        self._when_applied(exchange, lambda: self._describe(exchange, request.ID, request.keys))

    def _describe(self, exchange: HttpExchange, lease_id: int, with_keys: bool) -> None:
        member = self._member
        if not member.lessor.primary:
            _error(exchange, 500, errors.NotPrimaryLessor.text)
            return
        lease = member.lessor.get(lease_id)
        if lease is None:
            _error(exchange, 404, _LEASE_NOT_FOUND)
            return
        response = LeaseTimeToLiveResponse(
            header=ResponseHeader(),
            ID=lease_id,
            TTL=lease.remaining_seconds(member.clock.monotonic()),
            grantedTTL=lease.ttl,
            keys=sorted(lease.keys) if with_keys else [],
        )
        exchange.respond(200, [_PROTOBUF], LeaseInternalResponse(LeaseTimeToLiveResponse=response).encode())

    def _takes_lease_request(self, exchange: HttpExchange) -> bool:
        """Answer what is no request about a lease. The 405 here names no method, as Go's does not."""
        if exchange.request.method != "POST":
            _error(exchange, 405, "Method Not Allowed")
            return False
        if len(exchange.request.body) > _LEASE_BYTES_MAX:
            _error(exchange, 413, "request body too large")
            return False
        return True

    def _when_applied(self, exchange: HttpExchange, then: Callable[[], object]) -> None:
        """The lease may have been granted by an entry that is committed and still to be applied here."""
        wait_applied(self._member, then, lambda: _error(exchange, 408, _APPLY_TIMEOUT))

    def _cluster_id(self) -> tuple[bytes, bytes]:
        return b"x-etcd-cluster-id", hex_id(self._member.cluster_id).encode()


class _Page:
    """A page that waits for a linearizable read."""

    __slots__ = ("exchange",)

    def __init__(self, exchange: HttpExchange) -> None:
        self.exchange = exchange

    def fail(self, _code: int, text: str, /) -> None:
        _error(self.exchange, 500, f"failed linearized read: {text}")


def parse_hash_kv_request(body: bytes) -> int:
    """The revision asked for. Raises: ValueError."""
    shape = json.loads(body)
    if shape is None:
        return 0
    if not isinstance(shape, dict):
        raise ValueError("not an object")
    revision = {name.lower(): value for name, value in shape.items()}.get("revision")
    if revision is None:
        return 0
    if not isinstance(revision, int) or isinstance(revision, bool) or not -(1 << 63) <= revision < 1 << 63:
        raise ValueError("revision is not a number")
    return revision


def hash_kv_json(store_revision: int, kv: KVHash) -> bytes:
    """The answer of ``/members/hashkv``; zeros are left out, as Go's encoder does."""
    shape: dict[str, Any] = {"header": {"revision": store_revision}}
    fields = {"hash": kv.hash, "compact_revision": kv.compact_revision, "hash_revision": kv.revision}
    shape.update({name: value for name, value in fields.items() if value})
    return json.dumps(shape, separators=(",", ":")).encode()


def _allows(exchange: HttpExchange, method: str) -> bool:
    """Answer any other method as Go does."""
    if exchange.request.method == method:
        return True
    exchange.respond(405, [TEXT, NOSNIFF, (b"allow", method.encode())], b"Method Not Allowed\n")
    return False


def _error(exchange: HttpExchange, status: int, text: str) -> None:
    exchange.respond(status, [TEXT, NOSNIFF], f"{text}\n".encode())
