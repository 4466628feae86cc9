"""RFC 9113 (and 7541) by section, in the manner of h2spec: what is sent after the handshake, what must come
back.

A row expects ``ok`` (the connection lives and serves the next call), ``GOAWAY code`` or ``RST code``; where
the RFC leaves a choice the row says what this codec chose. Rows run whole and byte by byte, because no cut
may matter.
"""

from __future__ import annotations

import struct

import pytest
from tests.net.helpers import (
    CHAT,
    ECHO,
    HELLO,
    HOLD,
    Server,
    call,
    data_frame,
    goaway_code,
    head,
    headers_frame,
    message,
    reset_code,
)

from petcd.net.http2 import frames as f
from petcd.net.http2.headers import literal

OK = "ok"
PROTO, FLOW, CLOSED, SIZE, COMPRESSION, CALM, REFUSED = (
    f.PROTOCOL_ERROR,
    f.FLOW_CONTROL_ERROR,
    f.STREAM_CLOSED,
    f.FRAME_SIZE_ERROR,
    f.COMPRESSION_ERROR,
    f.ENHANCE_YOUR_CALM,
    f.REFUSED_STREAM,
)
EH, ES = f.END_HEADERS, f.END_STREAM


def goaway(code: int) -> tuple[str, int]:
    return "goaway", code


def rst(code: int) -> tuple[str, int]:
    return "rst", code


def u32(value: int) -> bytes:
    return struct.pack(">I", value)


def req(*extra: tuple[bytes, bytes], **replaced: bytes | None) -> bytes:
    return headers_frame(1, head(ECHO, *extra, **replaced), EH | ES)


HELD = headers_frame(1, head(HOLD)) + data_frame(1, message(b"x"))
OPEN = headers_frame(1, head(CHAT))
DONE = call(1)
BLOCK = head(ECHO)

CASES: dict[str, tuple[bytes, object]] = {
    # 4.1 frame format
    "4.1 unknown frame type is ignored": (f.frame(0x16, 0xFF, 0, b"12345678"), OK),
    "4.1 unknown flags are ignored": (f.frame(f.PING, 0x16, 0, b"12345678"), OK),
    "4.1 reserved bit of the stream id is ignored": (f.frame(f.PING, 0, 0x80000000, b"12345678"), OK),
    "4.1 reserved bit in HEADERS is ignored": (
        headers_frame(0x80000001, BLOCK) + data_frame(1, message(b"")),
        OK,
    ),
    # 4.2 frame size
    "4.2 DATA of the largest size": (OPEN + data_frame(1, message(bytes(16379)), 0), OK),
    "4.2 DATA too large": (OPEN + data_frame(1, bytes(16385), 0), goaway(SIZE)),
    "4.2 HEADERS too large": (headers_frame(1, head(ECHO, (b"x", bytes(16384)))), goaway(SIZE)),
    "4.2 unknown frame too large": (f.frame(0x16, 0, 0, bytes(16385)), goaway(SIZE)),
    # 4.3 field section compression
    "4.3 index 0": (headers_frame(1, b"\x80", EH | ES), goaway(COMPRESSION)),
    "4.3 index beyond the table": (headers_frame(1, b"\xff\x80\x01", EH | ES), goaway(COMPRESSION)),
    "4.3 truncated literal": (headers_frame(1, b"\x00\x05abc", EH | ES), goaway(COMPRESSION)),
    "4.3 integer without end": (headers_frame(1, b"\xff" + b"\xff" * 20, EH | ES), goaway(COMPRESSION)),
    "4.3 Huffman with EOS inside": (
        headers_frame(1, b"\x00\x85\xff\xff\xff\xff\xff\x00", EH),
        goaway(COMPRESSION),
    ),
    "4.3 size update above the limit": (headers_frame(1, b"\x3f\xe2\x1f" + BLOCK, EH), goaway(COMPRESSION)),
    "4.3 size update after a field": (headers_frame(1, BLOCK + b"\x20", EH), goaway(COMPRESSION)),
    "4.3 size update at the head": (
        headers_frame(1, b"\x20\x3f\xe1\x1f" + BLOCK) + data_frame(1, message(b"")),
        OK,
    ),
    "4.3 size update flood": (headers_frame(1, b"\x20" * 50 + BLOCK, EH), goaway(CALM)),
    "4.3 size update flood, long form": (headers_frame(1, b"\x3f\x00" * 50 + BLOCK, EH), goaway(CALM)),
    "4.3 HEADERS then PRIORITY before CONTINUATION": (
        headers_frame(1, BLOCK[:9], 0) + f.frame(f.PRIORITY, 0, 1, bytes(5)),
        goaway(PROTO),
    ),
    "4.3 HEADERS then HEADERS of another stream": (
        headers_frame(1, BLOCK[:9], 0) + headers_frame(3, BLOCK),
        goaway(PROTO),
    ),
    "4.3 HEADERS then DATA": (headers_frame(1, BLOCK[:9], 0) + data_frame(1, b""), goaway(PROTO)),
    "4.3 HEADERS then CONTINUATION of another stream": (
        headers_frame(1, BLOCK[:9], 0) + f.frame(f.CONTINUATION, EH, 3, BLOCK[9:]),
        goaway(PROTO),
    ),
    "4.3 HEADERS then an unknown frame": (
        headers_frame(1, BLOCK[:9], 0) + f.frame(0x16, 0, 0),
        goaway(PROTO),
    ),
    # 5.1 stream states
    "5.1 idle: DATA": (data_frame(1, b""), goaway(PROTO)),
    "5.1 idle: RST_STREAM": (f.rst_stream(1, f.CANCEL), goaway(PROTO)),
    "5.1 idle: WINDOW_UPDATE": (f.window_update(1, 100), goaway(PROTO)),
    "5.1 idle: CONTINUATION": (f.frame(f.CONTINUATION, EH, 1, BLOCK), goaway(PROTO)),
    "5.1 idle: PRIORITY is allowed": (f.frame(f.PRIORITY, 0, 5, bytes(5)), OK),
    "5.1 half-closed: DATA": (HELD + data_frame(1, b"x"), rst(CLOSED)),
    "5.1 half-closed: HEADERS": (HELD + headers_frame(1, BLOCK, EH | ES), rst(CLOSED)),
    "5.1 half-closed: WINDOW_UPDATE": (HELD + f.window_update(1, 100), OK),
    "5.1 half-closed: RST_STREAM": (HELD + f.rst_stream(1, f.CANCEL), OK),
    "5.1 half-closed: PRIORITY": (HELD + f.frame(f.PRIORITY, 0, 1, bytes(5)), OK),
    "5.1 closed by answer: DATA": (DONE + data_frame(1, b"x"), rst(CLOSED)),
    "5.1 closed by answer: HEADERS": (DONE + headers_frame(1, BLOCK, EH | ES), goaway(PROTO)),
    "5.1 closed by answer: WINDOW_UPDATE": (DONE + f.window_update(1, 100), OK),
    "5.1 closed by answer: RST_STREAM": (DONE + f.rst_stream(1, f.CANCEL), OK),
    "5.1 closed by RST: DATA": (OPEN + f.rst_stream(1, f.CANCEL) + data_frame(1, b"x"), rst(CLOSED)),
    "5.1 closed by RST: HEADERS": (OPEN + f.rst_stream(1, f.CANCEL) + headers_frame(1, BLOCK), goaway(PROTO)),
    # 5.1.1 stream identifiers
    "5.1.1 even stream id": (headers_frame(2, BLOCK, EH | ES), goaway(PROTO)),
    "5.1.1 decreasing stream id": (call(5) + call(3), goaway(PROTO)),
    "5.1.1 skipped stream ids": (call(5), OK),
    # 5.4, 5.5
    "5.5 unknown extension frame between": (f.frame(0xF0, 0, 0, b"") + call(1), OK),
    # 6.1 DATA
    "6.1 stream 0": (data_frame(0, b"x"), goaway(PROTO)),
    "6.1 nothing but padding": (OPEN + data_frame(1, b"\x05abcde", f.PADDED), OK),
    "6.1 padding longer than the frame": (OPEN + data_frame(1, b"\x06abcde", f.PADDED), goaway(PROTO)),
    "6.1 padded without a length": (OPEN + data_frame(1, b"", f.PADDED), goaway(SIZE)),
    "6.1 padded": (
        headers_frame(1, BLOCK) + data_frame(1, b"\x03" + message(b"") + b"\0\0\0", f.PADDED | ES),
        OK,
    ),
    # 6.2 HEADERS
    "6.2 stream 0": (headers_frame(0, BLOCK, EH | ES), goaway(PROTO)),
    "6.2 padding longer than the frame": (
        headers_frame(1, b"\xff" + BLOCK[:20], EH | f.PADDED),
        goaway(PROTO),
    ),
    "6.2 padded and with priority": (
        headers_frame(1, b"\x02" + u32(0) + b"\x10" + BLOCK + b"\0\0", EH | f.PADDED | f.PRIORITY_FLAG)
        + data_frame(1, message(b"")),
        OK,
    ),
    "6.2 priority cut short": (headers_frame(1, b"\0\0\0", EH | f.PRIORITY_FLAG), goaway(SIZE)),
    "6.2 depends on itself": (
        headers_frame(1, u32(1) + b"\x10" + BLOCK, EH | f.PRIORITY_FLAG),
        goaway(PROTO),
    ),
    # 6.3 PRIORITY
    "6.3 stream 0": (f.frame(f.PRIORITY, 0, 0, bytes(5)), goaway(PROTO)),
    "6.3 length": (OPEN + f.frame(f.PRIORITY, 0, 1, bytes(4)), rst(SIZE)),
    "6.3 depends on itself": (OPEN + f.frame(f.PRIORITY, 0, 1, u32(1) + b"\0"), rst(PROTO)),
    # 6.4 RST_STREAM
    "6.4 stream 0": (f.rst_stream(0, f.CANCEL), goaway(PROTO)),
    "6.4 length": (OPEN + f.frame(f.RST_STREAM, 0, 1, b"123"), goaway(SIZE)),
    # 6.5 SETTINGS
    "6.5 ack with a payload": (f.frame(f.SETTINGS, f.ACK, 0, bytes(6)), goaway(SIZE)),
    "6.5 on a stream": (f.frame(f.SETTINGS, 0, 1, b""), goaway(PROTO)),
    "6.5 length": (f.frame(f.SETTINGS, 0, 0, b"123"), goaway(SIZE)),
    "6.5.2 enable push is 2": (f.settings((f.SETTINGS_ENABLE_PUSH, 2)), goaway(PROTO)),
    "6.5.2 window above the maximum": (f.settings((f.SETTINGS_INITIAL_WINDOW_SIZE, 1 << 31)), goaway(FLOW)),
    "6.5.2 frame size too small": (f.settings((f.SETTINGS_MAX_FRAME_SIZE, 16383)), goaway(PROTO)),
    "6.5.2 frame size too large": (f.settings((f.SETTINGS_MAX_FRAME_SIZE, 1 << 24)), goaway(PROTO)),
    "6.5.2 unknown setting": (f.settings((0xFF, 1)), OK),
    "6.5.3 settings are acknowledged": (f.settings((f.SETTINGS_MAX_FRAME_SIZE, 20000)), OK),
    # 6.6 PUSH_PROMISE
    "6.6 a client may not push": (f.frame(f.PUSH_PROMISE, EH, 1, u32(2) + BLOCK), goaway(PROTO)),
    # 6.7 PING
    "6.7 ping": (f.ping(b"12345678"), OK),
    "6.7 unasked ack": (f.ping(b"12345678", f.ACK), OK),
    "6.7 on a stream": (f.frame(f.PING, 0, 1, bytes(8)), goaway(PROTO)),
    "6.7 length": (f.frame(f.PING, 0, 0, bytes(6)), goaway(SIZE)),
    # 6.8 GOAWAY
    "6.8 on a stream": (f.frame(f.GOAWAY, 0, 1, bytes(8)), goaway(PROTO)),
    "6.8 length": (f.frame(f.GOAWAY, 0, 0, bytes(7)), goaway(SIZE)),
    # 6.9 WINDOW_UPDATE
    "6.9 increment 0 on the connection": (f.window_update(0, 0), goaway(PROTO)),
    "6.9 increment 0 on a stream": (OPEN + f.window_update(1, 0), rst(PROTO)),
    "6.9 length": (f.frame(f.WINDOW_UPDATE, 0, 0, b"123"), goaway(SIZE)),
    "6.9.1 connection window overflows": (f.window_update(0, f.WINDOW_MAX), goaway(FLOW)),
    "6.9.1 stream window overflows": (OPEN + f.window_update(1, f.WINDOW_MAX), rst(FLOW)),
    "6.9.2 settings make a stream window overflow": (
        OPEN + f.window_update(1, 100) + f.settings((f.SETTINGS_INITIAL_WINDOW_SIZE, f.WINDOW_MAX)),
        goaway(FLOW),
    ),
    # 6.10 CONTINUATION
    "6.10 many": (
        headers_frame(1, BLOCK[:5], 0)
        + f.frame(f.CONTINUATION, 0, 1, BLOCK[5:10])
        + f.frame(f.CONTINUATION, 0, 1, b"")
        + f.frame(f.CONTINUATION, EH, 1, BLOCK[10:])
        + data_frame(1, message(b"")),
        OK,
    ),
    "6.10 stream 0": (
        headers_frame(1, BLOCK[:9], 0) + f.frame(f.CONTINUATION, EH, 0, BLOCK[9:]),
        goaway(PROTO),
    ),
    "6.10 after END_HEADERS": (OPEN + f.frame(f.CONTINUATION, EH, 1, BLOCK), goaway(PROTO)),
    # 8.1 message framing
    "8.1 second HEADERS without END_STREAM": (OPEN + headers_frame(1, literal(b"x", b"y"), EH), rst(PROTO)),
    "8.1 trailers end the request": (
        headers_frame(1, BLOCK)
        + data_frame(1, message(b""), 0)
        + headers_frame(1, literal(b"x", b"y"), EH | ES),
        OK,
    ),
    # 8.2 fields
    "8.2 upper-case name": (req((b"X-Test", b"1")), rst(PROTO)),
    "8.2 name with a space": (req((b"x test", b"1")), rst(PROTO)),
    "8.2 empty name": (req((b"", b"1")), rst(PROTO)),
    "8.2 value with a line break": (req((b"x", b"a\r\nb")), rst(PROTO)),
    "8.2.2 connection": (req((b"connection", b"keep-alive")), rst(PROTO)),
    "8.2.2 transfer-encoding": (req((b"transfer-encoding", b"chunked")), rst(PROTO)),
    "8.2.2 te other than trailers": (req(te=b"gzip"), rst(PROTO)),
    # 8.3 pseudo-header fields
    "8.3 unknown": (
        headers_frame(1, literal(b":test", b"1") + BLOCK, EH | ES),
        rst(PROTO),
    ),
    "8.3 of a response": (headers_frame(1, b"\x88" + BLOCK, EH | ES), rst(PROTO)),
    "8.3 after a regular field": (headers_frame(1, literal(b"x", b"1") + BLOCK, EH | ES), rst(PROTO)),
    "8.3.1 no :method": (req(verb=None), rst(PROTO)),
    "8.3.1 no :scheme": (req(scheme=None), rst(PROTO)),
    "8.3.1 no :path": (req(path=None), rst(PROTO)),
    "8.3.1 empty :path": (req(path=b""), rst(PROTO)),
    "8.3.1 :method twice": (headers_frame(1, literal(b":method", b"POST") + BLOCK, EH | ES), rst(PROTO)),
    "8.3.1 :path twice": (headers_frame(1, literal(b":path", b"/") + BLOCK, EH | ES), rst(PROTO)),
    "8.3.1 :scheme twice": (headers_frame(1, literal(b":scheme", b"http") + BLOCK, EH | ES), rst(PROTO)),
}


def observe(server: Server, data: bytes, *, bytewise: bool) -> object:
    if bytewise:
        for i in range(len(data)):
            server.feed(data[i : i + 1])
    else:
        server.feed(data)
    out = server.take()
    code = goaway_code(out)
    if code is not None:
        assert server.conn.failed
        return goaway(code)
    code = reset_code(out, 1)
    if code is not None:
        answer: object = rst(code)
    else:
        answer = OK
    # Whatever it was, the connection lives on: the next call is served.
    server.feed(call(101, b"still here"))
    served = [frame for frame in server.take() if frame.sid == 101]
    assert [frame.kind for frame in served] == [f.HEADERS, f.DATA, f.HEADERS]
    assert served[1].payload == message(b"still here")
    return answer


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytes"])
@pytest.mark.parametrize("name", CASES)
def test_section(name: str, bytewise: bool) -> None:
    data, expected = CASES[name]
    server = Server()
    assert observe(server, data, bytewise=bytewise) == expected
    assert not server.bugs


class TestPreface:
    """Section 3.4."""

    def test_wrong_preface(self) -> None:
        server = Server(hello=False)
        server.feed(b"PRI * HTTP/2.0\r\n\r\nXX")
        assert goaway_code(server.take()) == PROTO

    def test_cut_preface(self) -> None:
        server = Server(hello=False)
        for i in range(len(HELLO)):
            server.feed(HELLO[i : i + 1])
        server.feed(call(1))
        assert any(frame.kind == f.DATA for frame in server.take())

    def test_first_frame_must_be_settings(self) -> None:
        server = Server(hello=False)
        server.feed(f.PREFACE + f.ping(b"12345678"))
        assert goaway_code(server.take()) == PROTO

    def test_first_settings_may_not_be_an_ack(self) -> None:
        server = Server(hello=False)
        server.feed(f.PREFACE + f.SETTINGS_ACK)
        assert goaway_code(server.take()) == PROTO

    def test_our_settings_come_unasked(self) -> None:
        server = Server(hello=False)
        out = server.take()
        assert [frame.kind for frame in out] == [f.SETTINGS, f.WINDOW_UPDATE]


class TestAnswers:
    """What must come back beside errors."""

    def test_ping_is_answered_with_its_payload(self) -> None:
        (out,) = Server().exchange(f.ping(b"abcdefgh"))
        assert (out.kind, out.flags, out.payload) == (f.PING, f.ACK, b"abcdefgh")

    def test_settings_are_acknowledged(self) -> None:
        (out,) = Server().exchange(f.settings((f.SETTINGS_MAX_FRAME_SIZE, 65536)))
        assert (out.kind, out.flags, out.payload) == (f.SETTINGS, f.ACK, b"")

    def test_ping_ack_is_not_answered(self) -> None:
        assert Server().exchange(f.ping(b"abcdefgh", f.ACK)) == []

    def test_goaway_names_the_last_stream(self) -> None:
        server = Server()
        server.feed(call(7))
        server.take()
        (out,) = server.exchange(data_frame(0, b""))
        assert out.word == 7

    def test_nothing_is_said_after_a_goaway(self) -> None:
        server = Server()
        server.feed(data_frame(0, b""))
        server.take()
        assert server.exchange(f.ping(b"12345678") + call(1)) == []
