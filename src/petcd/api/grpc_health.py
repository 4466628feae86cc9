"""grpc.health.v1: one status, SERVING, under the empty service name (contract wire-v3 section 2.1)."""

from __future__ import annotations

from typing import Final

from petcd.api.service import malformed, malformed_text
from petcd.errors import Code
from petcd.net.grpc import Call, Method, Stream
from petcd.pb import DecodeError
from petcd.pb.healthpb import HealthCheckRequest, HealthCheckResponse

SERVING: Final = 1
SERVICE_UNKNOWN: Final = 3


class GrpcHealth:
    """grpc.health.v1.Health."""

    def methods(self) -> list[Method]:
        return [
            Method(b"/grpc.health.v1.Health/Check", unary=self.check),
            Method(b"/grpc.health.v1.Health/Watch", stream=self.watch),
        ]

    def check(self, call: Call, message: bytes) -> None:
        try:
            request = HealthCheckRequest.decode(message)
        except DecodeError as error:
            malformed(call, error)
            return
        if request.service:
            call.fail(Code.NOT_FOUND, "unknown service")
        else:
            call.reply(HealthCheckResponse(status=SERVING).encode())

    def watch(self, stream: Stream) -> _HealthWatch:
        return _HealthWatch(stream)


class _HealthWatch:
    __slots__ = ("_stream",)

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def on_message(self, message: bytes) -> None:
        try:
            request = HealthCheckRequest.decode(message)
        except DecodeError as error:
            self._stream.close(Code.INTERNAL, malformed_text(error))
            return
        status = SERVICE_UNKNOWN if request.service else SERVING
        self._stream.send(HealthCheckResponse(status=status).encode())

    def on_half_close(self) -> None:
        return

    def on_cancel(self) -> None:
        return

    def on_writable(self) -> None:
        return
