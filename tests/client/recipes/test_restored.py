"""The store is restored from a backup, or begun anew, below recipes that follow it."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass

from tests.client.recipes.helpers import run
from tests.servers import Server

from petcd.client import Client
from petcd.client.recipes import Configuration, Discovery, Election, Registration


@dataclass(frozen=True)
class Settings:
    greeting: str = ""


def test_what_follows_the_store_follows_a_store_that_was_begun_anew(own_server: Server) -> None:
    async def main() -> None:
        async with Client(own_server.endpoint) as client:
            for number in range(50):
                await client.put("app/greeting", str(number))
            leaders = Election(client, "chair").observe()
            async with (
                Registration(client, "web", "10.0.0.1:80"),
                Discovery(client, "web") as discovery,
                Configuration(client, "app/", Settings) as configuration,
                Election(client, "chair", "old"),
            ):
                assert (await anext(leaders)).value == b"old"
                assert configuration.value.greeting == "49"
                own_server.kill()
                shutil.rmtree(own_server.data_dir)
                await asyncio.to_thread(own_server.start)
                async with (
                    Client(own_server.endpoint) as other,
                    Registration(other, "web", "10.0.0.2:80"),
                    Election(other, "chair", "new"),
                ):
                    assert (await other.put("app/greeting", "new")).revision < 50
                    async for instances in discovery:
                        if sorted(one.address for one in instances) == ["10.0.0.1:80", "10.0.0.2:80"]:
                            break
                    async for settings in configuration:
                        if settings.greeting == "new":
                            break
                    assert (await anext(leaders)).value == b"new"

    run(main)
