"""A tour of PyPI's ``etcd3`` (python-etcd3) against an endpoint.

etcd3 0.12 can be imported only beside an old protobuf, and its locks want an old tenacity, so it lives in an
environment of its own (``make etcd3-environment``, which is the first two lines below):

    python3 -m venv .venv-etcd3
    .venv-etcd3/bin/pip install etcd3 'protobuf<3.21' 'tenacity<7' setuptools
    .venv-etcd3/bin/python tests/e2e/etcd3_tour.py 127.0.0.1:2379
"""

import sys
import time

import etcd3


def tour(host, port):
    client = etcd3.client(host=host, port=port, timeout=10)

    # KV
    client.put("etcd3/a", "1")
    client.put("etcd3/b", "2")
    assert client.get("etcd3/a")[0] == b"1"
    assert client.get("etcd3/none")[0] is None
    assert [value for value, _ in client.get_prefix("etcd3/")] == [b"1", b"2"]
    assert [value for value, _ in client.get_prefix("etcd3/", sort_order="descend", sort_target="key")] == [
        b"2",
        b"1",
    ]
    assert client.replace("etcd3/a", "1", "one")
    assert not client.replace("etcd3/a", "1", "two")
    assert client.put_if_not_exists("etcd3/c", "3")
    assert not client.put_if_not_exists("etcd3/c", "4")
    assert client.delete("etcd3/b")
    assert not client.delete("etcd3/b")

    # Transactions
    done, _ = client.transaction(
        compare=[client.transactions.value("etcd3/a") == "one", client.transactions.version("etcd3/a") > 0],
        success=[client.transactions.put("etcd3/t", "yes")],
        failure=[client.transactions.put("etcd3/t", "no")],
    )
    assert done
    assert client.get("etcd3/t")[0] == b"yes"

    # Watch
    events, cancel = client.watch("etcd3/w")
    client.put("etcd3/w", "1")
    client.put("etcd3/w", "2")
    client.delete("etcd3/w")
    seen = [next(events) for _ in range(3)]
    cancel()
    assert [(type(event).__name__, event.value) for event in seen] == [
        ("PutEvent", b"1"),
        ("PutEvent", b"2"),
        ("DeleteEvent", b""),
    ], seen

    # Leases
    lease = client.lease(60)
    client.put("etcd3/l", "x", lease=lease)
    assert 0 < lease.remaining_ttl <= 60
    assert lease.granted_ttl == 60
    assert list(lease.keys) == [b"etcd3/l"]
    lease.refresh()
    lease.revoke()
    assert client.get("etcd3/l")[0] is None

    # Locks
    with client.lock("etcd3-lock", ttl=20) as lock:
        assert lock.is_acquired()
        other = client.lock("etcd3-lock", ttl=20)
        started = time.monotonic()
        assert not other.acquire(timeout=1)
        assert time.monotonic() - started < 5

    # Compaction, members, status
    client.compact(client.get("etcd3/a")[1].response_header.revision)
    assert [member.name for member in client.members] == ["default"]
    assert client.status().version.startswith("3.")
    client.delete_prefix("etcd3/")
    client.close()


if __name__ == "__main__":
    address, number = sys.argv[1].rsplit(":", 1)
    tour(address, int(number))
    print("etcd3: all well")
