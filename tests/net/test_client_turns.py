"""When the client writes, and what its time limits cost: counted, not timed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from petcd.net.deadlines import TICK_SECONDS
from petcd.net.edge import Edge
from petcd.net.grpc.client import ClientConnection
from petcd.net.grpc.router import Router
from petcd.net.http2 import frames
from petcd.seams.net import Address
from petcd.seams.real import real_world

PATH = b"/test/Echo"


class Transport:
    """Takes what is written."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


def connected() -> tuple[ClientConnection, Transport]:
    connection, transport = ClientConnection(), Transport()
    connection.connection_made(transport)
    connection.data_received(frames.frame(frames.SETTINGS, 0, 0, b""))
    connection._flush()
    transport.writes.clear()
    return connection, transport


def test_a_call_that_is_alone_leaves_at_once() -> None:
    async def main() -> None:
        connection, transport = connected()
        connection.stream(b"/test/Watch")  # streams that are there all the time do not count as company
        await asyncio.sleep(0)
        transport.writes.clear()
        connection.start(PATH, b"one", (), None, None)
        assert len(transport.writes) == 1 and transport.writes[0].endswith(b"one")
        connection.close()

    asyncio.run(main())


def test_calls_of_one_turn_leave_together_but_not_too_many() -> None:
    async def main() -> None:
        connection, transport = connected()
        for number in range(100):
            connection.start(PATH, b"%d" % number, (), None, None)
        await asyncio.sleep(0)
        assert 5 < len(transport.writes) < 12
        sent = b"".join(transport.writes)
        assert sent.count(PATH) == 1, "the path is in HPACK's table then"
        connection.close()

    asyncio.run(main())


@pytest.mark.parametrize("limit", [5.0, 0.5])
def test_calls_one_after_the_other_share_a_timer(limit: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call is the first with a deadline, for both sides; that once made four timers of every call."""
    timers = 0

    async def main() -> float:
        loop = asyncio.get_running_loop()
        call_later = loop.call_later

        def counted(delay: float, callback: Callable[..., object], *args: Any, **options: Any) -> Any:
            nonlocal timers
            timers += delay == TICK_SECONDS
            return call_later(delay, callback, *args, **options)

        monkeypatch.setattr(loop, "call_later", counted)
        router = Router()
        router.unary(PATH, lambda call, message: call.reply(message))
        edge = Edge(real_world(loop), router)
        listener = await edge.listen(Address("127.0.0.1", 0))
        connection = await ClientConnection.connect(listener.address)
        began = time.monotonic()
        for _ in range(200):
            assert await connection.unary(PATH, b"x", timeout=limit) == b"x"
        seconds = time.monotonic() - began
        connection.close()
        await edge.drain(1.0)
        return seconds

    seconds = asyncio.run(main())
    assert timers <= 2 * (seconds / TICK_SECONDS + 2)
