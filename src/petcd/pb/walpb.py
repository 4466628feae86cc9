"""Package walpb: records of the write-ahead log.

Source: contract/wire-v3.md section 1.9 and table 1.14: every field etcd <= 3.6 always emits is emitted.
"""

from __future__ import annotations

from petcd.pb import raftpb
from petcd.pb.message import Message, bytes_, int64, message, uint32, uint64


class _Message(Message):
    PACKAGE = "walpb"
    SYNTAX = "proto2"


class Record(_Message):
    type: int = int64(1, always=True)
    crc: int = uint32(2, always=True)
    data: bytes = bytes_(3)


class Snapshot(_Message):
    index: int = uint64(1, always=True)
    term: int = uint64(2, always=True)
    conf_state: raftpb.ConfState | None = message(3, raftpb.ConfState)
