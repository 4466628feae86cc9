"""Other people's Python clients, and a plain grpcio channel."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.rpc import Rpc, Status
from tests.servers import Server

from petcd.pb import etcdserverpb as pb
from petcd.pb import mvccpb, v3electionpb, v3lockpb

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ETCD3_PYTHON = Path(os.environ.get("PETCD_ETCD3_PYTHON", ROOT / ".venv-etcd3/bin/python"))


def run_tour(python: str, script: str, server: Server) -> None:
    result = subprocess.run(
        [python, str(HERE / script), server.endpoint], capture_output=True, text=True, timeout=90, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "all well" in result.stdout


def test_aetcd(server: Server) -> None:
    run_tour(sys.executable, "aetcd_tour.py", server)


@pytest.mark.skipif(
    not ETCD3_PYTHON.exists(),
    reason="etcd3 needs an environment with an old protobuf: make etcd3-environment",
)
def test_etcd3(server: Server) -> None:
    run_tour(str(ETCD3_PYTHON), "etcd3_tour.py", server)


def test_grpcio_kv(rpc: Rpc) -> None:
    first = rpc.put(b"g/a", b"1")
    assert rpc.put(b"g/b", b"2") == first + 1
    response = rpc.get(b"g/", b"g0")
    assert [(kv.key, kv.value) for kv in response.kvs] == [(b"g/a", b"1"), (b"g/b", b"2")]
    assert response.count == 2
    assert rpc.get(b"g/", b"g0", revision=first).count == 1
    with pytest.raises(Status, match="key is not provided"):
        rpc.call(pb.PutRequest(value=b"x"))
    deleted = rpc.call(pb.DeleteRangeRequest(key=b"g/", range_end=b"g0", prev_kv=True))
    assert [kv.value for kv in deleted.prev_kvs] == [b"1", b"2"]


def test_grpcio_txn(rpc: Rpc) -> None:
    put = pb.RequestOp(request_put=pb.PutRequest(key=b"g/t", value=b"new"))
    get = pb.RequestOp(request_range=pb.RangeRequest(key=b"g/t"))
    absent = pb.Compare(target=pb.CompareTarget.VERSION, key=b"g/t", version=0)
    for succeeded in (True, False):
        response = rpc.call(pb.TxnRequest(compare=[absent], success=[put], failure=[get]))
        assert response.succeeded is succeeded
    assert response.responses[0].response_range.kvs[0].value == b"new"


def test_grpcio_watch(rpc: Rpc) -> None:
    start = rpc.put(b"g/w", b"0")
    stream = rpc.watch()
    create = pb.WatchCreateRequest(key=b"g/w", start_revision=start, prev_kv=True)
    created = stream.ask(pb.WatchRequest(create_request=create))
    assert created.created
    rpc.put(b"g/w", b"1")
    rpc.call(pb.DeleteRangeRequest(key=b"g/w"))
    events: list[mvccpb.Event] = []
    while len(events) < 3:
        events += stream.receive().events
    assert [event.type for event in events] == [0, 0, 1]
    assert [event.prev_kv.value if event.prev_kv else None for event in events] == [None, b"0", b"1"]
    stream.send(pb.WatchRequest(cancel_request=pb.WatchCancelRequest(watch_id=created.watch_id)))
    assert stream.receive().canceled
    stream.cancel()


def test_grpcio_lease(rpc: Rpc) -> None:
    lease = rpc.call(pb.LeaseGrantRequest(TTL=60)).ID
    rpc.put(b"g/l", b"x", lease)
    alive = rpc.keep_alive()
    assert alive.ask(pb.LeaseKeepAliveRequest(ID=lease)).TTL == 60
    assert alive.ask(pb.LeaseKeepAliveRequest(ID=99)).TTL == 0
    alive.half_close()
    with pytest.raises(Status) as ended:
        alive.receive()
    assert ended.value.code == 0
    assert rpc.call(pb.LeaseTimeToLiveRequest(ID=lease, keys=True)).keys == [b"g/l"]
    rpc.call(pb.LeaseRevokeRequest(ID=lease))
    assert rpc.value(b"g/l") is None


def test_grpcio_lock(rpc: Rpc) -> None:
    one, two = (rpc.call(pb.LeaseGrantRequest(TTL=60)).ID for _ in range(2))
    held = rpc.call(v3lockpb.LockRequest(name=b"g-lock", lease=one)).key
    assert held == b"g-lock/%x" % one
    waiting = rpc.future(v3lockpb.LockRequest(name=b"g-lock", lease=two), seconds=20)
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(waiting.result().key))
    thread.start()
    thread.join(0.3)
    assert not got
    rpc.call(v3lockpb.UnlockRequest(key=held))
    thread.join(10)
    assert got == [b"g-lock/%x" % two]


def test_grpcio_election(rpc: Rpc) -> None:
    lease = rpc.call(pb.LeaseGrantRequest(TTL=60)).ID
    won = rpc.call(v3electionpb.CampaignRequest(name=b"g-elect", lease=lease, value=b"me"))
    assert won.leader.lease == lease
    assert rpc.call(v3electionpb.LeaderRequest(name=b"g-elect")).kv.value == b"me"
    rpc.call(v3electionpb.ResignRequest(leader=won.leader))
    with pytest.raises(Status, match="election: no leader"):
        rpc.call(v3electionpb.LeaderRequest(name=b"g-elect"))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/etcdserverpb.KV/Nothing", "unknown method Nothing for service etcdserverpb.KV"),
        ("/no.such.Service/Method", "unknown service no.such.Service"),
    ],
)
def test_unknown_methods_and_services(rpc: Rpc, path: str, text: str) -> None:
    stream = rpc.stream(path, pb.RangeResponse)
    stream.send(pb.RangeRequest(key=b"a"))
    with pytest.raises(Status) as refused:
        stream.receive()
    assert refused.value == Status(12, text)
