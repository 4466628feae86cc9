"""What a client makes of an answer, whole or cut, usual or not: the parser alone, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.net.test_client_turns import BODY, MESSAGE, PATH, connected, whole

from petcd.errors import EtcdError
from petcd.net.grpc.client import ClientConnection
from petcd.net.grpc.status import RESPONSE_BLOCK, TRAILERS_OK, status_block
from petcd.net.http2 import frames as f


def ask(count: int, feed: Callable[[ClientConnection], None]) -> list[object]:
    """What became of ``count`` calls; the first was answered before, so that both blocks are remembered."""

    async def main() -> list[object]:
        connection, _ = connected()
        first = connection.start(PATH, b"first", (), None, None)
        connection.data_received(whole(1))
        assert await first.future == BODY
        calls = [connection.start(PATH, b"x", (), None, None) for _ in range(count)]
        feed(connection)
        done: list[object] = []
        for call in calls:
            if not call.future.done():
                done.append(None)
                continue
            error = call.future.exception()
            done.append(error.text if isinstance(error, EtcdError) else call.future.result())
        assert set(connection.machine.streams) == {
            call.sid for call, what in zip(calls, done, strict=True) if what is None
        }
        connection.close()
        return done

    return asyncio.run(main())


def test_cut_at_every_place() -> None:
    data = whole(3) + whole(5)
    for place in range(len(data) + 1):

        def feed(connection: ClientConnection, place: int = place) -> None:
            for part in (data[:place], data[place:]):
                if part:
                    connection.data_received(part)

        assert ask(2, feed) == [BODY, BODY], place


def test_interleaved() -> None:
    head = f.frame(f.HEADERS, f.END_HEADERS, 3, RESPONSE_BLOCK)
    parts = [head, whole(5), whole(3)[len(head) :]]
    assert ask(2, lambda connection: connection.data_received(b"".join(parts))) == [BODY, BODY]


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (whole(3, MESSAGE + MESSAGE), "the server sent more than one answer"),
        (whole(3, MESSAGE[:7]), "the server sent no answer"),
        (whole(3, b"\1" + MESSAGE[1:]), "grpc: compressed flag set with identity or empty encoding"),
        (whole(3, trailers=status_block(5, "not there")), "not there"),
        (whole(3, flags=f.END_STREAM), "server closed the stream without sending trailers"),
        (whole(3, b"\x04" + MESSAGE + b"\0\0\0\0", flags=f.PADDED), BODY),
        (whole(3, b""), "the server sent no answer"),
        (whole(3, b"\0\0\0\0\0"), b""),
    ],
    ids=["two messages", "half", "compressed", "status", "ended by data", "padded", "none", "empty"],
)
def test_unusual(data: bytes, outcome: object) -> None:
    (got,) = ask(1, lambda connection: connection.data_received(data))
    assert got == outcome


def headed(sid: int) -> bytes:
    return f.frame(f.HEADERS, f.END_HEADERS, sid, RESPONSE_BLOCK)


def ended(sid: int) -> bytes:
    return f.frame(f.HEADERS, f.END_HEADERS | f.END_STREAM, sid, TRAILERS_OK)


def test_frames_belong_to_their_own_stream() -> None:
    data = f.frame(f.DATA, 0, 5, MESSAGE)
    parts = headed(5) + headed(3) + data + ended(5) + f.frame(f.DATA, 0, 3, MESSAGE) + ended(3)
    assert ask(2, lambda connection: connection.data_received(parts)) == [BODY, BODY]
    parts = headed(3) + f.frame(f.DATA, 0, 3, MESSAGE) + headed(5) + data + ended(5)
    assert ask(2, lambda connection: connection.data_received(parts)) == [None, BODY]
    parts = headed(5) + headed(3) + f.frame(f.DATA, 0, 3, MESSAGE) + ended(5)
    assert ask(2, lambda connection: connection.data_received(parts)) == [None, "the server sent no answer"]


def test_a_status_that_came_before_is_told_again() -> None:
    refused = status_block(5, "not there")

    def feed(connection: ClientConnection) -> None:
        for sid in (3, 5, 7):
            connection.data_received(whole(sid, trailers=refused))

    assert ask(3, feed) == ["not there"] * 3


def test_another_message_in_a_frame_of_its_own() -> None:
    data = f.frame(f.DATA, 0, 3, MESSAGE)
    (got,) = ask(1, lambda connection: connection.data_received(headed(3) + data + data + ended(3)))
    assert got == "the server sent more than one answer"


def test_a_frame_that_is_too_long() -> None:
    message = b"\0" + (16385 - 5).to_bytes(4, "big") + bytes(16385 - 5)
    (got,) = ask(1, lambda connection: connection.data_received(whole(3, message)))
    assert "FRAME_SIZE_ERROR" in str(got)


def test_a_message_that_is_too_long() -> None:
    def feed(connection: ClientConnection) -> None:
        connection.machine.limits = replace(connection.machine.limits, message_bytes_max=8)
        connection.data_received(whole(3))

    (got,) = ask(1, feed)
    assert "larger than max" in str(got)


def test_more_than_the_window_is_the_servers_fault() -> None:
    def feed(connection: ClientConnection) -> None:
        connection.machine.streams[3].receive_left = 10
        connection.data_received(whole(3))

    (got,) = ask(1, feed)
    assert "FLOW_CONTROL" in str(got)


def test_the_window_is_counted() -> None:
    left = []

    def feed(connection: ClientConnection) -> None:
        left.append(connection.machine.receive_left)
        connection.data_received(whole(3))
        left.append(connection.machine.receive_left)

    assert ask(1, feed) == [BODY]
    assert left[0] - left[1] == len(MESSAGE)


def test_blocks_are_noted_only_where_they_may_be_sent_again() -> None:
    """The first block of a path fills HPACK's table: sent twice it would be right, and fill the table up."""

    async def main() -> None:
        connection, transport = connected()
        sent = []
        for number in range(4):
            transport.writes.clear()
            call = connection.start(PATH, b"x", (), 5.0, asyncio.get_running_loop().time() + 5.0)
            await asyncio.sleep(0)
            sent.append(b"".join(transport.writes))
            connection.data_received(whole(call.sid))
            assert await call.future == BODY, number
        assert PATH in sent[0] and PATH not in sent[1]
        assert len(sent[1]) == len(sent[2]) == len(sent[3])
        transport.writes.clear()
        connection.start(PATH, b"x", ((b"n", b"other"),), 5.0, asyncio.get_running_loop().time() + 5.0)
        assert b"other" in b"".join(transport.writes)
        connection.close()

    asyncio.run(main())
