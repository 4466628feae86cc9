"""Three candidates: one resigns, one dies, and an observer sees each change.

    python examples/leader_election.py 127.0.0.1:2379

``etcdctl elect -l examples/election`` shows the same.
"""

from __future__ import annotations

import asyncio
import sys

from petcd.client import Client
from petcd.client.recipes import Election

NAME = "examples/election"


async def main(endpoint: str) -> None:
    async with Client(endpoint) as client:
        one, two, three = (Election(client, NAME, name, ttl=5) for name in ("one", "two", "three"))
        leaders = Election(client, NAME).observe()

        await one.campaign()
        print("leader:", (await anext(leaders)).text)

        waiting = asyncio.create_task(two.campaign())
        await one.resign()
        await waiting
        print("leader:", (await anext(leaders)).text)

        waiting = asyncio.create_task(three.campaign())
        await client.leases.revoke(two.lease)  # what the servers do when two has died
        await waiting
        print("leader:", (await anext(leaders)).text)
        await two.lost.wait()
        print("two knows that it leads no longer:", not two.is_held)

        await three.proclaim("three, at another address")
        print("leader:", (await anext(leaders)).text)
        await three.resign()
        print("nobody leads:", await one.leader() is None)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2379"))
