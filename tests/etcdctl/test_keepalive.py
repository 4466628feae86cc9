"""A server that has fallen silent is told from one that has nothing to say (``--keepalive-*``)."""

from __future__ import annotations

import time

import pytest
from tests.servers import Kind, needs_go_etcd, serving

from petcd.client.blocking import BlockingCall, BlockingConnection, Broken, connect
from petcd.pb.etcdserverpb import watch as pb


def watching(connection: BlockingConnection) -> BlockingCall:
    call = connection.open("/etcdserverpb.Watch/Watch")
    create = pb.WatchCreateRequest(key=b"quiet")
    connection.send(call, pb.WatchRequest(create_request=create).encode())
    assert connection.receive(call, time.monotonic() + 10) is not None
    return call


@pytest.mark.parametrize("kind", [pytest.param("go", marks=needs_go_etcd), "petcd"])
def test_pings(kind: Kind) -> None:
    with serving(kind) as server:
        connection = connect("127.0.0.1", server.client_port, timeout=10, keepalive=(0.3, 0.4))
        call = watching(connection)
        # One ping is answered, and the stream goes on.
        with pytest.raises(TimeoutError):
            connection.receive(call, time.monotonic() + 0.45)
        server.pause()
        with pytest.raises(Broken, match="keepalive ping failed"):
            connection.receive(call, time.monotonic() + 20)
        server.resume()
        connection.close()
