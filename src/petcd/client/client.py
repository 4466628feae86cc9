"""The asyncio client of etcd's v3 API, on our own HTTP/2: no grpcio, no protobuf.

async with Client(["10.0.0.1:2379", "10.0.0.2:2379"]) as client:
    await client.put("greeting", "hello")
    print((await client.get("greeting")).value)
    async with client.watch("greeting") as watch:
        async for event in watch: ...
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from petcd.client.auth import Auth
from petcd.client.cluster import Cluster
from petcd.client.credentials import Credentials
from petcd.client.dialing import Dialer
from petcd.client.endpoints import parse
from petcd.client.hub import Hub
from petcd.client.keepalive import Keeper
from petcd.client.keyspace import Core, Keyspace
from petcd.client.maintenance import Maintenance
from petcd.client.pool import REQUIRE_LEADER, Pool
from petcd.client.tls import Tls

if TYPE_CHECKING:
    import ssl


class Client(Keyspace):
    """A client of one cluster. Connects when first used; belongs to the loop it is used in.

    ``timeout`` bounds each call with all its attempts, in seconds; None waits for ever. Reads are repeated
    while the servers are unavailable; a write is never sent again once bytes of it may have left, unless a
    comparison sees to it that it happens once. What the server refuses is raised as a class of
    ``petcd.errors``.
    """

    def __init__(
        self,
        endpoints: str | Sequence[str] = "127.0.0.1:2379",
        *,
        timeout: float | None = 5.0,
        dial_timeout: float = 2.0,
        tls: ssl.SSLContext | Tls | None = None,
        user: str = "",
        password: str = "",
        keepalive: float = 10.0,
        keepalive_timeout: float = 6.0,
        require_leader: bool = False,
        shuffle: bool = False,
    ) -> None:
        self._pool = pool = Pool(
            [endpoints] if isinstance(endpoints, str) else list(endpoints),
            Dialer(tls=tls, timeout=dial_timeout, keepalive=keepalive, keepalive_timeout=keepalive_timeout),
            Credentials(user, password),
            shuffle=shuffle,
        )
        core = Core(pool, Keeper(pool), Hub(pool, (REQUIRE_LEADER,)), Hub(pool))
        super().__init__(core, namespace=b"", timeout=timeout, require_leader=require_leader)
        self.maintenance = Maintenance(pool, timeout)
        self.cluster = Cluster(pool, timeout)
        self.auth = Auth(pool, timeout)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End watches, keep-alives and the connection. Leases are left to expire and count as lost."""
        self._pool.owner.claim()  # what is another process's is not ours to close
        await self._core.watches.close()
        await self._core.lonely_watches.close()
        await self._core.keeper.close()
        await self._pool.close()

    @property
    def endpoints(self) -> list[str]:
        """Where the client looks for members."""
        return [endpoint.text for endpoint in self._pool.balance.endpoints]

    async def sync_endpoints(self) -> list[str]:
        """Take the addresses that the members of the cluster announce as endpoints; what they are now.

        The connection in use stays. Learners are left out, and members that have not started.
        """
        members = await self.cluster.members()
        found = [url for member in members if not member.learner for url in member.client_urls]
        if found:
            self._pool.balance.replace(parse(url) for url in found)
        return self.endpoints
