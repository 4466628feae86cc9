"""The synchronous client against a real server: the same names, from one thread and from many."""

from __future__ import annotations

import contextlib
import inspect
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from tests.client.threads import in_threads, until
from tests.servers import Server, free_port

from petcd import errors
from petcd.client import (
    Auth,
    Client,
    Cluster,
    Delete,
    Event,
    Get,
    Keyspace,
    Lease,
    LeaseLost,
    Leases,
    Maintenance,
    Progress,
    Put,
    Tls,
    Transaction,
    TransportFailure,
    Watch,
    compare,
    sync,
)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (sync.Client, Client),
        (sync.Keyspace, Keyspace),
        (sync.Transaction, Transaction),
        (sync.Watch, Watch),
        (sync.Lease, Lease),
        (sync.Leases, Leases),
        (sync.Maintenance, Maintenance),
        (sync.Cluster, Cluster),
        (sync.Auth, Auth),
    ],
)
def test_the_same_names_and_parameters(ours: type, theirs: type) -> None:
    inner = {
        sync.Watch: {"over", "create_request", "created", "broken", "take", "full", "fail", "abandon"},
    }.get(ours, set())
    for name, member in inspect.getmembers(theirs):
        if name.startswith("_") or name in inner:
            continue
        same = getattr(ours, name)
        if inspect.isfunction(member):
            wanted = [p for p in inspect.signature(member).parameters if p != "self"]
            given = [p for p in inspect.signature(same).parameters if p != "self"]
            assert given[: len(wanted)] == wanted, name


def test_kv(server: Server) -> None:
    with sync.Client(server.endpoint) as client:
        first = client.put("kv/a", "1")
        assert client.get("kv/a").value == b"1"
        assert client.get("kv/none").first is None
        assert (
            client.put("kv/a", "2", previous=True).previous
            == client.get("kv/a", revision=first.revision).first
        )
        client.put("kv/b", b"\x00\xff")
        assert [kv.value for kv in client.get("kv/", prefix=True)] == [b"2", b"\x00\xff"]
        assert [kv.key for kv in client.iterate("kv/", prefix=True, page=1)] == [b"kv/a", b"kv/b"]
        assert client.delete("kv/", prefix=True).deleted == 2
        with pytest.raises(errors.EmptyKey):
            client.put("")
        with pytest.raises(ValueError, match="exclude"):
            client.get("a", "b", prefix=True)


def test_txn(server: Server) -> None:
    with sync.Client(server.endpoint) as client:
        client.put("txn/stock", "1")
        price = Get("txn/price")
        sell = client.when(compare("txn/stock").value == "1").then(
            Delete("txn/stock"), Put("txn/price", "9"), price
        )
        done = sell.run()
        assert done
        assert done[price].value == b"9"
        assert not sell.run()
        result = client.txn(when=[compare("txn/stock").version > 0], otherwise=[Get("txn/price")])
        assert (result.succeeded, len(result.results)) == (False, 1)


def test_namespaces_and_options(server: Server) -> None:
    with sync.Client(server.endpoint) as client:
        inner = client.namespace("names/").namespace("inner/")
        inner.put("a", "1")
        assert client.get("names/inner/a").value == b"1"
        assert inner.prefix == b"names/inner/"
        with inner.watch("a") as watch, inner.lease(60) as lease:
            inner.options(timeout=10).put("a", "2", lease=lease)
            assert watch.next(5).key == b"a"
            assert inner.leases.time_to_live(lease, keys=True).keys == (b"a",)


def test_services(server: Server) -> None:
    with sync.Client(server.endpoint) as client:
        status = client.maintenance.status(server.endpoint)
        (member,) = client.cluster.members()
        assert member.id == status.member_id == status.leader
        assert client.maintenance.alarms() == []
        assert client.maintenance.hash_kv().hash == client.maintenance.hash_kv(endpoint=server.endpoint).hash
        pieces = b"".join(client.maintenance.snapshot())
        assert len(pieces) % 512 == 32
        assert client.sync_endpoints() == [server.url]
        assert client.run(lambda inner: inner.get("nothing")).count == 0


def test_the_background_thread_does_not_wait_for_itself(server: Server) -> None:
    with sync.Client(server.endpoint) as client:

        async def nested(_: Client) -> None:
            client.leases.keep_alive_once(1)

        async def closing(_: Client) -> None:
            client.close()

        for work in (nested, closing):
            with pytest.raises(RuntimeError, match="background thread"):
                client.run(work)
        assert client.get("alive").count == 0


def test_large_messages_both_ways(server: Server) -> None:
    with sync.Client(server.endpoint, timeout=20.0) as client:
        value = bytes(range(256)) * 4000
        in_threads(4, lambda number: check_large(client, number, value))


def check_large(client: sync.Client, number: int, value: bytes) -> None:
    key = f"large/{number}"
    client.put(key, value)
    assert client.get(key).value == value


def test_many_threads_share_a_client(server: Server) -> None:
    with sync.Client(server.endpoint) as client:

        def work(number: int) -> None:
            for n in range(100):
                key = f"threads/{number}/{n}"
                put = client.put(key, key)
                found = client.get(key).first
                assert found is not None
                assert (found.value, found.mod_revision) == (key.encode(), put.revision)

        in_threads(16, work)
        assert client.get("threads/", prefix=True, count_only=True).count == 1600


def test_a_deadline_is_kept_and_others_go_on(server: Server) -> None:
    with sync.Client(server.endpoint) as client:
        client.put("late", "1")

        def expire(_: int) -> None:
            began = time.monotonic()
            with pytest.raises(TransportFailure) as caught:
                client.options(timeout=0.3).get("late")
            assert caught.value.code == errors.Code.DEADLINE_EXCEEDED
            assert 0.2 < time.monotonic() - began < 3

        with frozen(server):
            in_threads(4, expire)
        assert client.get("late").value == b"1"


def test_nobody_there() -> None:
    with sync.Client(f"127.0.0.1:{free_port()}", timeout=0.2) as client:
        with pytest.raises(TransportFailure) as caught:
            client.put("a", "1")
        assert caught.value.code == errors.Code.DEADLINE_EXCEEDED
        assert not caught.value.sent


def test_the_next_endpoint_is_taken(server: Server) -> None:
    with sync.Client([f"127.0.0.1:{free_port()}", server.endpoint]) as client:
        assert client.put("next", "1").revision
        with client.watch("next") as watch:
            client.put("next", "2")
            assert watch.next(5).value == b"2"


def test_close_ends_the_calls_of_other_threads(server: Server) -> None:
    client = sync.Client(server.endpoint, timeout=None)
    client.put("closing", "1")
    failures: list[TransportFailure] = []

    def work() -> None:
        try:
            client.put("closing", "2")
        except TransportFailure as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work) for _ in range(4)]
    with frozen(server):
        for thread in threads:
            thread.start()
        until(lambda: client._pool._current is not None and client._pool._current.active_count == 4)
        client.close()
        for thread in threads:
            thread.join(5)
            assert not thread.is_alive()
    assert [failure.sent for failure in failures] == [True] * 4
    with pytest.raises(TransportFailure, match="closed"):
        client.get("closing")
    with pytest.raises(TransportFailure, match="closed"):
        client.watch("closing").next(1)
    with pytest.raises(TransportFailure, match="closed"):
        client.maintenance.status(server.endpoint)


def test_close_ends_a_call_to_one_endpoint(server: Server) -> None:
    client = sync.Client(server.endpoint, timeout=None)
    failures: list[TransportFailure] = []

    def work() -> None:
        try:
            client.maintenance.status(server.endpoint)
        except TransportFailure as failure:
            failures.append(failure)

    with frozen(server):
        # Connections are accepted by the kernel, so it waits for an answer or for the settings.
        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(0.1)
        client.close()
    thread.join(5)
    assert not thread.is_alive() and len(failures) == 1


def test_an_error_tells_what_stood_in_the_way() -> None:
    with (
        sync.Client(f"127.0.0.1:{free_port()}", timeout=0.3) as client,
        pytest.raises(TransportFailure, match="refused") as caught,
    ):
        client.get("a")
    assert caught.value.code == errors.Code.DEADLINE_EXCEEDED


def test_certificates_that_are_not_there_yet_are_waited_for(server: Server, tmp_path: Path) -> None:
    tls = Tls(ca=str(tmp_path / "not.there"))
    with (
        sync.Client(f"https://{server.endpoint}", tls=tls, timeout=0.3) as client,
        pytest.raises(TransportFailure, match=r"not\.there") as caught,
    ):
        client.get("a")
    assert caught.value.code == errors.Code.DEADLINE_EXCEEDED


@contextlib.contextmanager
def frozen(server: Server) -> Iterator[None]:
    """Meanwhile the server does nothing at all."""

    def still() -> bool:
        stats = Path(f"/proc/{server.pid}/task").glob("*/stat")
        return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in stats)

    server.pause()
    try:
        until(still)
        yield
    finally:
        server.resume()


# --- a server that goes away --------------------------------------------------------------------------------


def test_reads_survive_a_restart_and_writes_are_not_sent_twice(own_server: Server) -> None:
    with sync.Client(own_server.endpoint, timeout=20.0) as client:
        first = client.put("restart", "1")
        own_server.kill()
        own_server.start()
        # The lost connection shows before the next call is written.
        assert client.put("restart", "2").revision == first.revision + 1
        failures: list[TransportFailure] = []

        def put() -> None:
            try:
                client.put("restart", "3")
            except TransportFailure as failure:
                failures.append(failure)

        def get() -> None:
            assert client.get("restart").value in (b"2", b"3")

        threads = [threading.Thread(target=put), threading.Thread(target=get)]
        with frozen(own_server):
            for thread in threads:
                thread.start()
            until(lambda: client._pool._current is not None and client._pool._current.active_count == 2)
            own_server.kill()
            own_server.start()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        assert [failure.sent for failure in failures] == [True]


def test_a_watch_resumes(own_server: Server) -> None:
    with sync.Client(own_server.endpoint, timeout=20.0) as client, client.watch("resume") as watch:
        client.put("resume", "1")
        assert watch.next(5).value == b"1"
        own_server.kill()
        own_server.start()
        client.put("resume", "2")
        kinds = [type(notice).__name__ for notice in islice(watch.all(20), 3)]
        assert kinds == ["Disconnected", "Resumed", "Event"]


# --- watches ------------------------------------------------------------------------------------------------


def test_a_watch_is_an_iterator(server: Server) -> None:
    with sync.Client(server.endpoint) as client:
        with client.watch("w/", prefix=True, previous=True) as watch:
            assert watch.revision
            for n in range(3):
                client.put("w/a", str(n))
            client.delete("w/a")
            events = list(islice(watch, 4))
            assert [event.value for event in events] == [b"0", b"1", b"2", b""]
            assert events[3].deleted
            assert events[3].previous is not None
            quiet = watch.events(timeout=0.05)
            with pytest.raises(TimeoutError):
                next(quiet)
            client.put("w/a", "again")
            assert next(watch.events(timeout=5)).value == b"again"
            watch.request_progress()
            notice = next(watch.all(timeout=5))
            assert isinstance(notice, Progress)
            assert watch.next_revision == events[3].revision + 2
        assert list(watch) == []


def test_a_watch_from_a_compacted_revision(server: Server) -> None:
    with sync.Client(server.endpoint) as client:
        start = client.put("old", "1").revision
        last = client.put("old", "2").revision
        client.compact(last)
        with pytest.raises(errors.Compacted) as caught:
            client.watch("old", start_revision=start - 1).next(5)
        assert caught.value.revision == last  # type: ignore[attr-defined]


def test_cancel_wakes_every_reader(server: Server) -> None:
    with sync.Client(server.endpoint) as client:
        watch = client.watch("wake")
        reading = threading.Barrier(4)
        got: list[list[Event]] = []

        def read() -> None:
            watch.__enter__()
            reading.wait()
            got.append(list(watch))

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        reading.wait()
        client.put("wake", "1")
        until(lambda: watch.next_revision > watch.revision + 1)
        watch.close()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
        assert sum(map(len, got)) == 1


def test_many_events_wait_for_a_slow_reader(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("petcd.client.sync.watches.HELD_MAX", 8)
    with sync.Client(server.endpoint) as client, client.watch("slow/", prefix=True) as watch:
        for n in range(20):
            client.txn(then=[Put(f"slow/{n}/{m}") for m in range(10)])
        until(lambda: len(watch._items) == 8)
        seen = [event.key for event in islice(watch, 200)]
        assert seen == [f"slow/{n}/{m}".encode() for n in range(20) for m in range(10)]


# --- leases -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_lease_is_kept_alive_while_entered(server: Server) -> None:
    with sync.Client(server.endpoint) as client:
        with client.lease(2) as lease:
            client.put("held", "1", lease=lease)
            assert not lease.lost.wait(3.5)
            lease.check()
            assert client.get("held").value == b"1"
            assert lease.expires_at > time.monotonic()
        assert client.get("held").value is None
        assert not lease.lost.is_set()


def test_a_revoked_lease_is_lost(server: Server) -> None:
    with sync.Client(server.endpoint) as client, client.lease(3) as lease:
        assert lease.id in client.leases.list()
        assert client.leases.keep_alive_once(lease) == 3
        client.leases.revoke(lease)
        assert lease.lost.wait(5)
        with pytest.raises(errors.LeaseNotFound):
            client.leases.revoke(lease)
        with pytest.raises(LeaseLost):
            lease.check()


def test_closing_the_client_loses_its_leases(server: Server) -> None:
    client = sync.Client(server.endpoint)
    with client.lease(60) as lease:
        client.close()
        assert lease.lost.is_set()
    with sync.Client(server.endpoint) as other:
        other.leases.revoke(lease.id)
