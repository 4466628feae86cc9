"""The Watch service: a gRPC stream on one side, the hub's stream on the other (contract wire-v3, 4)."""

from __future__ import annotations

from typing import Final

from petcd.api.service import UNREAD_BYTES_MAX, UNREAD_TEXT, Service, malformed_text
from petcd.errors import Code
from petcd.net.grpc import Method, Stream
from petcd.pb import DecodeError
from petcd.pb.etcdserverpb import WatchRequest
from petcd.seams import Timer

_JITTER: Final = 0.1
_PROGRESS_SECONDS_MIN: Final = 0.1


class Watch(Service):
    """etcdserverpb.Watch."""

    def methods(self) -> list[Method]:
        return [Method(b"/etcdserverpb.Watch/Watch", stream=self.watch)]

    def watch(self, stream: Stream) -> WatchHandler:
        self.check_stream(stream)
        return WatchHandler(self, stream)


class WatchHandler:
    """One watch stream. A half-close by the client does not end it."""

    __slots__ = ("_progress", "_service", "_stream", "_watches")

    def __init__(self, service: Watch, stream: Stream) -> None:
        self._service = service
        self._stream = stream
        self._watches = service.member.hub.open(self)
        self._progress: Timer | None = None

    # -- the hub's sink --------------------------------------------------------------------------------

    def send(self, message: bytes, /) -> bool:
        stream = self._stream
        stream.send(message)
        return not stream.blocked

    # -- the connection --------------------------------------------------------------------------------

    def on_message(self, message: bytes) -> None:
        try:
            request = WatchRequest.decode(message)
        except DecodeError as error:
            self.on_cancel()
            self._stream.close(Code.INTERNAL, malformed_text(error))
            return
        if self._stream.blocked and self._stream.pending_bytes > UNREAD_BYTES_MAX:
            self.on_cancel()
            self._stream.close(Code.RESOURCE_EXHAUSTED, UNREAD_TEXT)
            return
        self._watches.handle(request)
        create = request.create_request
        if create is not None and create.progress_notify and self._progress is None:
            self._schedule_progress()

    def on_half_close(self) -> None:
        return

    def on_cancel(self) -> None:
        if self._progress is not None:
            self._progress.cancel()
        self._watches.close()

    def on_writable(self) -> None:
        self._watches.on_writable()

    # -- progress --------------------------------------------------------------------------------------

    def _schedule_progress(self) -> None:
        member = self._service.member
        interval = max(member.config.watch_progress_notify_seconds, _PROGRESS_SECONDS_MIN)
        interval *= 1 + _JITTER * member.random.random()
        self._progress = member.clock.call_later(interval, self._tell_progress)

    def _tell_progress(self) -> None:
        self._watches.tick()
        self._service.member.flush_edges()
        self._schedule_progress()
