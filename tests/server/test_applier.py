"""The state machine by itself: every kind of request, without a log (contract wire-v3 3.2, 3.3)."""

from __future__ import annotations

from typing import Any

import pytest

from petcd import errors
from petcd.lease import Lessor
from petcd.logs import Logger
from petcd.mvcc import Store, WatchHub
from petcd.pb import etcdserverpb as pb
from petcd.pb import splice
from petcd.pb.membershippb import (
    Attributes,
    ClusterMemberAttrSetRequest,
    ClusterVersionSetRequest,
    DowngradeInfoSetRequest,
)
from petcd.pb.message import Message
from petcd.server import applier
from petcd.server.alarms import CORRUPT, NOSPACE, Alarms
from petcd.server.applier import FIELDS, Applier, decode_request, encode_alarms
from petcd.server.membership import ClusterMember, Membership
from petcd.server.quota import Quota
from petcd.storage.memory_backend import MemoryBackend


class Machine:
    """An applier over fresh stores."""

    def __init__(self, quota: int = -1) -> None:
        self.backend = MemoryBackend()
        self.lessor = Lessor(self.backend, 2)
        self.lessor.promote(0.0, 0.0)
        self.store = Store(self.backend, self.lessor)
        self.hub = WatchHub(self.store)
        self.alarms = Alarms(self.backend)
        self.membership = Membership(7, self.backend)
        self.now = 0.0
        self.raised = 0
        self.lines: list[tuple[str, dict[str, Any]]] = []
        self.applier = Applier(
            store=self.store,
            hub=self.hub,
            lessor=self.lessor,
            alarms=self.alarms,
            membership=self.membership,
            quota=Quota(quota),
            logger=Logger(lambda _level, message, fields: self.lines.append((message, dict(fields)))),
            now=lambda: self.now,
            raise_nospace=self._raise,
        )

    def _raise(self) -> None:
        self.raised += 1

    def __call__(self, kind: int, request: Message) -> bytes:
        return self.applier.handlers[kind](request)


def test_every_kind_that_is_decoded_is_handled() -> None:
    machine = Machine()
    assert machine.applier.handlers.keys() == FIELDS.keys()
    for kind in FIELDS:
        data = splice.internal_request(kind, b"", 77)
        request_id, decoded, request = decode_request(data)
        assert (request_id, decoded) == (77, kind), kind
        assert request is not None


def test_writes() -> None:
    machine = Machine()
    assert machine(applier.PUT, pb.PutRequest(key=b"a", value=b"1")) == b""
    assert machine(applier.DELETE_RANGE, pb.DeleteRangeRequest(key=b"b")) == b""
    body = machine(applier.DELETE_RANGE, pb.DeleteRangeRequest(key=b"a", prev_kv=True))
    assert pb.DeleteRangeResponse.decode(body).deleted == 1
    machine(applier.TXN, pb.TxnRequest(success=[pb.RequestOp(request_put=pb.PutRequest(key=b"t"))]))
    assert machine.store.rev == 4
    machine(applier.COMPACTION, pb.CompactionRequest(revision=3))
    with pytest.raises(errors.Compacted):
        machine(applier.COMPACTION, pb.CompactionRequest(revision=3))
    with pytest.raises(errors.FutureRev):
        machine(applier.COMPACTION, pb.CompactionRequest(revision=9))
    counts = machine.applier
    assert (counts.put_count, counts.delete_count, counts.txn_count) == (1, 2, 1)
    assert pb.RangeResponse.decode(machine(applier.RANGE, pb.RangeRequest(key=b"t"))).count == 1


class Sink:
    def __init__(self) -> None:
        self.events: list[list[bytes]] = []

    def send(self, message: bytes, /) -> bool:
        response = pb.WatchResponse.decode(message)
        if response.events:
            self.events.append([event.kv.key for event in response.events if event.kv is not None])
        return True


def test_watchers_hear_of_each_kind_of_write() -> None:
    machine = Machine()
    sink = Sink()
    stream = machine.hub.open(sink)
    stream.create(pb.WatchCreateRequest(key=b"\0", range_end=b"\0"))
    machine(applier.LEASE_GRANT, pb.LeaseGrantRequest(ID=5, TTL=9))
    machine(applier.PUT, pb.PutRequest(key=b"b", lease=5))
    machine(applier.PUT, pb.PutRequest(key=b"a", lease=5))
    machine(applier.TXN, pb.TxnRequest(success=[pb.RequestOp(request_put=pb.PutRequest(key=b"t"))]))
    machine(applier.DELETE_RANGE, pb.DeleteRangeRequest(key=b"t"))
    machine(applier.DELETE_RANGE, pb.DeleteRangeRequest(key=b"t"))
    machine(applier.LEASE_REVOKE, pb.LeaseRevokeRequest(ID=5))
    with pytest.raises(errors.LeaseNotFound):
        machine(applier.PUT, pb.PutRequest(key=b"x", lease=5))
    assert sink.events == [[b"b"], [b"a"], [b"t"], [b"t"], [b"a", b"b"]]


def test_alarms_are_looked_at_first_and_in_order() -> None:
    machine = Machine()
    puts = pb.TxnRequest(failure=[pb.RequestOp(request_put=pb.PutRequest(key=b"a"))])
    needs_space = [
        (applier.PUT, pb.PutRequest(key=b"a", lease=9)),
        (applier.TXN, puts),
        (applier.LEASE_GRANT, pb.LeaseGrantRequest(ID=1, TTL=1 << 60)),
    ]
    deletes = pb.TxnRequest(success=[pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=b"a"))])
    others = [
        (applier.DELETE_RANGE, pb.DeleteRangeRequest(key=b"a")),
        (applier.TXN, deletes),
        (applier.COMPACTION, pb.CompactionRequest(revision=1)),
    ]
    machine(applier.LEASE_GRANT, pb.LeaseGrantRequest(ID=3, TTL=5))
    machine.alarms.activate(1, NOSPACE)
    for kind, request in needs_space:
        with pytest.raises(errors.NoSpace):
            machine(kind, request)
    for kind, request in others:
        machine(kind, request)
    machine.alarms.activate(1, CORRUPT)
    for kind, request in [*needs_space, *others, (applier.LEASE_REVOKE, pb.LeaseRevokeRequest(ID=3))]:
        with pytest.raises(errors.Corrupt):
            machine(kind, request)
    assert machine.lessor.exists(3)


@pytest.mark.parametrize("watched", [False, True])
def test_the_quota_at_apply(watched: bool) -> None:
    machine = Machine(quota=10_000)
    if watched:
        machine.hub.open(Sink()).create(pb.WatchCreateRequest(key=b"a"))
    assert machine.backend.size() < 9_000
    put = pb.PutRequest(key=b"a", value=bytes(9_000))
    machine(applier.PUT, put)
    assert machine.raised == 0, "nobody said that the quota is near"
    machine.applier.quota_is_near = True
    with pytest.raises(errors.NoSpace):
        machine(applier.PUT, put)
    with pytest.raises(errors.NoSpace):
        machine(applier.TXN, pb.TxnRequest(success=[pb.RequestOp(request_put=put)]))
    assert (machine.raised, machine.store.rev) == (2, 4), "written all the same"
    machine(applier.PUT, pb.PutRequest(key=b"a"))
    machine(applier.LEASE_GRANT, pb.LeaseGrantRequest(ID=1, TTL=5))
    machine(applier.TXN, pb.TxnRequest())


def test_leases() -> None:
    machine = Machine()
    body = machine(applier.LEASE_GRANT, pb.LeaseGrantRequest(ID=-5, TTL=1))
    answer = pb.LeaseGrantResponse.decode(body)
    assert (answer.ID, answer.TTL) == (-5, 2)
    machine.now = 1.0
    checkpoint = pb.LeaseCheckpoint(ID=-5, remaining_TTL=1)
    machine(applier.LEASE_CHECKPOINT, pb.LeaseCheckpointRequest(checkpoints=[checkpoint]))
    assert machine.lessor.get(-5).remaining_ttl == 1  # type: ignore[union-attr]
    assert machine(applier.LEASE_REVOKE, pb.LeaseRevokeRequest(ID=-5)) == b""
    assert machine.store.rev == 1


def test_alarm_requests_and_their_lines() -> None:
    machine = Machine()

    def ask(action: pb.AlarmAction, alarm: int = 1) -> list[tuple[int, int]]:
        body = machine(
            applier.ALARM, pb.AlarmRequest(action=action, memberID=0xAB, alarm=pb.AlarmType(alarm))
        )
        return [(one.memberID, one.alarm) for one in pb.AlarmResponse.decode(body).alarms]

    for _ in range(2):
        assert ask(pb.AlarmAction.ACTIVATE) == [(0xAB, 1)]
    assert ask(pb.AlarmAction.GET, 0) == [(0xAB, 1)]
    assert ask(pb.AlarmAction.DEACTIVATE, 2) == []
    assert ask(pb.AlarmAction.DEACTIVATE) == [(0xAB, 1)]
    told = {"alarm": "NOSPACE", "from": "ab"}
    assert machine.lines == [("alarm raised", told), ("alarm disarmed", told)]
    assert encode_alarms([]) == b""


def test_membership() -> None:
    machine = Machine()
    machine.membership.add(ClusterMember(5, ("http://a:1",)))
    attributes = Attributes(name="five", client_urls=["http://a:2"])
    for member in (5, 6):
        request = ClusterMemberAttrSetRequest(member_ID=member, member_attributes=attributes)
        machine(applier.CLUSTER_MEMBER_ATTR_SET, request)
    machine(applier.CLUSTER_MEMBER_ATTR_SET, ClusterMemberAttrSetRequest(member_ID=5))
    assert [member.name for member in machine.membership.in_order()] == ["five"]
    machine(applier.CLUSTER_VERSION_SET, ClusterVersionSetRequest(ver="3.6.0"))
    machine(applier.CLUSTER_VERSION_SET, ClusterVersionSetRequest(ver="3.7.0"))
    assert machine.membership.version == "3.7.0"
    assert [message for message, _ in machine.lines] == [
        "set initial cluster version",
        "enabled capabilities for version",
        "updated cluster version",
        "enabled capabilities for version",
    ]
    assert machine.lines[-1][1]["cluster-version"] == "3.7"
    machine(applier.DOWNGRADE_INFO_SET, DowngradeInfoSetRequest(enabled=True, ver="3.6.0"))
    assert machine.membership.downgrade_target == "3.6.0"
