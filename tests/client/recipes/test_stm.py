"""Software-transactional memory against a real server: what they see, and when they run again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.client.recipes.helpers import lease_of, run, wait_keys
from tests.servers import Server

from petcd.client import Client, Comparison, Get, LeaseLost, TransportFailure, TxnResult
from petcd.client.kv import Operation
from petcd.client.recipes import Attempt, Stm
from petcd.errors import Code


async def increment(tx: Attempt) -> int:
    number = int(await tx.get("stm/counter") or 0) + 1
    tx.put("stm/counter", str(number))
    return number


def test_no_increment_is_lost(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as one, Client(server.endpoint) as two:
            await one.delete("stm/counter")
            async with Stm(one, "marks") as mine, Stm(two, "marks") as yours:

                async def many(transactions: Stm) -> list[int]:
                    return [await transactions.run(increment) for _ in range(10)]

                results = await asyncio.gather(*(many(which) for which in (mine, yours, mine, yours)))
                assert sorted(number for result in results for number in result) == list(range(1, 41))
            assert (await one.get("stm/counter")).value == b"40"
            assert not await one.get("marks/", prefix=True)

    run(main)


def test_money_is_neither_made_nor_lost(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client, Stm(client) as transactions:
            for name in "abc":
                await client.put(f"stm/money/{name}", "100")

            async def transfer(tx: Attempt, source: str, target: str) -> None:
                left = int(await tx.get(f"stm/money/{source}") or 0)
                there = int(await tx.get(f"stm/money/{target}") or 0)
                tx.put(f"stm/money/{source}", str(left - 1))
                tx.put(f"stm/money/{target}", str(there + 1))

            async def move(source: str, target: str) -> None:
                for _ in range(8):
                    await transactions.run(lambda tx: transfer(tx, source, target))

            async def total(tx: Attempt) -> int:
                return sum(map(int, (await tx.items("stm/money/")).values()))

            async def check() -> None:
                for _ in range(10):
                    assert await transactions.run(total) == 300

            await asyncio.gather(move("a", "b"), move("b", "c"), move("c", "a"), move("b", "a"), check())
            assert await transactions.run(total) == 300
            assert [kv.value for kv in await client.get("stm/money/", prefix=True)] == [b"108", b"92", b"100"]

    run(main)


def test_all_reads_see_one_revision_and_a_change_is_a_conflict(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client, Stm(client) as transactions:
            await client.put("stm/x", "1")
            await client.put("stm/y", "1")
            runs = 0

            async def copy(tx: Attempt) -> None:
                nonlocal runs
                runs += 1
                x = await tx.get("stm/x")
                if runs == 1:
                    await client.put("stm/y", "2")
                    await client.put("stm/x", "2")
                y = await tx.get("stm/y")
                assert x == y and x is not None
                tx.put("stm/z", x + y)
                assert await tx.get("stm/z") == x + y
                assert await tx.read("stm/z") is None

            await client.delete("stm/z")
            await transactions.run(copy)
            assert runs == 2
            assert (await client.get("stm/z")).value == b"22"

    run(main)


def test_a_key_that_comes_or_goes_below_a_prefix_is_a_conflict(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client, Stm(client) as transactions:
            for change in (client.put("stm/p/c", "3"), client.delete("stm/p/a"), client.put("stm/p/b", "4")):
                runs = 0
                waiting = [change]

                async def count(tx: Attempt, waiting: list[object] = waiting) -> int:
                    nonlocal runs
                    runs += 1
                    found = len(await tx.items("stm/p/"))
                    if waiting:
                        await waiting.pop()  # type: ignore[misc]
                    tx.put("stm/count", str(found))
                    return found

                await client.delete("stm/p/", prefix=True)
                await client.put("stm/p/a", "1")
                await client.put("stm/p/b", "2")
                found = await transactions.run(count)
                assert runs == 2
                assert found == (await client.get("stm/p/", prefix=True)).count

    run(main)


def test_own_writes_are_seen_and_deletions_too(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client, Stm(client) as transactions:
            await client.put("stm/own/a", "1")
            await client.put("stm/own/b", "2")

            async def change(tx: Attempt) -> dict[bytes, bytes]:
                tx.delete("stm/own/a")
                tx.put("stm/own/c", "3")
                assert await tx.get("stm/own/a") is None
                return await tx.items("stm/own/")

            seen = await transactions.run(change)
            assert seen == {b"stm/own/b": b"2", b"stm/own/c": b"3"}
            assert {kv.key: kv.value for kv in await client.get("stm/own/", prefix=True)} == seen

    run(main)


def test_attempts_as_a_loop(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client, Stm(client) as transactions:
            await client.put("stm/loop", "1")
            tries = 0
            async for tx in transactions.attempts():
                async with tx:
                    value = await tx.get("stm/loop")
                    tries += 1
                    if tries < 3:
                        await client.put("stm/loop", str(tries))
                    tx.put("stm/loop", (value or b"") + b"!")
            assert tries == 3 and tx.committed
            stored = (await client.get("stm/loop")).first
            assert stored is not None and stored.value == b"2!" and stored.mod_revision == tx.revision

            async def fail(tx: Attempt) -> None:
                tx.put("stm/loop", "never")
                raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await transactions.run(fail)
            assert (await client.get("stm/loop")).value == b"2!"

    run(main)


def test_a_compacted_revision_is_read_again(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client, Stm(client) as transactions:
            await client.put("stm/compacted", "1")
            runs = 0

            async def read(tx: Attempt) -> bytes | None:
                nonlocal runs
                runs += 1
                await tx.get("stm/nothing")
                if runs == 1:
                    await client.put("stm/compacted", "2")
                    await client.compact((await client.put("stm/compacted", "3")).revision)
                return await tx.get("stm/compacted")

            assert await transactions.run(read) == b"3"
            assert runs == 2

    run(main)


def test_a_commit_whose_lease_is_gone_says_so(server: Server) -> None:
    async def main() -> None:
        async with (
            Client(server.endpoint) as client,
            Stm(client, "stm/marks", ttl=60) as transactions,
        ):
            await transactions.run(increment)
            (mark,) = await wait_keys(client, "stm/marks/", 1)
            await client.leases.revoke(lease_of(mark.rpartition(b"/")[0]))
            before = (await client.get("stm/counter")).value
            with pytest.raises(LeaseLost):
                await transactions.run(increment)
            assert (await client.get("stm/counter")).value == before
            assert await transactions.run(increment) == int(before or 0) + 1

    run(main)


def test_reads_side_by_side_see_one_revision(server: Server) -> None:
    class Changing(Client):
        """Just before the second key is read for the first time, both change."""

        changed = False

        async def txn(
            self,
            when: Sequence[Comparison] = (),
            then: Sequence[Operation] = (),
            otherwise: Sequence[Operation] = (),
        ) -> TxnResult:
            if not self.changed and then and isinstance(then[0], Get) and then[0].key == b"stm/side/b":
                self.changed = True
                await self.put("stm/side/a", "2")
                await self.put("stm/side/b", "2")
            return await super().txn(when, then, otherwise)

    async def main() -> None:
        async with Changing(server.endpoint) as client, Stm(client) as transactions:
            await client.put("stm/side/a", "1")
            await client.put("stm/side/b", "1")

            async def both(tx: Attempt) -> list[bytes | None]:
                return await asyncio.gather(tx.get("stm/side/a"), tx.get("stm/side/b"))

            assert await transactions.run(both) == [b"1", b"1"]
            assert await transactions.run(both) == [b"2", b"2"]

    run(main)


def test_a_failed_commit_cannot_be_carried_out_later(server: Server) -> None:
    class Late(Client):
        """The first commit is not answered, and arrives when it is told to."""

        commit: tuple[Sequence[Comparison], Sequence[Operation], Sequence[Operation]] | None = None

        async def txn(
            self,
            when: Sequence[Comparison] = (),
            then: Sequence[Operation] = (),
            otherwise: Sequence[Operation] = (),
        ) -> TxnResult:
            if self.commit is None and len(then) == 2:
                self.commit = (when, then, otherwise)
                await self.put("stm/late/key", "")
                raise TransportFailure(Code.UNAVAILABLE, "the answer is lost", sent=True)
            return await super().txn(when, then, otherwise)

        async def arrive(self) -> None:
            assert self.commit is not None
            await super().txn(*self.commit)

    async def main() -> None:
        async with Late(server.endpoint) as client, Stm(client) as transactions:
            await client.delete("stm/late/", prefix=True)
            runs = 0

            async def where_absent(tx: Attempt) -> None:
                nonlocal runs
                runs += 1
                if runs == 2:
                    await client.delete("stm/late/key")
                    await client.arrive()
                if await tx.get("stm/late/key") is None:
                    tx.put(f"stm/late/run/{runs}", "")

            await transactions.run(where_absent)
            assert [kv.key for kv in await client.get("stm/late/", prefix=True)] == [b"stm/late/run/2"]

    run(main)
