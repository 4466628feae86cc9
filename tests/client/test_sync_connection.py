"""The connection that threads share, against a server that does what the test says."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from petcd.client.sync.connection import Connection, connect
from petcd.client.sync.role import Role
from petcd.errors import Code, Compacted, StatusError
from petcd.net.grpc.client import TransportFailure
from petcd.net.grpc.status import RESPONSE_BLOCK, TRAILERS_OK, refusal_block
from petcd.net.http2 import frames

PATH = b"/test.Service/Method"
FLAGS_LAST = frames.END_HEADERS | frames.END_STREAM


def message(body: bytes) -> bytes:
    return struct.pack(">BI", 0, len(body)) + body


class Script:
    """The server's side of one connection: reads frames, writes what the test wants."""

    def __init__(self, *settings: tuple[int, int]) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.settings = settings
        self.peer: socket.socket | None = None
        self.rest = b""

    def connect(self, keepalive: float = 0.0, keepalive_timeout: float = 20.0) -> Connection:
        """A client's connection to it, established."""
        accepting = threading.Thread(target=self.accept)
        accepting.start()
        connection = connect(
            "127.0.0.1", self.port, timeout=5.0, keepalive=keepalive, keepalive_timeout=keepalive_timeout
        )
        accepting.join()
        return connection

    def accept(self) -> None:
        self.peer, _ = self.listener.accept()
        self.peer.settimeout(10)
        self.write(frames.settings(*self.settings))
        self.rest = self.peer.recv(1 << 16)
        assert self.rest.startswith(frames.PREFACE)
        self.rest = self.rest[len(frames.PREFACE) :]

    def write(self, data: bytes) -> None:
        assert self.peer is not None
        self.peer.sendall(data)

    def frame(self) -> tuple[int, int, int, bytes]:
        """The next frame: kind, flags, stream, payload."""
        assert self.peer is not None
        while True:
            if len(self.rest) >= 9:
                word, flags, sid = frames.FRAME.unpack_from(self.rest)
                end = 9 + (word >> 8)
                if len(self.rest) >= end:
                    payload, self.rest = self.rest[9:end], self.rest[end:]
                    return word & 255, flags, sid, payload
            data = self.peer.recv(1 << 16)
            assert data, "the client has closed"
            self.rest += data

    def call(self) -> tuple[int, bytes]:
        """The next call: its stream and its message."""
        while True:
            kind, flags, sid, payload = self.frame()
            if kind == frames.DATA:
                assert flags & frames.END_STREAM
                return sid, payload[5:]

    def answer(self, sid: int, body: bytes) -> None:
        self.write(
            frames.frame(frames.HEADERS, frames.END_HEADERS, sid, RESPONSE_BLOCK)
            + frames.frame(frames.DATA, 0, sid, message(body))
            + frames.frame(frames.HEADERS, FLAGS_LAST, sid, TRAILERS_OK)
        )

    def close(self) -> None:
        self.listener.close()
        if self.peer is not None:
            self.peer.close()


@pytest.fixture
def script() -> Iterator[Script]:
    made = Script()
    yield made
    made.close()


class Caller(threading.Thread):
    """One call in a thread of its own; ``result`` gives its answer or raises its error."""

    def __init__(self, connection: Connection, body: bytes = b"", timeout: float | None = 10.0) -> None:
        super().__init__()
        self._connection = connection
        self._body = body
        self._timeout = timeout
        self._answer = b""
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        try:
            self._answer = self._connection.unary(PATH, self._body, timeout=self._timeout, deadline=deadline)
        except BaseException as error:  # noqa: BLE001  ``result`` raises it
            self._error = error

    def result(self) -> bytes:
        self.join(10)
        assert not self.is_alive()
        if self._error is not None:
            raise self._error
        return self._answer


def test_answers_in_any_order_and_cut_anywhere(script: Script) -> None:
    connection = script.connect()
    callers = [Caller(connection, b"%d" % n) for n in range(5)]
    calls = [script.call() for _ in callers]
    for sid, body in reversed(calls):
        parts = (
            frames.frame(frames.HEADERS, frames.END_HEADERS, sid, RESPONSE_BLOCK)
            + frames.frame(frames.DATA, 0, sid, message(b"to " + body)[:3])
            + frames.frame(frames.DATA, 0, sid, message(b"to " + body)[3:])
            + frames.frame(frames.HEADERS, FLAGS_LAST, sid, TRAILERS_OK)
        )
        for at in range(len(parts)):
            script.write(parts[at : at + 1])
    assert [caller.result() for caller in callers] == [b"to %d" % n for n in range(5)]
    assert connection.active_count == 0
    connection.close()


def test_the_lead_passes_on_when_the_leader_runs_out_of_time(script: Script) -> None:
    connection = script.connect()
    leader = Caller(connection, b"short", 0.2)
    assert script.call()[1] == b"short"
    follower = Caller(connection, b"long")
    sid, _ = script.call()
    with pytest.raises(TransportFailure) as caught:
        leader.result()
    assert (caught.value.code, caught.value.sent) == (Code.DEADLINE_EXCEEDED, True)
    assert script.frame()[0] == frames.RST_STREAM
    script.answer(sid, b"in time")
    assert follower.result() == b"in time"
    connection.close()


def test_a_follower_runs_out_of_time(script: Script) -> None:
    connection = script.connect()
    leader = Caller(connection, b"long")
    sid, _ = script.call()
    follower = Caller(connection, b"short", 0.1)
    late, _ = script.call()
    with pytest.raises(TransportFailure):
        follower.result()
    script.answer(late, b"too late")
    script.answer(sid, b"yes")
    assert leader.result() == b"yes"
    connection.close()


def test_goaway_says_what_was_not_touched(script: Script) -> None:
    connection = script.connect()
    first = Caller(connection, b"1")
    taken, _ = script.call()
    second = Caller(connection, b"2")
    script.call()
    script.write(frames.goaway(taken, frames.NO_ERROR))
    with pytest.raises(TransportFailure) as caught:
        second.result()
    assert (caught.value.code, caught.value.sent) == (Code.UNAVAILABLE, False)
    assert not connection.usable
    script.answer(taken, b"done")
    assert first.result() == b"done"
    with pytest.raises(TransportFailure, match="going away"):
        connection.unary(PATH, b"3")
    connection.close()


def test_refused_and_reset_streams(script: Script) -> None:
    connection = script.connect()
    for code, sent in ((frames.REFUSED_STREAM, False), (frames.INTERNAL_ERROR, True)):
        caller = Caller(connection)
        sid, _ = script.call()
        script.write(frames.rst_stream(sid, code))
        with pytest.raises(TransportFailure) as caught:
            caller.result()
        assert caught.value.sent is sent
    connection.close()


def test_errors_of_the_server(script: Script) -> None:
    connection = script.connect()
    caller = Caller(connection)
    sid, _ = script.call()
    block = refusal_block(11, Compacted.text)
    script.write(frames.frame(frames.HEADERS, FLAGS_LAST, sid, block))
    with pytest.raises(Compacted):
        caller.result()
    for body, code in (
        (b"", Code.INTERNAL),
        (message(b"a") * 2, Code.INTERNAL),
        (b"\x02aaaa", Code.INTERNAL),
    ):
        caller = Caller(connection)
        sid, _ = script.call()
        script.write(
            frames.frame(frames.HEADERS, frames.END_HEADERS, sid, RESPONSE_BLOCK)
            + frames.frame(frames.DATA, 0, sid, body)
            + frames.frame(frames.HEADERS, FLAGS_LAST, sid, TRAILERS_OK)
        )
        with pytest.raises(StatusError) as caught:
            caller.result()
        assert caught.value.code == code
    connection.close()


def test_no_more_streams_at_once_than_the_server_takes() -> None:
    script = Script((frames.SETTINGS_MAX_CONCURRENT_STREAMS, 2))
    connection = script.connect()
    callers = [Caller(connection, b"%d" % n) for n in range(6)]
    for _ in range(3):
        pair = [script.call() for _ in range(2)]
        for sid, body in pair:
            script.answer(sid, body)
    assert sorted(caller.result() for caller in callers) == [b"%d" % n for n in range(6)]
    connection.close()
    script.close()


def test_a_large_message_waits_for_the_window(script: Script) -> None:
    connection = script.connect()
    body = bytes(200_000)
    caller = Caller(connection, body)
    taken = sid = 0
    while taken < len(body) + 5:
        kind, _, number, payload = script.frame()
        if kind == frames.DATA:
            sid = number
            taken += len(payload)
            script.write(
                frames.window_update(0, len(payload)) + frames.window_update(sid, len(payload))
                if payload
                else b""
            )
    script.answer(sid, b"taken")
    assert caller.result() == b"taken"
    connection.close()


def test_a_connection_that_ended_while_idle_is_seen_before_writing(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("petcd.client.sync.connection._IDLE_SECONDS", 0.0)
    connection = script.connect()
    caller = Caller(connection)
    script.answer(script.call()[0], b"1")
    assert caller.result() == b"1"
    assert script.peer is not None
    script.peer.shutdown(socket.SHUT_RDWR)
    with pytest.raises(TransportFailure) as caught:
        connection.unary(PATH, b"2")
    assert not caught.value.sent
    assert not connection.usable


def test_a_silent_server_is_pinged_and_then_given_up(script: Script) -> None:
    connection = script.connect(keepalive=0.1, keepalive_timeout=0.2)
    caller = Caller(connection, timeout=None)
    script.call()
    assert script.frame()[0] == frames.PING
    with pytest.raises(TransportFailure, match="keepalive"):
        caller.result()
    answered = Script()
    connection = answered.connect(keepalive=0.1, keepalive_timeout=5.0)
    caller = Caller(connection, timeout=None)
    sid, _ = answered.call()
    for _ in range(2):
        kind, _, _, payload = answered.frame()
        assert kind == frames.PING
        answered.write(frames.ping(payload, frames.ACK))
    answered.answer(sid, b"still here")
    assert caller.result() == b"still here"
    connection.close()
    answered.close()


def test_what_is_not_http2_is_no_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
                peer.recv(1000)

        serving = threading.Thread(target=serve)
        serving.start()
        with pytest.raises(TransportFailure) as caught:
            connect("127.0.0.1", listener.getsockname()[1], timeout=5.0)
        serving.join()
    assert (caught.value.code, caught.value.sent) == (Code.UNAVAILABLE, False)


def test_a_protocol_fault_ends_every_call(script: Script) -> None:
    connection = script.connect()
    callers = [Caller(connection) for _ in range(3)]
    for _ in callers:
        script.call()
    while connection._writer is not None:  # a thread that is just done writing keeps the farewell back
        time.sleep(0.001)
    script.write(frames.frame(frames.DATA, 0, 0, b"on stream 0"))
    for caller in callers:
        with pytest.raises(TransportFailure, match="PROTOCOL_ERROR"):
            caller.result()
    assert script.frame()[0] == frames.GOAWAY


def test_a_lone_thread_finds_out_that_the_server_is_silent(script: Script) -> None:
    """Its calls are shorter than the keep-alive's patience, and each begins with the socket quiet."""
    connection = script.connect(keepalive=0.2, keepalive_timeout=0.1)
    end = time.monotonic() + 5
    while connection.usable:
        assert time.monotonic() < end, "never given up"
        with pytest.raises(TransportFailure):
            Caller(connection, timeout=0.1).result()


def test_time_is_up_though_others_are_answered(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that reads for all looks at its own clock even when there is always something to read."""
    connection = script.connect()
    busy_until = time.monotonic() + 2

    def always_something(_seconds: float) -> bytes:
        if time.monotonic() > busy_until:
            raise ConnectionResetError
        return frames.frame(frames.PING, frames.ACK, 0, b"12345678")

    monkeypatch.setattr(connection._channel, "receive", always_something)
    with pytest.raises(TransportFailure) as caught:
        connection.unary(PATH, b"slow", timeout=0.1, deadline=time.monotonic() + 0.1)
    assert caught.value.code == Code.DEADLINE_EXCEEDED
    connection.close()


def test_an_interrupt_in_the_middle_of_a_change_gives_the_connection_up(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = script.connect()
    block = connection._role.request_block

    def interrupted(*args: Any) -> bytes:
        block(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(Role, "request_block", lambda _self, *args: interrupted(*args))
    with pytest.raises(KeyboardInterrupt):
        connection.unary(PATH, b"")
    assert not connection.usable, "its stream and its table of headers are not what the server's are"
