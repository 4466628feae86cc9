"""Package membershippb: members as stored, and the raft log's membership requests.

Source: contract/wire-v3.md section 1.6.
"""

# ruff: noqa: N815 - attributes keep the exact spelling of the protobuf fields

from __future__ import annotations

from petcd.pb.message import Message, bool_, message, repeated_string, string, uint64


class _Message(Message):
    PACKAGE = "membershippb"


class RaftAttributes(_Message):
    peer_urls: list[str] = repeated_string(1)
    is_learner: bool = bool_(2)


class Attributes(_Message):
    name: str = string(1)
    client_urls: list[str] = repeated_string(2)


class Member(_Message):
    ID: int = uint64(1)
    raft_attributes: RaftAttributes | None = message(2, RaftAttributes)
    member_attributes: Attributes | None = message(3, Attributes)


class ClusterVersionSetRequest(_Message):
    ver: str = string(1)


class ClusterMemberAttrSetRequest(_Message):
    member_ID: int = uint64(1)
    member_attributes: Attributes | None = message(2, Attributes)


class DowngradeInfoSetRequest(_Message):
    enabled: bool = bool_(1)
    ver: str = string(2)
