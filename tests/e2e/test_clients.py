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
from petcd.pb import mvccpb

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
    """The classic recipe: who created the key holds the lock; others wait for its deletion by watching it."""
    held: list[str] = []

    def hold(name: str, rpc: Rpc) -> None:
        lease = rpc.call(pb.LeaseGrantRequest(TTL=60)).ID
        absent = pb.Compare(target=pb.CompareTarget.CREATE, key=b"g-lock", create_revision=0)
        put = pb.RequestOp(request_put=pb.PutRequest(key=b"g-lock", value=name.encode(), lease=lease))
        while True:
            response = rpc.call(pb.TxnRequest(compare=[absent], success=[put]))
            if response.succeeded:
                break
            stream = rpc.watch()
            create = pb.WatchCreateRequest(
                key=b"g-lock", start_revision=response.header.revision + 1, filters=[0]
            )
            assert stream.ask(pb.WatchRequest(create_request=create)).created
            assert stream.receive().events
            stream.cancel()
        assert rpc.value(b"g-lock") == name.encode()
        held.append(name)
        rpc.call(pb.LeaseRevokeRequest(ID=lease))

    threads = [threading.Thread(target=hold, args=(f"client {number}", rpc)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(held) == [f"client {number}" for number in range(5)]
    assert rpc.value(b"g-lock") is None


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
