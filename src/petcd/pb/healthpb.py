"""Package grpc.health.v1: the standard health service.

Source: the gRPC health checking protocol.
"""

from __future__ import annotations

from enum import IntEnum

from petcd.pb.message import Message, enum, enumeration, message, repeated, string


class _Message(Message):
    PACKAGE = "grpc.health.v1"


class HealthCheckRequest(_Message):
    service: str = string(1)


@enumeration("grpc.health.v1.HealthCheckResponse.ServingStatus")
class ServingStatus(IntEnum):
    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


class HealthCheckResponse(_Message):
    status: int = enum(1, ServingStatus)


class HealthListRequest(_Message):
    """No fields."""


class StatusesEntry(_Message):
    """One pair of the map ``HealthListResponse.statuses``."""

    NAME = "HealthListResponse.StatusesEntry"

    key: str = string(1)
    value: HealthCheckResponse | None = message(2, HealthCheckResponse)


class HealthListResponse(_Message):
    statuses: list[StatusesEntry] = repeated(1, StatusesEntry)
