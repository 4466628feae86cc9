"""Everything that clients can learn about a server's state: equal before and after a move, or it failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.rpc import Rpc, Status
from tests.servers import Server

from petcd.pb import etcdserverpb as pb

EVERYTHING = (b"\0", b"\0")


@dataclass
class Facts:
    revision: int
    keys: list[bytes]
    """Every live key with all its fields, encoded."""
    hashes: dict[int, Any]
    """HashKV by revision: hash and compact revision, or the refusal."""
    events: list[bytes]
    """All that is still there, from the oldest revision that can be watched."""
    members: set[tuple[Any, ...]]
    leases: dict[int, tuple[int, list[bytes]]]
    """Granted time and keys."""
    alarms: set[tuple[int, int]]


def facts(server: Server, *, oldest: int = 1) -> Facts:
    """``oldest`` is the first revision that is not compacted."""
    with Rpc(server.endpoint) as rpc:
        everything = rpc.get(*EVERYTHING)
        assert everything.header is not None
        revision = everything.header.revision
        leases = {}
        for lease in rpc.call(pb.LeaseLeasesRequest()).leases:
            left = rpc.call(pb.LeaseTimeToLiveRequest(ID=lease.ID, keys=True))
            assert 0 < left.TTL <= left.grantedTTL + 2, "a new leader gives an election timeout on top"
            leases[lease.ID] = (left.grantedTTL, sorted(left.keys))
        return Facts(
            revision=revision,
            keys=[kv.encode() for kv in everything.kvs],
            hashes={rev: _hash(rpc, rev) for rev in range(max(oldest, revision - 12), revision + 1)},
            events=_events(rpc, oldest, revision),
            members={
                (one.ID, one.name, tuple(one.peerURLs), tuple(one.clientURLs), one.isLearner)
                for one in rpc.call(pb.MemberListRequest()).members
            },
            leases=leases,
            alarms={(one.memberID, one.alarm) for one in rpc.call(pb.AlarmRequest()).alarms},
        )


def _hash(rpc: Rpc, revision: int) -> Any:
    try:
        answer = rpc.call(pb.HashKVRequest(revision=revision))
    except Status as refusal:
        return str(refusal)
    return answer.hash, answer.compact_revision


def _events(rpc: Rpc, start: int, end: int) -> list[bytes]:
    stream = rpc.watch()
    create = pb.WatchCreateRequest(key=EVERYTHING[0], range_end=EVERYTHING[1], start_revision=start)
    created = stream.ask(pb.WatchRequest(create_request=create))
    assert created.created and not created.canceled, created.cancel_reason
    events: list[bytes] = []
    last = 0
    while last < end:
        for event in stream.receive().events:
            assert event.kv is not None
            last = event.kv.mod_revision
            events.append(event.encode())
    stream.cancel()
    return events
