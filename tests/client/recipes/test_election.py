"""Elections against a real server, alone and beside etcdctl's."""

from __future__ import annotations

import asyncio

import pytest
from tests.client.recipes.helpers import etcdctl, lease_of, line, run, wait_keys
from tests.servers import Server, needs_go_etcdctl

from petcd.client import Client, LeaseLost, Put
from petcd.client.recipes import Election, Leader


def test_candidates_lead_one_after_the_other(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            leading: list[str] = []

            async def stand(name: str) -> None:
                async with Election(client, "election/turns", name) as leadership:
                    assert leading == []
                    leading.append(name)
                    leader = await leadership.leader()
                    assert leader is not None and leader.text == name
                    assert (leader.key, leader.token) == (leadership.key, leadership.token)
                    assert leader.lease == leadership.lease
                    leading.remove(name)

            assert await Election(client, "election/turns").leader() is None
            await asyncio.gather(*(stand(name) for name in "abcd"))
            assert await Election(client, "election/turns").leader() is None

    run(main)


def test_observers_see_every_leader_and_proclamation(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client, Client(server.endpoint) as watching:
            seen: asyncio.Queue[Leader] = asyncio.Queue()

            async def observe() -> None:
                async for leader in Election(watching, "election/observed").observe():
                    seen.put_nowait(leader)

            observing = asyncio.create_task(observe())
            one, two = Election(client, "election/observed"), Election(client, "election/observed", "two")
            await one.campaign("one")
            first = await seen.get()
            assert (first.text, first.token, first.revision) == ("one", one.token, one.token)
            waiting = asyncio.create_task(two.campaign())
            await wait_keys(client, "election/observed/", 2)
            await one.proclaim("one, improved")
            second = await seen.get()
            assert (second.text, second.token) == ("one, improved", one.token)
            assert second.revision > first.revision
            await one.proclaim("one, again")
            assert (await seen.get()).text == "one, again"
            await one.resign()
            await waiting
            third = await seen.get()
            assert (third.text, third.token) == ("two", two.token)
            await two.resign()
            await two.campaign("back")
            assert (await seen.get()).text == "back"
            await two.resign()
            assert seen.empty()
            observing.cancel()
            await asyncio.gather(observing, return_exceptions=True)

    run(main)


def test_a_leader_whose_lease_is_revoked_is_told_and_fenced_off(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            old, new = Election(client, "election/revoked", ttl=60), Election(client, "election/revoked")
            await old.campaign("old")
            waiting = asyncio.create_task(new.campaign("new"))
            await wait_keys(client, "election/revoked/", 2)
            await client.leases.revoke(old.lease)
            await old.lost.wait()
            await waiting
            with pytest.raises(LeaseLost):
                await old.proclaim("still here")
            assert not await client.txn(when=[old.held], then=[Put("election/data", "old")])
            assert await client.txn(when=[new.held], then=[Put("election/data", "new")])
            leader = await new.leader()
            assert leader is not None and leader.text == "new" and leader.token > old.token
            await old.resign()
            await new.resign()

    run(main)


def test_a_proclamation_after_the_key_was_changed_elsewhere(server: Server) -> None:
    async def main() -> None:
        async with (
            Client(server.endpoint) as client,
            Election(client, "election/changed", "mine") as leadership,
        ):
            await client.put(leadership.key, "theirs", lease=leadership.lease)
            await leadership.proclaim("mine again")
            leader = await leadership.leader()
            assert leader is not None and leader.text == "mine again"
            # As if it had never had our lease: nobody can be leader by such a key.
            await client.delete(leadership.key)
            await client.put(leadership.key, "theirs")
            with pytest.raises(LeaseLost):
                await leadership.proclaim("mine after all")
            await client.delete(leadership.key)

    run(main)


def test_a_candidate_whose_lease_is_lost_stands_again(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            waiting = Election(client, "election/candidate", "waiting", ttl=60)
            async with Election(client, "election/candidate", "leads") as leads:
                campaign = asyncio.create_task(waiting.campaign())
                _, key = await wait_keys(client, "election/candidate/", 2)
                await client.leases.revoke(lease_of(key))
                while (keys := await wait_keys(client, "election/candidate/", 2))[1] == key:
                    pass
                assert keys[0] == leads.key
                assert not campaign.done()
            await campaign
            assert waiting.key == keys[1]
            await waiting.resign()

    run(main)


@needs_go_etcdctl
def test_etcdctl_is_elected_after_us_and_sees_us(server: Server) -> None:
    async def main() -> None:
        async with (
            Client(server.endpoint) as client,
            etcdctl(server, "elect", "-l", "election/go") as listening,
            Election(client, "election/go", "ours") as leadership,
        ):
            assert await line(listening) == leadership.key
            assert await line(listening) == b"ours"
            async with etcdctl(server, "elect", "election/go", "theirs") as candidate:
                keys = await wait_keys(client, "election/go/", 2)
                assert keys[0] == leadership.key
                await leadership.resign()
                assert await line(candidate) == keys[1]
                assert await line(candidate) == b"theirs"
                assert await line(listening) == keys[1]
                assert await line(listening) == b"theirs"
                leader = await leadership.leader()
                assert leader is not None and leader.text == "theirs"
                waiting = asyncio.create_task(leadership.campaign("ours again"))
                await wait_keys(client, "election/go/", 2)
                assert not waiting.done()
            await waiting
            leader = await leadership.leader()
            assert leader is not None and leader.text == "ours again"

    run(main)
