"""Put, get, transaction and watch against a running server.

    python examples/put_get_watch.py 127.0.0.1:2379

Works with petcd and with Go etcd.
"""

from __future__ import annotations

import asyncio
import sys

from petcd.client import Client, Put, compare


async def main(endpoint: str) -> None:
    async with Client(endpoint) as client:
        await client.delete("greetings/", prefix=True)

        async with client.watch("greetings/", prefix=True, previous=True) as watch:
            await client.put("greetings/en", "hello")
            await client.put("greetings/de", "hallo")

            # Only one of two writers can win this: the comparison and the put are one step.
            won = await client.txn(
                when=[compare("greetings/en").value == "hello"],
                then=[Put("greetings/en", "good morning")],
            )
            print("transaction succeeded:", won.succeeded)

            result = await client.get("greetings/", prefix=True)
            for kv in result:
                print(f"{kv.key.decode()} = {kv.text} (version {kv.version})")

            await client.delete("greetings/de")

            seen = 0
            async for event in watch:
                kind = "DELETE" if event.deleted else "PUT"
                before = event.previous.text if event.previous else "nothing"
                print(f"{kind} {event.key.decode()}: {before} -> {event.value.decode() or 'nothing'}")
                seen += 1
                if seen == 4:
                    break


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2379"))
