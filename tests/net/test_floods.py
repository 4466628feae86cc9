"""Floods and starvation: each ends in GOAWAY for the one connection that does it, after a bounded amount of
work.

The numbers are those of ``Limits``; a test sends twice the budget and looks how far it got.
"""

from __future__ import annotations

import pytest
from tests.net.helpers import (
    BIG,
    CHAT,
    ECHO,
    HOLD,
    Server,
    call,
    data_frame,
    goaway_code,
    head,
    headers_frame,
    kinds,
    message,
    reset_code,
)

from petcd.net.http2 import frames as f
from petcd.net.http2.headers import hpack_integer, literal, literals
from petcd.net.http2.limits import Limits

CALM = f.ENHANCE_YOUR_CALM


def flood(server: Server, piece: bytes, count: int) -> int | None:
    """Send ``piece`` so often, in reads of 100; the code of the GOAWAY."""
    for _ in range(0, count, 100):
        server.feed(piece * 100)
        if server.conn.failed:
            break
    return goaway_code(server.take())


def test_rapid_reset() -> None:
    """CVE-2023-44487: open and reset; handlers run for no more than the budget allows."""
    server = Server()
    for i in range(5000):
        sid = 2 * i + 1
        server.feed(call(sid, b"x", HOLD) + f.rst_stream(sid, f.CANCEL))
        if server.conn.failed:
            break
    assert goaway_code(server.take()) == CALM
    assert len(server.held) < 2000
    assert all(held.cancelled for held, _ in server.held)


def test_a_busy_client_may_cancel_much() -> None:
    """One cancelled call in five is no flood, for ever."""
    server = Server()
    for i in range(10000):
        sid = 2 * i + 1
        if i % 5:
            server.feed(call(sid))
        else:
            server.feed(call(sid, b"x", HOLD) + f.rst_stream(sid, f.CANCEL))
    server.take()
    assert not server.conn.failed


def test_made_you_reset() -> None:
    """CVE-2025-8671: make the server reset its own streams by faults of one stream each."""
    server = Server()
    for i in range(5000):
        sid = 2 * i + 1
        server.feed(call(sid, b"x", HOLD) + f.window_update(sid, 0))
        if server.conn.failed:
            break
    assert goaway_code(server.take()) == CALM
    assert len(server.held) < 2000


def test_malformed_requests_count_as_resets() -> None:
    server = Server()
    for i in range(5000):
        server.feed(headers_frame(2 * i + 1, head(ECHO, (b"Bad", b"x"))))
        if server.conn.failed:
            break
    assert goaway_code(server.take()) == CALM


def test_ping_flood() -> None:
    assert flood(Server(), f.ping(b"12345678"), 1000) == CALM


def test_ping_ack_flood() -> None:
    assert flood(Server(), f.ping(b"12345678", f.ACK), 10000) == CALM


def test_settings_flood() -> None:
    assert flood(Server(), f.settings((f.SETTINGS_INITIAL_WINDOW_SIZE, 1000)), 1000) == CALM


def test_settings_stuffed_with_entries() -> None:
    piece = f.settings(*[(f.SETTINGS_INITIAL_WINDOW_SIZE, i) for i in range(2700)])
    server = Server()
    for _ in range(20):
        server.feed(piece)
    assert goaway_code(server.take()) == CALM


@pytest.mark.parametrize(
    "piece",
    [
        data_frame(1, b"", 0),
        data_frame(1, b"\x08" + bytes(8), f.PADDED),
        f.frame(f.PRIORITY, 0, 1, bytes(5)),
        f.window_update(0, 1),
        f.window_update(1, 1),
        f.frame(0x77, 0, 0),
        f.SETTINGS_ACK,
    ],
    ids=[
        "empty DATA",
        "only padding",
        "PRIORITY",
        "WINDOW_UPDATE of 1",
        "of 1 on a stream",
        "unknown",
        "ack",
    ],
)
def test_frames_that_carry_nothing(piece: bytes) -> None:
    server = Server()
    server.feed(headers_frame(1, head(CHAT)))
    assert flood(server, piece, 12000) == CALM


def test_acknowledging_every_message_is_no_flood() -> None:
    """As gRPC's C core does on a fast stream: two small window updates for each message."""
    server = Server()
    server.feed(headers_frame(1, head(CHAT)))
    piece = b"".join(
        (
            data_frame(1, message(b"x" * 20), 0),
            f.window_update(1, 25),
            f.window_update(0, 25),
        )
    )
    for _ in range(20_000):
        server.feed(piece)
        server.take()
    assert not server.conn.failed


def test_continuation_flood() -> None:
    server = Server()
    server.feed(headers_frame(1, b"", 0) + f.frame(f.CONTINUATION, 0, 1, b"") * 100)
    assert goaway_code(server.take()) == CALM


def test_continuation_of_many_bytes() -> None:
    server = Server()
    server.feed(headers_frame(1, b"", 0) + f.frame(f.CONTINUATION, 0, 1, bytes(16384)) * 20)
    assert goaway_code(server.take()) == CALM


def test_huge_cookie_is_refused_alone() -> None:
    """Headers over the advertised limit cost one call, not the connection."""
    server = Server()
    block = head(ECHO, (b"cookie", b"c" * 80000))
    cut = [block[i : i + 16384] for i in range(0, len(block), 16384)]
    server.feed(headers_frame(1, cut[0], 0))
    for i, piece in enumerate(cut[1:], 2):
        server.feed(f.frame(f.CONTINUATION, f.END_HEADERS if i == len(cut) else 0, 1, piece))
    out = server.take()
    assert server.headers(out[0])[b"grpc-status"] == b"8"
    assert reset_code(out, 1) == f.NO_ERROR
    assert kinds(server.exchange(call(3)))[0] == (f.HEADERS, 3)


def test_hpack_bomb() -> None:
    """A table entry of 4 KiB named 16,000 times in one frame."""
    server = Server()
    entry = b"\x40\x01a" + hpack_integer(4000, 7, 0) + b"v" * 4000
    server.feed(headers_frame(1, head(HOLD) + entry) + data_frame(1, message(b"")))
    server.take()
    server.feed(headers_frame(3, b"\xbe" * 16000))
    assert goaway_code(server.take()) == CALM


def test_header_flood_by_many_fields() -> None:
    """Lists within the limit, but long, over and over, never the same."""
    server = Server()
    for i in range(2000):
        fields = [(b"x%d" % j, b"") for j in range(500)]
        block = head(ECHO, (b"n", b"%d" % i)) + literals(fields)
        server.feed(headers_frame(2 * i + 1, block) + data_frame(2 * i + 1, message(b"")))
        if server.conn.failed:
            break
    assert goaway_code(server.take()) == CALM
    assert server.echoed < 100


def test_connection_window_exceeded() -> None:
    limits = Limits(connection_window_bytes=65535, stream_window_bytes=65535)
    server = Server(limits)
    server.feed(headers_frame(1, head(CHAT)))
    # One read, so that no WINDOW_UPDATE of ours can be in between.
    server.feed(data_frame(1, bytes(16384), 0) * 5)
    out = server.take()
    assert goaway_code(out) == f.FLOW_CONTROL_ERROR or reset_code(out, 1) == f.FLOW_CONTROL_ERROR


def test_many_unfinished_messages_are_bounded() -> None:
    server = Server(Limits(partial_bytes_max=1 << 20))
    piece = message(bytes(2 << 20))[:300000]
    refused = 0
    for i in range(10):
        sid = 2 * i + 1
        server.feed(headers_frame(sid, head(ECHO)))
        for start in range(0, len(piece), 16384):
            server.feed(data_frame(sid, piece[start : start + 16384], 0))
        refused += reset_code(server.take(), sid) == f.NO_ERROR
    assert refused == 7
    assert server.conn.partial <= 1 << 20
    for i in range(10):
        server.feed(f.rst_stream(2 * i + 1, f.CANCEL))
    assert server.conn.partial == 0


class TestSlowReader:
    def test_tiny_window_holds_calls_back(self) -> None:
        """A client that asks for much and reads nothing makes us hold a bounded amount of answers."""
        server = Server(Limits(unsent_bytes_high=1 << 20, unsent_bytes_low=1 << 18))
        server.feed(f.settings((f.SETTINGS_INITIAL_WINDOW_SIZE, 0)))
        for i in range(100):
            server.feed(call(2 * i + 1, b"100000", BIG))
        assert 1 << 20 < server.conn.waiting < (1 << 20) + 200000
        assert not server.conn.failed
        out = server.take()
        assert f.DATA not in [frame.kind for frame in out]
        # It reads at last: everything comes.
        got = 0
        server.feed(f.settings((f.SETTINGS_INITIAL_WINDOW_SIZE, 1 << 20)))
        for _ in range(200):
            server.feed(f.window_update(0, 200000))
            out = server.take()
            got += sum(len(frame.payload) for frame in out if frame.kind == f.DATA)
        assert got == 100 * 100005
        assert server.conn.waiting == 0
        assert not server.conn.streams

    def test_parked_calls_are_bounded(self) -> None:
        server = Server(Limits(unsent_bytes_high=1 << 16, unsent_bytes_low=1 << 14, parked_bytes_max=1 << 16))
        server.feed(f.settings((f.SETTINGS_INITIAL_WINDOW_SIZE, 0)))
        for i in range(5000):
            server.feed(call(2 * i + 1, b"100000", BIG))
            if server.conn.failed:
                break
        assert goaway_code(server.take()) == CALM

    def test_a_parked_call_can_be_cancelled(self) -> None:
        server = Server(Limits(unsent_bytes_high=1 << 16, unsent_bytes_low=1 << 14))
        server.feed(f.settings((f.SETTINGS_INITIAL_WINDOW_SIZE, 0)))
        server.feed(call(1, b"100000", BIG))
        server.feed(call(3, b"x", ECHO) + call(5, b"y", ECHO))
        assert server.echoed == 0
        server.feed(f.rst_stream(3, f.CANCEL))
        server.feed(f.settings((f.SETTINGS_INITIAL_WINDOW_SIZE, 1 << 20)) + f.window_update(0, 1 << 20))
        assert server.echoed == 1
        server.take()
        assert not server.conn.streams

    def test_deferred_answers_wait_for_room(self) -> None:
        server = Server(Limits(unsent_bytes_high=1 << 16, unsent_bytes_low=1 << 14))
        server.feed(call(3, b"a", HOLD) + call(5, b"b", HOLD))
        server.feed(f.settings((f.SETTINGS_INITIAL_WINDOW_SIZE, 0)))
        server.feed(call(7, b"100000", BIG))
        first, second = (held for held, _ in server.held)
        assert first.congested
        resumed: list[str] = []
        first.defer(lambda: resumed.append("first"))
        second.defer(lambda: resumed.append("second"))
        server.feed(f.rst_stream(5, f.CANCEL))
        assert resumed == []
        server.feed(f.settings((f.SETTINGS_INITIAL_WINDOW_SIZE, 1 << 20)) + f.window_update(0, 1 << 20))
        assert resumed == ["first"]

    def test_windows_of_one_byte_are_served_until_it_is_a_flood(self) -> None:
        server = Server()
        server.feed(f.settings((f.SETTINGS_INITIAL_WINDOW_SIZE, 0)))
        server.feed(call(1, b"100000", BIG))
        server.take()
        sent = 0
        for _ in range(20000):
            server.feed(f.window_update(1, 1))
            if server.conn.failed:
                break
            sent += sum(len(frame.payload) for frame in server.take() if frame.kind == f.DATA)
        assert sent >= 1000
        assert goaway_code(server.take()) == CALM

    def test_an_update_costs_what_it_lets_out(self) -> None:
        """Ten thousand streams that wait for their own windows are not walked for the connection's."""
        server = Server(Limits(unsent_bytes_high=1 << 30))
        server.feed(f.settings((f.SETTINGS_INITIAL_WINDOW_SIZE, 0)))
        for i in range(2000):
            server.feed(call(2 * i + 1))
        assert len(server.conn.senders) == 2000
        assert not server.conn._ready
        server.take()

    def test_streams_share_the_connection_window(self) -> None:
        server = Server()
        server.feed(call(1, b"400000", BIG) + call(3, b"400000", BIG))
        server.feed(f.settings((f.SETTINGS_INITIAL_WINDOW_SIZE, 1 << 20)))
        server.take()
        server.feed(f.window_update(0, 200000))
        got = {1: 0, 3: 0}
        for frame in server.take():
            if frame.kind == f.DATA:
                got[frame.sid] += len(frame.payload)
        assert sum(got.values()) == 200000
        assert abs(got[1] - got[3]) <= 65536


def test_keepalive_pings_within_the_rules() -> None:
    """One ping in 5 s with a call under way is fine; earlier ones are strikes, the third ends it."""
    server = Server()
    server.feed(call(1, b"x", HOLD))
    for _ in range(20):
        server.time.seconds += 5.01
        server.feed(f.ping(b"12345678"))
    assert not server.conn.failed
    for _ in range(2):
        server.time.seconds += 1
        server.feed(f.ping(b"12345678"))
    assert not server.conn.failed
    server.feed(f.ping(b"12345678"))
    out = server.take()
    assert goaway_code(out) == CALM
    assert out[-1].payload[8:] == b"too_many_pings"


def test_pings_without_calls_are_strikes() -> None:
    server = Server()
    for _ in range(4):
        server.time.seconds += 60
        server.feed(f.ping(b"12345678"))
    assert goaway_code(server.take()) == CALM


def test_pings_without_calls_when_permitted() -> None:
    server = Server(Limits(keepalive_without_streams=True))
    for _ in range(10):
        server.time.seconds += 6
        server.feed(f.ping(b"12345678"))
    assert not server.conn.failed


def test_no_enforcement_with_a_least_interval_of_0() -> None:
    server = Server(Limits(keepalive_min_seconds=0.0))
    for _ in range(10):
        server.feed(f.ping(b"12345678"))
    assert not server.conn.failed


def test_pings_that_measure_are_no_strikes() -> None:
    """grpc clients ping after DATA to estimate the bandwidth."""
    server = Server()
    for i in range(100):
        server.feed(call(2 * i + 1) + f.ping(b"12345678"))
    assert not server.conn.failed


def test_refused_above_max_concurrent_streams() -> None:
    server = Server(Limits(streams_max=2))
    out = server.exchange(call(1, b"", HOLD) + call(3, b"", HOLD) + call(5))
    assert reset_code(out, 5) == f.REFUSED_STREAM
    server.held[0][0].reply(b"")
    server.take()
    assert kinds(server.exchange(call(7)))[0] == (f.HEADERS, 7)


def test_limit_of_streams_is_advertised() -> None:
    server = Server(Limits(streams_max=7), hello=False)
    assert f.SETTING.pack(f.SETTINGS_MAX_CONCURRENT_STREAMS, 7) in server.take()[0].payload


def test_server_keepalive() -> None:
    server = Server()
    conn = server.conn
    assert conn.keepalive(server.time.seconds, heard=True)
    server.time.seconds += 7201
    assert conn.keepalive(server.time.seconds, heard=False)
    (ping,) = server.take()
    assert ping.kind == f.PING
    server.time.seconds += 10
    assert conn.keepalive(server.time.seconds, heard=False)
    server.time.seconds += 11
    assert not conn.keepalive(server.time.seconds, heard=False)
    assert conn.keepalive(server.time.seconds, heard=True)


def test_literal_of_any_length() -> None:
    server = Server()
    out = server.exchange(headers_frame(1, head(HOLD) + literal(b"x" * 200, b"y" * 500)))
    assert out == []
