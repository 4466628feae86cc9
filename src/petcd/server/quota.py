"""How much a write may cost before the backend counts as full (contract wire-v3 section 3.7)."""

from __future__ import annotations

from typing import Final

from petcd.pb.etcdserverpb import PutRequest, RequestOp, TxnRequest

DEFAULT_BYTES: Final = 2 * 1024 * 1024 * 1024
LEASE_COST: Final = 64
_PUT_OVERHEAD: Final = 256


def put_cost(request: PutRequest) -> int:
    return _PUT_OVERHEAD + len(request.key) + len(request.value)


def txn_cost(request: TxnRequest) -> int:
    """The dearer of the two branches, nested transactions included."""
    return max(_ops_cost(request.success), _ops_cost(request.failure))


def _ops_cost(ops: list[RequestOp]) -> int:
    total = 0
    for op in ops:
        if op.request_put is not None:
            total += put_cost(op.request_put)
        elif op.request_txn is not None:
            total += txn_cost(op.request_txn)
    return total


class Quota:
    """Compares a cost with what is left. ``size`` is the backend's present size in bytes."""

    __slots__ = ("limit_bytes",)

    def __init__(self, configured_bytes: int) -> None:
        self.limit_bytes = DEFAULT_BYTES if configured_bytes == 0 else max(0, configured_bytes)
        """0 means no quota."""

    def allows(self, size: int, cost: int) -> bool:
        return cost == 0 or self.limit_bytes == 0 or size + cost < self.limit_bytes
