"""Watches against a real server: order, resume, compaction, many on one stream."""

from __future__ import annotations

import asyncio

import pytest
from tests.servers import Server

from petcd.client import Client, CompactedWatch, Event, Progress, Resumed, Watch, WatchCanceled
from petcd.client import feed as feed_module


async def take(watch: Watch, count: int) -> list[Event]:
    events: list[Event] = []
    async with asyncio.timeout(20):
        async for event in watch:
            events.append(event)
            if len(events) == count:
                break
    return events


def test_events(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client, client.watch("ev/a", previous=True) as watch:
            first = await client.put("ev/a", "1")
            await client.put("ev/other", "x")
            await client.put("ev/a", "2")
            await client.delete("ev/a")
            one, two, three = await take(watch, 3)
            assert (one.value, one.created, one.deleted, one.previous) == (b"1", True, False, None)
            assert one.revision == first.revision
            assert two.previous is not None
            assert (two.value, two.created, two.previous.value) == (b"2", False, b"1")
            assert three.previous is not None
            assert (three.key, three.deleted, three.previous.value) == (b"ev/a", True, b"2")

    asyncio.run(main())


def test_filters_and_history(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            start = (await client.put("hist/a", "1")).revision
            await client.delete("hist/a")
            await client.put("hist/a", "2")
            async with client.watch("hist/", prefix=True, start_revision=start, deletes=False) as puts:
                assert [event.value for event in await take(puts, 2)] == [b"1", b"2"]
            async with client.watch("hist/a", start_revision=start, puts=False) as deletes:
                (only,) = await take(deletes, 1)
                assert only.deleted

    asyncio.run(main())


def test_many_watches_share_a_stream(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            watches = [client.watch(f"share/{n}") for n in range(50)]
            for watch in watches:
                await watch.__aenter__()
            for n in range(50):
                await client.put(f"share/{n}", str(n))
            for n, watch in enumerate(watches):
                (event,) = await take(watch, 1)
                assert event.value == str(n).encode()
            assert len({id(watch._hub._opened) for watch in watches}) == 1
            for watch in watches:
                watch.cancel()

    asyncio.run(main())


def test_a_compacted_start_says_what_is_left(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            start = (await client.put("old", "1")).revision
            last = (await client.put("old", "2")).revision
            await client.compact(last)
            with pytest.raises(CompactedWatch) as caught:
                async with client.watch("old", start_revision=start - 1) as watch:
                    await take(watch, 1)
            assert caught.value.revision == last
            async with client.watch("old", start_revision=caught.value.revision) as watch:
                assert [event.value for event in await take(watch, 1)] == [b"2"]

    asyncio.run(main())


def test_an_empty_range_is_refused(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            with pytest.raises(WatchCanceled):
                async with client.watch("b", "a") as watch:
                    await take(watch, 1)

    asyncio.run(main())


def test_progress_on_request(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client, client.watch("progress") as watch:
            revision = (await client.put("elsewhere", "1")).revision
            watch.request_progress()
            async with asyncio.timeout(10):
                async for item in watch.all():
                    assert isinstance(item, Progress)
                    assert item.revision >= revision
                    break

    asyncio.run(main())


def test_cancel_ends_the_iteration(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            watch = client.watch("cancel")
            async with watch:
                asyncio.get_running_loop().call_later(0.05, watch.cancel)
                async with asyncio.timeout(10):
                    assert [event async for event in watch] == []

    asyncio.run(main())


@pytest.mark.parametrize(("bound", "most"), [("BUFFER_EVENTS", 10), ("BUFFER_BYTES", 50)])
def test_a_slow_reader_is_held_back_and_loses_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    monkeypatch.setattr(feed_module, bound, most)

    async def main() -> None:
        async with Client(server.endpoint) as client, client.watch("slow") as watch:
            for n in range(100):
                await client.put("slow", str(n))
            await asyncio.sleep(0.3)
            assert watch._feed.held_back
            assert len(watch._feed.items) < 100
            assert [int(event.value) for event in await take(watch, 100)] == list(range(100))

    asyncio.run(main())


@pytest.mark.slow
def test_a_restart_of_the_server_loses_and_repeats_nothing(own_server: Server) -> None:
    async def main() -> None:
        async with Client(own_server.endpoint, timeout=30.0) as client:
            seen: list[int] = []
            resumes: list[int] = []
            started = asyncio.Event()

            async def follow() -> None:
                async with client.watch("r/", prefix=True) as watch:
                    started.set()
                    async for item in watch.all():
                        if isinstance(item, Resumed):
                            resumes.append(item.revision)
                        elif isinstance(item, Event):
                            seen.append(int(item.value))
                            if item.value == b"29":
                                return

            task = asyncio.create_task(follow())
            await started.wait()
            for n in range(30):
                if n in (10, 20):
                    await asyncio.to_thread(own_server.kill)
                    await asyncio.to_thread(own_server.start)
                await client.put(f"r/{n % 3}", str(n))
            async with asyncio.timeout(30):
                await task
            assert seen == list(range(30))
            assert resumes

    asyncio.run(main())
