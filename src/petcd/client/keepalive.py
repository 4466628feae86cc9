"""The task that renews the leases a client holds: all over one stream, each after a third of its time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from petcd.client.pool import REFUSALS_MAX, Opened, Pool
from petcd.client.retry import Backoff
from petcd.errors import Code, EtcdError
from petcd.net.grpc.client import ClientStream, TransportFailure
from petcd.pb.etcdserverpb import lease as pb

if TYPE_CHECKING:
    from petcd.client.leases import Lease

KEEP_ALIVE: Final = b"/etcdserverpb.Lease/LeaseKeepAlive"
_PATIENCE: Final = 1.0
"""The least that a renewal may take, in seconds, before the member is given up."""


class Keeper:
    """Renews what it is given to keep, and tells a lease when it is lost."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._kept: dict[int, Lease] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._backoff = Backoff()
        self._refusals = 0
        pool.owner.on_change.append(self._start_anew)

    async def close(self) -> None:
        """Renew no more; the leases are left to expire."""
        self._kept.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def _start_anew(self) -> None:
        # Nobody renews them here any more: a forked parent still may, but this process does not know.
        for lease in self._kept.values():
            lease.lost = asyncio.Event()
        self._lose_all()
        self._changed = asyncio.Event()
        self._task = None

    def keep(self, lease: Lease) -> None:
        self._kept[lease.id] = lease
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="etcd leases")

    def drop(self, lease: Lease) -> None:
        self._kept.pop(lease.id, None)
        self._changed.set()

    def _lose(self, lease: Lease) -> None:
        self._kept.pop(lease.id, None)
        lease.lost.set()

    def _lose_all(self) -> None:
        for lease in list(self._kept.values()):
            self._lose(lease)

    async def _run(self) -> None:
        clocks = asyncio.get_running_loop().create_task(self._expire(), name="etcd lease clocks")
        try:
            while self._kept:
                opened: Opened | None = None
                try:
                    opened = await self._pool.open(KEEP_ALIVE)
                    await self._renew(opened.stream)
                except EtcdError as error:
                    self._refusals += self._pool.refused(error)
                    if not self._pool.recover(error, opened) or self._refusals > REFUSALS_MAX:
                        self._lose_all()
                        return
                finally:
                    if opened is not None:
                        opened.stream.cancel()
                if self._kept:
                    await self._backoff.pause()
        except Exception:
            # Not foreseen: asyncio reports it. Nobody renews now what is kept.
            self._lose_all()
            raise
        finally:
            clocks.cancel()

    async def _expire(self) -> None:
        """Tell a lease that its time is over even while no server answers."""
        loop = asyncio.get_running_loop()
        while True:
            for lease in [lease for lease in self._kept.values() if loop.time() >= lease.expires_at]:
                self._lose(lease)
            soonest = min((lease.expires_at for lease in self._kept.values()), default=loop.time() + 60)
            self._changed.clear()
            try:
                async with asyncio.timeout(max(0.001, soonest - loop.time())):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _renew(self, stream: ClientStream) -> None:
        """Ask for what is due and take the answers, until the stream breaks or nothing is kept.

        Raises TransportFailure when an answer takes so long that another member may be in time.
        """
        loop = asyncio.get_running_loop()
        for lease in self._kept.values():
            # What was asked on an earlier stream and not answered is due again.
            if lease.asked_at:
                lease.asked_at, lease.renew_at = 0.0, loop.time()
        while self._kept:
            now = loop.time()
            for lease in self._kept.values():
                if not lease.asked_at:
                    if now >= lease.renew_at:
                        lease.asked_at = now
                        stream.send(pb.LeaseKeepAliveRequest(ID=lease.id).encode())
                elif now - lease.asked_at > max(_PATIENCE, lease.ttl / 6):
                    raise TransportFailure(Code.UNAVAILABLE, "no answer to a keep-alive", sent=True)
            due = min(
                (lease.renew_at for lease in self._kept.values() if not lease.asked_at), default=now + 1.0
            )
            try:
                async with asyncio.timeout(min(max(0.001, due - now), 0.5)):
                    message = await stream.recv()
            except TimeoutError:
                continue
            if message is None:
                return
            response = pb.LeaseKeepAliveResponse.decode(message)
            self._backoff, self._refusals = Backoff(), 0
            answered = self._kept.get(response.ID)
            if answered is None or not answered.asked_at:
                continue
            if response.TTL <= 0:
                self._lose(answered)
                continue
            answered.expires_at = answered.asked_at + response.TTL
            answered.renew_at = answered.asked_at + response.TTL / 3
            answered.asked_at = 0.0
            self._changed.set()
