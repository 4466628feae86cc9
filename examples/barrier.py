"""Workers that wait for a migration, and parties that go through two phases together.

python examples/barrier.py 127.0.0.1:2379
"""

from __future__ import annotations

import asyncio
import sys

from petcd.client import Client
from petcd.client.recipes import Barrier, DoubleBarrier


async def party(client: Client, phases: list[list[str]], name: str) -> None:
    for phase in phases:
        async with DoubleBarrier(client, "examples/phases", parties=3):
            phase.append(name)  # all three are here
        assert len(phase) == 3  # all three have left


async def wait(client: Client, events: list[str]) -> None:
    await Barrier(client, "examples/migration").wait()
    events.append("a worker starts")


async def main(endpoint: str) -> None:
    async with Client(endpoint) as client:
        events: list[str] = []
        async with Barrier(client, "examples/migration"):
            workers = [asyncio.create_task(wait(client, events)) for _ in range(2)]
            await client.put("examples/schema", "2")
            events.append("the migration is done")
        await asyncio.gather(*workers)
        print(*events, sep="\n")

        phases: list[list[str]] = [[], []]
        await asyncio.gather(*(party(client, phases, name) for name in ("a", "b", "c")))
        for number, names in enumerate(phases, 1):
            print(f"phase {number}:", ", ".join(sorted(names)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2379"))
