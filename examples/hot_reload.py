"""Configuration that follows the store: typed, changed as a whole, and never broken by a slip of the pen.

python examples/hot_reload.py 127.0.0.1:2379
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field

from petcd.client import Client, Put
from petcd.client.recipes import Configuration


@dataclass(frozen=True)
class Limits:
    requests: int = 100
    burst: float = 1.5


@dataclass(frozen=True)
class Settings:
    greeting: str
    debug: bool = False
    hosts: list[str] = field(default_factory=list)
    limits: Limits = field(default_factory=Limits)


async def main(endpoint: str) -> None:
    async with Client(endpoint) as client:
        await client.put("examples/app/greeting", "hello")

        async with Configuration(client, "examples/app/", Settings) as configuration:
            print(configuration.value)
            changes = aiter(configuration)
            await anext(changes)  # what we have

            # One transaction is one change.
            await client.txn(
                then=[
                    Put("examples/app/hosts", '["a:80", "b:80"]'),
                    Put("examples/app/limits/requests", "250"),
                ]
            )
            print((await anext(changes)).limits, configuration.value.hosts)

            await client.put("examples/app/limits/requests", "lots")  # is not taken over ...
            await client.put("examples/app/debug", "yes")  # ... nor is anything else until it is mended
            await client.put("examples/app/limits/requests", "300")
            mended = await anext(changes)
            print(mended.limits.requests, mended.debug, configuration.error)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2379"))
