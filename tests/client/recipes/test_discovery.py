"""Registration and discovery against a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest
from tests.client.recipes.helpers import lease_of, run
from tests.servers import Server

from petcd import errors
from petcd.client import Client, Comparison, Delete, Get, Put, Txn, TxnResult
from petcd.client.recipes import Discovery, Registration


def test_instances_come_and_go(server: Server) -> None:
    async def main() -> None:
        async with (
            Client(server.endpoint) as client,
            Client(server.endpoint) as other,
            Discovery(other, "web") as discovery,
        ):
            assert discovery.instances == []
            lists = discovery.__aiter__()
            assert await anext(lists) == []
            async with Registration(client, "web", "10.0.0.1:80", metadata={"zone": "b"}) as one:
                (instance,) = await anext(lists)
                assert (instance.address, instance.metadata) == ("10.0.0.1:80", {"zone": "b"})
                assert one.key == f"services/web/{instance.id}".encode()
                async with Registration(client, "web", "10.0.0.2:80"):
                    await discovery.wait_for(2)
                    assert discovery.addresses == ["10.0.0.1:80", "10.0.0.2:80"]
                    async with Registration(client, "database", "10.0.0.3:5432"):
                        pass
                    assert len(await anext(lists)) == 2
                assert [one.address for one in await anext(lists)] == ["10.0.0.1:80"]
            assert await anext(lists) == []

    run(main)


def test_the_value_is_what_gos_resolver_reads(server: Server) -> None:
    async def main() -> None:
        async with (
            Client(server.endpoint) as client,
            Registration(
                client, "format", "10.0.0.1:80", metadata={"weight": 3}, prefix="go/"
            ) as registration,
            Discovery(client, "format", prefix="go/") as discovery,
        ):
            stored = (await client.get(registration.key)).value
            assert json.loads(stored or b"") == {"Op": 0, "Addr": "10.0.0.1:80", "Metadata": {"weight": 3}}
            await client.put("go/format/other", '{"Op":0,"Addr":"10.0.0.2:80","Metadata":null}')
            await client.put("go/format/strange", "10.0.0.3:80")
            await client.put("go/format/stranger", "[]")
            await discovery.wait_for(2)
            assert [(one.address, one.metadata) for one in discovery.instances] == [
                ("10.0.0.1:80", {"weight": 3}),
                ("10.0.0.2:80", None),
            ]

    run(main)


def test_a_lost_lease_is_replaced(server: Server) -> None:
    async def main() -> None:
        async with (
            Client(server.endpoint) as client,
            Registration(client, "lost", "10.0.0.1:80", ttl=60) as registration,
            Discovery(client, "lost") as discovery,
        ):
            key = registration.key
            await client.leases.revoke(lease_of(key))
            async for instances in discovery:
                if instances and f"services/lost/{instances[0].id}".encode() != key:
                    break
            assert discovery.addresses == ["10.0.0.1:80"]

    run(main)


def test_a_view_follows_through_a_compaction(own_server: Server) -> None:
    """What changed while its server was away, and was compacted, is read again."""

    async def main() -> None:
        async with Client(own_server.endpoint) as client, Discovery(client, "gap") as discovery:
            async with Registration(client, "gap", "10.0.0.1:80"):
                await discovery.wait_for(1)
                view = discovery._view
                view._revision = 1  # as if it had seen nothing since
                assert view._task is not None
                view._task.cancel()
                await asyncio.gather(view._task, return_exceptions=True)
                await client.compact((await client.put("gap", "")).revision)
                view.pairs.clear()
                view._task = asyncio.ensure_future(view._follow())
                await discovery.wait_for(1)
            while discovery.instances:
                await view.wait_changes(view.changes)

    run(main)


def test_what_the_servers_refuse_is_raised(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            with pytest.raises(errors.LeaseTTLTooLarge):
                async with Registration(client, "refused", "10.0.0.1:80", ttl=10_000_000_000):
                    pass

    run(main)


def test_a_closed_client_ends_the_list(server: Server) -> None:
    async def main() -> None:
        client = Client(server.endpoint)
        async with Discovery(client, "closed") as discovery:
            waiting = asyncio.create_task(discovery.wait_for(1))
            await client.get("closed")
            await client.close()
            with pytest.raises(errors.EtcdError, match="the client is closed"):
                await waiting
            with pytest.raises(errors.EtcdError, match="the client is closed"):
                _ = discovery.instances  # which would be those of a while ago

    run(main)


def test_a_list_is_read_inside_its_block_only(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            discovery = Discovery(client, "outside")
            for _ in range(2):  # before it is entered, and after it was left
                with pytest.raises(RuntimeError, match="not entered"):
                    await anext(aiter(discovery))
                with pytest.raises(RuntimeError, match="not entered"):
                    _ = discovery.addresses
                async with discovery:
                    assert discovery.addresses == []
                    lists = aiter(discovery)
                    assert await anext(lists) == []
                    waiting = asyncio.create_task(discovery.wait_for(1))
                    await asyncio.sleep(0)  # now it waits
                with pytest.raises(RuntimeError, match="not entered"):
                    await waiting
                with pytest.raises(RuntimeError, match="not entered"):
                    await anext(lists)

    run(main)


def test_leaving_a_registration_can_be_cancelled(server: Server) -> None:
    async def main() -> None:
        async with Client(server.endpoint) as client:
            leaving = asyncio.Event()

            async def stuck(*_: object) -> int:
                leaving.set()
                await asyncio.Event().wait()
                return 0

            async def stay() -> None:
                async with Registration(client, "stuck", "10.0.0.1:80"):
                    client.leases.revoke = stuck  # type: ignore[method-assign]

            task = asyncio.create_task(stay())
            await leaving.wait()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()

    run(main)


class Refused(Client):
    """Is refused what it writes, while it is told so."""

    refusals = 0
    refuses = False
    twice: asyncio.Event

    async def txn(
        self,
        when: Sequence[Comparison] = (),
        then: Sequence[Get | Put | Delete | Txn] = (),
        otherwise: Sequence[Get | Put | Delete | Txn] = (),
    ) -> TxnResult:
        if self.refuses:
            self.refusals += 1
            if self.refusals == 2:
                self.twice.set()
            raise errors.NoSpace
        return await super().txn(when, then, otherwise)


def test_a_registration_outlasts_a_refusal_and_tells_of_it(server: Server) -> None:
    async def main() -> None:
        async with (
            Refused(server.endpoint) as client,
            Client(server.endpoint) as other,
            Discovery(other, "patient") as discovery,
        ):
            client.twice = asyncio.Event()
            registration = Registration(client, "patient", "10.0.0.1:80")
            for _ in range(2):
                client.refuses = True
                with pytest.raises(errors.NoSpace):
                    await registration.__aenter__()
                client.refuses, client.refusals = False, 0
                async with registration:
                    assert registration.error is None
                    client.refuses = True
                    client.twice.clear()
                    await other.delete(registration.key)
                    await client.twice.wait()
                    assert isinstance(registration.error, errors.NoSpace)
                    with pytest.raises(RuntimeError, match="not registered now"):
                        _ = registration.key
                    client.refuses = False
                    async for instances in discovery:
                        if instances:
                            break
                    await registration._registered.wait()
                    assert registration.error is None
                    assert registration.key.endswith(instances[0].id.encode())
                assert not await other.get("services/patient/", prefix=True)

    run(main)


def test_a_registration_ends_with_its_client(server: Server) -> None:
    async def main() -> None:
        client = Client(server.endpoint)
        async with Registration(client, "ended", "10.0.0.1:80", ttl=2) as registration:
            await client.close()
            assert registration._task is not None
            await asyncio.wait([registration._task])
            assert registration.error is not None and registration.error.text == "the client is closed"

    run(main)
