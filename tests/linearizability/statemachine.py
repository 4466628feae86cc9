"""etcd's state machine once more: small, plain, with the state at every revision.

It is fed the committed log, entry by entry, and says what each request must have been answered. Written from
contract/wire-v3.md sections 3 and 5, and without looking at the real one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from petcd import errors
from petcd.errors import EtcdError
from petcd.pb import etcdserverpb as pb
from petcd.pb import mvccpb
from petcd.pb.message import Message

Kv = mvccpb.KeyValue


class Event(NamedTuple):
    """One change of one key."""

    rev: int
    key: bytes
    kv: Kv | None
    """None for a deletion."""
    prev: Kv | None


class Answer(NamedTuple):
    """What a request must be told."""

    index: int
    revision: int
    response: Message | None
    """Without its header."""
    error: EtcdError | None


@dataclass
class Lease:
    id: int
    ttl: int
    granted_index: int
    keys: set[bytes] = field(default_factory=set)


class KeyHistory:
    """Every state of one key."""

    __slots__ = ("kvs", "revs")

    def __init__(self) -> None:
        self.revs: list[int] = []
        self.kvs: list[Kv | None] = []

    def at(self, rev: int) -> Kv | None:
        place = bisect_right(self.revs, rev)
        return self.kvs[place - 1] if place else None


def covers(key: bytes, range_end: bytes, one: bytes) -> bool:
    if not range_end:
        return one == key
    return one >= key and (range_end == b"\0" or one < range_end)


class StateMachine:
    """The store, the leases, and the answers, after each entry."""

    def __init__(self, min_ttl: int = 1) -> None:
        self.rev = 1
        self.compact_rev = -1
        self.compactions: list[tuple[int, int]] = []
        """(index, revision) of every compaction, in order."""
        self.keys: dict[bytes, KeyHistory] = {}
        self.leases: dict[int, Lease] = {}
        self.events: list[Event] = []
        self.answers: dict[int, Answer] = {}
        """By request id."""
        self.index_of_rev: dict[int, int] = {1: 0}
        self.revision_at: list[int] = [1]
        """By index."""
        self.repeated: list[int] = []
        """Ids of requests that were applied twice."""
        self.revocations: list[tuple[int, int, int]] = []
        """(index, request id, lease id) of every lease that ended."""
        self._min_ttl = min_ttl
        self._open: list[Event] = []
        self._index = 0
        self._sorted: list[bytes] | None = None

    # -- the log ---------------------------------------------------------------------------------------

    def apply(self, index: int, data: bytes) -> None:
        """One normal entry; ``data`` empty for a leader's first."""
        while len(self.revision_at) < index:
            self.revision_at.append(self.rev)
        self._index = index
        if data:
            envelope = pb.InternalRaftRequest.decode(data)
            request_id = envelope.ID or (envelope.header.ID if envelope.header is not None else 0)
            self._apply(index, request_id, envelope)
        self.revision_at.append(self.rev)

    def _apply(self, index: int, request_id: int, envelope: Any) -> None:
        for name, handler in self._HANDLERS.items():
            request = getattr(envelope, name)
            if request is None:
                continue
            response: Message | None = None
            error: EtcdError | None = None
            self._open = []
            try:
                response = handler(self, request)
            except EtcdError as refused:
                error = refused
                self._open = []
            self._commit(index)
            if request_id in self.answers:
                self.repeated.append(request_id)
            self.answers[request_id] = Answer(index, self.rev, response, error)
            if name == "lease_revoke" and error is None:
                self.revocations.append((index, request_id, request.ID))
            return

    def _commit(self, index: int) -> None:
        if not self._open:
            return
        self.rev += 1
        self.index_of_rev[self.rev] = index
        for event in self._open:
            self.events.append(event)
            history = self.keys.get(event.key)
            if history is None:
                history = self.keys[event.key] = KeyHistory()
                self._sorted = None
            before = history.kvs[-1] if history.kvs else None
            if before is not None and before.lease:
                lease = self.leases.get(before.lease)
                if lease is not None:
                    lease.keys.discard(event.key)
            if event.kv is not None and event.kv.lease:
                self.leases[event.kv.lease].keys.add(event.key)
            if history.revs and history.revs[-1] == event.rev:
                history.kvs[-1] = event.kv  # put after a deletion in one transaction, or the other way round
            else:
                history.revs.append(event.rev)
                history.kvs.append(event.kv)
        self._open = []

    # -- looking ---------------------------------------------------------------------------------------

    @property
    def now(self) -> int:
        """The revision that reads see: inside a transaction that has changed something, the next one."""
        return self.rev + 1 if self._open else self.rev

    def get(self, key: bytes) -> Kv | None:
        """The present state of a key, with what the open transaction did."""
        for event in reversed(self._open):
            if event.key == key:
                return event.kv
        history = self.keys.get(key)
        return history.kvs[-1] if history is not None and history.kvs else None

    def at(self, rev: int, key: bytes, range_end: bytes) -> list[Kv]:
        """The keys of a range as they were at a revision, in order."""
        if not range_end:
            history = self.keys.get(key)
            kv = history.at(rev) if history is not None else None
            return [kv] if kv is not None else []
        if self._sorted is None:
            self._sorted = sorted(self.keys)
        found = []
        for one in self._sorted:
            if covers(key, range_end, one):
                kv = self.keys[one].at(rev)
                if kv is not None:
                    found.append(kv)
        return found

    def _present(self, key: bytes, range_end: bytes) -> list[Kv]:
        if not range_end:
            kv = self.get(key)
            return [kv] if kv is not None else []
        names = {*self.keys, *(event.key for event in self._open)}
        found = (self.get(one) for one in sorted(names) if covers(key, range_end, one))
        return [kv for kv in found if kv is not None]

    # -- requests --------------------------------------------------------------------------------------

    def put(self, request: pb.PutRequest) -> Message:
        if request.lease and request.lease not in self.leases:
            raise errors.LeaseNotFound
        return self._put(request)

    def _put(self, request: pb.PutRequest) -> pb.PutResponse:
        prev = self.get(request.key)
        main = self.rev + 1
        kv = Kv(
            key=request.key,
            value=request.value,
            create_revision=prev.create_revision if prev is not None else main,
            mod_revision=main,
            version=prev.version + 1 if prev is not None else 1,
            lease=request.lease,
        )
        self._open.append(Event(main, request.key, kv, prev))
        return pb.PutResponse(prev_kv=prev if request.prev_kv else None)

    def delete_range(self, request: pb.DeleteRangeRequest) -> pb.DeleteRangeResponse:
        gone = self._present(request.key, request.range_end)
        for kv in gone:
            self._open.append(Event(self.rev + 1, kv.key, None, kv))
        return pb.DeleteRangeResponse(deleted=len(gone), prev_kvs=gone if request.prev_kv else [])

    def range(self, request: pb.RangeRequest) -> pb.RangeResponse:
        """Key, range_end, revision, limit, count_only; the rest is not used by the histories."""
        if request.revision > self.now:
            raise errors.FutureRev
        if 0 < request.revision < self.compact_rev:
            raise errors.Compacted
        if request.revision:
            kvs = self.at(request.revision, request.key, request.range_end)
        else:
            kvs = self._present(request.key, request.range_end)
        return limited(request, kvs)

    def txn(self, request: pb.TxnRequest) -> pb.TxnResponse:
        holds = all(self._holds(compare) for compare in request.compare)
        steps = request.success if holds else request.failure
        for step in steps:
            put, read = step.request_put, step.request_range
            if put is not None and put.lease and put.lease not in self.leases:
                raise errors.LeaseNotFound
            if read is not None and read.revision > self.rev:
                raise errors.FutureRev
            if read is not None and 0 < read.revision < self.compact_rev:
                raise errors.Compacted
        responses = []
        for step in steps:
            if step.request_put is not None:
                put_response = self._put(step.request_put)
                put_response.header = pb.ResponseHeader(revision=self.now)
                responses.append(pb.ResponseOp(response_put=put_response))
            elif step.request_range is not None:
                range_response = self.range(step.request_range)
                range_response.header = pb.ResponseHeader(revision=self.now)
                responses.append(pb.ResponseOp(response_range=range_response))
            else:
                assert step.request_delete_range is not None
                delete_response = self.delete_range(step.request_delete_range)
                delete_response.header = pb.ResponseHeader(revision=self.now)
                responses.append(pb.ResponseOp(response_delete_range=delete_response))
        return pb.TxnResponse(succeeded=holds, responses=responses)

    def _holds(self, compare: pb.Compare) -> bool:
        kv = self.get(compare.key)
        target = compare.target
        if kv is None:
            if target == pb.CompareTarget.VALUE:
                return False
            kv = Kv()
        name = ("version", "create_revision", "mod_revision", "value", "lease")[target]
        wanted = getattr(compare, name) or (b"" if name == "value" else 0)
        actual = getattr(kv, name)
        return bool((actual == wanted, actual > wanted, actual < wanted, actual != wanted)[compare.result])

    def compaction(self, request: pb.CompactionRequest) -> Message:
        if request.revision <= self.compact_rev:
            raise errors.Compacted
        if request.revision > self.rev:
            raise errors.FutureRev
        self.compact_rev = request.revision
        self.compactions.append((self._index, request.revision))
        return pb.CompactionResponse()

    def lease_grant(self, request: pb.LeaseGrantRequest) -> Message:
        if request.TTL > 9_000_000_000:
            raise errors.LeaseTTLTooLarge
        if request.ID in self.leases:
            raise errors.LeaseExist
        lease = self.leases[request.ID] = Lease(request.ID, max(request.TTL, self._min_ttl), self._index)
        return pb.LeaseGrantResponse(ID=lease.id, TTL=lease.ttl)

    def lease_revoke(self, request: pb.LeaseRevokeRequest) -> Message:
        lease = self.leases.get(request.ID)
        if lease is None:
            raise errors.LeaseNotFound
        for key in sorted(lease.keys):
            self._open.append(Event(self.rev + 1, key, None, self.get(key)))
        self._commit(self._index)
        del self.leases[request.ID]
        return pb.LeaseRevokeResponse()

    _HANDLERS: ClassVar[dict[str, Callable[[StateMachine, Any], Message]]] = {
        "put": put,
        "delete_range": delete_range,
        "txn": txn,
        "compaction": compaction,
        "lease_grant": lease_grant,
        "lease_revoke": lease_revoke,
    }


def limited(request: pb.RangeRequest, kvs: Iterable[Kv]) -> pb.RangeResponse:
    """What a range with a limit answers of these keys."""
    kvs = list(kvs)
    count = len(kvs)
    if request.count_only:
        return pb.RangeResponse(count=count)
    more = 0 < request.limit < count
    return pb.RangeResponse(kvs=kvs[: request.limit] if more else kvs, more=more, count=count)
