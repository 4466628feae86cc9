"""Operations on keys: what is said about KV, before anything is sent.

done = await client.txn(
    when=[compare("stock").value == "1", compare("stock").version > 0],
    then=[Put("stock", "0"), Get("price")],
    otherwise=[Get("stock")],
)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from petcd.client.conditions import Comparison, compare
from petcd.client.keys import (
    EVERYTHING,
    HasLease,
    Key,
    Value,
    absolute,
    key_range,
    lease_id,
    prefix_end,
    to_bytes,
)
from petcd.errors import EmptyKey
from petcd.pb.etcdserverpb import kv as pb

Target = Literal["key", "version", "create", "mod", "value"]
Order = Literal["ascend", "descend"]

_TARGETS: Final = {"key": 0, "version": 1, "create": 2, "mod": 3, "value": 4}
_ORDERS: Final = {"ascend": 1, "descend": 2}


def sorting(sort_by: Target | None, order: Order | None) -> tuple[int, int]:
    """Sort order and target as the wire wants them; a target alone means ascending."""
    return _ORDERS[order] if order else 1 if sort_by else 0, _TARGETS[sort_by] if sort_by else 0


@dataclass(frozen=True, slots=True)
class Get:
    """Read a key or a range."""

    key: Key
    end: Key | None = None
    prefix: bool = False
    from_key: bool = False
    revision: int = 0
    limit: int = 0
    sort_by: Target | None = None
    order: Order | None = None
    keys_only: bool = False
    count_only: bool = False
    serializable: bool = False
    min_mod_revision: int = 0
    max_mod_revision: int = 0
    min_create_revision: int = 0
    max_create_revision: int = 0

    def request(self, namespace: bytes = b"") -> pb.RangeRequest:
        key, end = key_range(self.key, self.end, prefix=self.prefix, from_key=self.from_key)
        key, end = absolute(namespace, key, end)
        order, target = sorting(self.sort_by, self.order)
        return pb.RangeRequest(
            key=key,
            range_end=end,
            limit=self.limit,
            revision=self.revision,
            sort_order=order,
            sort_target=target,
            serializable=self.serializable,
            keys_only=self.keys_only,
            count_only=self.count_only,
            min_mod_revision=self.min_mod_revision,
            max_mod_revision=self.max_mod_revision,
            min_create_revision=self.min_create_revision,
            max_create_revision=self.max_create_revision,
        )

    def op(self, namespace: bytes = b"") -> pb.RequestOp:
        return pb.RequestOp(request_range=self.request(namespace))

    @property
    def changes_nothing(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Put:
    """Write a key."""

    key: Key
    value: Value = b""
    lease: int | HasLease = 0
    previous: bool = False
    """Return the pair that was there."""
    ignore_value: bool = False
    """Keep the present value; the key must exist."""
    ignore_lease: bool = False
    """Keep the present lease; the key must exist."""

    def request(self, namespace: bytes = b"") -> pb.PutRequest:
        key = to_bytes(self.key)
        if namespace:
            if not key:
                raise EmptyKey
            key = namespace + key
        return pb.PutRequest(
            key=key,
            value=to_bytes(self.value),
            lease=lease_id(self.lease),
            prev_kv=self.previous,
            ignore_value=self.ignore_value,
            ignore_lease=self.ignore_lease,
        )

    def op(self, namespace: bytes = b"") -> pb.RequestOp:
        return pb.RequestOp(request_put=self.request(namespace))

    @property
    def changes_nothing(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a key or a range."""

    key: Key
    end: Key | None = None
    prefix: bool = False
    from_key: bool = False
    previous: bool = False
    """Return the pairs that were there."""

    def request(self, namespace: bytes = b"") -> pb.DeleteRangeRequest:
        key, end = key_range(self.key, self.end, prefix=self.prefix, from_key=self.from_key)
        key, end = absolute(namespace, key, end)
        return pb.DeleteRangeRequest(key=key, range_end=end, prev_kv=self.previous)

    def op(self, namespace: bytes = b"") -> pb.RequestOp:
        return pb.RequestOp(request_delete_range=self.request(namespace))

    @property
    def changes_nothing(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Txn:
    """A transaction; within another one it is an operation."""

    when: Sequence[Comparison] = ()
    then: Sequence[Operation] = ()
    otherwise: Sequence[Operation] = ()

    def request(self, namespace: bytes = b"") -> pb.TxnRequest:
        return pb.TxnRequest(
            compare=[comparison.request(namespace) for comparison in self.when],
            success=[operation.op(namespace) for operation in self.then],
            failure=[operation.op(namespace) for operation in self.otherwise],
        )

    def op(self, namespace: bytes = b"") -> pb.RequestOp:
        return pb.RequestOp(request_txn=self.request(namespace))

    @property
    def changes_nothing(self) -> bool:
        """Whether both branches only read, so that the transaction may be repeated."""
        return all(operation.changes_nothing for operation in (*self.then, *self.otherwise))

    @property
    def happens_once(self) -> bool:
        """Whether a comparison sees to it that a repetition changes nothing more.

        So it is when ``then`` writes a key whose modification revision ``when`` holds fast, and ``otherwise``
        only reads: once done, that revision never comes back.
        """
        if not all(operation.changes_nothing for operation in self.otherwise):
            return False
        guarded = {key for comparison in self.when if (key := comparison.guards) is not None}
        return any(
            to_bytes(operation.key) in guarded
            for operation in self.then
            if isinstance(operation, Put)
            or (
                isinstance(operation, Delete)
                and operation.end is None
                and not operation.prefix
                and not operation.from_key
            )
        )


Operation = Get | Put | Delete | Txn

__all__ = [
    "EVERYTHING",
    "Comparison",
    "Delete",
    "Get",
    "HasLease",
    "Key",
    "Operation",
    "Order",
    "Put",
    "Target",
    "Txn",
    "Value",
    "absolute",
    "compare",
    "key_range",
    "lease_id",
    "prefix_end",
    "sorting",
    "to_bytes",
]
