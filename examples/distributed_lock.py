"""Three workers that share one lock, and a holder that lost it and is fenced off.

    python examples/distributed_lock.py 127.0.0.1:2379

``etcdctl lock examples/lock`` takes part in the same line.
"""

from __future__ import annotations

import asyncio
import sys

from petcd.client import Client, Put
from petcd.client.recipes import Lock


async def worker(client: Client, work: list[str]) -> None:
    async with Lock(client, "examples/lock", ttl=5):
        before = len(work)
        await asyncio.sleep(0.05)  # nobody else can have worked meanwhile
        assert len(work) == before
        work.append("done")


async def main(endpoint: str) -> None:
    async with Client(endpoint) as client:
        work: list[str] = []
        await asyncio.gather(*(worker(client, work) for _ in range(3)))
        print("one after the other:", work)

        async with Lock(client, "examples/lock", ttl=5) as stalled:
            # What happens to a holder that sleeps too long: its lease ends, the next one gets the lock.
            await client.leases.revoke(stalled.lease)
            await stalled.lost.wait()
            async with Lock(client, "examples/lock", ttl=5) as lock:
                print("the next holder's token is larger:", lock.token > stalled.token)

                # The store decides who may write: put ``held`` among the conditions.
                late = await client.txn(when=[stalled.held], then=[Put("examples/result", "late")])
                good = await client.txn(when=[lock.held], then=[Put("examples/result", "good")])
                print("written by the stalled one:", late.succeeded, "by the holder:", good.succeeded)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2379"))
