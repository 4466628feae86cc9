"""The multi-version store: revisions, key index, transactions, compaction, hashes, watches.

Everything here is a state machine without I/O: bytes and messages in, bytes and effects out. docs/design.md.
"""

from petcd.mvcc.checks import (
    MAX_TXN_OPS,
    check_delete_range,
    check_put,
    check_range,
    check_txn,
    has_put,
    is_read_only,
    is_serializable,
)
from petcd.mvcc.compaction import Compactor
from petcd.mvcc.hashing import CompactionHashes, HashRun, KVHash, cached_hash, hash_all, start_hash_kv
from petcd.mvcc.rangestream import RangeStream, check_range_stream
from petcd.mvcc.restore import Restored, Restorer, restore
from petcd.mvcc.store import NO_CHANGES, Change, Changes, Compaction, LeaseHooks, NoLeases, Store
from petcd.mvcc.txn import apply_txn
from petcd.mvcc.watch import Authorize, Sink, WatchHub, WatchStream

__all__ = [
    "Store",
    "LeaseHooks",
    "NoLeases",
    "Change",
    "Changes",
    "NO_CHANGES",
    "Compaction",
    "apply_txn",
    "MAX_TXN_OPS",
    "check_range",
    "check_range_stream",
    "RangeStream",
    "check_put",
    "check_delete_range",
    "check_txn",
    "is_read_only",
    "is_serializable",
    "has_put",
    "Compactor",
    "CompactionHashes",
    "HashRun",
    "KVHash",
    "hash_all",
    "cached_hash",
    "start_hash_kv",
    "Restored",
    "Restorer",
    "restore",
    "WatchHub",
    "WatchStream",
    "Sink",
    "Authorize",
]
