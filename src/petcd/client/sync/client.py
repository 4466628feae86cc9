"""The synchronous client: the asyncio client's names, for programs without a loop and with any number of
threads.

with Client(["10.0.0.1:2379", "10.0.0.2:2379"]) as client:
    client.put("greeting", "hello")
    print(client.get("greeting").value)
    with client.watch("greeting") as watch:
        for event in watch: ...
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast
from weakref import WeakSet

from petcd.client.auth import Auth as AsyncAuth
from petcd.client.client import Client as AsyncClient
from petcd.client.cluster import Cluster as AsyncCluster
from petcd.client.endpoints import parse
from petcd.client.keyspace import Core
from petcd.client.keyspace import Keyspace as AsyncKeyspace
from petcd.client.maintenance import Maintenance as AsyncMaintenance
from petcd.client.sync.blocked import blocking_calls
from petcd.client.sync.keyspace import Keyspace
from petcd.client.sync.pool import Pool
from petcd.client.sync.portal import Portal
from petcd.client.sync.services import Auth, Cluster, Maintenance
from petcd.client.tls import Tls

if TYPE_CHECKING:
    import ssl

T = TypeVar("T")

_CLIENTS: Final[WeakSet[Client]] = WeakSet()
"""Those that a fork would have to know of."""


class Client(Keyspace):
    """A client of one cluster, for any number of threads. Connects when first used.

    ``timeout`` bounds each call with all its attempts, in seconds; None waits for ever. Reads are repeated
    while the servers are unavailable; a write is never sent again once bytes of it may have left, unless a
    comparison sees to it that it happens once. What the server refuses is raised as a class of
    ``petcd.errors``.

    Plain calls need no other thread. Watches and leases start one, in the background, when first used. After
    a fork parent and child may both go on with the client: the child makes connections of its own, and its
    copies of watches and leases stay the parent's.
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
            tls=tls,
            user=user,
            password=password,
            dial_timeout=dial_timeout,
            keepalive=keepalive,
            keepalive_timeout=keepalive_timeout,
            shuffle=shuffle,
        )
        portal = Portal(
            lambda: AsyncClient(
                self.endpoints,
                timeout=timeout,
                dial_timeout=dial_timeout,
                tls=tls,
                user=user,
                password=password,
                keepalive=keepalive,
                keepalive_timeout=keepalive_timeout,
                require_leader=require_leader,
                shuffle=shuffle,
            )
        )
        calls = blocking_calls(pool)
        # Who streams is the background thread's client: these calls have no use for keeper and hubs.
        core = Core(calls, *cast("tuple[Any, Any, Any]", (None, None, None)))
        super().__init__(
            AsyncKeyspace(core, namespace=b"", timeout=timeout, require_leader=require_leader),
            portal,
            lambda client: client,
        )
        self.maintenance = Maintenance(
            AsyncMaintenance(calls, timeout), portal, lambda client: client.maintenance
        )
        self.cluster = Cluster(AsyncCluster(calls, timeout), portal, lambda client: client.cluster)
        self.auth = Auth(AsyncAuth(calls, timeout), portal, lambda client: client.auth)
        _CLIENTS.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End watches, keep-alives, the connections and other threads' calls. Leases are left to expire."""
        self._portal.close()
        self._pool.close()

    @property
    def endpoints(self) -> list[str]:
        """Where the client looks for members."""
        return [endpoint.text for endpoint in self._pool.balance.endpoints]

    def sync_endpoints(self) -> list[str]:
        """Take the addresses that the members of the cluster announce as endpoints; what they are now.

        The connection in use stays. Learners are left out, and members that have not started.
        """
        members = self.cluster.members()
        found = [url for member in members if not member.learner for url in member.client_urls]
        if found:
            self._pool.balance.replace(parse(url) for url in found)
            if self._portal.started:
                self._portal.run(lambda client: client.sync_endpoints())
        return self.endpoints

    def run(self, work: Callable[[AsyncClient], Coroutine[Any, Any, T]]) -> T:
        """The result of a coroutine of an asyncio client, run in the background thread: for what has no
        synchronous form. It must not call this client, which would wait for itself."""
        return self._portal.run(work)

    def _forked(self) -> None:
        self._pool.forked()
        self._portal.forked()


def _forked() -> None:
    """In the child, before anything else runs there."""
    for client in list(_CLIENTS):
        client._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
