"""The calls of a client's connection: how the server's frames become messages and an end.

Source: gRPC over HTTP/2 (PROTOCOL-HTTP2); the texts are grpc-go's.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from petcd.errors import Code, EtcdError, StatusError, from_wire
from petcd.net.grpc.answers import Answered, ResponseHead
from petcd.net.grpc.messages import GrpcFault, MessageReader
from petcd.net.grpc.status import HTTP_TO_CODE
from petcd.net.http2 import frames

if TYPE_CHECKING:
    from petcd.net.grpc.client import ClientConnection

_HELD_BYTES_MAX: Final = 4 << 20


class TransportFailure(StatusError):
    """A call without an answer of the server. ``sent``: bytes of it left and the server may have acted on
    it."""

    def __init__(self, code: Code, text: str, *, sent: bool) -> None:
        super().__init__(code, text)
        self.sent = sent

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (int(self.code), str(self.text), self.sent)


def _rebuild(code: int, text: str, sent: bool) -> TransportFailure:
    return TransportFailure(Code(code), text, sent=sent)


class ClientCall(Answered):
    """What both kinds of calls share: how the server's frames become messages and an end."""

    # Defaults in the class, not slots: most calls set three of these, and making one counts.
    sid = 0
    """0 until it may be sent (the server bounds the streams of a connection)."""
    remote_closed = False
    deadline = 0.0
    tick = 0
    """For the deadlines' own use."""
    sent = False
    lasting = False
    """It is a stream, and may be there as long as the connection."""
    start: Callable[[], None] | None = None
    _reader: MessageReader | None = None

    def __init__(self, conn: ClientConnection) -> None:
        self.conn = conn
        self.receive_left = conn.machine.limits.stream_window_bytes

    def on_head(self, head: ResponseHead, end_stream: bool) -> None:
        if self.headers is None:
            if 100 <= head.http_status < 200 and not end_stream:
                return
            self.headers = head.fields
            if head.http_status != 200 and head.grpc_status is None:
                self.finish(
                    TransportFailure(
                        HTTP_TO_CODE.get(head.http_status, Code.UNKNOWN),
                        f"unexpected HTTP status code received from server: {head.http_status}",
                        sent=True,
                    )
                )
                return
            if not head.content_type.startswith(b"application/grpc") and head.grpc_status is None:
                text = f"unexpected content type {head.content_type.decode('latin-1')!r}"
                self.finish(TransportFailure(Code.UNKNOWN, text, sent=True))
                return
        if not end_stream:
            return
        if head.grpc_status is None:
            text = "server closed the stream without sending trailers"
            self.finish(TransportFailure(Code.INTERNAL, text, sent=True))
        elif head.grpc_status == 0:
            self.finish(None)
        else:
            self.finish(from_wire(head.grpc_status, head.grpc_message))

    def on_data(self, data: bytes, start: int, end: int, end_stream: bool) -> None:
        if self._reader is None:
            self.unbegun = False
            self._reader = MessageReader(self.conn.machine.limits.message_bytes_max)
        try:
            for message in self._reader.feed(data, start, end):
                self.on_message(message)
        except GrpcFault as fault:
            self.finish(StatusError(fault.code, fault.text))
            return
        if end_stream:
            text = "server closed the stream without sending trailers"
            self.finish(TransportFailure(Code.INTERNAL, text, sent=True))

    def on_reset(self, code: int) -> None:
        self.finish(
            TransportFailure(
                _RESET_CODES.get(code, Code.INTERNAL),
                f"stream terminated by RST_STREAM with error code: {frames.error_name(code)}",
                sent=self.sent and code != frames.REFUSED_STREAM,
            )
        )
        self.conn.freed(self)

    def expire(self) -> None:
        self.deadline = 0.0
        self.finish(TransportFailure(Code.DEADLINE_EXCEEDED, "context deadline exceeded", sent=self.sent))

    @abstractmethod
    def on_message(self, message: bytes) -> None:
        """One message of the server."""

    def drop(self) -> None:
        """Forget it; tell the server when it does not know that it is over."""
        self.conn.drop(self)


_RESET_CODES: Final = {
    frames.NO_ERROR: Code.INTERNAL,
    frames.REFUSED_STREAM: Code.UNAVAILABLE,
    frames.CANCEL: Code.CANCELLED,
    frames.ENHANCE_YOUR_CALM: Code.RESOURCE_EXHAUSTED,
    frames.INADEQUATE_SECURITY: Code.PERMISSION_DENIED,
}


class UnaryCall(ClientCall):
    """One unary call; ``future`` gets its answer or its error."""

    def __init__(self, conn: ClientConnection, future: asyncio.Future[bytes]) -> None:
        self.conn = conn
        self.receive_left = conn.machine.limits.stream_window_bytes
        self.future = future

    def on_message(self, message: bytes) -> None:
        if self.message is not None:
            raise GrpcFault(Code.INTERNAL, "the server sent more than one answer")
        self.message = message

    def finish(self, error: EtcdError | None) -> None:
        conn = self.conn
        machine = conn.machine
        if error is None and self.remote_closed and not (machine.senders or conn.waiting or conn.draining):
            # ``drop`` where nobody waits for what it frees, nor the connection for its last call.
            if self.tick:
                conn.deadlines.discard(self)
            self.deadline = 0.0
            if machine.credits:
                machine.credits.pop(self.sid, None)
            del machine.streams[self.sid]
        else:
            self.drop()
        future = self.future
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        elif self.message is None:
            future.set_exception(StatusError(Code.INTERNAL, "the server sent no answer"))
        else:
            future.set_result(self.message)


class ClientStream(ClientCall):
    """One streaming call. ``send`` buffers beyond the server's window; ``recv`` gives the messages in order.

    Messages that nobody receives hold the server back once they are 4 MiB.
    """

    unbegun = False
    lasting = True

    def __init__(self, conn: ClientConnection) -> None:
        super().__init__(conn)
        self._messages: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._error: EtcdError | None = None
        self._half_closed = False
        self.holding = False

    @property
    def ended(self) -> bool:
        """No more messages will come; those that came may still be received."""
        return self._ended

    @property
    def waiting(self) -> int:
        """Messages that came and were not received: so often ``recv`` returns at once."""
        return len(self._messages)

    def send(self, message: bytes) -> None:
        """Raises the stream's error when it is over (TransportFailure if it ended well)."""
        self._check_open()
        self.conn.send(self, message, last=False)

    def half_close(self) -> None:
        """Say that no more will be sent; answers still come."""
        if not self._half_closed and not self._ended:
            self._half_closed = True
            self.conn.send(self, None, last=True)

    async def recv(self) -> bytes | None:
        """The next message, or None after the last. Raises the error the stream ended with."""
        while not self._messages:
            if self._ended:
                if self._error is not None:
                    raise self._error
                return None
            waiter = self._waiter = asyncio.get_running_loop().create_future()
            await waiter
        message = self._messages.popleft()
        self._waiting_bytes -= len(message)
        if self.holding and self._waiting_bytes <= _HELD_BYTES_MAX >> 1:
            self.holding = False
            self.conn.machine.grant(self.sid, self)
        return message

    def __aiter__(self) -> ClientStream:
        return self

    async def __anext__(self) -> bytes:
        message = await self.recv()
        if message is None:
            raise StopAsyncIteration
        return message

    def cancel(self) -> None:
        """End the call at once, on both sides."""
        self.finish(TransportFailure(Code.CANCELLED, "context canceled", sent=self.sent))

    def _check_open(self) -> None:
        if self._ended:
            raise self._error or TransportFailure(Code.UNAVAILABLE, "the stream has ended", sent=False)
        if self._half_closed:
            raise TransportFailure(Code.INTERNAL, "send after half_close", sent=False)

    def on_message(self, message: bytes) -> None:
        self._messages.append(message)
        self._waiting_bytes += len(message)
        if self._waiting_bytes > _HELD_BYTES_MAX:
            self.holding = True
        self._wake()

    def finish(self, error: EtcdError | None) -> None:
        if self._ended:
            return
        self._ended = True
        self._error = error
        self.drop()
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
