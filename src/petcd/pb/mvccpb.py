"""Package mvccpb: key-values and events as stored and watched.

Source: contract/wire-v3.md section 1.4.
"""

from __future__ import annotations

from enum import IntEnum

from petcd.pb.message import Message, bytes_, enum, enumeration, int64, message


class _Message(Message):
    PACKAGE = "mvccpb"


class KeyValue(_Message):
    key: bytes = bytes_(1)
    create_revision: int = int64(2)
    mod_revision: int = int64(3)
    version: int = int64(4)
    value: bytes = bytes_(5)
    lease: int = int64(6)


@enumeration("mvccpb.Event.EventType")
class EventType(IntEnum):
    PUT = 0
    DELETE = 1


class Event(_Message):
    type: int = enum(1, EventType)
    kv: KeyValue | None = message(2, KeyValue)
    prev_kv: KeyValue | None = message(3, KeyValue)
