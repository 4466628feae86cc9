"""Locks, semaphores and elections for threads, against a real server."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.client.threads import in_threads, until
from tests.servers import Server

from petcd.client import Client as AsyncClient
from petcd.client import LeaseLost, Put, TransportFailure
from petcd.client.recipes import Election as AsyncElection
from petcd.client.sync import Client
from petcd.client.sync.recipes import Election, Lock, ReadWriteLock, Semaphore


def test_one_holder_at_a_time(server: Server) -> None:
    with Client(server.endpoint) as client:
        inside = 0
        tokens: list[int] = []

        def work(_: int) -> None:
            nonlocal inside
            for _ in range(5):
                with Lock(client, "lock/a") as lock:
                    inside += 1
                    assert inside == 1
                    tokens.append(lock.token)
                    assert client.txn(when=[lock.held], then=[Put("lock/done", "1")])
                    lock.check()
                    inside -= 1

        in_threads(4, work)
        assert tokens == sorted(set(tokens))
        assert len(tokens) == 20


def test_waiting_has_an_end(server: Server) -> None:
    with Client(server.endpoint) as client, Lock(client, "lock/b") as first:
        second = Lock(client, "lock/b")
        with pytest.raises(TimeoutError):
            second.acquire(timeout=0.1)
        assert not second.try_acquire()
        with pytest.raises(RuntimeError, match="not held"):
            second.check()
        assert client.get("lock/b/", prefix=True).count == 1
        first.release()
        assert not first.is_held
        assert not first.lost.is_set()
        second.acquire(timeout=5)
        assert second.is_held
        client.delete(second.key)
        assert second.lost.wait(5)
        assert not second.is_held
        with pytest.raises(LeaseLost):
            second.check()
        second.release()


def test_the_lock_of_a_closed_client_is_lost(server: Server) -> None:
    client = Client(server.endpoint)
    lock = Lock(client, "lock/c", ttl=2)
    lock.acquire()
    client.close()
    assert lock.lost.is_set()
    lock.release()


def test_permits(server: Server) -> None:
    with Client(server.endpoint) as client:
        held = [Semaphore(client, "permits", 2) for _ in range(3)]
        assert [permit.try_acquire() for permit in held] == [True, True, False]
        with pytest.raises(TimeoutError):
            held[2].acquire(timeout=0.05)
        held[0].release()
        with held[2]:
            assert held[2].is_held
        held[1].release()


def test_readers_share_and_writers_do_not(server: Server) -> None:
    with Client(server.endpoint) as client:
        lock = ReadWriteLock(client, "shelf")
        writer = lock.write()
        with lock.read(), lock.read(), pytest.raises(TimeoutError):
            writer.acquire(timeout=0.05)
        with writer, pytest.raises(TimeoutError):
            lock.read().acquire(timeout=0.05)


def test_leaders_follow_each_other(server: Server) -> None:
    with Client(server.endpoint) as client:
        elected = threading.Event()

        def follow() -> None:
            with Election(client, "chair", "second"):
                elected.set()

        assert Election(client, "chair").leader() is None
        with Election(client, "chair", "first") as first:
            thread = threading.Thread(target=follow)
            thread.start()
            until(lambda: client.get("chair/", prefix=True).count == 2)
            first.proclaim("still first")
            leader = first.leader()
            assert leader is not None
            assert leader.text == "still first"
            assert not elected.is_set()
        assert elected.wait(5)
        thread.join(5)


class Unlucky(AsyncElection):
    """A candidate whose key is deleted in the moment in which its turn comes: ``campaign`` ends, and what it
    got is lost."""

    async def campaign(self, value: bytes | str | None = None) -> None:
        await super().campaign(value)
        await self._client.delete(self.key)
        await self.lost.wait()


def test_what_is_lost_as_soon_as_it_is_taken_is_known_and_given_back(server: Server) -> None:
    with Client(server.endpoint) as client:
        election = Election(client, "unlucky")
        election._make = lambda keys: Unlucky(keys, "unlucky")
        election.campaign()
        assert election.lost.wait(5)
        with pytest.raises(LeaseLost):
            election.check()
        lease = election.lease
        election.release()
        assert not client.leases.time_to_live(lease).exists
        election.campaign()  # it is not held any more
        election.release()


def test_one_object_is_one_holder(server: Server) -> None:
    with Client(server.endpoint) as client, Lock(client, "lock/d") as first:
        waiter = Lock(client, "lock/d")
        thread = threading.Thread(target=waiter.acquire)
        thread.start()
        until(lambda: client.get("lock/d/", prefix=True).count == 2)
        with pytest.raises(RuntimeError, match="Lock is held already"):
            waiter.acquire(timeout=5)
        assert not waiter.is_held
        first.release()
        thread.join(5)
        assert waiter.is_held
        with pytest.raises(RuntimeError, match="Lock is held already"):
            waiter.try_acquire()
        assert [kv.key for kv in client.get("lock/d/", prefix=True)] == [waiter.key]
        waiter.release()
        assert not client.get("lock/d/", prefix=True)


def test_an_interrupted_waiter_leaves_no_key(server: Server) -> None:
    """Neither when it is alone nor when the program ends right after."""
    with Client(server.endpoint) as other, Lock(other, "lock/e"), Client(server.endpoint) as client:

        def interrupt() -> None:
            until(lambda: other.get("lock/e/", prefix=True).count == 2)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            Lock(client, "lock/e").acquire()
        thread.join(5)
        assert other.get("lock/e/", prefix=True).count == 1


def test_a_waiter_whose_client_is_closed_leaves_no_key(server: Server) -> None:
    with Client(server.endpoint) as other, Lock(other, "lock/f"):
        client = Client(server.endpoint)
        ended: list[BaseException] = []

        def wait() -> None:
            try:
                Lock(client, "lock/f").acquire()
            except TransportFailure as failure:
                ended.append(failure)

        thread = threading.Thread(target=wait)
        thread.start()
        until(lambda: other.get("lock/f/", prefix=True).count == 2)
        client.close()
        assert other.get("lock/f/", prefix=True).count == 1
        thread.join(5)
        assert [str(failure) for failure in ended] == ["the client is closed"]


def interrupt_too_late(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is next run in the background thread is interrupted when it has just ended."""
    portal = client._portal
    run = portal.run

    def interrupted(work: Callable[[AsyncClient], Any]) -> None:
        monkeypatch.undo()
        run(work)
        raise KeyboardInterrupt

    monkeypatch.setattr(portal, "run", interrupted)


def test_what_an_interrupt_has_come_too_late_for_is_given_back(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(server.endpoint) as client:
        interrupt_too_late(client, monkeypatch)
        lock = Lock(client, "lock/g")
        with pytest.raises(KeyboardInterrupt):
            lock.acquire()
        assert not lock.is_held
        assert not lock.lost.is_set()
        assert not client.get("lock/g/", prefix=True)


def test_a_lease_that_an_interrupt_has_come_too_late_for_is_given_back(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(server.endpoint) as client:
        interrupt_too_late(client, monkeypatch)
        lease = client.lease(3)
        with pytest.raises(KeyboardInterrupt):
            lease.__enter__()
        assert not client.leases.time_to_live(lease.id).exists
        first = lease.id
        with lease:  # it can be entered again
            assert lease.id != first
            lease.check()
            client.leases.revoke(lease)
            assert lease.lost.wait(30)
        with lease:
            lease.check()


def test_an_interrupted_call_is_waited_for_a_moment_only(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot give back what it has, because nobody answers, does not keep the program."""
    monkeypatch.setattr("petcd.client.sync.portal._LAST_SECONDS", 0.05)
    entered = threading.Event()
    ended = threading.Event()

    async def stubborn(_client: AsyncClient) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

    def interrupt() -> None:
        entered.wait(5)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with Client(server.endpoint) as client:
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            client.run(stubborn)
        thread.join(5)
        assert not ended.is_set()
    assert ended.is_set()
