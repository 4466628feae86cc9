"""Requests that must be refused, each with etcd's code and words, by the running server."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.rpc import Rpc, Status
from tests.servers import COMMANDS, Kind, Server, clean_environment, serving

from petcd.pb import etcdserverpb as pb
from petcd.pb.message import Message

INVALID, NOT_FOUND, EXHAUSTED, OUT_OF_RANGE = 3, 5, 8, 11

REQUEST_BYTES_MAX = 1_572_864
MESSAGE_BYTES_MAX = REQUEST_BYTES_MAX + 512 * 1024


def _puts(count: int) -> list[pb.RequestOp]:
    return [pb.RequestOp(request_put=pb.PutRequest(key=b"op/%d" % number)) for number in range(count)]


REFUSED: dict[str, tuple[Message, int, str]] = {
    "empty key in a put": (pb.PutRequest(value=b"x"), INVALID, "etcdserver: key is not provided"),
    "empty key in a range": (pb.RangeRequest(), INVALID, "etcdserver: key is not provided"),
    "empty key in a delete": (pb.DeleteRangeRequest(), INVALID, "etcdserver: key is not provided"),
    "oversized request": (
        pb.PutRequest(key=b"large", value=bytes(REQUEST_BYTES_MAX)),
        INVALID,
        "etcdserver: request is too large",
    ),
    "oversized message": (
        pb.PutRequest(key=b"large", value=bytes(MESSAGE_BYTES_MAX)),
        EXHAUSTED,
        f"grpc: received message larger than max ({MESSAGE_BYTES_MAX + 12} vs. {MESSAGE_BYTES_MAX})",
    ),
    "oversized transaction": (
        pb.TxnRequest(success=_puts(129)),
        INVALID,
        "etcdserver: too many operations in txn request",
    ),
    "a key twice": (
        pb.TxnRequest(success=_puts(1) * 2),
        INVALID,
        "etcdserver: duplicate key given in txn request",
    ),
    "a revision of the future": (
        pb.RangeRequest(key=b"a", revision=1 << 40),
        OUT_OF_RANGE,
        "etcdserver: mvcc: required revision is a future revision",
    ),
    "a compaction of the future": (
        pb.CompactionRequest(revision=1 << 40),
        OUT_OF_RANGE,
        "etcdserver: mvcc: required revision is a future revision",
    ),
    "a put with an unknown lease": (
        pb.PutRequest(key=b"a", lease=1 << 40),
        NOT_FOUND,
        "etcdserver: requested lease not found",
    ),
    "the end of an unknown lease": (
        pb.LeaseRevokeRequest(ID=1 << 40),
        NOT_FOUND,
        "etcdserver: requested lease not found",
    ),
    "a lease for ever": (
        pb.LeaseGrantRequest(TTL=9_000_000_001),
        OUT_OF_RANGE,
        "etcdserver: too large lease TTL",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_in_etcd_s_words(rpc: Rpc, what: str) -> None:
    request, code, text = REFUSED[what]
    with pytest.raises(Status) as refused:
        rpc.call(request)
    assert refused.value == Status(code, text)
    rpc.put(b"still", b"here")


def test_what_just_fits_is_taken(rpc: Rpc) -> None:
    value = bytes(REQUEST_BYTES_MAX - 100)
    rpc.put(b"fits", value)
    assert rpc.value(b"fits") == value
    assert len(rpc.call(pb.TxnRequest(success=_puts(128))).responses) == 128


def _fill(rpc: Rpc, value: bytes) -> None:
    for number in range(200):
        rpc.put(b"quota/%d" % (number % 2), value)


def _await(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def _defragmented_bytes(rpc: Rpc) -> int:
    rpc.call(pb.DefragmentRequest())
    size: int = rpc.call(pb.StatusRequest()).dbSize
    return size


def test_the_quota(kind: Kind) -> None:
    """Over it: no puts, no leases, but reads and deletes; compaction and defragmentation make room again."""
    value = bytes(500_000)
    full = Status(EXHAUSTED, "etcdserver: mvcc: database space exceeded")
    with serving(kind, None, "--quota-backend-bytes=4194304") as server, Rpc(server.endpoint) as rpc:
        with pytest.raises(Status) as refused:
            _fill(rpc, value)
        assert refused.value == full
        _await(lambda: bool(rpc.call(pb.AlarmRequest()).alarms))
        (alarm,) = rpc.call(pb.AlarmRequest()).alarms
        assert alarm.alarm == pb.AlarmType.NOSPACE
        for request in (pb.PutRequest(key=b"small"), pb.LeaseGrantRequest(TTL=60)):
            with pytest.raises(Status) as refused:
                rpc.call(request)
            assert refused.value == full
        status, body = server.http("GET", "/health")
        assert status == 503
        assert b'"health":"false"' in body
        assert server.http("GET", "/health?exclude=NOSPACE")[0] == 200
        assert rpc.value(b"quota/0") == value
        revision = rpc.call(pb.DeleteRangeRequest(key=b"quota/", range_end=b"quota0")).header.revision
        rpc.call(pb.CompactionRequest(revision=revision))
        _await(lambda: _defragmented_bytes(rpc) < 1_000_000)
        rpc.call(pb.AlarmRequest(action=2, memberID=alarm.memberID, alarm=alarm.alarm))
        rpc.put(b"small", b"again")
        assert server.is_healthy()


@pytest.fixture(scope="module")
def choosy(kind: Kind) -> Iterator[Server]:
    # The server's own health check goes to 127.0.0.1.
    with serving(kind, None, "--host-whitelist=127.0.0.1,known.example") as server:
        yield server


def test_hosts_that_are_not_on_the_list(choosy: Server) -> None:
    assert choosy.http("GET", "/version", headers={"Host": "known.example:2379"})[0] == 200
    status, body = choosy.http("GET", "/version", headers={"Host": "rebound.example"})
    assert status == 421
    assert b"CVE-2018-5702" in body


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v3/kv/put", b"no json", 400),
        ("POST", "/v3/kv/put", b'{"key":1}', 400),
        ("POST", "/v3/kv/put", b"{}", 400),
        ("POST", "/v3/kv/nothing", b"{}", 404),
        ("POST", "/v3/kv/put", bytes(8 << 20), 413),
    ],
)
def test_the_gateway(server: Server, kind: Kind, method: str, path: str, body: bytes, status: int) -> None:
    if status == 413 and kind == "go":
        pytest.skip("Go takes a body of any size")
    assert server.http(method, path, body)[0] == status
    assert server.is_healthy()


@pytest.fixture
def own(kind: Kind) -> None:
    if kind != "petcd":
        pytest.skip("a behaviour of petcd's own")


@pytest.mark.usefixtures("own")
def test_a_port_that_is_taken(server: Server, tmp_path: Path) -> None:
    second = Server("petcd", tmp_path, client_port=server.client_port)
    second.spawn()
    try:
        assert second.wait() == 1
    finally:
        second.kill()
    assert "address already in use" in second.log()
    assert "Traceback" not in second.log()
    assert server.is_healthy()


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    "args",
    [
        ["--enable-v2"],
        ["--auto-tls"],
        ["--discovery=http://127.0.0.1:1/x"],
        ["--peer-auto-tls"],
        ["--proxy=on"],
        ["--auth-token=jwt"],
        ["--listen-client-urls=https://127.0.0.1:0", "--advertise-client-urls=https://127.0.0.1:0"],
    ],
)
def test_features_that_are_missing_are_not_passed_over(tmp_path: Path, args: list[str]) -> None:
    result = subprocess.run(
        [*COMMANDS["petcd"], f"--data-dir={tmp_path}/x", *args],
        capture_output=True,
        text=True,
        timeout=20,
        env=clean_environment(),
        check=False,
    )
    assert result.returncode == 1
    assert "not supported by this release of petcd" in result.stdout + result.stderr
