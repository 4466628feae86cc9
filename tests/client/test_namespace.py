"""Namespaces: what is asked and what is told is relative, and nothing outside is touched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.servers import Server

from petcd import errors
from petcd.client import Client, Delete, Get, Keyspace, Put, Txn, compare
from petcd.client.keys import absolute, key_range, prefix_end


@pytest.mark.parametrize(
    ("namespace", "key", "end", "expected"),
    [
        (b"", b"a", b"", (b"a", b"")),
        (b"p/", b"a", b"", (b"p/a", b"")),
        (b"p/", b"a", b"c", (b"p/a", b"p/c")),
        # No end becomes the end of the namespace.
        (b"p/", b"a", b"\0", (b"p/a", b"p0")),
        (b"p/", b"\0", b"\0", (b"p/\0", b"p0")),
        # The namespace's own end reaches past bytes that cannot grow.
        (b"p\xff", b"a", b"\0", (b"p\xffa", b"q")),
        (b"\xff\xff", b"a", b"\0", (b"\xff\xffa", b"\0")),
        (b"\xff\xff", b"\0", b"\0", (b"\xff\xff\0", b"\0")),
    ],
)
def test_absolute_ranges(namespace: bytes, key: bytes, end: bytes, expected: tuple[bytes, bytes]) -> None:
    assert absolute(namespace, key, end) == expected


@pytest.mark.parametrize(
    ("prefix", "end"),
    [(b"a", b"b"), (b"a\xff", b"b"), (b"a\xfe", b"a\xff"), (b"\xff", b"\0"), (b"\xff\xff", b"\0")],
)
def test_prefix_ends(prefix: bytes, end: bytes) -> None:
    assert prefix_end(prefix) == end
    # A prefix that has no end of its own ends with the namespace.
    relative = absolute(b"n/", *key_range(prefix, None, prefix=True, from_key=False))
    assert relative == (b"n/" + prefix, b"n0" if end == b"\0" else b"n/" + end)


def test_an_empty_key_is_refused_as_the_server_does(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            view = client.namespace("empty/")
            for refused in (
                view.get(""),
                view.put("", "x"),
                view.delete(""),
                view.delete("", "b"),
                view.txn(when=[compare("").version == 0]),
                view.txn(then=[Put("", "x")]),
            ):
                with pytest.raises(errors.EmptyKey):
                    await refused

    asyncio.run(main())


@asynccontextmanager
async def surrounded(server: Server, name: bytes) -> AsyncIterator[tuple[Client, Keyspace]]:
    """A namespace with keys a, b and c, and with neighbours that must survive."""
    neighbours = [name, name[:-1], name[:-1] + bytes([name[-1] - 1]), prefix_end(name), b"\0", b"\xff" * 9]
    async with Client(server.endpoint) as client:
        for key in neighbours:
            await client.put(key, "neighbour")
        view = client.namespace(name)
        for key in (b"a", b"b", b"c"):
            await view.put(key, key.upper())
        yield client, view
        for key in neighbours:
            assert (await client.get(key)).value == b"neighbour"


def keys(pairs: object) -> list[bytes]:
    return [kv.key for kv in pairs]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [b"space/", b"wide\xff", b"zz\xff\xff"])
def test_ranges_are_relative(server: Server, name: bytes) -> None:
    async def main() -> None:
        async with surrounded(server, name) as (client, view):
            assert (await client.get(name + b"a")).value == b"A"
            assert keys(await view.get("a")) == [b"a"]
            assert keys(await view.get("a", "c")) == [b"a", b"b"]
            assert keys(await view.get("", prefix=True)) == [b"a", b"b", b"c"]
            assert keys(await view.get("b", from_key=True)) == [b"b", b"c"]
            assert keys(await view.get("", from_key=True)) == [b"a", b"b", b"c"]
            assert keys([kv async for kv in view.iterate(page=2)]) == [b"a", b"b", b"c"]
            assert keys([kv async for kv in view.iterate("b", from_key=True, page=1)]) == [b"b", b"c"]
            replaced = await view.put("a", "A2", previous=True)
            assert replaced.previous is not None
            assert (replaced.previous.key, replaced.previous.value) == (b"a", b"A")
            gone = await view.delete("b", from_key=True, previous=True)
            assert keys(gone.previous) == [b"b", b"c"]
            assert (await view.delete("", prefix=True)).deleted == 1

    asyncio.run(main())


def test_transactions_are_relative_to_the_innermost(server: Server) -> None:
    async def main() -> None:
        async with surrounded(server, b"txns/") as (client, view):
            nested = Txn(when=[compare("b").value == "B"], then=[Get("b", "d"), Put("n", "1", previous=True)])
            everything = Get("", prefix=True)
            done = await view.txn(
                when=[compare("a").value == "A", compare("", prefix=True).version > 0],
                then=[everything, nested, Delete("c", previous=True)],
            )
            assert done.succeeded
            assert keys(done[everything]) == [b"a", b"b", b"c"]
            inner = done[nested]
            assert inner.succeeded
            assert keys(inner[nested.then[0]]) == [b"b", b"c"]  # type: ignore[call-overload]
            assert keys(done.results[2].previous) == [b"c"]  # type: ignore[union-attr]
            assert (await client.get("txns/n")).value == b"1"
            # Conditions may be used again elsewhere: making them absolute does not change them.
            condition = compare("a").version == 0
            assert not await view.txn(when=[condition])
            assert await view.namespace("deeper/").txn(when=[condition])

    asyncio.run(main())


def test_namespaces_nest(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            outer = client.namespace("outer/")
            inner = outer.namespace(b"inner/")
            await inner.put("k", "1")
            assert inner.prefix == b"outer/inner/"
            assert keys(await outer.get("", prefix=True)) == [b"inner/k"]
            assert keys(await client.get("outer/", prefix=True)) == [b"outer/inner/k"]

    asyncio.run(main())


def test_watches_are_relative(server: Server) -> None:
    async def main() -> None:
        async with surrounded(server, b"watched\xff") as (client, view):
            whole, single = view.watch("", prefix=True, previous=True), view.watch("b")
            async with whole, single:
                await client.put(b"watched\xffa", "A2")
                await client.put("watchee/x", "outside")
                await view.delete("b")
                events = []
                async with asyncio.timeout(10):
                    async for event in whole:
                        events.append((event.key, event.deleted, event.previous and event.previous.key))
                        if len(events) == 2:
                            break
                    async for event in single:
                        assert (event.key, event.deleted) == (b"b", True)
                        break
                assert events == [(b"a", False, b"a"), (b"b", True, b"b")]

    asyncio.run(main())


def test_the_keys_of_a_lease_are_those_of_the_namespace(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            view = client.namespace("leased/")
            async with view.lease(60) as lease:
                await view.put("in", "1", lease=lease)
                await client.put("outside", "1", lease=lease)
                assert (await view.leases.time_to_live(lease, keys=True)).keys == (b"in",)
                whole = (await client.leases.time_to_live(lease.id, keys=True)).keys
                assert sorted(whole) == [b"leased/in", b"outside"]

    asyncio.run(main())
