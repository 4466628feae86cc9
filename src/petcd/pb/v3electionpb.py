"""Package v3electionpb: messages of the Election service.

Source: contract/wire-v3.md section 1.12.
"""

from __future__ import annotations

from petcd.pb import mvccpb
from petcd.pb.etcdserverpb.header import ResponseHeader
from petcd.pb.message import Message, bytes_, int64, message


class _Message(Message):
    PACKAGE = "v3electionpb"


class CampaignRequest(_Message):
    name: bytes = bytes_(1)
    lease: int = int64(2)
    value: bytes = bytes_(3)


class LeaderKey(_Message):
    name: bytes = bytes_(1)
    key: bytes = bytes_(2)
    rev: int = int64(3)
    lease: int = int64(4)


class CampaignResponse(_Message):
    header: ResponseHeader | None = message(1, ResponseHeader)
    leader: LeaderKey | None = message(2, LeaderKey)


class LeaderRequest(_Message):
    name: bytes = bytes_(1)


class LeaderResponse(_Message):
    header: ResponseHeader | None = message(1, ResponseHeader)
    kv: mvccpb.KeyValue | None = message(2, mvccpb.KeyValue)


class ResignRequest(_Message):
    leader: LeaderKey | None = message(1, LeaderKey)


class ResignResponse(_Message):
    header: ResponseHeader | None = message(1, ResponseHeader)


class ProclaimRequest(_Message):
    leader: LeaderKey | None = message(1, LeaderKey)
    value: bytes = bytes_(2)


class ProclaimResponse(_Message):
    header: ResponseHeader | None = message(1, ResponseHeader)
