"""Leases for threads: kept alive in the background while a context is entered.

with client.lease(ttl=10) as lease:
    client.put("service/1", "host:port", lease=lease)
    while not lease.lost.wait(timeout=1.0):
        work()
"""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

from petcd.client.errors import LeaseLost
from petcd.client.leases import Lease as AsyncLease
from petcd.client.sync.portal import Portal

if TYPE_CHECKING:
    from collections.abc import Callable

    from petcd.client.client import Client


class Lease:
    """A lease of this client, kept alive while entered and revoked on leaving.

    It is the process's that entered it: in a forked child leaving does nothing.
    """

    def __init__(self, portal: Portal, make: Callable[[Client], AsyncLease], ttl: int, lease: int) -> None:
        self._portal = portal
        self._generation = portal.generation
        self._make = make
        self._inner: AsyncLease | None = None
        self._guard: asyncio.Task[None] | None = None
        self._leaving = False
        self.id = lease
        """0 until it is granted."""
        self.ttl = ttl
        """Seconds, as the server granted them."""
        self.lost = threading.Event()
        """Set when the lease is gone or may be, and when the client is closed while it is entered. In a
        forked child it is an event of its own, set when the parent had entered it."""
        portal.left_to_parent.add(self)

    def __enter__(self) -> Self:
        self._generation = self._portal.generation
        before = self._inner
        try:
            self._portal.run(self._enter)
        except BaseException:
            if self._inner is not before:  # the interrupt came a moment too late
                self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._portal.generation == self._generation and not self._portal.closed:
            self._portal.run(self._leave)

    def check(self) -> None:
        """Raises LeaseLost when it is gone."""
        if self.lost.is_set():
            raise LeaseLost(self.id)

    @property
    def expires_at(self) -> float:
        """On ``time.monotonic``, reckoned from before the last renewal was asked for; 0 before the grant."""
        return self._inner.expires_at if self._inner is not None else 0.0

    def _forked(self) -> None:
        """In a forked child: nobody there keeps the parent's lease alive."""
        if self._inner is not None and not self._leaving:
            self.lost = threading.Event()  # a thread of the parent may have been in the midst of the other
            self.lost.set()

    # --- in the background thread -----------------------------------------------------------------------

    async def _enter(self, client: Client) -> None:
        inner = self._make(client)
        await inner.__aenter__()
        self._inner, self._leaving = inner, False
        if self.lost.is_set():
            self.lost = threading.Event()
        self.id, self.ttl = inner.id, inner.ttl
        self._guard = asyncio.get_running_loop().create_task(self._tell(inner), name="etcd lease guard")

    async def _tell(self, inner: AsyncLease) -> None:
        try:
            await inner.lost.wait()
        finally:
            if not self._leaving:
                self.lost.set()

    async def _leave(self, _client: Client) -> None:
        self._leaving = True
        if self._inner is not None and self._guard is not None:
            self._guard.cancel()
            await self._inner.__aexit__(None, None, None)
