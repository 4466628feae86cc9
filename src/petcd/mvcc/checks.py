"""What is wrong with a KV request by itself, before any state is looked at (contract/wire-v3.md 3.3, 3.6).

The order of the checks is visible to clients, and the rules for duplicate keys have quirks that are part
of the contract; both are kept to the letter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from petcd import errors
from petcd.mvcc.ranges import check_sort

if TYPE_CHECKING:
    from collections.abc import Sequence

    from petcd.pb.etcdserverpb import DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest

MAX_TXN_OPS = 128
"""The default of --max-txn-ops."""

_Interval = tuple[bytes, bytes]


def check_range(request: RangeRequest) -> None:
    """Raises: EmptyKey, InvalidSortOption."""
    if not request.key:
        raise errors.EmptyKey
    if request.sort_order or request.sort_target:
        check_sort(request)


def check_put(request: PutRequest) -> None:
    """Raises: EmptyKey, ValueProvided, LeaseProvided."""
    if not request.key:
        raise errors.EmptyKey
    if request.ignore_value and request.value:
        raise errors.ValueProvided
    if request.ignore_lease and request.lease:
        raise errors.LeaseProvided


def check_delete_range(request: DeleteRangeRequest) -> None:
    """Raises: EmptyKey."""
    if not request.key:
        raise errors.EmptyKey


def check_txn(request: TxnRequest, max_ops: int = MAX_TXN_OPS) -> None:
    """Everything that a Txn's own form decides.

    Raises: TooManyOps, EmptyKey, InvalidSortOption, ValueProvided, LeaseProvided, KeyNotFound (an
    operation with no
        member set), DuplicateKey.
    """
    _check_ops(request, max_ops)
    _check_intervals(request.success)
    _check_intervals(request.failure)


def _check_ops(request: TxnRequest, max_ops: int) -> None:
    ops = max(len(request.compare), len(request.success), len(request.failure))
    if ops > max_ops:
        raise errors.TooManyOps
    for compare in request.compare:
        if not compare.key:
            raise errors.EmptyKey
    for op in request.success:
        _check_op(op, max_ops - ops)
    for op in request.failure:
        _check_op(op, max_ops - ops)


def _check_op(op: RequestOp, max_ops: int) -> None:
    if op.request_put is not None:
        check_put(op.request_put)
    elif op.request_range is not None:
        check_range(op.request_range)
    elif op.request_delete_range is not None:
        check_delete_range(op.request_delete_range)
    elif op.request_txn is not None:
        _check_ops(op.request_txn, max_ops)
    else:
        raise errors.KeyNotFound


def _check_intervals(ops: Sequence[RequestOp]) -> tuple[set[bytes], list[_Interval]]:
    """Refuse a key that one branch would change twice; the puts and deletes of the flattened branch.

    Deletes of this level count before anything else. Nested transactions follow from left to right, so that a
    nested put is not held against the deletes of a sibling behind it. Last come the puts of this level. A
    delete with range_end ``\\0`` covers nothing here: its end lies below every key.
    """
    deletes: list[_Interval] = []
    nested = False
    only_puts = True
    for op in ops:
        if op.request_put is not None:
            continue
        only_puts = False
        delete = op.request_delete_range
        if delete is not None:
            deletes.append((delete.key, delete.range_end or delete.key + b"\0"))
        elif op.request_txn is not None:
            nested = True
    puts: set[bytes] = set()
    if only_puts and len(ops) == 1:
        put = ops[0].request_put
        assert put is not None
        puts.add(put.key)
        return puts, deletes
    if nested:
        for op in ops:
            txn = op.request_txn
            if txn is None:
                continue
            then_puts, then_deletes = _check_intervals(txn.success)
            else_puts, else_deletes = _check_intervals(txn.failure)
            for key in then_puts:
                _add_put(puts, deletes, key)
            for key in else_puts - then_puts:
                _add_put(puts, deletes, key)
            deletes += then_deletes
            deletes += else_deletes
    for op in ops:
        put = op.request_put
        if put is not None:
            _add_put(puts, deletes, put.key)
    return puts, deletes


def _add_put(puts: set[bytes], deletes: list[_Interval], key: bytes) -> None:
    if key in puts:
        raise errors.DuplicateKey
    for start, end in deletes:
        if start <= key < end:
            raise errors.DuplicateKey
    puts.add(key)


def is_read_only(request: TxnRequest) -> bool:
    """Every operation of both branches is a Range; a nested transaction counts as a write (contract 3.6)."""
    for ops in (request.success, request.failure):
        for op in ops:
            if op.request_range is None:
                return False
    return True


def is_serializable(request: TxnRequest) -> bool:
    """A read-only transaction that needs no read-index round: all its ranges say so, or there are none."""
    for ops in (request.success, request.failure):
        for op in ops:
            if op.request_range is None or not op.request_range.serializable:
                return False
    return True


def has_put(request: TxnRequest) -> bool:
    """Whether either branch holds a put, at any depth: what the NOSPACE alarm refuses."""
    for ops in (request.success, request.failure):
        for op in ops:
            if op.request_put is not None:
                return True
            if op.request_txn is not None and has_put(op.request_txn):
                return True
    return False
