"""Package snappb: the frame of a ``*.snap`` file.

Source: contract/wire-v3.md section 1.9 and table 1.14: every field etcd <= 3.6 always emits is emitted.
"""

from __future__ import annotations

from petcd.pb.message import Message, bytes_, uint32


class _Message(Message):
    PACKAGE = "snappb"
    SYNTAX = "proto2"


class Snapshot(_Message):
    NAME = "snapshot"

    crc: int = uint32(1, always=True)
    data: bytes = bytes_(2)
