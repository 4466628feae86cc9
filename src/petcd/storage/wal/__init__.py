"""The write-ahead log: create, open, encode, write; reading and repair; purge."""

from petcd.storage.wal.log import Wal, WalWrite, encode_hard_state, encode_snapshot_record, purge, repair
from petcd.storage.wal.reader import (
    WalContents,
    WalEntry,
    WalSnapshot,
    WalState,
    has_wal,
    read_log,
    valid_snapshots,
)
from petcd.storage.wal.records import SEGMENT_BYTES

__all__ = [
    "Wal",
    "WalWrite",
    "WalContents",
    "WalEntry",
    "WalState",
    "WalSnapshot",
    "SEGMENT_BYTES",
    "encode_hard_state",
    "encode_snapshot_record",
    "has_wal",
    "purge",
    "read_log",
    "repair",
    "valid_snapshots",
]
