"""Clients that misbehave, one kind each: none stops the member, none slows the others.

"The others" are a plain gRPC client that puts and gets all the while; its slowest call is the measure. The
bound is generous, because the machine has other work: a stalled loop shows as seconds.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from tests.e2e import raw
from tests.rpc import Rpc
from tests.servers import Kind, Server, serving

from petcd.pb import etcdserverpb as pb

SLOWEST_SECONDS_MAX = 1.0


class Others:
    """A well-behaved client in a thread of its own."""

    def __init__(self, server: Server) -> None:
        self._rpc = Rpc(server.endpoint)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.slowest = 0.0
        self.calls = 0
        self.error: BaseException | None = None

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                started = time.monotonic()
                self._rpc.put(b"others", b"%d" % self.calls)
                assert self._rpc.value(b"others") == b"%d" % self.calls
                self.slowest = max(self.slowest, time.monotonic() - started)
                self.calls += 1
                time.sleep(0.005)
        except BaseException as error:  # noqa: BLE001 - the test thread raises it
            self.error = error

    def __enter__(self) -> Others:
        self._rpc.put(b"others")
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(30)
        self._rpc.close()


@contextlib.contextmanager
def undisturbed(server: Server) -> Iterator[Others]:
    """Others work meanwhile, and have not noticed anything."""
    with Others(server) as others:
        yield others
        time.sleep(0.1)
    if others.error is not None:
        raise others.error
    assert others.calls > 0
    assert others.slowest < SLOWEST_SECONDS_MAX, (
        f"the slowest of {others.calls} calls took {others.slowest:.2f} s"
    )
    assert server.is_healthy()


def fill(server: Server, prefix: bytes, count: int, value: bytes) -> None:
    with Rpc(server.endpoint) as rpc:
        for start in range(0, count, 100):
            operations = [
                pb.RequestOp(request_put=pb.PutRequest(key=prefix + b"%06d" % number, value=value))
                for number in range(start, min(count, start + 100))
            ]
            rpc.call(pb.TxnRequest(success=operations))


@pytest.mark.slow
def test_a_slow_reader_of_a_huge_range(server: Server) -> None:
    """Sixteen clients ask for 40 MB each and do not read; then one of them does, and gets all of it."""
    fill(server, b"huge/", 4000, bytes(10_000))
    request = pb.RangeRequest(key=b"huge/", range_end=b"huge0")
    readers = [raw.open_http2(server.client_port, receive_buffer=4096) for _ in range(16)]
    try:
        with undisturbed(server):
            for reader in readers:
                reader.sendall(
                    raw.call_head(b"/etcdserverpb.KV/Range", 1) + raw.message_frame(request, 1, end=True)
                )
            time.sleep(1.5)
            messages = raw.FrameReader(readers[0]).messages(1)
        response = pb.RangeResponse.decode(messages[0])
        assert len(response.kvs) == 4000
    finally:
        for reader in readers:
            reader.close()


@pytest.mark.slow
def test_a_slow_reader_of_a_watch(server: Server) -> None:
    """A watcher that does not read costs bounded memory, and later gets every event once and in order."""
    reader = raw.open_http2(server.client_port, receive_buffer=4096)
    create = pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"slow/", range_end=b"slow0"))
    head = raw.call_head(b"/etcdserverpb.Watch/Watch", 1)
    reader.sendall(head + raw.message_frame(create, 1, end=False))
    incoming = raw.FrameReader(reader).iterate(1)
    try:
        assert pb.WatchResponse.decode(next(incoming)).created
        count, value = 20_000, bytes(2000)
        with undisturbed(server), Rpc(server.endpoint) as rpc:
            before = server.rss_bytes()
            revisions: set[int] = set()
            for start in range(0, count, 200):
                keys = [b"slow/%d" % (number % 100) for number in range(start, start + 200)]
                futures = [rpc.future(pb.PutRequest(key=key, value=value)) for key in keys]
                revisions.update(future.result().header.revision for future in futures)
            grown = server.rss_bytes() - before
            last = 0
            while revisions:
                for event in pb.WatchResponse.decode(next(incoming)).events:
                    assert event.kv is not None
                    assert event.kv.mod_revision > last
                    revisions.remove(event.kv.mod_revision)
                    last = event.kv.mod_revision
        print(
            f"\nmemory grew by {grown / 1e6:.0f} MB over {count * len(value) / 1e6:.0f} MB of events not read"
        )
    finally:
        reader.close()


@pytest.mark.slow
def test_ten_thousand_idle_connections(kind: Kind) -> None:
    idle: list[socket.socket] = []
    soft_limits(20_000)
    with serving(kind, limits={"nofile": 20_000}) as server:
        try:
            before = server.rss_bytes()
            with undisturbed(server):
                for number in range(10_000):
                    plain = raw.connect(server.client_port)
                    if number % 2:
                        plain.sendall(raw.PREFACE + raw.frame(4, 0, 0, b""))
                    idle.append(plain)
            with undisturbed(server):
                time.sleep(1)
            grown = server.rss_bytes() - before
            print(f"\n{kind}: {grown / len(idle) / 1000:.1f} kB an idle connection")
        finally:
            for plain in idle:
                plain.close()
        with undisturbed(server):
            time.sleep(0.5)


def soft_limits(files: int) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < files:
        pytest.skip(f"ten thousand connections need {files} open files, the limit is {hard}")
    if soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))


BEGINNINGS = {
    "nothing": b"",
    "half a preface": raw.PREFACE[:10],
    "a preface only": raw.PREFACE,
    "half a frame": raw.PREFACE + raw.frame(4, 0, 0, b"") + b"\x00\x10",
    "half a call": raw.PREFACE + raw.frame(4, 0, 0, b"") + raw.call_head(b"/etcdserverpb.KV/Put", 1),
    "half a request line": b"GET /hea",
    "half the headers": b"GET /health HTTP/1.1\r\nHost: x\r\n",
    "half a body": b"POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
    "half a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00",
}


@pytest.mark.parametrize("beginning", BEGINNINGS)
@pytest.mark.parametrize("ending", ["stay", "close", "reset"])
def test_half_open_connections(server: Server, beginning: str, ending: str) -> None:
    with undisturbed(server):
        half_open = [raw.connect(server.client_port) for _ in range(100)]
        for plain in half_open:
            plain.sendall(BEGINNINGS[beginning])
        time.sleep(0.1)
        for plain in half_open:
            if ending == "reset":
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if ending != "stay":
                plain.close()
        time.sleep(0.1)
        for plain in half_open:
            plain.close()


def test_noise(server: Server) -> None:
    """Random bytes, alone and after a valid preface."""
    rng = random.Random(5)
    with undisturbed(server):
        for number in range(200):
            with contextlib.closing(raw.connect(server.client_port)) as plain, contextlib.suppress(OSError):
                start = raw.PREFACE + raw.frame(4, 0, 0, b"") if number % 2 else b""
                plain.sendall(start + rng.randbytes(rng.randrange(1, 2000)))
                plain.settimeout(0.02)
                plain.recv(1000)


def test_garbage_in_every_method(server: Server) -> None:
    """Messages that are no protobuf, to every unary method: refused, one by one."""
    from tests.rpc import METHODS

    rng = random.Random(6)
    with undisturbed(server):
        for path, _ in METHODS.values():
            if path.startswith(("/v3lock", "/v3election")):
                continue
            with contextlib.closing(raw.open_http2(server.client_port)) as plain:
                data = b"\x0f" + rng.randbytes(20)
                body = raw.frame(0, 1, 1, b"\x00" + struct.pack(">I", len(data)) + data)
                plain.sendall(raw.call_head(path.encode(), 1) + body)
                with contextlib.suppress(EOFError):
                    assert raw.FrameReader(plain).messages(1) == []


def test_watchers_that_vanish(server: Server) -> None:
    """Connections cut in the middle of watches; the member lets go of their watchers."""
    create = pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"\x00", range_end=b"\x00"))
    with undisturbed(server):
        for _ in range(50):
            plain = raw.open_http2(server.client_port)
            head = raw.call_head(b"/etcdserverpb.Watch/Watch", 1)
            plain.sendall(head + raw.message_frame(create, 1, end=False) * 20)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            plain.close()
        end = time.monotonic() + 10
        while watcher_count(server) and time.monotonic() < end:
            time.sleep(0.1)
        assert watcher_count(server) == 0


def watcher_count(server: Server) -> int:
    _, body = server.http("GET", "/metrics")
    for line in body.decode().splitlines():
        if line.startswith("etcd_debugging_mvcc_watcher_total"):
            return int(float(line.split()[-1]))
    raise AssertionError("no watcher count in the metrics")
