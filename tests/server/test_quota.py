"""What a write costs and when it fits (contract wire-v3 section 3.7)."""

from __future__ import annotations

from petcd.pb.etcdserverpb import DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest
from petcd.server.quota import DEFAULT_BYTES, Quota, put_cost, txn_cost

PUT = RequestOp(request_put=PutRequest(key=b"abc", value=b"12345"))
FREE = [
    RequestOp(request_range=RangeRequest(key=b"a")),
    RequestOp(request_delete_range=DeleteRangeRequest(key=b"a")),
]


def test_costs() -> None:
    assert put_cost(PutRequest(key=b"abc", value=b"12345")) == 264
    assert txn_cost(TxnRequest()) == txn_cost(TxnRequest(success=FREE, failure=FREE)) == 0
    assert txn_cost(TxnRequest(success=[PUT], failure=[PUT, *FREE, PUT])) == 528
    nested = RequestOp(request_txn=TxnRequest(success=[PUT, PUT], failure=[PUT]))
    assert txn_cost(TxnRequest(success=[nested, PUT])) == 3 * 264


def test_limits() -> None:
    assert Quota(0).limit_bytes == DEFAULT_BYTES
    assert Quota(-1).allows(1 << 60, 1 << 60)
    quota = Quota(1000)
    assert quota.allows(735, 264)
    assert not quota.allows(736, 264), "the sum must stay below the quota"
    assert quota.allows(5000, 0), "what costs nothing always fits"
