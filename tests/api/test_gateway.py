"""The JSON gateway (contract wire-v3 sections 2.3 to 2.6)."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest
from tests.server.lab import Lab, simulated

from petcd.api.gateway import HTTP_STATUS, JsonValues
from petcd.errors import Code
from petcd.pb import etcdserverpb as pb
from petcd.pb.json import JsonError


def b64(text: bytes) -> str:
    return base64.b64encode(text).decode()


@simulated()
async def test_kv(lab: Lab) -> None:
    member = lab.member
    header = {
        "cluster_id": str(member.cluster_id),
        "member_id": str(member.id),
        "revision": "2",
        "raft_term": str(member.node.term),
    }
    assert await lab.json("/v3/kv/put", {"key": b64(b"a"), "value": b64(b"1")}) == (200, {"header": header})
    status, answer = await lab.json("/v3/kv/range", {"key": b64(b"a")})
    assert (status, answer["count"]) == (200, "1")
    assert answer["kvs"] == [
        {
            "key": b64(b"a"),
            "create_revision": "2",
            "mod_revision": "2",
            "version": "1",
            "value": b64(b"1"),
        }
    ]
    shape = {"key": b64(b"a"), "rangeEnd": "AA==", "limit": 5, "sort_order": "DESCEND", "unknown": {}}
    assert (await lab.json("/v3/kv/range", shape))[1]["count"] == "1"
    status, answer = await lab.json(
        "/v3/kv/txn",
        {
            "compare": [{"key": b64(b"a"), "target": "VALUE", "value": b64(b"1")}],
            "success": [{"request_range": {"key": b64(b"a")}}, {"requestPut": {"key": b64(b"b")}}],
        },
    )
    assert answer["succeeded"] is True
    assert answer["responses"][0]["response_range"]["kvs"][0]["value"] == b64(b"1")
    assert answer["responses"][1] == {"response_put": {"header": {"revision": "3"}}}
    status, answer = await lab.json("/v3beta/kv/deleterange", {"key": b64(b"a"), "prev_kv": True})
    assert (status, answer["deleted"], len(answer["prev_kvs"])) == (200, "1", 1)
    assert (await lab.json("/v3/kv/compaction", {"revision": "3"}))[0] == 200


@simulated()
async def test_every_unary_path_answers(lab: Lab) -> None:
    lease = (await lab.json("/v3/lease/grant", {"TTL": 60}))[1]["ID"]
    assert isinstance(lease, str)
    for path, shape, field in (
        ("/v3/lease/timetolive", {"ID": lease}, "grantedTTL"),
        ("/v3/kv/lease/timetolive", {"ID": lease, "keys": True}, "grantedTTL"),
        ("/v3/lease/leases", None, "leases"),
        ("/v3/kv/lease/leases", {}, "leases"),
        ("/v3/cluster/member/list", {}, "members"),
        ("/v3/maintenance/status", {}, "version"),
        ("/v3/maintenance/hash", {}, "hash"),
        ("/v3/maintenance/hashkv", {}, "hash"),
        ("/v3/auth/status", {}, "authRevision"),
    ):
        status, answer = await lab.json(path, shape)
        assert status == 200, (path, answer)
        assert field in answer, (path, answer)
    assert isinstance((await lab.json("/v3/maintenance/hash", {}))[1]["hash"], int)
    assert await lab.json("/v3/maintenance/defragment", {}) == (200, {})
    assert (await lab.json("/v3/maintenance/alarm", {"action": "GET"}))[0] == 200
    assert await lab.json("/v3/maintenance/transfer-leadership", {"targetID": str(lab.member.id)}) == (
        200,
        {},
    )
    assert (await lab.json("/v3/lease/revoke", {"ID": lease}))[0] == 200
    status, answer = await lab.json("/v3/kv/lease/revoke", {"ID": lease})
    assert (status, answer) == (404, {"code": 5, "message": "etcdserver: requested lease not found"})


@simulated()
async def test_errors(lab: Lab) -> None:
    json_ = lab.json
    assert await json_("/v3/kv/range", {}) == (
        400,
        {"code": 3, "message": "etcdserver: key is not provided"},
    )
    status, answer = await json_("/v3/kv/range", {"key": b64(b"a"), "revision": 99})
    assert (status, answer["code"]) == (400, 11)
    status, answer = await json_("/v3/auth/authenticate", {"name": "root", "password": "x"})
    assert (status, answer) == (400, {"code": 9, "message": "etcdserver: authentication is not enabled"})
    for body in (b"{", b'{"key": 5}', b"[]", b'{"key": "*"}', b"\xff", b'{"key":"YQ==","key":"YQ=="}'):
        status, headers, content = await lab.http("POST", "/v3/kv/range", body)
        assert (status, headers["content-type"]) == (400, "application/json"), body
        assert json.loads(content)["code"] == 3, body
    assert await json_("/v3/nothing", {}) == (404, {"code": 5, "message": "Not Found"})
    assert await json_("/v3beta/nothing", {}) == (404, {"code": 5, "message": "Not Found"})
    assert (await lab.http("POST", "/v3alpha/kv/range", b"{}"))[2] == b"404 page not found\n"
    for method in ("GET", "PUT", "DELETE"):
        status, _, content = await lab.http(method, "/v3/kv/range")
        assert (status, json.loads(content)) == (501, {"code": 12, "message": "Method Not Allowed"})
    status, _, content = await lab.http("GET", "/v3/watch")
    assert status == 501


@simulated()
async def test_codes_are_mapped(lab: Lab) -> None:
    assert set(HTTP_STATUS) == set(Code)
    assert (HTTP_STATUS[Code.FAILED_PRECONDITION], HTTP_STATUS[Code.CANCELLED]) == (400, 499)
    alarm = {"action": "ACTIVATE", "memberID": "1", "alarm": "NOSPACE"}
    assert (await lab.json("/v3/maintenance/alarm", alarm))[1]["alarms"] == [
        {"memberID": "1", "alarm": "NOSPACE"}
    ]
    status, answer = await lab.json("/v3/kv/put", {"key": b64(b"a")})
    assert (status, answer["code"]) == (429, 8)
    alarm = {"action": "ACTIVATE", "memberID": "1", "alarm": "CORRUPT"}
    await lab.json("/v3/maintenance/alarm", alarm)
    status, answer = await lab.json("/v3/kv/put", {"key": b64(b"a")})
    assert (status, answer["code"]) == (500, 15)


@simulated()
async def test_headers(lab: Lab) -> None:
    status, headers, _ = await lab.http("POST", "/v3/kv/range", b'{"key":"YQ=="}')
    assert headers["grpc-metadata-content-type"] == "application/grpc"
    assert headers["access-control-allow-origin"] == "*"
    assert headers["access-control-allow-methods"] == "POST, GET, OPTIONS, PUT, DELETE"
    assert headers["access-control-allow-headers"] == "accept, content-type, authorization"
    body = b'{"key":"YQ=="}'
    status, _, content = await lab.http("POST", "/v3/kv/range", body, [("Grpc-Timeout", "soon")])
    assert (status, json.loads(content)["message"]) == (400, "invalid grpc-timeout: soon")
    lab.member.lead = 0
    status, _, content = await lab.http("POST", "/v3/kv/range", body, [("Grpc-Metadata-Hasleader", "true")])
    assert (status, json.loads(content)) == (503, {"code": 14, "message": "etcdserver: no leader"})
    assert (await lab.http("POST", "/v3/kv/range", body, [("Hasleader", "true")]))[0] == 200
    assert (await lab.http("POST", "/v3/kv/range", body, [("Accept", "text/html")]))[0] == 200


@simulated()
async def test_deadlines(lab: Lab) -> None:
    process = lab.host.process
    assert process is not None
    talk = await lab.http_open("POST", "/v3/kv/put", b'{"key":"YQ=="}', [("Grpc-Timeout", "500m")])
    lab.member.wal.write = lambda _write: (_ for _ in ()).throw(SystemError)  # type: ignore[method-assign]
    lab.member.log._writing = object()  # type: ignore[assignment] # the disk hangs
    began = lab.sim.now
    content = await talk.rest()
    assert (talk.status, json.loads(content)["message"]) == (504, "context deadline exceeded")
    assert 0.4 < lab.sim.now - began < 0.7
    watch = await lab.http_open("POST", "/v3/watch", b'{"create_request":{}}', [("Grpc-Timeout", "2S")])
    assert (await watch.line())["result"]["created"]
    assert await watch.line() == {"error": {"code": 4, "message": "context deadline exceeded"}}
    assert await watch.chunk() is None
    assert lab.member.hub.watcher_count == 0
    lab.member.log._writing = None


@simulated()
async def test_the_largest_value(lab: Lab) -> None:
    """What gRPC takes the gateway takes, though base64 makes it a third larger."""
    status, answer = await lab.json("/v3/kv/put", {"key": b64(b"k"), "value": b64(bytes(1_572_700))})
    assert status == 200, answer
    status, answer = await lab.json("/v3/kv/put", {"key": b64(b"k"), "value": b64(bytes(1_573_000))})
    assert (status, answer) == (400, {"code": 3, "message": "etcdserver: request is too large"})
    status, answer = await lab.json("/v3/kv/put", {"key": b64(b"k"), "value": b64(bytes(2_100_000))})
    assert (status, answer["code"]) == (429, 8)
    assert answer["message"].startswith("grpc: received message larger than max (")
    talk = await lab.http_open("POST", "/v3/kv/put", b'{"value":"' + b"A" * 5_000_000 + b'"}')
    assert await talk.head() == 413
    talk.close()


@simulated()
async def test_a_watch(lab: Lab) -> None:
    await lab.put(b"a", b"0")
    body = json.dumps({"create_request": {"key": b64(b"a"), "start_revision": "2"}}).encode()
    talk = await lab.http_open("POST", "/v3/watch", body)
    created = await talk.line()
    assert (talk.status or await talk.head()) == 200
    assert created["result"]["created"] is True
    assert talk.headers["content-type"] == "application/json"
    first = await talk.line()
    assert first["result"]["events"][0]["kv"]["value"] == b64(b"0")
    assert "type" not in first["result"]["events"][0], "PUT is the zero value"
    await lab.call(pb.DeleteRangeRequest(key=b"a"))
    assert (await talk.line())["result"]["events"][0]["type"] == "DELETE"
    assert lab.member.hub.watcher_count == 1
    talk.close()
    await asyncio.sleep(1)
    assert (lab.member.hub.watcher_count, lab.member.hub.stream_count) == (0, 0)


@simulated()
async def test_requests_are_taken_as_they_arrive(lab: Lab) -> None:
    """The body of a streaming call may stay open and be cut anywhere."""
    talk = await lab.http_open("POST", "/v3/watch", None)
    text = json.dumps({"create_request": {"key": b64(b'"}{')}, "x": '"}\\'}).encode()
    for place in range(len(text)):
        talk.send(text[place : place + 1])
    assert (await talk.line())["result"]["created"] is True
    talk.send(b'{"create_request":{"key":"Yg=="}} {"progress_request":{}}\n')
    assert (await talk.line())["result"]["watch_id"] == "1"
    assert (await talk.line())["result"]["watch_id"] == "-1"
    talk.send(b'{"cancel_request":{"watch_id":1}}')
    assert (await talk.line())["result"]["canceled"] is True
    talk.end()
    await lab.put(b'"}{', b"1")
    assert (await talk.line())["result"]["events"], "a half-close does not end a watch"
    talk.close()


@simulated()
async def test_keep_alive(lab: Lab) -> None:
    lease = (await lab.json("/v3/lease/grant", {"TTL": 60}))[1]["ID"]
    body = b'{"ID":%s}{"ID":"7"}' % lease.encode()
    status, _, content = await lab.http("POST", "/v3/lease/keepalive", body)
    lines = [json.loads(line)["result"] for line in content.splitlines()]
    assert status == 200
    assert [(line["ID"], line.get("TTL")) for line in lines] == [(lease, "60"), ("7", None)]
    assert (await lab.http("POST", "/v3/lease/keepalive"))[2] == b"", "no request, no answer"


@simulated()
async def test_bad_requests_end_a_stream(lab: Lab) -> None:
    for body in (b"{", b"5", b'{"create_request":5}', b"}"):
        status, _, content = await lab.http("POST", "/v3/watch", body)
        assert (status, json.loads(content)["code"]) == (400, 3), body
    talk = await lab.http_open("POST", "/v3/watch", b'{"create_request":{}}{"create_request":[]}')
    assert (await talk.line())["result"]["created"]
    assert (await talk.line())["error"]["code"] == 3
    assert await talk.chunk() is None
    assert (lab.member.hub.watcher_count, lab.member.hub.stream_count) == (0, 0)
    lab.member.lead = 0
    wants = [("Grpc-Metadata-Hasleader", "true")]
    status, _, content = await lab.http("POST", "/v3/watch", b"{}", wants)
    assert (status, json.loads(content)) == (503, {"error": {"code": 14, "message": "etcdserver: no leader"}})


@simulated()
async def test_a_slow_reader_of_a_watch(lab: Lab) -> None:
    """It is parked beyond a megabyte, and goes on when it reads, event by event."""
    total = 600
    for number in range(total):
        await lab.put(b"k", b"%d:" % number + bytes(10_000))
    body = b'{"create_request":{"key":"aw==","start_revision":"1"}}'
    talk = await lab.http_open("POST", "/v3/watch", body)
    talk.pause()
    await asyncio.sleep(5)
    waiting = [one.unwritten_bytes() for one in lab.etcd._edge._connections]
    assert max(waiting) < 4_000_000, waiting
    talk.resume()
    rest = b""
    seen: list[bytes] = []
    while len(seen) < total:
        chunk = await talk.chunk()
        assert chunk is not None
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            events = json.loads(line)["result"].get("events", ())
            seen += [base64.b64decode(event["kv"]["value"]).partition(b":")[0] for event in events]
    assert seen == [b"%d" % number for number in range(total)]
    talk.close()


@simulated()
async def test_a_stop_ends_open_watches_at_once(lab: Lab) -> None:
    talk = await lab.http_open("POST", "/v3/watch", b'{"create_request":{}}')
    await talk.line()
    began = lab.sim.now
    await lab.stop()
    assert lab.sim.now - began < 1
    assert await talk.line() == {"error": {"code": 14, "message": "etcdserver: server stopped"}}
    await lab.start()


@simulated(enable_grpc_gateway=False)
async def test_without_the_gateway(lab: Lab) -> None:
    assert (await lab.http("POST", "/v3/kv/range", b"{}"))[::2] == (404, b"404 page not found\n")


def test_values_are_cut_wherever_they_arrive() -> None:
    text = b' {"a":"}{\\"\\\\"} {"b":[{},{}]}\n{}'
    values = [b' {"a":"}{\\"\\\\"}', b' {"b":[{},{}]}', b"\n{}"]
    for size in range(1, len(text) + 1):
        cutter = JsonValues(1000)
        found = []
        for start in range(0, len(text), size):
            found += cutter.feed(text[start : start + size])
        assert (found, cutter.rest()) == (values, b""), size
    cutter = JsonValues(1000)
    assert cutter.feed(b'{} {"a') == [b"{}"]
    assert cutter.rest() == b'{"a'
    with pytest.raises(JsonError):
        JsonValues(10).feed(b'{"' + b"a" * 20)
