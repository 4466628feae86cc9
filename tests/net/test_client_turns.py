"""When the client writes, and what its time limits cost: counted, not timed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from hpack import Decoder

from petcd.net.deadlines import TICK_SECONDS
from petcd.net.edge import Edge
from petcd.net.grpc.client import ClientConnection, TransportFailure, UnaryCall
from petcd.net.grpc.router import Router
from petcd.net.grpc.status import RESPONSE_BLOCK, TRAILERS_OK, parse_timeout
from petcd.net.http2 import frames
from petcd.seams.net import Address
from petcd.seams.real import real_world

PATH = b"/test/Echo"
BODY = b"an answer"
MESSAGE = b"\0\0\0\0\x09" + BODY


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


def whole(sid: int, message: bytes = MESSAGE, trailers: bytes = TRAILERS_OK, flags: int = 0) -> bytes:
    """An answer."""
    return (
        frames.frame(frames.HEADERS, frames.END_HEADERS, sid, RESPONSE_BLOCK)
        + frames.frame(frames.DATA, flags, sid, message)
        + frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, sid, trailers)
    )


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


def test_what_tls_has_decrypted_fits_into_one_buffer() -> None:
    """What does not is fetched later, and lost when the connection's end was read meanwhile."""

    async def main() -> None:
        connection, _ = connected()
        plain = len(connection.get_buffer(-1))
        assert len(connection.get_buffer(300_000)) > 300_000 + (1 << 14)
        assert len(connection.get_buffer(-1)) >= plain
        connection.close()

    asyncio.run(main())


@pytest.mark.parametrize("timeout", [float("inf"), 1e12])
def test_a_limit_without_end_is_none(timeout: float) -> None:
    async def main() -> None:
        connection, transport = connected()
        connection.start(PATH, b"x", (), timeout, connection._loop.time() + timeout)
        assert len(connection.deadlines) == 0
        assert b"grpc-timeout" not in b"".join(transport.writes)
        with pytest.raises(TransportFailure, match="deadline"):
            connection.start(PATH, b"x", (), float("nan"), float("nan"))
        connection.close()

    asyncio.run(main())


def test_a_deadline_that_fails_stops_no_other() -> None:
    async def main() -> None:
        connection, _ = connected()
        call = connection.start(PATH, b"x", (), 0.1, connection._loop.time() + 0.1)
        failing = connection.start(PATH, b"x", (), 0.01, connection._loop.time() + 0.01)
        failing.expire = lambda: 1 / 0  # type: ignore[method-assign,assignment,return-value]
        told: list[object] = []
        connection._loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
        with pytest.raises(TransportFailure, match="deadline"):
            await asyncio.wait_for(call.future, 5)
        assert len(told) == 1
        connection.close()

    asyncio.run(main())


@pytest.mark.parametrize("filed", [False, True])
def test_no_deadline_is_left_of_calls_however_they_end(filed: bool) -> None:
    async def main() -> None:
        connection, _ = connected()

        def call() -> UnaryCall:
            call = connection.start(PATH, b"x", (), 5.0, connection._loop.time() + 5.0)
            if filed:
                connection.deadlines.expire(connection._loop.time())
            assert len(connection.deadlines) == 1
            return call

        answered = call()
        connection.data_received(whole(answered.sid))
        assert len(connection.deadlines) == 0
        call().drop()
        assert len(connection.deadlines) == 0
        reset = call()
        connection.data_received(frames.rst_stream(reset.sid, frames.CANCEL))
        assert len(connection.deadlines) == 0
        call()
        connection.close()
        assert not connection.deadlines.pending
        with pytest.raises(TransportFailure):
            await reset.future

    asyncio.run(main())


def test_a_connection_of_another_process_takes_no_calls() -> None:
    async def main() -> None:
        connection, _ = connected()
        connection._transport = None
        connection.disown()
        assert not connection.usable
        with pytest.raises(TransportFailure):
            connection.start(PATH, b"x", (), None, None)

    asyncio.run(main())


def test_each_block_says_what_its_call_is() -> None:
    """Path, metadata and time limit, as an independent decoder reads them; also when HPACK's table shrinks
    and what was noted before means something else."""

    async def main() -> None:
        connection, transport = connected()
        decoder = Decoder()
        one, two = ((b"n", b"1"),), ((b"n", b"2"),)
        calls: list[tuple[bytes, tuple[tuple[bytes, bytes], ...], float | None]] = [
            *[(b"/a/A", one, 5.0)] * 3,
            (b"/b/B", one, 5.0),
            (b"/a/A", one, 5.0),
            (b"/a/A", two, 5.0),
            *[(b"/a/A", one, None)] * 3,
            *[(b"/a/A", one, 1.0)] * 3,
            *[(b"/a/A", one, 0.3)] * 2,
            *[(b"/a/A", one, 5.0)] * 3,
        ]
        for table in (4096, 100, 4096):
            connection.data_received(frames.settings((frames.SETTINGS_HEADER_TABLE_SIZE, table)))
            await asyncio.sleep(0)
            for path, metadata, timeout in calls:
                transport.writes.clear()
                deadline = None if timeout is None else connection._loop.time() + timeout
                call = connection.start(path, b"x", metadata, timeout, deadline)
                sent = b"".join(transport.writes)
                fields = dict(decoder.decode(sent[9 : 9 + int.from_bytes(sent[:3], "big")], raw=True))
                assert (fields[b":path"], fields[b"n"]) == (path, metadata[0][1])
                told = fields.get(b"grpc-timeout")
                assert (None if told is None else parse_timeout(told)) == timeout
                connection.data_received(whole(call.sid))
                await call.future
        connection.close()

    asyncio.run(main())
