"""Health, probes, version and the front door (contract wire-v3 2.8, 2.9; http-v2 13)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
import pytest
from tests.server.lab import HttpTalk, Lab, simulated

from petcd import ETCD_VERSION, errors
from petcd.pb import etcdserverpb as pb
from petcd.seams import Address
from petcd.server.url import parse_urls

NOSPACE = pb.AlarmRequest(action=pb.AlarmAction.ACTIVATE, memberID=1, alarm=pb.AlarmType.NOSPACE)
CORRUPT = pb.AlarmRequest(action=pb.AlarmAction.ACTIVATE, memberID=1, alarm=pb.AlarmType.CORRUPT)
UNKNOWN = pb.AlarmRequest(action=pb.AlarmAction.ACTIVATE, memberID=1, alarm=9)  # type: ignore[arg-type]


@simulated()
async def test_health(lab: Lab) -> None:
    for target in ("/health", "/health?serializable=true", "/health?exclude=", "/health?exclude=NOSUCH&x"):
        status, headers, body = await lab.http("GET", target)
        assert (status, body) == (200, b'{"health":"true","reason":""}'), target
        assert headers["content-type"] == "text/plain; charset=utf-8"
    entries = lab.member.node.last_index
    await lab.http("GET", "/health")
    assert lab.member.node.last_index == entries, "a health check writes nothing"


@simulated()
async def test_unhealthy(lab: Lab) -> None:
    def told(reason: str) -> bytes:
        return b'{"health":"false","reason":"%s"}\n' % reason.encode()

    await lab.call(NOSPACE)
    status, headers, body = await lab.http("GET", "/health")
    assert (status, body) == (503, told("ALARM NOSPACE"))
    assert headers["x-content-type-options"] == "nosniff"
    assert (await lab.http("GET", "/health?exclude=NOSPACE"))[0] == 200
    assert (await lab.http("GET", "/health?exclude=nospace"))[0] == 503
    await lab.call(CORRUPT)
    assert (await lab.http("GET", "/health?exclude=NOSPACE"))[2] == told("ALARM CORRUPT")
    both = "/health?exclude=NOSPACE&exclude=CORRUPT"
    assert (await lab.http("GET", both))[0] == 200
    await lab.call(UNKNOWN)
    assert (await lab.http("GET", both))[2] == told("ALARM UNKNOWN")


@simulated()
async def test_without_a_leader(lab: Lab) -> None:
    lab.member.lead = 0
    assert (await lab.http("GET", "/health"))[2] == b'{"health":"false","reason":"RAFT NO LEADER"}\n'
    assert (await lab.http("GET", "/health?serializable=true"))[0] == 200
    assert (await lab.http("GET", "/health?serializable=True"))[0] == 503


@simulated()
async def test_a_read_that_fails(lab: Lab) -> None:
    def broken(_request: object) -> bytes:
        raise errors.RequestTimeout

    class Broken:
        range = staticmethod(broken)
        rev = 1

    store = lab.member.store
    lab.member.store = Broken()  # type: ignore[assignment]
    status, _, body = await lab.http("GET", "/health")
    assert (status, body) == (
        503,
        b'{"health":"false","reason":"RANGE ERROR:etcdserver: request timed out"}\n',
    )
    status, _, body = await lab.http("GET", "/livez")
    assert (status, body) == (503, b"[-]serializable_read failed: etcdserver: request timed out\n\n")
    lab.member.store = store
    assert (await lab.http("GET", "/livez"))[0] == 200


@simulated()
async def test_a_read_index_that_never_comes(lab: Lab) -> None:
    """Linearizable checks give up with the requests' own timeout; serializable ones do not wait."""
    node = lab.member.node

    class Unheard:
        """Its read-index messages get lost."""

        def __getattr__(self, name: str) -> Any:
            return getattr(node, name)

        def read_index(self, _context: bytes) -> bool:
            return True

    lab.member.reads._node = Unheard()  # type: ignore[assignment]
    assert (await lab.http("GET", "/readyz?exclude=linearizable_read"))[0] == 200
    began = lab.sim.now
    status, _, body = await lab.http("GET", "/health")
    assert (status, 7 <= lab.sim.now - began <= 7.5) == (503, True)
    assert b"RANGE ERROR:etcdserver: request timed out" in body
    assert lab.member.reads.failed_rounds == 1
    assert lab.member.reads.slow_rounds > 5


@simulated()
async def test_probes(lab: Lab) -> None:
    names = ["data_corruption", "serializable_read", "linearizable_read", "non_learner"]
    paths = ["/livez", "/readyz", "/livez/serializable_read", *(f"/readyz/{name}" for name in names)]
    for path in paths:
        status, headers, body = await lab.http("GET", path)
        assert (status, body, headers["x-content-type-options"]) == (200, b"ok\n", "nosniff"), path
    status, _, body = await lab.http("GET", "/readyz?verbose")
    assert sorted(body.decode().splitlines()) == sorted([*(f"[+]{name} ok" for name in names), "ok"])
    status, _, body = await lab.http("GET", "/readyz?verbose=0&exclude=non_learner&exclude=nosuch")
    assert b"non_learner" not in body and b"[+]data_corruption ok\n" in body
    assert (await lab.http("GET", "/livez?verbose&exclude=serializable_read"))[2] == b"ok\n"
    assert (await lab.http("GET", "/livez/data_corruption"))[0] == 404
    await lab.call(CORRUPT)
    status, _, body = await lab.http("GET", "/readyz")
    assert status == 503
    assert b"[-]data_corruption failed: alarm activated: CORRUPT\n" in body
    assert b"[+]linearizable_read ok\n" in body
    assert body.endswith(b"\n\n")
    assert (await lab.http("GET", "/readyz/data_corruption"))[0] == 503
    assert (await lab.http("GET", "/readyz?exclude=data_corruption"))[2] == b"ok\n"
    assert (await lab.http("GET", "/livez"))[2] == b"ok\n"


@simulated()
async def test_version(lab: Lab) -> None:
    status, headers, body = await lab.http("GET", "/version")
    short = ETCD_VERSION.rpartition(".")[0] + ".0"
    assert json.loads(body) == {"etcdserver": ETCD_VERSION, "etcdcluster": short, "storage": short}
    assert (status, headers["content-type"], body[-1:]) == (200, "application/json", b"}")


@simulated()
async def test_methods(lab: Lab) -> None:
    for path in ("/health", "/version", "/livez", "/readyz", "/debug/vars"):
        status, headers, _ = await lab.http("POST", path)
        assert (status, headers["allow"]) == (405, "GET"), path
        assert (await lab.http("HEAD", path))[0] == 405
    assert (
        json.loads((await lab.http("GET", "/debug/vars"))[2])["raft.status"]["lead"] == f"{lab.member.id:x}"
    )
    assert (await lab.http("GET", "/nothing"))[::2] == (404, b"404 page not found\n")
    assert (await lab.http("GET", "/"))[0] == 404
    assert (await lab.http("POST", "/metrics"))[0] == 200
    status, headers, _ = await lab.http("GET", "/v3")
    assert (status, headers["location"]) == (301, "/v3/")


@simulated(cors=("http://one.example", "http://two.example"), host_whitelist=("good.example", "::1"))
async def test_the_front_door(lab: Lab) -> None:
    good = ("Host", "good.example:2379")
    status, headers, body = await lab.http("GET", "/version", headers=[("Host", "evil.example")])
    assert status == 421
    assert b"CVE-2018-5702" in body
    assert (await lab.http("OPTIONS", "/version", headers=[("Host", "evil.example")]))[0] == 421
    assert (await lab.http("GET", "/version", headers=[("Host", "[::1]:2379")]))[0] == 200
    status, headers, _ = await lab.http("GET", "/version", headers=[good])
    assert (status, "access-control-allow-origin" in headers) == (200, False)
    one = ("Origin", "http://one.example")
    status, headers, body = await lab.http("OPTIONS", "/v3/kv/range", headers=[good, one])
    assert (status, body, headers["access-control-allow-origin"]) == (200, b"", "http://one.example")
    status, headers, _ = await lab.http("GET", "/nothing", headers=[good, one])
    assert (status, headers["access-control-allow-origin"]) == (404, "http://one.example")
    other = ("Origin", "http://evil.example")
    status, headers, body = await lab.http("OPTIONS", "/version", headers=[good, other])
    assert (status, "access-control-allow-origin" in headers) == (200, False)


METRICS = parse_urls("http://10.0.0.1:9000")
HTTP = parse_urls("http://10.0.0.1:9001")


@simulated(listen_metrics_urls=METRICS, listen_client_http_urls=HTTP)
async def test_listeners_of_their_own(lab: Lab) -> None:
    for path in ("/health", "/metrics", "/livez", "/readyz"):
        assert (await lab.http("GET", path, port=9000))[0] == 200, path
        assert (await lab.http("GET", path, port=9001))[0] == 200, path
    for path in ("/version", "/v3/kv/range"):
        assert (await lab.http("GET", path, port=9000))[0] == 404
    assert (await lab.http("POST", "/v3/kv/range", b'{"key":"YQ=="}', port=9001))[0] == 200
    await lab.put(b"a", b"1")
    with pytest.raises(ConnectionResetError):
        await lab.http("GET", "/health")  # client URLs serve gRPC only


@simulated()
async def test_requests_on_one_connection(lab: Lab) -> None:
    """Pipelined, answered in order, also while the first waits for the log."""
    talk = HttpTalk()
    transport = await lab.net.connect(Address("10.0.0.1", 2379), lambda: talk)
    client = h11.Connection(h11.CLIENT)
    request = client.send(h11.Request(method="GET", target="/readyz", headers=[("host", "x")]))
    request += client.send(h11.EndOfMessage())
    received: list[bytes] = []
    talk.data_received = received.append  # type: ignore[method-assign, assignment]
    transport.write(request * 3)
    await asyncio.sleep(1)
    assert b"".join(received).count(b"ok\n") == 3
    transport.abort()
