"""Leases against a real server: kept alive while held, gone afterwards, and told when lost."""

from __future__ import annotations

import asyncio

import pytest
from tests.servers import Server

from petcd import errors
from petcd.client import Client, LeaseLost


def test_grant_list_revoke(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            lease = (await client.leases.grant(60)).ID
            assert lease in await client.leases.list()
            await client.put("lease/a", "1", lease=lease)
            state = await client.leases.time_to_live(lease, keys=True)
            assert (state.granted, state.keys, state.exists) == (60, (b"lease/a",), True)
            assert await client.leases.keep_alive_once(lease) == 60
            await client.leases.revoke(lease)
            assert (await client.get("lease/a")).value is None
            assert not (await client.leases.time_to_live(lease)).exists
            with pytest.raises(errors.LeaseNotFound):
                await client.leases.revoke(lease)
            with pytest.raises(LeaseLost):
                await client.leases.keep_alive_once(lease)
            chosen = (await client.leases.grant(60, 4711)).ID
            assert chosen == 4711
            with pytest.raises(errors.LeaseExist):
                await client.leases.grant(60, 4711)

    asyncio.run(main())


@pytest.mark.slow
def test_kept_alive_while_held_and_revoked_afterwards(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            async with client.lease(2) as lease:
                await client.put("held", "1", lease=lease)
                await asyncio.sleep(3.5)
                lease.check()
                assert (await client.get("held")).value == b"1"
            assert (await client.get("held")).value is None

    asyncio.run(main())


def test_a_revoked_lease_is_reported_lost(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client, client.lease(3) as lease:
            await client.leases.revoke(lease.id)
            async with asyncio.timeout(5):
                await lease.lost.wait()
            with pytest.raises(LeaseLost):
                lease.check()

    asyncio.run(main())


@pytest.mark.slow
def test_without_a_server_a_lease_is_lost_in_time(own_server: Server) -> None:
    async def main() -> None:
        async with Client(own_server.endpoint) as client, client.lease(2, revoke=False) as lease:
            await asyncio.to_thread(own_server.kill)
            loop = asyncio.get_running_loop()
            began = loop.time()
            async with asyncio.timeout(5):
                await lease.lost.wait()
            assert loop.time() - began < 2.5

    asyncio.run(main())


@pytest.mark.slow
def test_a_short_outage_does_not_lose_a_lease(own_server: Server) -> None:
    async def main() -> None:
        async with Client(own_server.endpoint) as client, client.lease(10) as lease:
            await client.put("kept", "1", lease=lease)
            await asyncio.to_thread(own_server.kill)
            await asyncio.to_thread(own_server.start)
            before = lease.expires_at
            async with asyncio.timeout(10):
                while lease.expires_at == before:  # noqa: ASYNC110  a float has no event
                    await asyncio.sleep(0.05)
            lease.check()
            assert (await client.get("kept")).value == b"1"

    asyncio.run(main())
