"""The synchronous client across forks, over TLS, and with users."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.client.threads import in_threads
from tests.net.test_tls import Authority
from tests.servers import Server, free_port, needs_go_etcd, serving

from petcd import errors
from petcd.client import LeaseLost, Tls, TransportFailure
from petcd.client.sync import Client
from petcd.client.sync.recipes import Election, Lock

# From 3.12 on Python warns of any fork beside threads; here that is the point.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def in_child(work: Callable[[], object]) -> None:
    """Run ``work`` in a forked child. Raises AssertionError with what it raised there."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        text = b""
        try:
            work()
        except BaseException as error:  # noqa: BLE001  told to the parent
            text = f"{type(error).__name__}: {error}".encode() or b"failed"
        os.write(write, text)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as told:
        text = told.read()
    os.waitpid(child, 0)
    assert text == b""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_parent_and_child_both_go_on(server: Server) -> None:
    with Client(server.endpoint) as client:
        client.put("fork/a", "parent")

        def child() -> None:
            assert client.get("fork/a").value == b"parent"
            for n in range(50):
                client.put("fork/b", str(n))
            with client.watch("fork/c") as watch, client.lease(60) as lease:
                client.put("fork/c", "child", lease=lease)
                assert watch.next(5).value == b"child"
            client.close()

        in_child(child)
        for n in range(50):
            client.put("fork/a", str(n))
        assert client.get("fork/b").value == b"49"
        assert client.get("fork/c").value is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_leaves_watches_and_leases_to_its_parent(server: Server) -> None:
    with Client(server.endpoint) as client, client.lease(60) as lease, client.watch("kept/a") as watch:
        client.put("kept/lease", "1", lease=lease)

        def child() -> None:
            with pytest.raises(RuntimeError, match="fork"):
                watch.next(1)
            watch.cancel()
            lease.__exit__(None, None, None)
            assert lease.lost.is_set()
            with pytest.raises(LeaseLost):
                lease.check()
            with lease:  # one of the child's own
                lease.check()
            client.close()

        in_child(child)
        client.put("kept/a", "1")
        assert watch.next(5).value == b"1"
        assert client.get("kept/lease").value == b"1"
        assert not lease.lost.is_set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_leaves_a_snapshot_to_its_parent(server: Server) -> None:
    with Client(server.endpoint) as client:
        pieces = client.maintenance.snapshot()
        first = next(pieces)

        def child() -> None:
            with pytest.raises(RuntimeError, match="fork"):
                next(pieces)
            client.close()

        in_child(child)
        rest = b"".join(pieces)
        assert hashlib.sha256((first + rest)[:-32]).digest() == (first + rest)[-32:]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_does_not_hold_what_its_parent_holds(server: Server) -> None:
    with Client(server.endpoint) as client, Election(client, "kept/chair", "parent") as leadership:
        released = Lock(client, "kept/lock")
        with released:
            pass

        def child() -> None:
            assert not leadership.is_held
            assert leadership.lost.is_set()
            with pytest.raises(LeaseLost):
                leadership.check()
            with pytest.raises(LeaseLost):
                leadership.proclaim("child")
            assert client.txn(when=[leadership.held])  # the store says who holds it: the parent
            leadership.release()
            with pytest.raises(TimeoutError):
                leadership.campaign("child", timeout=0.1)
            assert not released.lost.is_set()
            with released:
                assert released.is_held
                released.check()
            client.close()

        in_child(child)
        assert leadership.is_held
        leadership.check()
        assert [kv.value for kv in client.get("kept/chair/", prefix=True)] == [b"parent"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_in_the_middle_of_other_threads_calls(server: Server) -> None:
    with Client(server.endpoint) as client:
        stop = threading.Event()
        failures: list[BaseException] = []

        def work() -> None:
            try:
                while not stop.is_set():
                    client.put("busy", "x" * 1000)
            except BaseException as failure:  # noqa: BLE001  looked at below
                failures.append(failure)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for n in range(5):
                in_child(partial(client.put, f"busy/{n}", "child"))
        finally:
            stop.set()
            for thread in threads:
                thread.join(10)
        assert failures == []
        assert client.get("busy/", prefix=True, count_only=True).count == 5


def test_a_client_that_was_closed_is_closed_in_the_child_too(server: Server) -> None:
    client = Client(server.endpoint)
    client.put("shut", "1")
    client.close()

    def child() -> None:
        with pytest.raises(TransportFailure, match="closed"):
            client.get("shut")

    in_child(child)


# --- TLS ----------------------------------------------------------------------------------------------------


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[tuple[str, Authority]]:
    """Go etcd with a second port that speaks TLS and wants certificates of its clients; their authority."""
    authority = Authority(tmp_path)
    cert, key, _ = authority.issue("localhost", "server")
    plain, secure = free_port(), free_port()
    with serving(
        "go",
        None,
        f"--listen-client-urls=http://127.0.0.1:{plain},https://127.0.0.1:{secure}",
        f"--cert-file={cert}",
        f"--key-file={key}",
        f"--trusted-ca-file={authority.ca_file}",
        "--client-cert-auth",
        client_port=plain,
    ):
        yield f"https://127.0.0.1:{secure}", authority


@pytest.mark.go
@needs_go_etcd
def test_tls_from_many_threads(encrypted: tuple[str, Authority]) -> None:
    endpoint, authority = encrypted
    cert, key, _ = authority.issue("client", "client")
    tls = Tls(ca=authority.ca_file, cert=cert, key=key)
    value = os.urandom(300_000)
    with Client(endpoint, tls=tls, timeout=20.0) as client:

        def work(number: int) -> None:
            for n in range(10):
                client.put(f"tls/{number}", value[n:])
                assert client.get(f"tls/{number}").value == value[n:]

        in_threads(8, work)
        with client.watch("tls/w") as watch:
            client.put("tls/w", "1")
            assert watch.next(5).value == b"1"
        if hasattr(os, "fork"):
            in_child(lambda: client.put("tls/child", "1"))
            assert client.get("tls/child").value == b"1"
    with (
        Client(endpoint, tls=Tls(ca=authority.ca_file), timeout=0.5) as stranger,
        pytest.raises(TransportFailure),
    ):
        stranger.get("tls/w")


# --- users --------------------------------------------------------------------------------------------------


@pytest.fixture
def guarded() -> Iterator[Server]:
    """A server with authentication on: root/root, and alice/secret who may use a/ only."""
    with serving("go", None, "--bcrypt-cost=4") as server:
        with Client(server.endpoint) as client:
            auth = client.auth
            auth.add_role("root")
            auth.add_user("root", "root")
            auth.grant_role("root", "root")
            auth.add_role("worker")
            auth.grant_permission("worker", "readwrite", "a/", prefix=True)
            auth.add_user("alice", "secret")
            auth.grant_role("alice", "worker")
            auth.enable()
        yield server


@pytest.mark.go
@needs_go_etcd
def test_users(guarded: Server) -> None:
    with Client(guarded.endpoint, user="alice", password="secret") as alice:

        def work(number: int) -> None:
            assert alice.put(f"a/{number}", "1").revision

        in_threads(8, work)
        with pytest.raises(errors.PermissionDenied):
            alice.put("b", "1")
        with alice.watch("a/w") as watch:
            alice.put("a/w", "1")
            assert watch.next(5).value == b"1"
        # The server forgets its tokens; the client logs in once more.
        guarded.kill()
        guarded.start()
        in_threads(8, work)
        with Client(guarded.endpoint, user="root", password="root") as root:
            assert root.auth.users() == ["alice", "root"]
            assert [permission.access for permission in root.auth.role("worker")] == ["readwrite"]
            root.auth.change_password("alice", "other")
            root.auth.disable()
        assert alice.put("b", "1").revision
    with (
        Client(guarded.endpoint, user="alice", password="secret") as open_now,
        Client(guarded.endpoint) as nobody,
    ):
        assert open_now.get("b").value == nobody.get("b").value == b"1"
