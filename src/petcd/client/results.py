"""What the client's calls return, typed: key-value pairs and the results of put, get, delete and txn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from petcd.pb import mvccpb
    from petcd.pb.etcdserverpb import kv as pb


class KeyValue(NamedTuple):
    """One key at one revision."""

    key: bytes
    value: bytes
    create_revision: int = 0
    mod_revision: int = 0
    version: int = 0
    """How often it was put since it was created; 0 for a deletion."""
    lease: int = 0

    @classmethod
    def of(cls, kv: mvccpb.KeyValue) -> KeyValue:
        return cls(kv.key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)

    @property
    def text(self) -> str:
        """The value as UTF-8."""
        return self.value.decode()


@dataclass(frozen=True, slots=True)
class PutResult:
    revision: int
    """The store's revision with this put in it."""
    previous: KeyValue | None = None
    """The pair before, when it was asked for and there was one."""


@dataclass(frozen=True, slots=True)
class GetResult:
    """The pairs of a range; it iterates over them."""

    revision: int
    """The store's revision when it was read."""
    kvs: tuple[KeyValue, ...]
    more: bool = False
    """A limit cut the range short."""
    count: int = 0
    """How many keys the range holds, limit or not."""

    @property
    def first(self) -> KeyValue | None:
        return self.kvs[0] if self.kvs else None

    @property
    def value(self) -> bytes | None:
        """The first pair's value: the natural reading of a single key's ``get``."""
        return self.kvs[0].value if self.kvs else None

    def __len__(self) -> int:
        return len(self.kvs)

    def __iter__(self) -> Iterator[KeyValue]:
        return iter(self.kvs)

    def __getitem__(self, index: int) -> KeyValue:
        return self.kvs[index]


@dataclass(frozen=True, slots=True)
class DeleteResult:
    revision: int
    deleted: int
    previous: tuple[KeyValue, ...] = ()


@dataclass(frozen=True, slots=True)
class TxnResult:
    """Which branch ran, and what its operations returned, in their order."""

    revision: int
    succeeded: bool
    results: tuple[PutResult | GetResult | DeleteResult | TxnResult, ...] = field(default=())

    def __bool__(self) -> bool:
        return self.succeeded


def _revision(response: pb.PutResponse | pb.RangeResponse | pb.DeleteRangeResponse | pb.TxnResponse) -> int:
    return response.header.revision if response.header is not None else 0


def put_result(response: pb.PutResponse) -> PutResult:
    previous = response.prev_kv
    return PutResult(_revision(response), KeyValue.of(previous) if previous is not None else None)


def get_result(response: pb.RangeResponse) -> GetResult:
    kvs = tuple([KeyValue.of(kv) for kv in response.kvs])
    return GetResult(_revision(response), kvs, response.more, response.count)


def delete_result(response: pb.DeleteRangeResponse) -> DeleteResult:
    return DeleteResult(
        _revision(response), response.deleted, tuple([KeyValue.of(kv) for kv in response.prev_kvs])
    )


def txn_result(response: pb.TxnResponse) -> TxnResult:
    results: list[PutResult | GetResult | DeleteResult | TxnResult] = []
    for op in response.responses:
        if op.response_put is not None:
            results.append(put_result(op.response_put))
        elif op.response_range is not None:
            results.append(get_result(op.response_range))
        elif op.response_delete_range is not None:
            results.append(delete_result(op.response_delete_range))
        elif op.response_txn is not None:
            results.append(txn_result(op.response_txn))
    return TxnResult(_revision(response), response.succeeded, tuple(results))
