"""What the client's calls return, typed: key-value pairs and the results of put, get, delete and txn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, cast, overload

if TYPE_CHECKING:
    from petcd.client.kv import Delete, Get, Operation, Put, Txn
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
    def of(cls, kv: mvccpb.KeyValue, skip: int = 0) -> KeyValue:
        key = kv.key[skip:] if skip else kv.key
        return cls(key, kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)

    @property
    def text(self) -> str:
        """The value as UTF-8."""
        return self.value.decode()


# These two are not frozen: making one would take four times as long, and every put and get makes one.


@dataclass(slots=True)
class PutResult:
    revision: int
    """The store's revision with this put in it."""
    previous: KeyValue | None = None
    """The pair before, when it was asked for and there was one."""


@dataclass(slots=True)
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
    """Which branch ran, and what its operations returned.

    ``result[operation]`` is the typed result of that very operation of the branch that ran, or of the first
    equal to it; KeyError when the branch has none.
    """

    revision: int
    succeeded: bool
    results: tuple[PutResult | GetResult | DeleteResult | TxnResult, ...] = field(default=())
    """In the operations' order."""
    operations: tuple[Operation, ...] = field(default=(), repr=False, compare=False)
    """Of the branch that ran."""

    def __bool__(self) -> bool:
        return self.succeeded

    @overload
    def __getitem__(self, operation: Get) -> GetResult: ...
    @overload
    def __getitem__(self, operation: Put) -> PutResult: ...
    @overload
    def __getitem__(self, operation: Delete) -> DeleteResult: ...
    @overload
    def __getitem__(self, operation: Txn) -> TxnResult: ...
    def __getitem__(self, operation: Operation) -> PutResult | GetResult | DeleteResult | TxnResult:
        equal = -1
        for number, candidate in enumerate(self.operations):
            if candidate is operation:
                return self.results[number]
            if equal < 0 and candidate == operation:
                equal = number
        if equal < 0:
            raise KeyError(operation)
        return self.results[equal]


def _revision(response: pb.PutResponse | pb.RangeResponse | pb.DeleteRangeResponse | pb.TxnResponse) -> int:
    return response.header.revision if response.header is not None else 0


# ``skip`` is the length of the namespace that the keys are told without.


def put_result(response: pb.PutResponse, skip: int = 0) -> PutResult:
    previous = response.prev_kv
    return PutResult(_revision(response), KeyValue.of(previous, skip) if previous is not None else None)


def get_result(response: pb.RangeResponse, skip: int = 0) -> GetResult:
    kvs = tuple([KeyValue.of(kv, skip) for kv in response.kvs])
    return GetResult(_revision(response), kvs, response.more, response.count)


def delete_result(response: pb.DeleteRangeResponse, skip: int = 0) -> DeleteResult:
    previous = tuple([KeyValue.of(kv, skip) for kv in response.prev_kvs])
    return DeleteResult(_revision(response), response.deleted, previous)


def txn_result(response: pb.TxnResponse, txn: Txn, skip: int = 0) -> TxnResult:
    results: list[PutResult | GetResult | DeleteResult | TxnResult] = []
    operations = tuple(txn.then if response.succeeded else txn.otherwise)
    for operation, op in zip(operations, response.responses, strict=True):
        if op.response_put is not None:
            results.append(put_result(op.response_put, skip))
        elif op.response_range is not None:
            results.append(get_result(op.response_range, skip))
        elif op.response_delete_range is not None:
            results.append(delete_result(op.response_delete_range, skip))
        elif op.response_txn is not None:
            results.append(txn_result(op.response_txn, cast("Txn", operation), skip))
    return TxnResult(_revision(response), response.succeeded, tuple(results), operations)
