"""One unary call over a shared connection: what the server's frames make of it. No I/O here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from petcd.errors import Code, EtcdError, StatusError, from_wire
from petcd.net.grpc.answers import Answered, ResponseHead
from petcd.net.grpc.client import CLIENT_LIMITS, TransportFailure
from petcd.net.grpc.messages import GrpcFault, MessageReader
from petcd.net.grpc.status import HTTP_TO_CODE
from petcd.net.http2 import frames

if TYPE_CHECKING:
    from _thread import LockType

    from petcd.client.sync.role import Role

_RESET_CODES: Final = {
    frames.REFUSED_STREAM: Code.UNAVAILABLE,
    frames.CANCEL: Code.CANCELLED,
    frames.ENHANCE_YOUR_CALM: Code.RESOURCE_EXHAUSTED,
    frames.INADEQUATE_SECURITY: Code.PERMISSION_DENIED,
}
_NO_TRAILERS: Final = "server closed the stream without sending trailers"


class Call(Answered):
    """A unary call: its answer or its error, and how its thread is woken.

    The connection's lock guards everything but ``waiter``, which is a lock that is held while the thread
    should sleep: releasing it says that the call is done, or that its thread is to read the socket now.
    """

    # Defaults in the class, not slots: most calls set three of these, and making one counts.
    sid = 0
    """0 until it may be sent (the server bounds the streams of a connection)."""
    sent = False
    done = False
    remote_closed = False
    error: EtcdError | None = None
    waiter: LockType | None = None
    receive_left = CLIENT_LIMITS.stream_window_bytes
    _reader: MessageReader | None = None

    def __init__(self, role: Role) -> None:
        self.role = role

    def failure(self) -> EtcdError:
        """What to raise instead of an answer."""
        return self.error or StatusError(Code.INTERNAL, "the server sent no answer")

    def end(self, error: EtcdError | None) -> None:
        """The call is over; None means status OK."""
        if not self.done:
            self.error = error
            self.done = True
            self.wake()

    def wake(self) -> None:
        """Let the thread go on, if it waits. It may have been woken before."""
        if self.waiter is not None and self.waiter.locked():
            self.waiter.release()

    def fail(self, code: Code, text: str) -> None:
        """What the server sent makes no sense as an answer."""
        self.role.cancel(self)
        self.end(TransportFailure(code, text, sent=True))

    def finish(self, error: EtcdError | None) -> None:
        """The server has ended the stream; None means status OK."""
        self.role.ended(self)
        self.end(error)

    def on_head(self, head: ResponseHead, end_stream: bool) -> None:
        status = head.grpc_status
        if self.headers is None:
            if 100 <= head.http_status < 200 and not end_stream:
                return
            self.headers = head.fields
            if head.http_status != 200 and status is None:
                text = f"unexpected HTTP status code received from server: {head.http_status}"
                self.fail(HTTP_TO_CODE.get(head.http_status, Code.UNKNOWN), text)
                return
            if status is None and not head.content_type.startswith(b"application/grpc"):
                text = f"unexpected content type {head.content_type.decode('latin-1')!r}"
                self.fail(Code.UNKNOWN, text)
                return
        if not end_stream:
            return
        if status == 0:
            self.finish(None)
        elif status is None:
            self.finish(TransportFailure(Code.INTERNAL, _NO_TRAILERS, sent=True))
        else:
            self.finish(from_wire(status, head.grpc_message))

    def on_data(self, data: bytes, start: int, end: int, end_stream: bool) -> None:
        if self._reader is None:
            self.unbegun = False
            self._reader = MessageReader(CLIENT_LIMITS.message_bytes_max)
        try:
            for message in self._reader.feed(data, start, end):
                if self.message is not None:
                    raise GrpcFault(Code.INTERNAL, "the server sent more than one answer")
                self.message = message
        except GrpcFault as fault:
            self.role.cancel(self)
            self.end(StatusError(fault.code, fault.text))
            return
        if end_stream:
            self.finish(TransportFailure(Code.INTERNAL, _NO_TRAILERS, sent=True))

    def on_reset(self, code: int) -> None:
        text = f"stream terminated by RST_STREAM with error code: {frames.error_name(code)}"
        sent = self.sent and code != frames.REFUSED_STREAM
        self.end(TransportFailure(_RESET_CODES.get(code, Code.INTERNAL), text, sent=sent))
        self.role.start_queued()
