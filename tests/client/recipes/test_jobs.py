"""Jobs that the leader runs, against a real server."""

from __future__ import annotations

import asyncio

import pytest
from tests.client.recipes.helpers import run, wait_keys
from tests.servers import Server

from petcd.client import Client, LeaseLost
from petcd.client.recipes import Election, LeaderJob


def test_one_runs_and_the_next_takes_over(server: Server) -> None:
    async def main() -> None:
        running: asyncio.Queue[str] = asyncio.Queue()
        active: set[str] = set()

        def job_of(name: str):  # type: ignore[no-untyped-def]
            async def job(leadership: Election) -> None:
                assert not active
                active.add(name)
                running.put_nowait(name)
                try:
                    await asyncio.Event().wait()
                finally:
                    active.remove(name)

            return job

        async with Client(server.endpoint) as client:
            async with LeaderJob(client, "jobs/turns", job_of("one"), "one") as one:
                assert await running.get() == "one"
                async with LeaderJob(client, "jobs/turns", job_of("two"), "two") as two:
                    await wait_keys(client, "jobs/turns/", 2)
                    assert one.leads and not two.leads
                    await one.__aexit__(None)
                    assert await running.get() == "two"
                    assert two.leads and active == {"two"}
                    leader = await Election(client, "jobs/turns").leader()
                    assert leader is not None and leader.text == "two"
            assert not await client.get("jobs/turns/", prefix=True)

    run(main)


def test_a_leader_that_is_deposed_stops_and_stands_again(server: Server) -> None:
    async def main() -> None:
        starts: asyncio.Queue[int] = asyncio.Queue()
        ends: list[int] = []

        async def job(leadership: Election) -> None:
            token, lease = leadership.token, leadership.lease
            starts.put_nowait(lease)
            try:
                await asyncio.Event().wait()
            finally:
                ends.append(token)

        async with Client(server.endpoint) as client, LeaderJob(client, "jobs/deposed", job, ttl=60):
            first = await starts.get()
            await client.leases.revoke(first)
            assert await starts.get() != first
            assert len(ends) == 1

    run(main)


def test_results_and_errors(server: Server) -> None:
    async def main() -> None:
        async def answer(leadership: Election) -> int:
            return leadership.token

        async def fail(_: Election) -> None:
            raise ZeroDivisionError

        async def lose(_: Election) -> None:
            raise LeaseLost(7)

        async with Client(server.endpoint) as client:
            job = LeaderJob(client, "jobs/results", answer)
            with pytest.raises(RuntimeError, match="not entered"):
                await job.result()
            async with job:
                assert await job.result() > 1
                assert not await client.get("jobs/results/", prefix=True)
            with pytest.raises(ZeroDivisionError):
                async with LeaderJob(client, "jobs/results", fail) as failing:
                    await asyncio.wait([asyncio.ensure_future(failing.result())])
            with pytest.raises(LeaseLost, match="0000000000000007"):
                async with LeaderJob(client, "jobs/results", lose) as losing:
                    await losing.result()

    run(main)
