"""Apply a transaction: compares, then validation of the chosen path, then the operations (contract 3.6).

All branches, nested ones too, are chosen before the first write. Then everything that can fail on the chosen
path is looked at, so that an error leaves nothing behind and the operations themselves cannot fail: reads
inside an applied transaction end the same way on every member (etcd issue 18667).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from petcd import errors
from petcd.mvcc import keyvalue
from petcd.mvcc.revision import PLAIN_BYTES, main_of
from petcd.pb.wire import VARINTS, varint

if TYPE_CHECKING:
    from petcd.mvcc.index import KeyIndex
    from petcd.mvcc.store import Store
    from petcd.pb.etcdserverpb import Compare, RequestOp, TxnRequest

_EQUAL: Final = 0
_GREATER: Final = 1
_LESS: Final = 2
_NOT_EQUAL: Final = 3

_VERSION: Final = 0
_CREATE: Final = 1
_MOD: Final = 2
_VALUE: Final = 3
_LEASE: Final = 4

_EMPTY_TXN_RESPONSE: Final = b"\x0a\x00"
"""A nested TxnResponse's header: present and empty."""


class _Path:
    """The branch one transaction takes, and those of the transactions nested in that branch, in order."""

    __slots__ = ("nested", "ops", "succeeded")

    def __init__(self, succeeded: bool, ops: list[RequestOp]) -> None:
        self.succeeded = succeeded
        self.ops = ops
        self.nested: list[_Path] | None = None


def apply_txn(store: Store, request: TxnRequest) -> bytes:
    """Apply ``request`` to the open transaction; the body of its TxnResponse. A read-only one needs no begin.

    Raises: FutureRev, Compacted, KeyNotFound, LeaseNotFound, with no effect.
    """
    path = _choose(store, request)
    _validate(store, path)
    return _execute(store, path)


def _choose(store: Store, request: TxnRequest) -> _Path:
    succeeded = True
    for compare in request.compare:
        if not holds(store, compare):
            succeeded = False
            break
    path = _Path(succeeded, request.success if succeeded else request.failure)
    for op in path.ops:
        if op.request_txn is not None:
            nested = _choose(store, op.request_txn)
            if path.nested is None:
                path.nested = [nested]
            else:
                path.nested.append(nested)
    return path


def _validate(store: Store, path: _Path) -> None:
    nested = iter(path.nested or ())
    for op in path.ops:
        put = op.request_put
        if put is not None:
            if (put.ignore_value or put.ignore_lease) and not store.lives(put.key):
                raise errors.KeyNotFound
            if put.lease and not store.leases.exists(put.lease):
                raise errors.LeaseNotFound
        elif op.request_range is not None:
            revision = op.request_range.revision
            # Unlike a Range of its own, a negative revision is compared, not read as "newest".
            if revision:
                if revision > store.rev:
                    raise errors.FutureRev
                if revision < store.compact_rev:
                    raise errors.Compacted
        elif op.request_txn is not None:
            _validate(store, next(nested))


def _execute(store: Store, path: _Path) -> bytes:
    parts = [b"\x10\x01"] if path.succeeded else []
    nested = iter(path.nested or ())
    for op in path.ops:
        put = op.request_put
        if put is not None:
            body = store.put_checked(put)
            tag = b"\x12"
            head = b"\x18" + varint(store.seen_rev)
        elif op.request_range is not None:
            body = store.range(op.request_range)
            tag = b"\x0a"
            head = b"\x18" + varint(store.seen_rev)
        elif op.request_delete_range is not None:
            body = store.delete_range(op.request_delete_range)
            tag = b"\x1a"
            head = b"\x18" + varint(store.seen_rev)
        elif op.request_txn is not None:
            body = _execute(store, next(nested))
            tag = b"\x22"
            head = b""
        else:
            # Refused before the log; kept harmless for what a foreign log may hold.
            parts.append(b"\x1a\x00")
            continue
        n = len(body) + len(head) + 2
        size = varint(n)
        parts += (
            b"\x1a",
            varint(1 + len(size) + n),
            tag,
            size,
            b"\x0a",
            VARINTS[len(head)],
            head,
            body,
        )
    return b"".join(parts)


def holds(store: Store, compare: Compare) -> bool:
    """Whether one compare holds in the newest state."""
    if not compare.range_end:
        ki = store.index.keys.get(compare.key)
        if ki is None or len(ki.mod) != PLAIN_BYTES:
            return _absent(compare)
        return _holds_for(store, compare, ki)
    entries = store.index.keys
    lo, hi = store.index.span(compare.key, compare.range_end)
    if lo == hi:
        return _absent(compare)
    return all(_holds_for(store, compare, entries[key]) for key in store.index.live[lo:hi])


def _absent(compare: Compare) -> bool:
    """No key: a value compare never holds, not even NOT_EQUAL; every other sees zero."""
    target = compare.target
    if target == _VALUE:
        return False
    return _compare(0, _operand(compare), compare.result)


def _operand(compare: Compare) -> int:
    """The integer to compare with; 0 when the member of the target is not the one set."""
    target = compare.target
    if target == _VERSION:
        return compare.version or 0
    if target == _CREATE:
        return compare.create_revision or 0
    if target == _MOD:
        return compare.mod_revision or 0
    if target == _LEASE:
        return compare.lease or 0
    return 0


def _holds_for(store: Store, compare: Compare, ki: KeyIndex) -> bool:
    target = compare.target
    if target == _VERSION:
        actual = ki.version
    elif target == _CREATE:
        actual = ki.create
    elif target == _MOD:
        actual = main_of(ki.mod)
    elif target == _VALUE:
        value = keyvalue.decode(store.stored(ki.mod)).value
        other = compare.value or b""
        result = compare.result
        if result == _EQUAL:
            return value == other
        if result == _NOT_EQUAL:
            return value != other
        if result == _GREATER:
            return value > other
        if result == _LESS:
            return value < other
        return True
    elif target == _LEASE:
        actual = keyvalue.decode(store.stored(ki.mod)).lease
    else:
        actual = 0
    return _compare(actual, _operand(compare), compare.result)


def _compare(actual: int, operand: int, result: int) -> bool:
    """An unknown result is true."""
    if result == _EQUAL:
        return actual == operand
    if result == _NOT_EQUAL:
        return actual != operand
    if result == _GREATER:
        return actual > operand
    if result == _LESS:
        return actual < operand
    return True
