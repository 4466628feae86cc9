"""When the client writes, and what its time limits cost: counted, not timed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from petcd.net.deadlines import TICK_SECONDS
from petcd.net.edge import Edge
from petcd.net.grpc.client import ClientConnection, TransportFailure
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


def connected(*settings: tuple[int, int]) -> tuple[ClientConnection, Transport]:
    connection, transport = ClientConnection(), Transport()
    connection.connection_made(transport)
    connection.data_received(frames.settings(*settings))
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


def test_of_many_calls_in_one_turn_the_first_leave_early() -> None:
    """The server has something to do while we make the rest; and the fewer writes, the better."""

    async def main() -> None:
        connection, transport = connected()
        connection.start(PATH, b"alone", (), None, None)
        for _ in range(2):
            transport.writes.clear()
            for number in range(100):
                connection.start(PATH, b"%d" % number, (), None, None)
            await asyncio.sleep(0)
            assert len(transport.writes) == 3
            assert len(transport.writes[0]) < len(transport.writes[1])
            assert PATH not in b"".join(transport.writes), "it is in HPACK's table"
        connection.close()

    asyncio.run(main())


def test_a_call_that_the_server_resets_makes_room_for_another() -> None:
    async def main() -> None:
        connection, transport = connected((frames.SETTINGS_MAX_CONCURRENT_STREAMS, 1))
        first = connection.start(PATH, b"one", (), None, None)
        connection.start(PATH, b"two", (), None, None)
        await asyncio.sleep(0)
        assert not b"".join(transport.writes).endswith(b"two")
        connection.data_received(frames.rst_stream(1, frames.CANCEL))
        await asyncio.sleep(0)
        assert b"".join(transport.writes).endswith(b"two")
        assert isinstance(first.future.exception(), TransportFailure)
        connection.close()

    asyncio.run(main())


def test_a_stream_that_the_server_resets_is_no_company_any_more() -> None:
    async def main() -> None:
        connection, transport = connected()
        stream = connection.stream(b"/test/Watch")
        await asyncio.sleep(0)
        connection.data_received(frames.rst_stream(1, frames.CANCEL))
        with pytest.raises(TransportFailure):
            await stream.recv()
        transport.writes.clear()
        connection.start(PATH, b"one", (), None, None)
        assert len(transport.writes) == 1
        connection.close()

    asyncio.run(main())


def test_a_connection_that_is_retired_takes_no_call_and_closes_after_the_last() -> None:
    async def main() -> None:
        connection, _ = connected((frames.SETTINGS_MAX_CONCURRENT_STREAMS, 1))
        connection.start(PATH, b"one", (), None, None)
        late = connection.start(PATH, b"two", (), None, None)
        connection.retire()
        failure = late.future.exception()
        assert isinstance(failure, TransportFailure) and not failure.sent
        with pytest.raises(TransportFailure):
            connection.start(PATH, b"three", (), None, None)
        assert not connection.closed
        connection.data_received(frames.rst_stream(1, frames.CANCEL))
        assert connection.closed

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
