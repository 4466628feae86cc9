"""The checks of a request's own form, row by row (contract/wire-v3.md 3.3, 3.6)."""

from __future__ import annotations

import pytest

from petcd import errors
from petcd.mvcc import (
    check_delete_range,
    check_put,
    check_range,
    check_txn,
    has_put,
    is_read_only,
    is_serializable,
)
from petcd.pb.etcdserverpb import (
    Compare,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    RequestOp,
    TxnRequest,
)


def put(key: bytes) -> RequestOp:
    return RequestOp(request_put=PutRequest(key=key))


def delete(key: bytes, range_end: bytes = b"") -> RequestOp:
    return RequestOp(request_delete_range=DeleteRangeRequest(key=key, range_end=range_end))


def get(key: bytes, *, serializable: bool = False) -> RequestOp:
    return RequestOp(request_range=RangeRequest(key=key, serializable=serializable))


def txn(then: list[RequestOp], otherwise: list[RequestOp] | None = None) -> RequestOp:
    return RequestOp(request_txn=TxnRequest(success=then, failure=otherwise or []))


@pytest.mark.parametrize(
    "ops",
    [
        [put(b"a"), put(b"b")],
        [delete(b"a", b"c"), delete(b"b", b"d")],
        [delete(b"a"), delete(b"a")],
        [delete(b"a", b"b"), put(b"b")],
        [put(b"a"), get(b"a"), delete(b"b")],
        # A delete with an open end counts as empty.
        [delete(b"a", b"\0"), put(b"b")],
        [delete(b"\0", b"\0"), put(b"b")],
        # Then and else of one nested transaction may change the same key.
        [txn([put(b"a")], [put(b"a")])],
        [txn([put(b"a")], [delete(b"a")])],
        # Siblings are merged from left to right: a put is not held against a nested delete behind it.
        [txn([put(b"a")]), txn([delete(b"a")])],
        [txn([txn([put(b"a")])], [put(b"a")])],
        [],
    ],
)
def test_a_branch_may_do_this(ops: list[RequestOp]) -> None:
    check_txn(TxnRequest(success=ops))
    check_txn(TxnRequest(failure=ops))


@pytest.mark.parametrize(
    "ops",
    [
        [put(b"a"), put(b"a")],
        [put(b"a"), delete(b"a")],
        [delete(b"a"), put(b"a")],
        [delete(b"a", b"c"), put(b"b")],
        [put(b"b"), delete(b"a", b"c")],
        [put(b"a"), txn([put(b"a")])],
        [put(b"a"), txn([], [put(b"a")])],
        [txn([put(b"a")]), put(b"a")],
        [txn([put(b"a")]), txn([put(b"a")])],
        [txn([delete(b"a")]), put(b"a")],
        [txn([delete(b"a")]), txn([put(b"a")])],
        [txn([put(b"a")]), delete(b"a")],
        [txn([], [txn([delete(b"a", b"c")])]), put(b"b")],
    ],
)
def test_a_branch_may_not_do_this(ops: list[RequestOp]) -> None:
    for request in (TxnRequest(success=ops), TxnRequest(failure=ops)):
        with pytest.raises(errors.DuplicateKey):
            check_txn(request)


def test_the_branches_of_the_top_level_may_repeat_keys() -> None:
    check_txn(TxnRequest(success=[put(b"a")], failure=[put(b"a")]))


@pytest.mark.parametrize(
    ("request_", "max_ops", "error"),
    [
        (TxnRequest(success=[get(b"a")] * 3), 2, errors.TooManyOps),
        (TxnRequest(failure=[get(b"a")] * 3), 2, errors.TooManyOps),
        (TxnRequest(compare=[Compare(key=b"a")] * 3), 2, errors.TooManyOps),
        # A nested transaction has what its parent's longest list leaves.
        (TxnRequest(success=[get(b"a"), txn([get(b"a"), get(b"b")])]), 3, errors.TooManyOps),
        (TxnRequest(compare=[Compare(key=b"a")] * 2, success=[txn([get(b"a")] * 2)]), 3, errors.TooManyOps),
        (TxnRequest(compare=[Compare()], success=[put(b"")]), 9, errors.EmptyKey),
        (TxnRequest(success=[put(b"")]), 9, errors.EmptyKey),
        (TxnRequest(success=[get(b"")]), 9, errors.EmptyKey),
        (TxnRequest(success=[delete(b"")]), 9, errors.EmptyKey),
        (TxnRequest(success=[RequestOp()]), 9, errors.KeyNotFound),
        (TxnRequest(success=[txn([RequestOp()])]), 9, errors.KeyNotFound),
        (
            TxnRequest(success=[RequestOp(request_range=RangeRequest(key=b"a", sort_order=7))]),
            9,
            errors.InvalidSortOption,
        ),
        # Operations of both branches come before duplicate keys of the first.
        (TxnRequest(success=[put(b"a"), put(b"a")], failure=[put(b"")]), 9, errors.EmptyKey),
    ],
)
def test_what_is_refused_first(request_: TxnRequest, max_ops: int, error: type[errors.EtcdError]) -> None:
    with pytest.raises(error):
        check_txn(request_, max_ops)


def test_a_nested_transaction_fits_exactly() -> None:
    check_txn(TxnRequest(success=[get(b"a"), txn([get(b"a"), get(b"b")])]), 4)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (PutRequest(), errors.EmptyKey),
        (PutRequest(ignore_value=True, value=b"1"), errors.EmptyKey),
        (
            PutRequest(key=b"a", ignore_value=True, value=b"1", ignore_lease=True, lease=1),
            errors.ValueProvided,
        ),
        (PutRequest(key=b"a", ignore_lease=True, lease=1), errors.LeaseProvided),
    ],
)
def test_puts(request_: PutRequest, error: type[errors.EtcdError]) -> None:
    with pytest.raises(error):
        check_put(request_)


def test_ranges_and_deletes() -> None:
    with pytest.raises(errors.EmptyKey):
        check_range(RangeRequest(sort_order=9))
    with pytest.raises(errors.InvalidSortOption):
        check_range(RangeRequest(key=b"a", sort_order=3))
    with pytest.raises(errors.InvalidSortOption):
        check_range(RangeRequest(key=b"a", sort_target=5))
    with pytest.raises(errors.InvalidSortOption):
        check_range(RangeRequest(key=b"a", sort_target=-1))
    check_range(RangeRequest(key=b"a", sort_order=2, sort_target=4))
    with pytest.raises(errors.EmptyKey):
        check_delete_range(DeleteRangeRequest(range_end=b"b"))


def test_kinds_of_transactions() -> None:
    assert is_read_only(TxnRequest())
    assert is_read_only(TxnRequest(success=[get(b"a")], failure=[get(b"b")]))
    assert not is_read_only(TxnRequest(success=[get(b"a")], failure=[put(b"b")]))
    assert not is_read_only(TxnRequest(success=[txn([])]))
    assert is_serializable(TxnRequest(success=[get(b"a", serializable=True)]))
    assert is_serializable(TxnRequest(compare=[Compare(key=b"a")]))
    assert not is_serializable(TxnRequest(success=[get(b"a", serializable=True)], failure=[get(b"a")]))
    assert has_put(TxnRequest(failure=[txn([], [put(b"a")])]))
    assert not has_put(TxnRequest(success=[delete(b"a"), get(b"b")]))
