"""A service that announces itself for as long as it lives, and what others see of it.

    python examples/lease_keepalive.py 127.0.0.1:2379

The key hangs on a lease. The client renews the lease while its block is entered and revokes it on leaving;
if the program dies instead, the server removes the key when the lease's time has passed.
"""

from __future__ import annotations

import asyncio
import sys

from petcd.client import Client

KEY = "services/web/1"


async def main(endpoint: str) -> None:
    async with Client(endpoint) as client:
        async with client.lease(ttl=2) as lease:
            await client.put(KEY, "10.0.0.7:8080", lease=lease)
            print("announced:", (await client.get(KEY)).value)

            await asyncio.sleep(3)  # longer than the lease lives by itself
            lease.check()  # raises LeaseLost if the server let it go
            print("still there:", (await client.get(KEY)).value)

            state = await client.leases.time_to_live(lease.id, keys=True)
            print("granted seconds:", state.granted, "keys:", state.keys)

        print("after leaving:", (await client.get(KEY)).value)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2379"))
