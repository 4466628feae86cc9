"""Transactions as Python expressions: conditions, the builder, typed results."""

from __future__ import annotations

import asyncio

import pytest
from tests.servers import Server

from petcd.client import Client, Comparison, Delete, Get, Put, Txn, compare


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("compare('c/one').version == 1", True),
        ("compare('c/one').version != 1", False),
        ("compare('c/one').version > 0", True),
        ("compare('c/one').version >= 1", True),
        ("compare('c/one').version >= 2", False),
        ("compare('c/one').version <= 1", True),
        ("compare('c/one').version <= 0", False),
        ("1 <= compare('c/one').version", True),
        ("compare('c/one').value == 'm'", True),
        ("compare('c/one').value <= 'm'", True),
        ("compare('c/one').value <= 'l'", False),
        ("compare('c/one').value < 'n'", True),
        ("compare('c/none').value != 'x'", False),
        ("compare('c/none').create_revision == 0", True),
        ("compare('c/one').lease == 0", True),
        ("compare('c/', prefix=True).version == 1", True),
        ("compare('c/one', 'c/two').value == 'm'", True),
    ],
)
def test_conditions(server: Server, expression: str, holds: bool) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            if not (await client.get("c/one")).kvs:
                await client.put("c/one", "m")
            condition: Comparison = eval(expression, {"compare": compare})
            assert (await client.txn(when=[condition])).succeeded is holds

    asyncio.run(main())


def test_a_condition_has_no_truth_of_its_own() -> None:
    with pytest.raises(TypeError, match="decided by the server"):
        _ = compare("a").version == 1 and compare("b").version == 2
    with pytest.raises(TypeError, match="decided by the server"):
        _ = 0 < compare("a").version < 5
    with pytest.raises(TypeError):
        _ = compare("a").value >= "x"
    with pytest.raises(TypeError):
        _ = compare("a").mod_revision == None  # noqa: E711  it is not a value


def test_the_builder(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            await client.delete("b/", prefix=True)
            first = client.when(compare("b/a").version == 0).then(Put("b/a", "1")).otherwise(Get("b/a"))
            assert await first
            again = await first
            assert not again
            (found,) = again.results
            assert found == again[Get("b/a")]
            assert again[Get("b/a")].value == b"1"
            both = first.when(compare("b/b").version == 0)
            assert not await both  # all must hold; ``first`` is as it was
            assert await client.when().then(Delete("b/a"))

    asyncio.run(main())


def test_results_by_their_operation(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            await client.delete("r/", prefix=True)
            before, put, after = Get("r/a"), Put("r/a", "1"), Get("r/a")
            inner = Txn(then=[Get("r/a")])
            done = await client.txn(then=[before, put, after, inner], otherwise=[Get("r/other")])
            # Equal operations are told apart by identity; an equal one that was not in it finds the first.
            assert done[before].value is None
            assert done[after].value == b"1"
            assert done[Get("r/a")].value is None
            assert done[put].revision == done.revision
            assert done[inner].results[0].value == b"1"  # type: ignore[union-attr]
            with pytest.raises(KeyError):
                _ = done[Get("r/other")]

    asyncio.run(main())


KEY, OTHER = "k", "other"


@pytest.mark.parametrize(
    ("txn", "once"),
    [
        (Txn([compare(KEY).mod_revision == 7], [Put(KEY, "1")]), True),
        (Txn([compare(KEY).mod_revision == 7], [Delete(KEY)]), True),
        (Txn([compare(KEY).mod_revision == 7], [Put(OTHER), Put(KEY)], [Get(KEY)]), True),
        # What holds before may hold again afterwards.
        (Txn([compare(KEY).mod_revision == 0], [Put(KEY, "1")]), False),
        (Txn([compare(KEY).version == 0], [Put(KEY, "1")]), False),
        (Txn([compare(KEY).version == 3], [Put(KEY, "1")]), False),
        (Txn([compare(KEY).value == "0"], [Put(KEY, "1")]), False),
        (Txn([compare(KEY).mod_revision < 7], [Put(KEY, "1")]), False),
        (Txn([compare(KEY).create_revision == 7], [Put(KEY, "1")]), False),
        # The guarded key is not written, or not surely.
        (Txn([compare(KEY).mod_revision == 7], [Put(OTHER, "1")]), False),
        (Txn([compare(KEY).mod_revision == 7], [Txn(then=[Put(KEY)])]), False),
        (Txn([compare(KEY, prefix=True).mod_revision == 7], [Put(KEY)]), False),
        # The other branch writes.
        (Txn([compare(KEY).mod_revision == 7], [Put(KEY)], [Put(OTHER)]), False),
        (Txn([compare(KEY).mod_revision == 7], [Put(KEY)], [Txn(then=[Put(OTHER)])]), False),
        (Txn((), [Put(KEY)]), False),
    ],
)
def test_which_transactions_happen_once(txn: Txn, once: bool) -> None:
    assert txn.happens_once is once


def test_which_transactions_change_nothing() -> None:
    assert Txn([], [Get("a"), Txn(then=[Get("b")])], [Get("c")]).changes_nothing
    assert not Txn([], [Get("a")], [Txn(otherwise=[Put("b")])]).changes_nothing
