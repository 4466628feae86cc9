"""Messages of the Lease service, and the checkpoints that exist only inside the raft log.

Source: contract/wire-v3.md section 1.1 (package etcdserverpb, rpc.proto).
"""

# ruff: noqa: N815 - attributes keep the exact spelling of the protobuf fields

from __future__ import annotations

from petcd.pb.etcdserverpb.header import ResponseHeader, Rpc
from petcd.pb.message import bool_, int64, message, repeated, repeated_bytes, string


class LeaseGrantRequest(Rpc):
    TTL: int = int64(1)
    ID: int = int64(2)


class LeaseGrantResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)
    ID: int = int64(2)
    TTL: int = int64(3)
    error: str = string(4)


class LeaseRevokeRequest(Rpc):
    ID: int = int64(1)


class LeaseRevokeResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)


class LeaseCheckpoint(Rpc):
    ID: int = int64(1)
    remaining_TTL: int = int64(2)


class LeaseCheckpointRequest(Rpc):
    checkpoints: list[LeaseCheckpoint] = repeated(1, LeaseCheckpoint)


class LeaseCheckpointResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)


class LeaseKeepAliveRequest(Rpc):
    ID: int = int64(1)


class LeaseKeepAliveResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)
    ID: int = int64(2)
    TTL: int = int64(3)


class LeaseTimeToLiveRequest(Rpc):
    ID: int = int64(1)
    keys: bool = bool_(2)


class LeaseTimeToLiveResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)
    ID: int = int64(2)
    TTL: int = int64(3)
    grantedTTL: int = int64(4)
    keys: list[bytes] = repeated_bytes(5)


class LeaseLeasesRequest(Rpc):
    """No fields."""


class LeaseStatus(Rpc):
    ID: int = int64(1)


class LeaseLeasesResponse(Rpc):
    header: ResponseHeader | None = message(1, ResponseHeader)
    leases: list[LeaseStatus] = repeated(2, LeaseStatus)
