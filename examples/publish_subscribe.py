"""Publish and subscribe: subscribers get every message once and in order, also those they missed.

    python examples/publish_subscribe.py 127.0.0.1:2379

A topic is a key, a message one put of it. Each put is an event of its own, so a watch misses none of them,
and a subscriber that was away goes on after the revision it has remembered, unless that was compacted.
"""

from __future__ import annotations

import asyncio
import sys

from petcd.client import Client

TOPIC = "examples/topic/news"


async def subscribe(endpoint: str, name: str, since: int, until: str) -> tuple[int, list[str]]:
    """Messages after revision ``since``; the revision to go on from, and what was read."""
    messages = []
    async with Client(endpoint) as client, client.watch(TOPIC, start_revision=since + 1) as watch:
        async for event in watch:
            messages.append(event.value.decode())
            if messages[-1] == until:
                return event.revision, [name, *messages]
    raise ConnectionError("the topic has ended")


async def main(endpoint: str) -> None:
    async with Client(endpoint) as client:
        start = (await client.get(TOPIC)).revision
        subscribers = [asyncio.create_task(subscribe(endpoint, name, start, "two")) for name in "ab"]
        await client.put(TOPIC, "one")
        await client.put(TOPIC, "two")
        seen = await asyncio.gather(*subscribers)
        for _, messages in seen:
            print("{}: {}, {}".format(*messages))

        # Nobody listens now. What is published meanwhile is not lost.
        await client.put(TOPIC, "three")
        await client.put(TOPIC, "four")
        _, messages = await subscribe(endpoint, "a, back again", seen[0][0], "four")
        print("{}: {}, {}".format(*messages))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2379"))
