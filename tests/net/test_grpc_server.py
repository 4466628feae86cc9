"""Calls on a fake wire: texts and codes as Go gives them, deadlines, cancellation, streams and their
windows."""

from __future__ import annotations

import base64

import pytest
from tests.net.helpers import (
    BIG,
    BUG,
    CHAT,
    ECHO,
    FAIL,
    HELLO,
    HOLD,
    Frame,
    Server,
    call,
    data_frame,
    goaway_code,
    head,
    headers_frame,
    kinds,
    message,
    parse,
    reset_code,
)

from petcd.errors import Code, Compacted
from petcd.net.grpc.calls import Call, Stream, StreamHandler
from petcd.net.grpc.router import Method, Router
from petcd.net.grpc.server import GrpcServerConnection, Service
from petcd.net.http2 import frames as f
from petcd.net.http2.limits import Limits

EH_ES = f.END_HEADERS | f.END_STREAM


def status(server: Server, out: list[Frame], sid: int = 1) -> tuple[int, str]:
    """The grpc-status and text that ended the stream."""
    ending = [x for x in out if x.sid == sid and x.kind == f.HEADERS and x.flags & f.END_STREAM]
    assert len(ending) == 1
    fields = server.headers(ending[0])
    return int(fields[b"grpc-status"]), fields[b"grpc-message"].decode()


class TestUnary:
    def test_answer(self) -> None:
        server = Server()
        response, data, trailers = server.exchange(call(1, b"hello"))
        assert server.headers(response) == {b":status": b"200", b"content-type": b"application/grpc"}
        assert data.payload == message(b"hello") and not data.flags
        assert server.headers(trailers) == {b"grpc-status": b"0", b"grpc-message": b""}
        assert trailers.flags == EH_ES
        assert not server.conn.streams and not server.conn.credits

    def test_many_calls_in_one_read_are_one_wake(self) -> None:
        server = Server()
        server.feed(call(1))
        server.take()
        wakes = server.wakes
        server.feed(b"".join(call(2 * i + 1, b"%d" % i) for i in range(1, 100)))
        assert server.wakes == wakes + 1
        out = server.take()
        assert [x.payload for x in out if x.kind == f.DATA] == [message(b"%d" % i) for i in range(1, 100)]
        assert server.echoed == 100

    @pytest.mark.parametrize("size", [0, 1, 5, 100, 16379, 16380, 65530, 1 << 20])
    def test_any_cut_of_any_size(self, size: int) -> None:
        body = bytes(i & 255 for i in range(size))
        raw = message(body)
        server = Server(Limits(stream_window_bytes=4 << 20))
        server.feed(f.settings((f.SETTINGS_INITIAL_WINDOW_SIZE, 4 << 20)) + f.window_update(0, 4 << 20))
        server.feed(headers_frame(1, head(ECHO)))
        for start in range(0, len(raw), 16384):
            server.feed(data_frame(1, raw[start : start + 16384], 0))
        server.feed(data_frame(1, b""))
        out = server.take()
        assert b"".join(x.payload for x in out if x.kind == f.DATA) == raw
        assert max(len(x.payload) for x in out) <= 16384

    def test_the_prefix_may_be_cut(self) -> None:
        server = Server()
        server.feed(headers_frame(1, head(ECHO)))
        for byte in message(b"abc"):
            server.feed(data_frame(1, bytes((byte,)), 0))
        server.feed(data_frame(1, b""))
        assert server.take()[1].payload == message(b"abc")

    def test_trailers_of_the_client_end_the_request(self) -> None:
        server = Server()
        server.feed(headers_frame(1, head(ECHO)) + data_frame(1, message(b"abc"), 0))
        server.feed(headers_frame(1, b"", EH_ES))
        assert server.take()[1].payload == message(b"abc")

    def test_late_answer(self) -> None:
        server = Server()
        server.feed(call(1, b"x", HOLD))
        held, body = server.held[0]
        assert body == b"x" and server.take() == []
        held.reply(b"later")
        assert [x.kind for x in server.take()] == [f.HEADERS, f.DATA, f.HEADERS]

    def test_only_the_first_answer_counts(self) -> None:
        server = Server()
        server.feed(call(1, b"x", HOLD))
        held = server.held[0][0]
        held.reply(b"one")
        held.reply(b"two")
        held.fail(5, "three")
        assert len(server.take()) == 3

    def test_fail(self) -> None:
        server = Server()
        out = server.exchange(call(1, b"no such thing", FAIL))
        assert len(out) == 1
        assert status(server, out) == (5, "no such thing")

    @pytest.mark.parametrize(
        ("text", "encoded"),
        [("100%", b"100%25"), ("a\nb", b"a%0Ab"), ("ü", b"%C3%BC"), ("plain, text: ok", b"plain, text: ok")],
    )
    def test_text_is_percent_encoded(self, text: str, encoded: bytes) -> None:
        server = Server()
        (out,) = server.exchange(call(1, text.encode(), FAIL))
        assert server.headers(out)[b"grpc-message"] == encoded

    def test_a_long_text_is_cut(self) -> None:
        server = Server()
        (out,) = server.exchange(call(1, "ü".encode() * 8000, FAIL))
        assert len(out.payload) < 16384

    def test_raised_error_is_the_answer(self) -> None:
        def refuse(_call: Call, _message: bytes) -> None:
            raise Compacted

        service = Service(Router([Method(b"/a.B/C", unary=refuse)]), Limits(), lambda: 0.0, lambda _: None)
        conn = GrpcServerConnection(service)
        conn.receive(HELLO + call(1, b"", b"/a.B/C"))
        conn.receive(call(3, b"", b"/a.B/C"))
        server = Server()
        out = [x for x in parse(conn.take()) if x.kind == f.HEADERS]
        assert server.headers(out[0])[b"grpc-status"] == b"11"
        assert server.headers(out[1])[b"grpc-message"] == Compacted.text.encode()

    def test_a_bug_fails_its_call_only(self) -> None:
        server = Server()
        for sid in (1, 3):  # the second takes the fast path
            assert status(server, server.exchange(call(sid, b"", BUG)), sid) == (13, "internal error")
        assert len(server.bugs) == 2
        assert kinds(server.exchange(call(5)))[0] == (f.HEADERS, 5)

    def test_cancellation(self) -> None:
        server = Server()
        server.feed(call(1, b"x", HOLD) + f.rst_stream(1, f.CANCEL))
        held = server.held[0][0]
        assert held.cancelled
        held.reply(b"nobody listens")
        assert server.take() == []

    def test_lost_connection_cancels(self) -> None:
        server = Server()
        server.feed(call(1, b"x", HOLD) + headers_frame(3, head(CHAT)))
        server.conn.lost()
        assert server.held[0][0].cancelled
        assert server.chats[0].cancels == 1


class TestRefusals:
    @pytest.mark.parametrize(
        ("path", "text"),
        [
            (b"/test.Test/Nope", "unknown method Nope for service test.Test"),
            (b"/no.Such/Method", "unknown service no.Such"),
            (b"/", 'malformed method name: "/"'),
            (b"/nothing", 'malformed method name: "/nothing"'),
            (b"test.Test/Echo", 'malformed method name: "test.Test/Echo"'),
            (b"//Echo", "unknown service "),
            (b"/test.Test/Echo/", "unknown service test.Test/Echo"),
            (b"/TEST.Test/Echo", "unknown service TEST.Test"),
        ],
    )
    def test_unknown_path(self, path: bytes, text: str) -> None:
        server = Server()
        out = server.exchange(call(1, b"", path))
        assert status(server, out) == (12, text)
        assert server.headers(out[0])[b":status"] == b"200"
        assert out[0].flags == EH_ES

    def test_the_body_of_a_refused_call_is_ignored(self) -> None:
        server = Server()
        out = server.exchange(headers_frame(1, head(b"/no.Such/Method")))
        assert reset_code(out, 1) == f.NO_ERROR
        assert server.exchange(data_frame(1, b"whatever", 0) + data_frame(1, b"", f.END_STREAM)) == []
        assert not server.conn._detached

    @pytest.mark.parametrize("kind", [None, b"text/plain", b"application/grpcx", b"application/json"])
    def test_content_type(self, kind: bytes | None) -> None:
        server = Server()
        out = server.exchange(headers_frame(1, head(content_type=kind), EH_ES))
        fields = server.headers(out[0])
        assert fields[b":status"] == b"415"
        assert fields[b"grpc-message"].startswith(b"invalid gRPC request content-type")

    @pytest.mark.parametrize(
        "kind", [b"application/grpc+proto", b"application/grpc;charset=utf-8", b"Application/gRPC"]
    )
    def test_content_types_that_are_fine(self, kind: bytes) -> None:
        out = Server().exchange(headers_frame(1, head(content_type=kind)) + data_frame(1, message(b"")))
        assert [x.kind for x in out] == [f.HEADERS, f.DATA, f.HEADERS]

    def test_method_other_than_post(self) -> None:
        server = Server()
        out = server.exchange(headers_frame(1, head(verb=b"GET"), EH_ES))
        assert server.headers(out[0])[b":status"] == b"405"

    def test_compressed(self) -> None:
        server = Server()
        refused = (12, 'grpc: Decompressor is not installed for grpc-encoding "gzip"')
        assert status(server, server.exchange(call(1, b"x", ECHO, (b"grpc-encoding", b"gzip")))) == refused
        out = server.exchange(
            headers_frame(3, head(ECHO, (b"grpc-encoding", b"identity"))) + data_frame(3, message(b"x", 1))
        )
        assert status(server, out, 3) == (13, "grpc: compressed flag set with identity or empty encoding")

    def test_unknown_flag(self) -> None:
        server = Server()
        out = server.exchange(headers_frame(1, head()) + data_frame(1, message(b"x", 7)))
        assert status(server, out) == (13, "grpc: received unexpected payload format 7")

    def test_too_large_is_refused_by_its_prefix(self) -> None:
        server = Server()
        server.feed(headers_frame(1, head()))
        out = server.exchange(data_frame(1, b"\0" + (2097153).to_bytes(4, "big"), 0))
        text = "grpc: received message larger than max (2097153 vs. 2097152)"
        assert status(server, out) == (8, text)
        assert reset_code(out, 1) == f.NO_ERROR
        assert server.conn.partial == 0

    def test_the_fast_path_knows_the_limit_too(self) -> None:
        server = Server(Limits(message_bytes_max=10))
        server.feed(call(1, b"x" * 10))
        server.take()
        server.feed(call(3, b"x" * 10))
        assert server.echoed == 2
        server.take()
        assert status(server, server.exchange(call(5, b"x" * 11)), 5)[0] == 8

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            (b"", "cardinality violation: received no request message from non-client-streaming RPC"),
            (message(b"abc")[:-1], "unexpected EOF"),
            (b"\0\0", "unexpected EOF"),
        ],
    )
    def test_not_one_whole_message(self, body: bytes, text: str) -> None:
        server = Server()
        server.feed(call(1))
        server.take()
        out = server.exchange(headers_frame(3, head()) + data_frame(3, body))
        assert status(server, out, 3) == (13, text)
        assert server.echoed == 1

    def test_the_first_of_several_messages_is_answered(self) -> None:
        out = Server().exchange(headers_frame(1, head()) + data_frame(1, message(b"a") + message(b"b")))
        assert out[1].payload == message(b"a")

    def test_ended_by_headers_alone(self) -> None:
        server = Server()
        assert status(server, server.exchange(headers_frame(1, head(), EH_ES)))[0] == 13

    def test_two_hosts(self) -> None:
        server = Server()
        out = server.exchange(headers_frame(1, head(ECHO, (b"host", b"a"), (b"host", b"b")), EH_ES))
        assert server.headers(out[0])[b":status"] == b"400"


class TestMetadata:
    def test_first_value_and_binary(self) -> None:
        server = Server()
        blob = bytes(range(256))
        server.feed(
            call(
                1,
                b"",
                HOLD,
                (b"token", b"one"),
                (b"token", b"two"),
                (b"blob-bin", base64.b64encode(blob).rstrip(b"=")),
                (b"bad-bin", b"!!!"),
            )
        )
        held = server.held[0][0]
        assert held.metadata(b"token") == b"one"
        assert held.head.metadata_all(b"token") == [b"one", b"two"]
        assert held.metadata(b"blob-bin") == blob
        assert held.metadata(b"bad-bin") is None
        assert held.metadata(b"nothing") is None
        assert held.peer == "test:1"


class TestDeadlines:
    def test_passed(self) -> None:
        server = Server()
        server.feed(call(1, b"x", HOLD, (b"grpc-timeout", b"100m")))
        held = server.held[0][0]
        assert held.deadline == pytest.approx(server.time.seconds + 0.1)
        server.time.seconds += 0.05
        server.service.deadlines.expire(server.time.seconds)
        assert not held.cancelled
        server.time.seconds += 0.08
        server.service.deadlines.expire(server.time.seconds)
        assert held.cancelled
        assert status(server, server.take()) == (4, "context deadline exceeded")
        held.reply(b"late")
        assert server.take() == []

    def test_answered_in_time_leaves_nothing(self) -> None:
        server = Server()
        for i in range(10):
            server.feed(call(2 * i + 1, b"x", ECHO, (b"grpc-timeout", b"5S")))
        assert len(server.service.deadlines) == 0
        server.service.deadlines.expire(server.time.seconds)
        assert not server.service.deadlines.pending
        assert server.echoed == 10

    def test_passed_before_the_message_came(self) -> None:
        server = Server()
        server.feed(headers_frame(1, head(ECHO, (b"grpc-timeout", b"10m"))) + data_frame(1, b"\0\0", 0))
        assert server.conn.partial == 2
        server.time.seconds += 1
        server.service.deadlines.expire(server.time.seconds)
        out = server.take()
        assert status(server, out)[0] == 4
        assert reset_code(out, 1) == f.NO_ERROR
        assert server.conn.partial == 0
        assert server.exchange(data_frame(1, b"\0\0\0", f.END_STREAM)) == []

    def test_of_a_stream(self) -> None:
        server = Server()
        server.feed(headers_frame(1, head(CHAT, (b"grpc-timeout", b"1S"))))
        server.time.seconds += 2
        server.service.deadlines.expire(server.time.seconds)
        assert server.chats[0].cancels == 1
        assert status(server, server.take())[0] == 4

    @pytest.mark.parametrize("value", [b"", b"5", b"S", b"123456789S", b"-1S", b"1.5S", b"5x"])
    def test_malformed(self, value: bytes) -> None:
        server = Server()
        (out, *_) = server.exchange(call(1, b"x", ECHO, (b"grpc-timeout", value)))
        assert server.headers(out)[b":status"] == b"400"
        assert server.echoed == 0

    def test_a_malformed_one_is_that_call_s_alone(self) -> None:
        """Heads are shared by all that send the same fields."""
        server = Server()
        server.exchange(call(1, b"x", ECHO, (b"grpc-timeout", b"soon")))
        server.exchange(call(3, b"x", ECHO, (b"grpc-timeout", b"5S")))
        server.exchange(call(5, b"x", ECHO))
        assert server.echoed == 2

    def test_a_malformed_one_is_not_the_first_thing_that_is_wrong(self) -> None:
        server = Server()
        out = server.exchange(call(1, b"x", b"/no/pe", (b"grpc-timeout", b"soon")))
        assert status(server, out)[0] == 12

    def test_nothing_is_left_of_calls_however_they_end(self) -> None:
        for look in (False, True):
            server = Server()
            for sid, path in ((1, ECHO), (3, FAIL), (5, BIG), (7, HOLD), (9, HOLD), (11, HOLD)):
                body = b"300" if path == BIG else b"x"
                server.feed(call(sid, body, path, (b"grpc-timeout", b"5S")))
                if look:
                    server.service.deadlines.expire(server.time.seconds)
            assert len(server.service.deadlines) == 3
            server.feed(f.rst_stream(7, f.CANCEL))
            assert len(server.service.deadlines) == 2
            server.held[1][0].reply_parts([b"in ", b"pieces"])
            assert len(server.service.deadlines) == 1
            server.conn.lost()
            assert len(server.service.deadlines) == 0


class TestStreams:
    def test_chat(self) -> None:
        server = Server()
        server.feed(headers_frame(1, head(CHAT)))
        assert server.take() == []
        out = server.exchange(data_frame(1, message(b"one") + message(b"two")[:3], 0))
        assert [x.kind for x in out] == [f.HEADERS, f.DATA]
        out = server.exchange(data_frame(1, message(b"two")[3:]))
        assert out[0].payload == message(b"two")
        assert status(server, out) == (0, "")
        assert server.chats[0].heard == [b"one", b"two"]
        assert server.chats[0].half_closed and not server.chats[0].cancels
        assert not server.conn.streams and not server.conn.credits and not server.conn.senders

    def test_the_server_may_end_first(self) -> None:
        server = Server()
        server.feed(headers_frame(1, head(CHAT)) + data_frame(1, message(b"one"), 0))
        server.take()
        server.chats[0].stream.close(Code.UNAVAILABLE, "enough")
        out = server.take()
        assert status(server, out) == (14, "enough")
        assert reset_code(out, 1) == f.NO_ERROR
        assert server.exchange(data_frame(1, message(b"late"))) == []
        assert server.chats[0].heard == [b"one"]
        server.chats[0].stream.send(b"ignored")
        assert server.take() == []

    def test_reset_is_told_once(self) -> None:
        server = Server()
        server.feed(headers_frame(1, head(CHAT)) + f.rst_stream(1, f.CANCEL))
        server.conn.lost()
        assert server.chats[0].cancels == 1

    def test_a_bug_ends_the_stream(self) -> None:
        server = Server()
        out = server.exchange(headers_frame(1, head(CHAT)) + data_frame(1, message(b"raise"), 0))
        assert status(server, out) == (13, "internal error")
        assert server.chats[0].cancels == 1
        assert len(server.bugs) == 1

    def test_refused_when_opened(self) -> None:
        def refuse(_stream: Stream) -> StreamHandler:
            raise Compacted

        service = Service(Router([Method(b"/a.B/C", stream=refuse)]), Limits(), lambda: 0.0, lambda _: None)
        conn = GrpcServerConnection(service)
        conn.receive(HELLO)
        conn.take()
        conn.receive(headers_frame(1, head(b"/a.B/C")) + data_frame(1, message(b"x")))
        out = parse(conn.take())
        assert status(Server(), out) == (11, Compacted.text)

    def test_too_large_a_message(self) -> None:
        server = Server()
        server.feed(headers_frame(1, head(CHAT)))
        out = server.exchange(data_frame(1, b"\0\xff\xff\xff\xff", 0))
        assert status(server, out)[0] == 8
        assert server.chats[0].cancels == 1

    def test_the_window_is_reopened(self) -> None:
        server = Server(Limits(stream_window_bytes=65535))
        server.feed(headers_frame(1, head(CHAT)))
        total = 0
        for _ in range(30):
            out = server.exchange(
                data_frame(1, message(b"quiet"), 0) + data_frame(1, message(bytes(9000)), 0)
            )
            total += sum(x.word for x in out if x.kind == f.WINDOW_UPDATE and x.sid == 1)
            server.feed(f.window_update(1, 20000) + f.window_update(0, 20000))
        assert total > 200000
        assert len(server.chats[0].heard) == 60

    def test_a_stream_may_not_exceed_its_window(self) -> None:
        server = Server(Limits(stream_window_bytes=20000))
        server.feed(headers_frame(1, head(HOLD)))
        out = server.exchange(data_frame(1, b"\0\0\x10\0\0" + bytes(10000), 0) * 3)
        assert reset_code(out, 1) == f.FLOW_CONTROL_ERROR or goaway_code(out) is None


class TestBackpressure:
    def test_send_waits_for_the_window(self) -> None:
        server = Server()
        server.feed(headers_frame(1, head(CHAT)))
        stream = server.chats[0].stream
        for _ in range(10):
            stream.send(bytes(20000))
        out = server.take()
        assert sum(len(x.payload) for x in out if x.kind == f.DATA) == 65535
        assert stream.pending_bytes == 10 * 20005 - 65535
        assert server.chats[0].writable == 0
        server.feed(f.window_update(1, 100000) + f.window_update(0, 100000))
        assert server.chats[0].writable == 1
        stream.close()
        server.feed(f.window_update(1, 100000) + f.window_update(0, 100000))
        out = server.take()
        assert sum(len(x.payload) for x in out if x.kind == f.DATA) == 10 * 20005 - 65535
        assert status(server, out) == (0, "")
        assert server.conn.waiting == 0 and not server.conn.streams

    def test_pending_counts_what_is_not_written_yet(self) -> None:
        server = Server()
        server.feed(headers_frame(1, head(CHAT)))
        stream = server.chats[0].stream
        stream.send(bytes(1000))
        assert stream.pending_bytes == 1005
        server.take()
        assert stream.pending_bytes == 0

    def test_reset_while_waiting(self) -> None:
        server = Server()
        server.feed(headers_frame(1, head(CHAT)))
        server.chats[0].stream.send(bytes(200000))
        server.chats[0].stream.close()
        server.feed(f.rst_stream(1, f.CANCEL))
        assert server.conn.waiting == 0 and not server.conn.senders and not server.conn.streams

    def test_nothing_is_framed_while_the_socket_is_full(self) -> None:
        server = Server()
        server.feed(headers_frame(1, head(CHAT)) + call(3, b"x", HOLD))
        server.conn.pause()
        server.chats[0].stream.send(b"one")
        server.held[0][0].reply(b"two")
        assert f.DATA not in [x.kind for x in server.take()]
        server.conn.resume()
        assert [x.payload for x in server.take() if x.kind == f.DATA] == [message(b"one"), message(b"two")]
        assert not server.conn.congested

    def test_settings_shrink_a_window_below_zero(self) -> None:
        server = Server()
        server.feed(headers_frame(1, head(CHAT)))
        stream = server.chats[0].stream
        stream.send(bytes(50000))
        server.take()
        server.feed(f.settings((f.SETTINGS_INITIAL_WINDOW_SIZE, 10000)))
        stream.send(b"x")
        assert [x.kind for x in server.take()] == [f.SETTINGS]
        server.feed(f.window_update(1, 40000))
        assert server.take() == []
        server.feed(f.window_update(1, 11))
        (out,) = server.take()
        assert out.payload == message(b"x")

    def test_large_answers_keep_to_the_peers_frame_size(self) -> None:
        server = Server()
        server.feed(
            f.settings((f.SETTINGS_INITIAL_WINDOW_SIZE, 1 << 20), (f.SETTINGS_MAX_FRAME_SIZE, 50000))
            + f.window_update(0, 1 << 20)
        )
        server.take()
        out = server.exchange(call(1, b"200000", BIG))
        sizes = [len(x.payload) for x in out if x.kind == f.DATA]
        assert max(sizes) == 50000 and sum(sizes) == 200005


class TestDrain:
    def test_calls_under_way_are_finished(self) -> None:
        server = Server()
        server.feed(call(1, b"x", HOLD))
        server.conn.drain()
        first, ping = server.take()
        assert first.kind == f.GOAWAY and first.word == f.STREAM_ID_MAX
        # A call that crossed the GOAWAY is still served.
        assert kinds(server.exchange(call(3)))[0] == (f.HEADERS, 3)
        (last,) = server.exchange(f.ping(ping.payload, f.ACK))
        assert last.kind == f.GOAWAY and last.word == 3
        assert not server.conn.finished
        assert reset_code(server.exchange(call(5)), 5) == f.REFUSED_STREAM
        server.held[0][0].reply(b"done")
        assert [x.kind for x in server.take()] == [f.HEADERS, f.DATA, f.HEADERS]
        assert server.conn.finished

    def test_an_idle_connection_ends_at_once(self) -> None:
        server = Server()
        server.conn.drain()
        ping = server.take()[1]
        server.feed(f.ping(ping.payload, f.ACK))
        assert server.conn.finished

    def test_large_answers_are_finished_too(self) -> None:
        server = Server()
        server.feed(call(1, b"200000", BIG))
        server.conn.drain()
        server.conn.hurry_drain()
        assert not server.conn.finished
        server.feed(f.window_update(0, 1 << 20) + f.window_update(1, 1 << 20))
        assert server.conn.finished

    def test_streams_are_ended(self) -> None:
        server = Server()
        server.feed(headers_frame(1, head(CHAT)))
        server.conn.drain()
        server.conn.end_streams(Code.UNAVAILABLE, "bye")
        assert status(server, server.take()) == (14, "bye")
        assert server.chats[0].cancels == 1
        server.conn.hurry_drain()
        assert server.conn.finished


def test_counts() -> None:
    server = Server()
    server.feed(call(1) + call(3, b"no", FAIL) + call(5) + call(7, b"x", HOLD) + f.rst_stream(7, f.CANCEL))
    server.feed(headers_frame(9, head(CHAT)) + data_frame(9, message(b"a") + message(b"b")))
    methods = server.service.router.methods
    echo = methods[ECHO].stats
    assert (echo.started, echo.received, echo.sent) == (2, 2, 2)
    assert dict(methods[FAIL].stats.handled_by_name()) == {"NotFound": 1}
    assert dict(methods[HOLD].stats.handled_by_name()) == {"Canceled": 1}
    chat = methods[CHAT].stats
    assert (chat.started, chat.received, chat.sent) == (1, 2, 2)
    assert dict(chat.handled_by_name()) == {"OK": 1}
