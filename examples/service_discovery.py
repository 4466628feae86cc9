"""Services that announce themselves, and a client that always knows which of them are there.

    python examples/service_discovery.py 127.0.0.1:2379

The keys are those of Go's etcd name resolver for gRPC, below ``services/``.
"""

from __future__ import annotations

import asyncio
import sys

from petcd.client import Client
from petcd.client.recipes import Discovery, Registration


async def main(endpoint: str) -> None:
    async with Client(endpoint) as client, Discovery(client, "web") as discovery:
        async with Registration(client, "web", "10.0.0.1:80", metadata={"zone": "a"}, ttl=5) as one:
            await discovery.wait_for(1)
            print("one is there:", discovery.addresses)

            async with Registration(client, "web", "10.0.0.2:80", metadata={"zone": "b"}, ttl=5):
                for instance in await discovery.wait_for(2):
                    print(f"  {instance.address} in zone {instance.metadata['zone']}")

            async for instances in discovery:
                if len(instances) == 1:
                    print("the second has left:", discovery.addresses)
                    break

            # A lease that is lost, as after a long outage, is replaced by a new one.
            key = one.key
            await client.delete(key)
            async for instances in discovery:
                if instances and instances[0].id not in key.decode():
                    print("registered again:", discovery.addresses)
                    break

        async for instances in discovery:
            if not instances:
                print("nobody is there")
                return


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2379"))
