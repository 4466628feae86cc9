"""gRPC over ``petcd.net.http2``: calls on the server's side, calls and streams on the client's.

The names are imported on first use: a client must not pay for the server's half.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from petcd.net.grpc.calls import Call, Stream, StreamHandler
    from petcd.net.grpc.client import ClientConnection, ClientStream, TransportFailure
    from petcd.net.grpc.router import Method, RequestHead, Router
    from petcd.net.grpc.stats import GrpcStats, MethodStats

__all__ = [
    "Call",
    "ClientConnection",
    "ClientStream",
    "GrpcStats",
    "Method",
    "MethodStats",
    "RequestHead",
    "Router",
    "Stream",
    "StreamHandler",
    "TransportFailure",
]

_HOMES: Final = {
    "Call": "calls",
    "Stream": "calls",
    "StreamHandler": "calls",
    "ClientConnection": "client",
    "ClientStream": "client",
    "TransportFailure": "client",
    "Method": "router",
    "RequestHead": "router",
    "Router": "router",
    "GrpcStats": "stats",
    "MethodStats": "stats",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
