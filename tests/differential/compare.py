"""Whether two answers are the same answer, and the few places where two releases may differ.

``canonical`` turns an answer into plain data without what identifies a member or an instant. Every exception
it makes stands in ``EXCEPTIONS`` with its reason; nothing else is forgiven.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any, Final

from petcd.pb import etcdserverpb as pb
from petcd.pb import mvccpb
from petcd.pb.message import Message

EXCEPTIONS: Final = {
    "header": "cluster_id, member_id and raft_term name a member and its elections, not an answer",
    "remaining TTL": "seconds pass between the two calls; two of them are forgiven",
    "lease order": "LeaseLeases orders by remaining time, TimeToLive's keys are unordered: compared as sets",
    "ties": "a sort by one field leaves equal elements in no defined order (Go sorts unstably above twelve)",
    "keys_only lease": "3.7 answers keys_only from the index, without the lease, unless it sorts by value",
    "hash_revision": "HashKVResponse.hash_revision exists since 3.6",
    "HashKV at the compacted revision": "an error until 3.4.26, an answer since: never asked",
    "unknown sort": "an unknown sort target crashes 3.4 and is an error since 3.6: never asked",
    "ignore_* after a deletion": "a txn that puts so what it deleted before ends Go's process: never asked",
    "negative watch start": "created then cancelled until 3.4.37, refused since: never asked",
    "watch from a compacted tombstone": "3.4.34 keeps a tombstone at the compacted revision: never asked",
    "progress": "since 3.4.25 it is answered only when every watcher is synced: asked only then",
    "watch batches": "how many revisions of the past share a response depends on timing: events are compared",
}


def canonical(request: Message, answer: Message) -> Any:
    """The answer as plain data in which equal means equal."""
    if isinstance(answer, pb.RangeResponse):
        assert isinstance(request, pb.RangeRequest)
        return _range(request, answer)
    if isinstance(answer, pb.TxnResponse):
        assert isinstance(request, pb.TxnRequest)
        return _txn(request, answer)
    data = plain(answer)
    if isinstance(answer, pb.LeaseTimeToLiveResponse):
        data["TTL"] = Seconds(data.get("TTL", 0))
        data["keys"] = sorted(data.get("keys", []))
    elif isinstance(answer, pb.LeaseLeasesResponse):
        data["leases"] = sorted(lease.ID for lease in answer.leases)
    elif isinstance(answer, pb.HashKVResponse):
        data.pop("hash_revision", None)
    return data


class Seconds:
    """A duration that is equal to its neighbours."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Seconds) and abs(self.value - other.value) <= 2

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"~{self.value}s"


def plain(message: Message) -> dict[str, Any]:
    """The fields that are set; of a header only the revision, but also whether there is one."""
    data: dict[str, Any] = {}
    for field in type(message).FIELDS:
        value = getattr(message, field.attribute)
        if isinstance(value, pb.ResponseHeader):
            data[field.name] = value.revision
        elif isinstance(value, Message):
            data[field.name] = plain(value)
        elif isinstance(value, list):
            if value:
                data[field.name] = [plain(one) if isinstance(one, Message) else one for one in value]
        elif value or (field.oneof and value is not None):
            data[field.name] = value
    return data


def _range(request: pb.RangeRequest, answer: pb.RangeResponse) -> Any:
    data = plain(answer)
    kvs = answer.kvs
    if request.keys_only and request.sort_target != pb.SortTarget.VALUE:
        kvs = [
            mvccpb.KeyValue(
                key=kv.key,
                create_revision=kv.create_revision,
                mod_revision=kv.mod_revision,
                version=kv.version,
                value=kv.value,
            )
            for kv in kvs
        ]
    data["kvs"] = _settle_ties(request, kvs)
    return data


def _settle_ties(request: pb.RangeRequest, kvs: list[mvccpb.KeyValue]) -> list[Any]:
    """Elements that the sort leaves equal, ordered by key; of a run that the limit cuts, only its length."""
    attribute = {1: "version", 2: "create_revision", 3: "mod_revision", 4: "value"}.get(request.sort_target)
    if attribute is None:
        return [plain(kv) for kv in kvs]
    settled: list[Any] = []
    runs = [(value, list(run)) for value, run in groupby(kvs, key=lambda kv: getattr(kv, attribute))]
    cut = 0 < request.limit <= len(kvs)
    for number, (value, run) in enumerate(runs):
        if cut and number == len(runs) - 1:
            settled.append({attribute: value, "count": len(run)})
        else:
            settled += [plain(kv) for kv in sorted(run, key=lambda kv: kv.key)]
    return settled


def _txn(request: pb.TxnRequest, answer: pb.TxnResponse) -> Any:
    operations = request.success if answer.succeeded else request.failure
    data = plain(answer)
    responses: list[Any] = []
    for operation, response in zip(operations, answer.responses, strict=False):
        if response.response_range is not None and operation.request_range is not None:
            responses.append({"range": _range(operation.request_range, response.response_range)})
        elif response.response_txn is not None and operation.request_txn is not None:
            responses.append({"txn": _txn(operation.request_txn, response.response_txn)})
        else:
            responses.append(plain(response))
    data["responses"] = responses
    data["count"] = len(answer.responses)
    return data
