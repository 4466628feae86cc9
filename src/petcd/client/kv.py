"""Keys, ranges, operations and comparisons: what is said about KV, before anything is sent.

await client.txn(
    when=[compare("stock").value == "1", compare("stock").version > 0],
    then=[Put("stock", "0"), Get("price")],
    otherwise=[Get("stock")],
)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from petcd.pb.etcdserverpb import kv as pb

Key = bytes | str
Value = bytes | str
Target = Literal["key", "version", "create", "mod", "value"]
Order = Literal["ascend", "descend"]

EVERYTHING: Final = b"\0"
"""As a range end: no end. As key and end together: all keys."""

_TARGETS: Final = {"key": 0, "version": 1, "create": 2, "mod": 3, "value": 4}
_ORDERS: Final = {"ascend": 1, "descend": 2}


class HasLease(Protocol):
    @property
    def id(self) -> int: ...


def to_bytes(text: Key | Value) -> bytes:
    return text.encode() if isinstance(text, str) else text


def lease_id(lease: int | HasLease) -> int:
    return lease if isinstance(lease, int) else lease.id


def prefix_end(prefix: bytes) -> bytes:
    """The end of the range of keys that start with ``prefix``."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else EVERYTHING


def key_range(key: Key, end: Key | None, *, prefix: bool, from_key: bool) -> tuple[bytes, bytes]:
    """Key and range end as the wire wants them. At most one of ``end``, ``prefix`` and ``from_key``."""
    if (end is not None) + prefix + from_key > 1:
        raise ValueError("end, prefix and from_key exclude each other")
    first = to_bytes(key)
    if prefix:
        return (first, prefix_end(first)) if first else (EVERYTHING, EVERYTHING)
    if from_key:
        return first or EVERYTHING, EVERYTHING
    return first, to_bytes(end) if end is not None else b""


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

    def request(self) -> pb.RangeRequest:
        key, end = key_range(self.key, self.end, prefix=self.prefix, from_key=self.from_key)
        order = _ORDERS[self.order] if self.order else 1 if self.sort_by else 0
        return pb.RangeRequest(
            key=key,
            range_end=end,
            limit=self.limit,
            revision=self.revision,
            sort_order=order,
            sort_target=_TARGETS[self.sort_by] if self.sort_by else 0,
            serializable=self.serializable,
            keys_only=self.keys_only,
            count_only=self.count_only,
            min_mod_revision=self.min_mod_revision,
            max_mod_revision=self.max_mod_revision,
            min_create_revision=self.min_create_revision,
            max_create_revision=self.max_create_revision,
        )

    def op(self) -> pb.RequestOp:
        return pb.RequestOp(request_range=self.request())


@dataclass(frozen=True, slots=True)
class Put:
    """Write a key."""

    key: Key
    value: Value = b""
    lease: int | HasLease = 0
    previous: bool = False
    """Return the pair that was there."""
    ignore_value: bool = False
    ignore_lease: bool = False

    def request(self) -> pb.PutRequest:
        return pb.PutRequest(
            key=to_bytes(self.key),
            value=to_bytes(self.value),
            lease=lease_id(self.lease),
            prev_kv=self.previous,
            ignore_value=self.ignore_value,
            ignore_lease=self.ignore_lease,
        )

    def op(self) -> pb.RequestOp:
        return pb.RequestOp(request_put=self.request())


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a key or a range."""

    key: Key
    end: Key | None = None
    prefix: bool = False
    from_key: bool = False
    previous: bool = False

    def request(self) -> pb.DeleteRangeRequest:
        key, end = key_range(self.key, self.end, prefix=self.prefix, from_key=self.from_key)
        return pb.DeleteRangeRequest(key=key, range_end=end, prev_kv=self.previous)

    def op(self) -> pb.RequestOp:
        return pb.RequestOp(request_delete_range=self.request())


@dataclass(frozen=True, slots=True)
class Txn:
    """A transaction; within another one it is an operation."""

    when: Sequence[Comparison] = ()
    then: Sequence[Operation] = ()
    otherwise: Sequence[Operation] = ()

    def request(self) -> pb.TxnRequest:
        return pb.TxnRequest(
            compare=[comparison.compare for comparison in self.when],
            success=[operation.op() for operation in self.then],
            failure=[operation.op() for operation in self.otherwise],
        )

    def op(self) -> pb.RequestOp:
        return pb.RequestOp(request_txn=self.request())

    @property
    def changes_nothing(self) -> bool:
        """Whether both branches only read, so that the transaction may be repeated."""
        return all(
            operation.changes_nothing if isinstance(operation, Txn) else isinstance(operation, Get)
            for operation in (*self.then, *self.otherwise)
        )


Operation = Get | Put | Delete | Txn


@dataclass(frozen=True, slots=True)
class Comparison:
    """One condition of a transaction."""

    compare: pb.Compare


_EQUAL, _GREATER, _LESS, _NOT_EQUAL = 0, 1, 2, 3


class _Compared:
    """A property of a key, waiting for its operator."""

    __slots__ = ("_end", "_key", "_number")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, key: bytes, end: bytes, number: int) -> None:
        self._key = key
        self._end = end
        self._number = number

    def _make(self, result: int, operand: int | Value) -> Comparison:
        compare = pb.Compare(result=result, target=self._number, key=self._key, range_end=self._end)
        if self._number == _VALUE:
            if isinstance(operand, int):
                raise TypeError("a value is compared with bytes or str")
            compare.value = to_bytes(operand)
        elif not isinstance(operand, int):
            raise TypeError(f"a {_FIELDS[self._number]} is compared with an int")
        else:
            setattr(compare, _FIELDS[self._number], operand)
        return Comparison(compare)

    def __eq__(self, operand: object) -> Comparison:  # type: ignore[override]
        return self._make(_EQUAL, operand)  # type: ignore[arg-type]

    def __ne__(self, operand: object) -> Comparison:  # type: ignore[override]
        return self._make(_NOT_EQUAL, operand)  # type: ignore[arg-type]

    def __gt__(self, operand: int | Value) -> Comparison:
        return self._make(_GREATER, operand)

    def __lt__(self, operand: int | Value) -> Comparison:
        return self._make(_LESS, operand)


_VERSION, _CREATE, _MOD, _VALUE, _LEASE = range(5)
_FIELDS: Final = ("version", "create_revision", "mod_revision", "value", "lease")


class compare:  # noqa: N801  it reads as a verb: compare("k").version == 0
    """A key, or every key of a range, of which a transaction compares a property."""

    __slots__ = ("_end", "_key")

    def __init__(
        self, key: Key, *, end: Key | None = None, prefix: bool = False, from_key: bool = False
    ) -> None:
        self._key, self._end = key_range(key, end, prefix=prefix, from_key=from_key)

    @property
    def version(self) -> _Compared:
        """0 while the key does not exist."""
        return _Compared(self._key, self._end, _VERSION)

    @property
    def create_revision(self) -> _Compared:
        return _Compared(self._key, self._end, _CREATE)

    @property
    def mod_revision(self) -> _Compared:
        return _Compared(self._key, self._end, _MOD)

    @property
    def value(self) -> _Compared:
        return _Compared(self._key, self._end, _VALUE)

    @property
    def lease(self) -> _Compared:
        return _Compared(self._key, self._end, _LEASE)
