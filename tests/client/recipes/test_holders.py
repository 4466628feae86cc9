"""Read-write locks, semaphores and barriers against a real server."""

from __future__ import annotations

import asyncio

import pytest
from tests.client.recipes.helpers import lease_of, run, wait_keys
from tests.servers import Server

from petcd.client import Client, LeaseLost
from petcd.client.recipes import Barrier, DoubleBarrier, ReadWriteLock, Semaphore


def test_readers_share_and_writers_do_not(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            lock = ReadWriteLock(client, "rw/share")
            order: list[str] = []

            async def write(name: str) -> None:
                async with lock.write():
                    order.append(name)

            async def read(name: str) -> None:
                async with lock.read():
                    order.append(name)

            async with lock.read() as one, lock.read() as two:
                assert one.token < two.token
                tasks = [asyncio.create_task(write("writer"))]
                await wait_keys(client, "rw/share/", 3)
                tasks.append(asyncio.create_task(read("late reader")))
                await wait_keys(client, "rw/share/", 4)
                # The late reader could share with the readers, but must not overtake the writer.
                assert order == []
                await one.release()
                await client.get("rw/share")
                assert order == []
            await asyncio.gather(*tasks)
            assert order == ["writer", "late reader"]

    run(main)


def test_a_writer_excludes_everyone(server: Server) -> None:
    async def main() -> None:
        readers = 0
        writing = False

        async def read(client: Client) -> None:
            nonlocal readers
            for _ in range(4):
                async with ReadWriteLock(client, "rw/mixed").read():
                    readers += 1
                    assert not writing
                    await client.get("rw/data")
                    readers -= 1

        async def write(client: Client) -> None:
            nonlocal writing
            for _ in range(4):
                async with ReadWriteLock(client, "rw/mixed").write():
                    assert not writing and not readers
                    writing = True
                    await client.put("rw/data", "")
                    assert not readers
                    writing = False

        async with Client(server.endpoint) as one, Client(server.endpoint) as two:
            await asyncio.gather(read(one), write(two), read(two), write(one))
            assert not await one.get("rw/mixed/", prefix=True)

    run(main)


def test_a_writer_whose_lease_is_revoked_is_told(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            lock = ReadWriteLock(client, "rw/revoked", ttl=60)
            async with lock.write() as writer:
                reader = lock.read()
                reading = asyncio.create_task(reader.acquire())
                await wait_keys(client, "rw/revoked/", 2)
                await client.leases.revoke(writer.lease)
                await writer.lost.wait()
                await reading
                await reader.release()

    run(main)


def test_a_semaphore_admits_as_many_as_it_has_permits(server: Server) -> None:
    async def main() -> None:
        inside = most = 0

        async def work(client: Client) -> None:
            nonlocal inside, most
            async with Semaphore(client, "semaphore/many", 3):
                inside += 1
                most = max(most, inside)
                await client.get("semaphore")
                inside -= 1

        async with Client(server.endpoint) as client:
            holders = [Semaphore(client, "semaphore/many", 3) for _ in range(3)]
            for holder in holders:
                assert await holder.try_acquire()
            assert not await Semaphore(client, "semaphore/many", 3).try_acquire()
            tasks = [asyncio.create_task(work(client)) for _ in range(9)]
            await wait_keys(client, "semaphore/many/", 12)
            assert most == 0
            # The last of the three goes first: the waiters must not only look at the one before them.
            for holder in reversed(holders):
                await holder.release()
            await asyncio.gather(*tasks)
            assert 1 <= most <= 3

    run(main)


def test_one_permit_at_a_time_is_passed_on(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            one, two, three, four = (Semaphore(client, "semaphore/pass", 2) for _ in range(4))
            await one.acquire()
            await two.acquire()
            waiting = asyncio.create_task(three.acquire())
            await wait_keys(client, "semaphore/pass/", 3)
            last = asyncio.create_task(four.acquire())
            await wait_keys(client, "semaphore/pass/", 4)
            await client.leases.revoke(one.lease)
            await one.lost.wait()
            await waiting
            assert not last.done()
            two.check()
            await three.release()
            await last
            for holder in (one, two, four):
                await holder.release()

    run(main)


def test_different_numbers_of_permits_are_refused(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            with pytest.raises(ValueError, match="at least one"):
                Semaphore(client, "semaphore/mismatch", 0)
            async with Semaphore(client, "semaphore/mismatch", 2):
                with pytest.raises(ValueError, match="has 2 permits elsewhere, not 5"):
                    await Semaphore(client, "semaphore/mismatch", 5).acquire()
                await wait_keys(client, "semaphore/mismatch/", 1)

    run(main)


def test_a_barrier_holds_back_until_nobody_holds_it(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            barrier = Barrier(client, "barrier/one")
            await barrier.wait()
            async with barrier:
                other = Barrier(client, "barrier/one", ttl=60)
                await other.close()
                waiting = asyncio.create_task(Barrier(client, "barrier/one").wait())
                await wait_keys(client, "barrier/one/", 2)
                assert not waiting.done()
            await wait_keys(client, "barrier/one/", 1)
            assert not waiting.done()
            await client.leases.revoke(other.lease)  # a holder that dies
            await waiting
            await other.lost.wait()
            await other.release()

    run(main)


def test_all_parties_enter_and_leave_together_again_and_again(server: Server) -> None:
    async def main() -> None:
        rounds = 4
        entered = [0] * rounds
        left = [0] * rounds

        async def party(client: Client) -> list[int]:
            numbers = []
            barrier = DoubleBarrier(client, "double/rounds", parties=3)
            for number in range(rounds):
                if number:
                    assert left[number - 1] == 3
                async with barrier:
                    entered[number] += 1
                    numbers.append(barrier.round)
                    await client.get("double")
                    left[number] += 1
                assert entered[number] == left[number] == 3
            return numbers

        async with Client(server.endpoint) as one, Client(server.endpoint) as two:
            first, second, third = await asyncio.gather(party(one), party(two), party(two))
            assert first == second == third == sorted(set(first))
            assert not await one.get("double/rounds/", prefix=True)

    run(main)


def test_nobody_enters_before_all_are_there(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            one, two = (DoubleBarrier(client, "double/wait", parties=2, ttl=60) for _ in range(2))
            entering = asyncio.create_task(one.enter())
            (key,) = await wait_keys(client, "double/wait/waiting/", 1)
            # The party that waits loses its lease, and is there again with another one.
            await client.leases.revoke(lease_of(key))
            while await wait_keys(client, "double/wait/waiting/", 1) == [key]:
                pass
            assert not entering.done()
            await asyncio.gather(entering, two.enter())
            with pytest.raises(RuntimeError, match="DoubleBarrier is held already"):
                await one.enter()
            # One leaves because of an error; the other need not wait for it.
            await one.leave(wait=False)
            await two.leave()

    run(main)


def test_one_party_too_many_takes_part_in_the_next_round(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            barriers = [DoubleBarrier(client, "double/four", parties=2) for _ in range(4)]

            async def take_part(barrier: DoubleBarrier) -> int:
                async with barrier:
                    return barrier.round

            numbers = await asyncio.gather(*(take_part(barrier) for barrier in barriers))
            assert sorted(numbers.count(number) for number in set(numbers)) == [2, 2]

    run(main)


def test_a_round_ends_without_a_party_that_died(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            async with Client(server.endpoint) as dying:
                gone = DoubleBarrier(dying, "double/dead", parties=2, ttl=60)
                here = DoubleBarrier(client, "double/dead", parties=2, ttl=60)
                await asyncio.gather(gone.enter(), here.enter())
                keys = await wait_keys(client, "double/dead/waiting/", 2)
                assert {gone.key, here.key} == set(keys)
                gone.check()
            # Its client was closed: nobody renews its lease any more.
            await gone.lost.wait()
            leaving = asyncio.create_task(here.leave())
            (left,) = await wait_keys(client, "double/dead/waiting/", 1)
            assert left in keys and not leaving.done()
            await client.leases.revoke(lease_of(left))
            await leaving
            assert not await client.get("double/dead/", prefix=True)
            with pytest.raises(ValueError, match="at least one"):
                DoubleBarrier(client, "double/dead", parties=0)

    run(main)


def test_a_body_that_fails_does_not_wait_for_the_others(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            other = DoubleBarrier(client, "double/error", parties=2)
            entering = asyncio.create_task(other.enter())
            with pytest.raises(LeaseLost):
                async with DoubleBarrier(client, "double/error", parties=2):
                    raise LeaseLost(1)
            await entering
            await other.leave()

    run(main)
