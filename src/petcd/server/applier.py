"""The replicated state machine: committed entries in, effects and answers out.

Each handler takes the decoded request and returns the body of the response behind its header. A request
that is refused raises a row of the error table and has had no effect. Anything else that escapes is a bug,
and stops the member before it can diverge.

Order of checks for every mutating request: CORRUPT alarm, NOSPACE alarm, then the operation
(contract wire-v3 section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from petcd import errors
from petcd.lease import Lessor
from petcd.logs import Logger
from petcd.mvcc import Store, WatchHub, apply_txn, has_put
from petcd.pb.etcdserverpb import (
    AlarmMember,
    AlarmRequest,
    CompactionRequest,
    DeleteRangeRequest,
    InternalRaftRequest,
    LeaseCheckpointRequest,
    LeaseGrantRequest,
    LeaseRevokeRequest,
    PutRequest,
    RangeRequest,
    Request,
    TxnRequest,
)
from petcd.pb.membershippb import (
    ClusterMemberAttrSetRequest,
    ClusterVersionSetRequest,
    DowngradeInfoSetRequest,
)
from petcd.pb.wire import DecodeError, varint
from petcd.server import alarms as alarm
from petcd.server.alarms import Alarms
from petcd.server.membership import Membership
from petcd.server.quota import LEASE_COST, Quota, put_cost, txn_cost
from petcd.server.v2requests import meaning_of
from petcd.storage import schema

V2: Final = 2
RANGE: Final = 3
PUT: Final = 4
DELETE_RANGE: Final = 5
TXN: Final = 6
COMPACTION: Final = 7
LEASE_GRANT: Final = 8
LEASE_REVOKE: Final = 9
ALARM: Final = 10
LEASE_CHECKPOINT: Final = 11
CLUSTER_VERSION_SET: Final = 1300
CLUSTER_MEMBER_ATTR_SET: Final = 1301
DOWNGRADE_INFO_SET: Final = 1302

FIELDS: Final = {
    V2: "v2",
    RANGE: "range",
    PUT: "put",
    DELETE_RANGE: "delete_range",
    TXN: "txn",
    COMPACTION: "compaction",
    LEASE_GRANT: "lease_grant",
    LEASE_REVOKE: "lease_revoke",
    ALARM: "alarm",
    LEASE_CHECKPOINT: "lease_checkpoint",
    CLUSTER_VERSION_SET: "cluster_version_set",
    CLUSTER_MEMBER_ATTR_SET: "cluster_member_attr_set",
    DOWNGRADE_INFO_SET: "downgrade_info_set",
}
"""The kinds of request this member can apply, by field number of ``InternalRaftRequest``."""


class UnknownRequest(Exception):
    """A committed entry holds a request this release does not know: applying on would diverge."""


def decode_request(data: bytes) -> tuple[int, int, Any]:
    """(request id, kind, request) of an entry's data.

    Raises:
        DecodeError: neither an InternalRaftRequest nor a v2 request.
        UnknownRequest: none of the known requests is set.
    """
    try:
        envelope = InternalRaftRequest.decode(data)
    except DecodeError:
        # Releases up to 3.6 log v2 requests as they are (contract peer section 7.1).
        bare = Request.decode(data)
        return bare.ID, V2, bare
    request_id = envelope.ID or (envelope.header.ID if envelope.header is not None else 0)
    for kind, name in FIELDS.items():
        request = getattr(envelope, name)
        if request is not None:
            return request_id, kind, request
    raise UnknownRequest("entry holds none of the requests this release knows")


class Applier:
    """Applies requests to the stores of one member."""

    def __init__(
        self,
        *,
        store: Store,
        hub: WatchHub,
        lessor: Lessor,
        alarms: Alarms,
        membership: Membership,
        quota: Quota,
        logger: Logger,
        now: Callable[[], float],
        raise_nospace: Callable[[], object],
    ) -> None:
        self._store = store
        self._hub = hub
        self._lessor = lessor
        self._alarms = alarms
        self._membership = membership
        self._backend = store.backend
        self._quota = quota
        self._logger = logger
        self._now = now
        self._raise_nospace = raise_nospace
        self.quota_is_near = False
        """Set by the member while the backend is so large that a write could exceed the quota."""
        self.put_count = self.delete_count = self.txn_count = 0
        """Requests applied, for the metrics."""
        self.handlers: dict[int, Callable[[Any], bytes]] = {
            V2: self.v2,
            RANGE: self.range,
            PUT: self.put,
            DELETE_RANGE: self.delete_range,
            TXN: self.txn,
            COMPACTION: self.compaction,
            LEASE_GRANT: self.lease_grant,
            LEASE_REVOKE: self.lease_revoke,
            ALARM: self.alarm,
            LEASE_CHECKPOINT: self.lease_checkpoint,
            CLUSTER_VERSION_SET: self.cluster_version_set,
            CLUSTER_MEMBER_ATTR_SET: self.cluster_member_attr_set,
            DOWNGRADE_INFO_SET: self.downgrade_info_set,
        }
        missing = FIELDS.keys() ^ self.handlers.keys()
        assert not missing, missing

    # -- keys ----------------------------------------------------------------------------------------

    def range(self, request: RangeRequest) -> bytes:
        return self._store.range(request)

    def put(self, request: PutRequest) -> bytes:
        if self._alarms.any_active:
            self._alarms.refuse_writes(needs_space=True)
        self.put_count += 1
        store = self._store
        if not store.watched:
            body = store.put_alone(request)
            if self.quota_is_near:
                self._check_quota(put_cost(request))
            return body
        store.begin()
        try:
            body = store.put(request)
        finally:
            events = store.end()
        if events and self._hub.active:
            self._hub.notify(store.rev, events)
        if self.quota_is_near:
            self._check_quota(put_cost(request))
        return body

    def delete_range(self, request: DeleteRangeRequest) -> bytes:
        self._alarms.refuse_writes(needs_space=False)
        self.delete_count += 1
        store = self._store
        store.begin()
        try:
            body = store.delete_range(request)
        finally:
            events = store.end()
        if events and self._hub.active:
            self._hub.notify(store.rev, events)
        return body

    def txn(self, request: TxnRequest) -> bytes:
        if self._alarms.any_active:
            self._alarms.refuse_writes(needs_space=has_put(request))
        self.txn_count += 1
        store = self._store
        store.begin()
        try:
            body = apply_txn(store, request)
        finally:
            events = store.end()
        if events and self._hub.active:
            self._hub.notify(store.rev, events)
        if self.quota_is_near:
            self._check_quota(txn_cost(request))
        return body

    def compaction(self, request: CompactionRequest) -> bytes:
        self._alarms.refuse_writes(needs_space=False)
        self._store.compact(request.revision)
        return b""

    # -- leases --------------------------------------------------------------------------------------

    def lease_grant(self, request: LeaseGrantRequest) -> bytes:
        self._alarms.refuse_writes(needs_space=True)
        lease = self._lessor.grant(request.ID, request.TTL, self._now())
        if self.quota_is_near:
            self._check_quota(LEASE_COST)
        return b"\x10" + varint(lease.id) + b"\x18" + varint(lease.ttl)

    def lease_revoke(self, request: LeaseRevokeRequest) -> bytes:
        self._alarms.refuse_writes(needs_space=False)
        keys = self._lessor.revoke(request.ID)
        if keys:
            store = self._store
            store.begin()
            try:
                for key in keys:
                    store.delete_key(key)
            finally:
                events = store.end()
            if events and self._hub.active:
                self._hub.notify(store.rev, events)
        return b""

    def lease_checkpoint(self, request: LeaseCheckpointRequest) -> bytes:
        now = self._now()
        for checkpoint in request.checkpoints:
            self._lessor.checkpoint(checkpoint.ID, checkpoint.remaining_TTL, now)
        return b""

    # -- alarms, membership --------------------------------------------------------------------------

    def alarm(self, request: AlarmRequest) -> bytes:
        if request.action == alarm.ACTIVATE:
            fresh = not self._alarms.is_active(request.memberID, request.alarm)
            pairs = self._alarms.activate(request.memberID, request.alarm)
            if pairs and fresh:
                self._logger.warn(
                    "alarm raised",
                    alarm=alarm.NAMES.get(request.alarm, "UNKNOWN"),
                    **_member(request.memberID),
                )
        elif request.action == alarm.DEACTIVATE:
            pairs = self._alarms.deactivate(request.memberID, request.alarm)
            if pairs:
                self._logger.info(
                    "alarm disarmed",
                    alarm=alarm.NAMES.get(request.alarm, "UNKNOWN"),
                    **_member(request.memberID),
                )
        else:
            pairs = self._alarms.get(request.alarm)
        return encode_alarms(pairs)

    def cluster_version_set(self, request: ClusterVersionSetRequest) -> bytes:
        before = self._membership.version
        self._membership.set_version(request.ver)
        if _minor(request.ver) >= (3, 6):  # older releases do not know of it
            self._backend.put(schema.META, schema.STORAGE_VERSION, request.ver.encode())
        self._logger.info(
            "set initial cluster version" if not before else "updated cluster version",
            **{"cluster-id": f"{self._membership.cluster_id:x}", "cluster-version": request.ver[:-2]},
        )
        self._logger.info("enabled capabilities for version", **{"cluster-version": request.ver[:-2]})
        return b""

    def cluster_member_attr_set(self, request: ClusterMemberAttrSetRequest) -> bytes:
        attributes = request.member_attributes
        if attributes is not None:
            self._membership.set_attributes(request.member_ID, attributes.name, attributes.client_urls)
        return b""

    def v2(self, request: Request) -> bytes:
        """What older releases say of members and the version, in a log that was begun by them.

        Raises: UnknownV2Request.
        """
        meaning = meaning_of(request)
        if isinstance(meaning, ClusterVersionSetRequest):
            return self.cluster_version_set(meaning)
        if meaning is not None:
            return self.cluster_member_attr_set(meaning)
        return b""

    def downgrade_info_set(self, request: DowngradeInfoSetRequest) -> bytes:
        self._membership.set_downgrade(enabled=request.enabled, target=request.ver)
        return b""

    def _check_quota(self, cost: int) -> None:
        """The write stands, yet its answer says that there is no space (contract wire-v3 section 3.3)."""
        if not self._quota.allows(self._store.size(), cost):
            self._raise_nospace()
            raise errors.NoSpace()


def encode_alarms(pairs: list[tuple[int, int]]) -> bytes:
    """The body of an AlarmResponse behind its header."""
    parts = []
    for member_id, which in pairs:
        body = AlarmMember(memberID=member_id, alarm=which).encode()
        parts.append(b"\x12" + varint(len(body)) + body)
    return b"".join(parts)


def _minor(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def _member(member_id: int) -> dict[str, str]:
    return {"from": f"{member_id:x}"}
