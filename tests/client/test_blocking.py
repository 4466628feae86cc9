"""The blocking connection against a real server, and against none."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from tests.servers import Server, free_port

from petcd.client.blocking import BlockingConnection, Status, Unreachable, connect
from petcd.pb.etcdserverpb import kv as pb
from petcd.pb.etcdserverpb import watch

RANGE, PUT, WATCH = "/etcdserverpb.KV/Range", "/etcdserverpb.KV/Put", "/etcdserverpb.Watch/Watch"


def connected(server: Server) -> BlockingConnection:
    return connect("127.0.0.1", server.client_port, timeout=5.0)


def test_unary(server: Server) -> None:
    connection = connected(server)
    # Larger than any initial window, both ways.
    value = bytes(1_000_000)
    for _ in range(3):
        connection.unary(PUT, pb.PutRequest(key=b"block/a", value=value).encode())
    answer = connection.unary(RANGE, pb.RangeRequest(key=b"block/a").encode())
    assert pb.RangeResponse.decode(answer).kvs[0].value == value
    with pytest.raises(Status) as caught:
        connection.unary(PUT, pb.PutRequest().encode())
    assert (caught.value.code, caught.value.text) == (3, "etcdserver: key is not provided")
    assert connection.usable
    connection.close()


def test_calls_at_once_and_a_stream(server: Server) -> None:
    connection = connected(server)
    stream = connection.open(WATCH)
    create = watch.WatchCreateRequest(key=b"block/w")
    connection.send(stream, watch.WatchRequest(create_request=create).encode())
    created = connection.receive(stream, time.monotonic() + 5)
    assert created is not None
    assert watch.WatchResponse.decode(created).created
    calls = [connection.open(RANGE) for _ in range(50)]
    for call in calls:
        connection.send(call, pb.RangeRequest(key=b"block/w").encode(), end=True)
    for call in calls:
        assert connection.receive(call, time.monotonic() + 5) is not None
    connection.unary(PUT, pb.PutRequest(key=b"block/w", value=b"1").encode())
    event = connection.receive(stream, time.monotonic() + 5)
    assert event is not None
    assert len(watch.WatchResponse.decode(event).events) == 1
    with pytest.raises(TimeoutError):
        connection.receive(stream, time.monotonic() + 0.05)
    connection.cancel(stream)
    assert pb.RangeResponse.decode(connection.unary(RANGE, pb.RangeRequest(key=b"block/w").encode())).kvs
    connection.close()


def test_a_deadline_is_kept(server: Server) -> None:
    server.pause()
    try:
        with pytest.raises((TimeoutError, Unreachable)):
            connect("127.0.0.1", server.client_port, timeout=0.2)
    finally:
        server.resume()


def test_nobody_there() -> None:
    with pytest.raises(Unreachable):
        connect("127.0.0.1", free_port(), timeout=1.0)


def test_a_server_that_does_not_speak_http2_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            peer.recv(100)
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            peer.close()

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(Unreachable):
            connect("127.0.0.1", listener.getsockname()[1], timeout=1.0)
        thread.join()
