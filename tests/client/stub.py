"""A server that says what a test wants, over real sockets: each call takes the next answer of a script."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from petcd.errors import Code, EtcdError
from petcd.net.edge import Edge
from petcd.net.grpc.calls import Call, Stream, StreamHandler
from petcd.net.grpc.router import Method, Router
from petcd.pb.message import Message
from petcd.pb.services import METHODS
from petcd.seams.net import Address
from petcd.seams.real import real_world

HANG_UP = "hang up"
SILENCE = "silence"

Answer = Message | EtcdError | str
"""A reply, a status, or one of the two words above."""


class Heard:
    """One call that came."""

    def __init__(self, call: Call | Stream, message: bytes) -> None:
        self.message = message
        self.token = call.metadata(b"token")
        self.require_leader = call.metadata(b"hasleader") == b"true"
        self.deadline = call.deadline > 0
        self.seconds = call.deadline - time.monotonic()
        """Until its deadline."""


class Quiet(StreamHandler):
    """Hears a stream's messages; what it does with them is the test's."""

    def __init__(self, stub: Stub, stream: Stream, take: Callable[[Stream, bytes], None] | None) -> None:
        self._stub = stub
        self._stream = stream
        self._take = take

    def on_message(self, message: bytes) -> None:
        self._stub.heard.append((self._stream.head.path.decode(), Heard(self._stream, message)))
        if self._take is not None:
            self._take(self._stream, message)

    def on_half_close(self) -> None:
        self._stream.close()

    def on_cancel(self) -> None:
        pass

    def on_writable(self) -> None:
        pass


class Stub:
    """``script`` maps a method to its answers, the last of which is repeated; ``streams`` to what takes a
    message of a stream."""

    def __init__(
        self,
        script: dict[str, list[Answer]] | None = None,
        streams: dict[str, Callable[[Stream, bytes], None]] | None = None,
    ) -> None:
        self._script = {name: deque(answers) for name, answers in (script or {}).items()}
        self._streams = streams or {}
        self.heard: list[tuple[str, Heard]] = []
        self.endpoint = ""

    def count(self, method: str) -> int:
        return sum(path.endswith("/" + method) for path, _ in self.heard)

    def last(self, method: str) -> Heard:
        return [heard for path, heard in self.heard if path.endswith("/" + method)][-1]

    def _unary(self, name: str, path: str) -> Callable[[Call, bytes], None]:
        def answer(call: Call, message: bytes) -> None:
            self.heard.append((path, Heard(call, message)))
            answers = self._script.get(name)
            if answers is None:
                call.fail(Code.UNIMPLEMENTED, "not in the script")
                return
            said = answers.popleft() if len(answers) > 1 else answers[0]
            if isinstance(said, EtcdError):
                call.fail(said.code, said.text)
            elif isinstance(said, Message):
                call.reply(said.encode())
            elif said == HANG_UP:
                call.conn.owner.abort()

        return answer

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Stub]:
        methods: list[Any] = []
        for spec in METHODS:
            path = spec.path.encode()
            if spec.server_stream:
                take = self._streams.get(spec.name)
                methods.append(
                    Method(path, stream=lambda stream, take=take: Quiet(self, stream, take))  # type: ignore[misc]
                )
            else:
                methods.append(Method(path, unary=self._unary(spec.name, spec.path)))
        edge = Edge(real_world(asyncio.get_running_loop()), Router(methods))
        listener = await edge.listen(Address("127.0.0.1", 0))
        self.endpoint = f"127.0.0.1:{listener.address.port}"
        try:
            yield self
        finally:
            edge.abort()
            await asyncio.sleep(0)
