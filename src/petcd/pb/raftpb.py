"""Package raftpb: entries, messages between members, hard state, configuration changes.

Source: contract/wire-v3.md section 1.8 and table 1.14: every field etcd <= 3.6 always emits is emitted.
"""

# ruff: noqa: N815 - attributes keep the exact spelling of the protobuf fields

from __future__ import annotations

from enum import IntEnum

from petcd.pb.message import Message as MessageBase
from petcd.pb.message import bool_, bytes_, enum, enumeration, message, repeated, repeated_uint64, uint64


class _Message(MessageBase):
    PACKAGE = "raftpb"
    SYNTAX = "proto2"


@enumeration("raftpb.EntryType")
class EntryType(IntEnum):
    EntryNormal = 0
    EntryConfChange = 1
    EntryConfChangeV2 = 2


class Entry(_Message):
    Type: int = enum(1, EntryType, always=True)
    Term: int = uint64(2, always=True)
    Index: int = uint64(3, always=True)
    Data: bytes = bytes_(4)


class ConfState(_Message):
    voters: list[int] = repeated_uint64(1, packed=False)
    learners: list[int] = repeated_uint64(2, packed=False)
    voters_outgoing: list[int] = repeated_uint64(3, packed=False)
    learners_next: list[int] = repeated_uint64(4, packed=False)
    auto_leave: bool = bool_(5, always=True)


class SnapshotMetadata(_Message):
    conf_state: ConfState | None = message(1, ConfState, always=True)
    index: int = uint64(2, always=True)
    term: int = uint64(3, always=True)


class Snapshot(_Message):
    data: bytes = bytes_(1)
    metadata: SnapshotMetadata | None = message(2, SnapshotMetadata, always=True)


@enumeration("raftpb.MessageType")
class MessageType(IntEnum):
    MsgHup = 0
    MsgBeat = 1
    MsgProp = 2
    MsgApp = 3
    MsgAppResp = 4
    MsgVote = 5
    MsgVoteResp = 6
    MsgSnap = 7
    MsgHeartbeat = 8
    MsgHeartbeatResp = 9
    MsgUnreachable = 10
    MsgSnapStatus = 11
    MsgCheckQuorum = 12
    MsgTransferLeader = 13
    MsgTimeoutNow = 14
    MsgReadIndex = 15
    MsgReadIndexResp = 16
    MsgPreVote = 17
    MsgPreVoteResp = 18
    MsgStorageAppend = 19
    MsgStorageAppendResp = 20
    MsgStorageApply = 21
    MsgStorageApplyResp = 22
    MsgForgetLeader = 23


class Message(_Message):
    type: int = enum(1, MessageType, always=True)
    to: int = uint64(2, always=True)
    from_: int = uint64(3, name="from", always=True)
    term: int = uint64(4, always=True)
    logTerm: int = uint64(5, always=True)
    index: int = uint64(6, always=True)
    entries: list[Entry] = repeated(7, Entry)
    commit: int = uint64(8, always=True)
    snapshot: Snapshot | None = message(9, Snapshot)
    reject: bool = bool_(10, always=True)
    rejectHint: int = uint64(11, always=True)
    context: bytes = bytes_(12)
    vote: int = uint64(13, always=True)
    responses: list[Message] = repeated(14, "raftpb.Message")


class HardState(_Message):
    term: int = uint64(1, always=True)
    vote: int = uint64(2, always=True)
    commit: int = uint64(3, always=True)


@enumeration("raftpb.ConfChangeType")
class ConfChangeType(IntEnum):
    ConfChangeAddNode = 0
    ConfChangeRemoveNode = 1
    ConfChangeUpdateNode = 2
    ConfChangeAddLearnerNode = 3


class ConfChange(_Message):
    id: int = uint64(1, always=True)
    type: int = enum(2, ConfChangeType, always=True)
    node_id: int = uint64(3, always=True)
    context: bytes = bytes_(4)


class ConfChangeSingle(_Message):
    type: int = enum(1, ConfChangeType, always=True)
    node_id: int = uint64(2, always=True)


@enumeration("raftpb.ConfChangeTransition")
class ConfChangeTransition(IntEnum):
    ConfChangeTransitionAuto = 0
    ConfChangeTransitionJointImplicit = 1
    ConfChangeTransitionJointExplicit = 2


class ConfChangeV2(_Message):
    transition: int = enum(1, ConfChangeTransition, always=True)
    changes: list[ConfChangeSingle] = repeated(2, ConfChangeSingle)
    context: bytes = bytes_(3)
