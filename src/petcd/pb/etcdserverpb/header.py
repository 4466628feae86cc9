"""The header of every response (package etcdserverpb, rpc.proto)."""

from __future__ import annotations

from petcd.pb.message import Message, int64, uint64


class Rpc(Message):
    """Base of the package's messages."""

    PACKAGE = "etcdserverpb"


class ResponseHeader(Rpc):
    cluster_id: int = uint64(1)
    member_id: int = uint64(2)
    revision: int = int64(3)
    raft_term: int = uint64(4)
