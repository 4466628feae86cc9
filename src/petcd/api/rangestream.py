"""KV/RangeStream: one Range as a stream of chunks (contract wire-v3 section 3.5).

A chunk is one slice of work and the next one follows when the client has taken enough of those before, so
a range of any size neither holds up the member nor fills its memory.
"""

from __future__ import annotations

from petcd.api.service import malformed_text
from petcd.errors import Code, EtcdError
from petcd.mvcc import RangeStream, check_range, check_range_stream
from petcd.net.grpc import Stream
from petcd.pb import DecodeError
from petcd.pb.etcdserverpb import RangeRequest
from petcd.pb.wire import varint
from petcd.server.member import Member


class RangeStreamHandler:
    """One call. It ends with the last chunk."""

    __slots__ = ("_asked", "_chunks", "_member", "_over", "_stream", "_waiting")

    def __init__(self, member: Member, stream: Stream) -> None:
        self._member = member
        self._stream = stream
        self._chunks: RangeStream | None = None
        self._asked = False
        self._over = False
        self._waiting = False

    # -- the connection --------------------------------------------------------------------------------

    def on_message(self, message: bytes) -> None:
        if self._asked:
            return
        self._asked = True
        try:
            request = RangeRequest.decode(message)
        except DecodeError as error:
            self.fail(Code.INTERNAL, malformed_text(error))
            return
        check_range(request)
        check_range_stream(request)
        if request.serializable:
            self._begin(self, request)
        else:
            self._member.read(self._begin, self, request)

    def on_half_close(self) -> None:
        return

    def on_cancel(self) -> None:
        self._over = True

    def on_writable(self) -> None:
        if self._waiting:
            self._waiting = False
            self._next()

    # -- the waiter of its read ------------------------------------------------------------------------

    def reply(self, message: bytes, /) -> None:
        self._stream.send(message)

    def fail(self, code: int, text: str, /) -> None:
        if not self._over:
            self._over = True
            self._stream.close(code, text)

    # -- chunks ----------------------------------------------------------------------------------------

    def _begin(self, _waiter: object, request: RangeRequest) -> None:
        member = self._member
        member.range_count += 1
        try:
            self._chunks = RangeStream(member.store, request, member.config.max_request_bytes)
        except EtcdError as error:
            self.fail(error.code, error.text)
        else:
            self._next()

    def _next(self) -> None:
        chunks = self._chunks
        if self._over or chunks is None:
            return
        try:
            body = chunks.next()
        except EtcdError as error:
            self.fail(error.code, error.text)
            return
        if chunks.done:
            body = self._member.hub.header(chunks.rev) + body
        if body:
            self.reply(b"\x0a" + varint(len(body)) + body)
        if chunks.done:
            self.fail(Code.OK, "")
        elif self._stream.blocked:
            self._waiting = True
        else:
            self._member.clock.call_soon(self._next)
