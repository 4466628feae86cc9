"""Locks, semaphores and elections for threads, against a real server."""

from __future__ import annotations

import threading

import pytest
from tests.client.threads import in_threads, until
from tests.servers import Server

from petcd.client import LeaseLost, Put
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
