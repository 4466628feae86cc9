"""KV calls of the client against a real server."""

from __future__ import annotations

import asyncio

import pytest
from tests.servers import Server

from petcd import errors
from petcd.client import Client, Delete, Get, GetResult, Put, PutResult, Txn, compare


def test_put_get_delete(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            first = await client.put("kv/a", "1")
            second = await client.put("kv/a", b"2", previous=True)
            assert second.revision == first.revision + 1
            assert second.previous is not None
            assert second.previous.value == b"1"
            got = await client.get("kv/a")
            assert (got.value, got.count, got.more, len(got)) == (b"2", 1, False, 1)
            assert got.first is not None
            assert (got.first.version, got.first.mod_revision) == (2, second.revision)
            assert (await client.get("kv/a", revision=first.revision)).value == b"1"
            gone = await client.delete("kv/a", previous=True)
            assert gone.deleted == 1
            assert gone.previous[0].value == b"2"
            assert (await client.get("kv/a")).value is None
            assert (await client.delete("kv/a")).deleted == 0

    asyncio.run(main())


def test_ranges(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            for name in "abcde":
                await client.put(f"range/{name}", name * 2)

            async def keys(*args: str, **options: object) -> list[bytes]:
                result: GetResult = await client.get(*args, **options)  # type: ignore[arg-type]
                return [kv.key[6:] for kv in result]

            assert await keys("range/", prefix=True) == [b"a", b"b", b"c", b"d", b"e"]
            assert await keys("range/b", "range/d") == [b"b", b"c"]
            assert await keys("range/", prefix=True, order="descend", limit=2) == [b"e", b"d"]
            limited = await client.get("range/", prefix=True, limit=2)
            assert (limited.more, limited.count, len(limited)) == (True, 5, 2)
            assert (await client.get("range/", prefix=True, count_only=True)).count == 5
            assert [kv.value async for kv in client.iterate("range/", prefix=True, page=2)] == [
                b"aa",
                b"bb",
                b"cc",
                b"dd",
                b"ee",
            ]
            with pytest.raises(ValueError):
                await client.get("a", "b", prefix=True)

    asyncio.run(main())


def test_pages_are_of_one_revision(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            for number in range(6):
                await client.put(f"page/{number}", "old")
            seen = []
            async for kv in client.iterate("page/", prefix=True, page=2):
                if not seen:
                    await client.delete("page/", prefix=True)
                seen.append(kv.value)
            assert seen == [b"old"] * 6

    asyncio.run(main())


def test_transactions(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            made = await client.txn(
                when=[compare("txn/a").version == 0],
                then=[Put("txn/a", "1"), Get("txn/a")],
                otherwise=[Delete("txn/a")],
            )
            assert made.succeeded
            assert bool(made)
            put, got = made.results
            assert isinstance(put, PutResult)
            assert isinstance(got, GetResult)
            assert got.value == b"1"
            refused = await client.txn(when=[compare("txn/a").value != "1"], otherwise=[Get("txn/a")])
            assert not refused.succeeded
            for condition, holds in (
                (compare("txn/a").mod_revision == made.revision, True),
                (compare("txn/a").create_revision > made.revision, False),
                (compare("txn/a").lease == 0, True),
                (compare("txn/", prefix=True).version < 2, True),
                (compare("txn/a").value > b"0", True),
            ):
                assert (await client.txn(when=[condition])).succeeded is holds
            nested = await client.txn(then=[Txn(then=[Put("txn/b", "2")]), Get("txn/a")])
            assert nested.succeeded
            assert (await client.get("txn/b")).value == b"2"

    asyncio.run(main())


def test_comparisons_take_only_what_they_compare() -> None:
    with pytest.raises(TypeError):
        _ = compare("a").value == 1
    with pytest.raises(TypeError):
        _ = compare("a").version > "1"


def test_errors_are_the_tables_classes(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            with pytest.raises(errors.EmptyKey):
                await client.put("", "x")
            with pytest.raises(errors.FutureRev):
                await client.get("a", revision=1 << 40)
            with pytest.raises(errors.DuplicateKey):
                await client.txn(then=[Put("dup", "1"), Put("dup", "2")])
            with pytest.raises(errors.LeaseNotFound):
                await client.put("a", "b", lease=77)
            revision = (await client.put("compact", "1")).revision
            await client.compact(revision)
            with pytest.raises(errors.Compacted):
                await client.get("compact", revision=revision - 1)

    asyncio.run(main())


def test_many_calls_at_once_share_a_connection(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            results = await asyncio.gather(*[client.put(f"many/{n}", str(n)) for n in range(500)])
            assert len({result.revision for result in results}) == 500
            assert (await client.get("many/", prefix=True, count_only=True)).count == 500

    asyncio.run(main())


def test_maintenance_and_members(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            status = await client.maintenance.status(server.endpoint)
            assert status.leader == status.member_id
            members = await client.cluster.members()
            assert [member.id for member in members] == [status.leader]
            assert await client.maintenance.alarms() == []
            before = await client.maintenance.hash_kv()
            await client.put("hash", "1")
            assert (await client.maintenance.hash_kv()).hash != before.hash
            await client.maintenance.defragment(server.endpoint)
            assert (await client.get("hash")).value == b"1"

    asyncio.run(main())
