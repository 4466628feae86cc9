"""Locks against a real server, alone and beside etcdctl's."""

from __future__ import annotations

import asyncio
import signal
import sys

import pytest
from tests.client.recipes.helpers import etcdctl, lease_of, line, run, wait_keys
from tests.servers import Server, needs_go_etcdctl

from petcd.client import Client, LeaseLost, Put
from petcd.client.recipes import Lock
from petcd.client.recipes._place import Place


def test_one_at_a_time_with_growing_tokens(server: Server) -> None:
    async def main() -> None:
        inside: list[int] = []
        tokens: list[int] = []

        async def contend(client: Client) -> None:
            for _ in range(5):
                async with Lock(client, "lock/many") as lock:
                    inside.append(lock.token)
                    assert inside == [lock.token]
                    await client.put("lock/many-work", str(lock.token))
                    assert inside.pop() == lock.token
                    tokens.append(lock.token)

        async with Client(server.endpoint) as one, Client(server.endpoint) as two:
            await asyncio.gather(*(contend(client) for client in (one, two, one, two)))
            assert tokens == sorted(set(tokens))
            assert len(tokens) == 20
            assert not await one.get("lock/many/", prefix=True)

    run(main)


def test_first_come_first_served(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            order: list[int] = []

            async def contend(number: int) -> None:
                async with Lock(client, "lock/order"):
                    order.append(number)

            async with Lock(client, "lock/order"):
                tasks = []
                for number in range(4):
                    tasks.append(asyncio.create_task(contend(number)))
                    await wait_keys(client, "lock/order/", number + 2)
                assert order == []
            await asyncio.gather(*tasks)
            assert order == [0, 1, 2, 3]

    run(main)


def test_try_acquire(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            one, two = Lock(client, "lock/try"), Lock(client, "lock/try")
            assert await one.try_acquire()
            assert one.is_held and not two.is_held
            assert not await two.try_acquire()
            assert len(await client.get("lock/try/", prefix=True)) == 1
            await one.release()
            await one.release()
            async with two:
                with pytest.raises(RuntimeError, match="Lock is held already"):
                    await two.acquire()
            with pytest.raises(RuntimeError, match="Lock is not held"):
                _ = two.token

    run(main)


def test_a_turn_that_comes_with_the_loss_of_the_place_is_not_taken(server: Server) -> None:
    class Unlucky(Lock):
        """Its key is deleted in the moment in which its turn comes, once."""

        unlucky = True

        async def _turn(self, place: Place) -> bool:
            await super()._turn(place)
            if self.unlucky:
                self.unlucky = False
                await self._client.delete(place.key)
                await place.lost.wait()
            return True

    async def main() -> None:
        async with Client(server.endpoint) as client, Unlucky(client, "lock/moment") as lock:
            assert not lock.unlucky
            assert lock.is_held
            lock.check()
            assert await wait_keys(client, "lock/moment/", 1) == [lock.key]

    run(main)


def test_a_holder_whose_lease_is_revoked_is_told_and_fenced_off(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            async with Lock(client, "lock/revoked", ttl=60) as lock:
                assert await client.txn(when=[lock.held], then=[Put("lock/data", "first")])
                nexts = Lock(client, "lock/revoked")
                waiting = asyncio.create_task(nexts.acquire())
                await wait_keys(client, "lock/revoked/", 2)
                await client.leases.revoke(lock.lease)
                await lock.lost.wait()
                with pytest.raises(LeaseLost):
                    lock.check()
                assert not lock.is_held
                await waiting
                assert nexts.token > lock.token
                assert not await client.txn(when=[lock.held], then=[Put("lock/data", "late")])
                assert await client.txn(when=[nexts.held], then=[Put("lock/data", "second")])
            nexts.check()
            await nexts.release()
            assert (await client.get("lock/data")).value == b"second"

    run(main)


def test_a_holder_whose_key_is_deleted_is_told(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client, Lock(client, "lock/deleted", ttl=60) as lock:
            await client.delete(lock.key)
            await lock.lost.wait()
            with pytest.raises(LeaseLost):
                lock.check()

    run(main)


def test_a_waiting_contender_whose_lease_is_lost_queues_again(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            entered: list[str] = []

            async def contend(name: str) -> int:
                async with Lock(client, "lock/contender", ttl=60) as lock:
                    entered.append(name)
                    return lock.token

            async with Lock(client, "lock/contender", ttl=60) as holder:
                first = asyncio.create_task(contend("first"))
                _, first_key = await wait_keys(client, "lock/contender/", 2)
                second = asyncio.create_task(contend("second"))
                _, _, second_key = await wait_keys(client, "lock/contender/", 3)
                await client.leases.revoke(lease_of(first_key))
                while second_key == (keys := await wait_keys(client, "lock/contender/", 3))[2]:
                    pass
                assert keys[:2] == [holder.key, second_key]
                assert entered == []
                holder.check()
                token = holder.token
            assert token < await second < await first
            assert entered == ["second", "first"]

    run(main)


def test_a_cancelled_contender_leaves_the_line(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            async with Lock(client, "lock/cancelled") as holder:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await Lock(client, "lock/cancelled").acquire()
                assert await wait_keys(client, "lock/cancelled/", 1) == [holder.key]
            async with Lock(client, "lock/cancelled"):
                pass

    run(main)


def test_a_namespace(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            inside, outside = client.namespace("lock-tenant/"), Lock(client, "lock-tenant/lock")
            async with Lock(inside, "lock") as lock:
                assert lock.key == b"lock/%x" % lock.lease
                assert not await outside.try_acquire()
                assert await inside.txn(when=[lock.held], then=[Put("data", "1")])
                await client.delete(b"lock-tenant/" + lock.key)
                await lock.lost.wait()

    run(main)


@pytest.mark.slow
def test_holder_and_contender_survive_a_restart(own_server: Server) -> None:
    async def main() -> None:
        async with Client(own_server.endpoint) as client:
            waiter = Lock(client, "lock/restart", ttl=20)
            async with Lock(client, "lock/restart", ttl=20) as holder:
                waiting = asyncio.create_task(waiter.acquire())
                await wait_keys(client, "lock/restart/", 2)
                await asyncio.to_thread(own_server.kill)
                releasing = asyncio.create_task(holder.release())
                await asyncio.to_thread(own_server.start)
                await releasing
            await waiting
            waiter.check()
            await waiter.release()
            assert not await client.get("lock/restart/", prefix=True)

    run(main)


HOLDER = """
import asyncio, sys
from petcd.client import Client, Put
from petcd.client.recipes import Lock
from petcd.client.recipes._place import Place

async def main():
    async with Client(sys.argv[1]) as client, Lock(client, "lock/stalled", ttl=2) as lock:
        print(lock.token, flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        done = await client.txn(when=[lock.held], then=[Put("lock/stalled-data", "late")])
        print(done.succeeded, flush=True)
        async with asyncio.timeout(30):
            await lock.lost.wait()

asyncio.run(main())
"""


@pytest.mark.slow
def test_a_holder_that_was_stopped_for_too_long_is_fenced_off(server: Server) -> None:
    async def main() -> None:
        holder = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", HOLDER, server.endpoint),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert holder.stdin is not None
        try:
            token = int(await line(holder))
            holder.send_signal(signal.SIGSTOP)
            async with Client(server.endpoint) as client, Lock(client, "lock/stalled") as lock:
                assert lock.token > token
                holder.stdin.write(b"\n")
                holder.send_signal(signal.SIGCONT)
                assert await line(holder) == b"False"
                assert (await client.get("lock/stalled-data")).value is None
                assert await holder.wait() == 0
                lock.check()
        finally:
            if holder.returncode is None:
                holder.kill()
                await holder.wait()

    run(main)


@needs_go_etcdctl
def test_etcdctl_waits_for_us(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            lock = Lock(client, "lock/go1")
            await lock.acquire()
            async with etcdctl(server, "lock", "lock/go1") as theirs:
                keys = await wait_keys(client, "lock/go1/", 2)
                assert keys[0] == lock.key == b"lock/go1/%x" % lock.lease
                entered = asyncio.create_task(line(theirs))
                done, _ = await asyncio.wait([entered], timeout=0.2)
                assert not done
                lock.check()
                await lock.release()
                assert await entered == keys[1]

    run(main)


@needs_go_etcdctl
def test_we_wait_for_etcdctl(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            lock = Lock(client, "lock/go2")
            async with etcdctl(server, "lock", "lock/go2") as theirs:
                key = await line(theirs)
                assert not await lock.try_acquire()
                waiting = asyncio.create_task(lock.acquire())
                assert (await wait_keys(client, "lock/go2/", 2))[0] == key
                assert not waiting.done()
                theirs.terminate()
                await waiting
                assert lock.key in await wait_keys(client, "lock/go2/", 1)
                await lock.release()

    run(main)
