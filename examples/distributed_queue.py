"""A queue between programs: work is done once, and what a failed worker had goes to another one.

python examples/distributed_queue.py 127.0.0.1:2379
"""

from __future__ import annotations

import asyncio
import sys

from petcd.client import Client
from petcd.client.recipes import PriorityQueue, Queue


async def clumsy(queue: Queue) -> None:
    async with queue.take() as item:
        raise RuntimeError(f"cannot do {item.text}")


async def worker(endpoint: str, done: list[str]) -> None:
    async with Client(endpoint) as client, Queue(client, "examples/queue") as queue:
        while True:
            async with queue.take() as item:  # removed when the block ends
                if item.value == b"stop":
                    return
                done.append(item.text)


async def main(endpoint: str) -> None:
    async with Client(endpoint) as client:
        async with Queue(client, "examples/queue") as queue:
            for number in range(5):
                await queue.put(f"job {number}")
            try:
                await clumsy(queue)
            except RuntimeError as error:
                print(error)

            done: list[str] = []
            await queue.put("stop")
            await queue.put("stop")
            await asyncio.gather(worker(endpoint, done), worker(endpoint, done))
            print("done:", ", ".join(sorted(done)))
            print("left:", await queue.size())

        async with PriorityQueue(client, "examples/priorities") as urgent:
            await urgent.put("sweep the floor", priority=9)
            await urgent.put("put out the fire", priority=1)
            print("first:", (await urgent.get()).decode())
            print("then:", (await urgent.get()).decode())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2379"))
