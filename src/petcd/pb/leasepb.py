"""Package leasepb: leases as stored, and the requests members forward to the leader.

Source: contract/wire-v3.md section 1.10.
"""

from __future__ import annotations

from petcd.pb.etcdserverpb import lease as rpc
from petcd.pb.message import Message, int64, message


class _Message(Message):
    PACKAGE = "leasepb"


class Lease(_Message):
    ID: int = int64(1)
    TTL: int = int64(2)
    RemainingTTL: int = int64(3)


class LeaseInternalRequest(_Message):
    LeaseTimeToLiveRequest: rpc.LeaseTimeToLiveRequest | None = message(1, rpc.LeaseTimeToLiveRequest)


class LeaseInternalResponse(_Message):
    LeaseTimeToLiveResponse: rpc.LeaseTimeToLiveResponse | None = message(1, rpc.LeaseTimeToLiveResponse)
