"""Leases: granted, revoked, asked about, and kept alive while a context is entered.

    async with client.lease(ttl=10) as lease:
        await client.put("service/1", "host:port", lease=lease)
        await lease.lost.wait()

All leases of a client are renewed over one stream, each after a third of its time. A lease is lost when the
server says so, or when its time has passed on our clock without a renewal: then the server may have let it
expire, although its clock started later.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from petcd.client.errors import LeaseLost
from petcd.client.pool import Backoff, Pool, resumable
from petcd.errors import EtcdError
from petcd.pb.etcdserverpb import lease as pb

if TYPE_CHECKING:
    from petcd.net.grpc.client import ClientStream

_SERVICE: Final = b"/etcdserverpb.Lease/"
_REVOKE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class TimeToLive:
    """What the server knows of a lease."""

    lease: int
    remaining: int
    """Seconds; -1 when there is no such lease."""
    granted: int
    keys: tuple[bytes, ...] = ()

    @property
    def exists(self) -> bool:
        return self.remaining >= 0


class Lease:
    """A lease of this client, kept alive while entered and revoked on leaving."""

    def __init__(self, leases: Leases, ttl: int, lease: int = 0, *, revoke: bool = True) -> None:
        self._leases = leases
        self._wanted = ttl
        self._revoke = revoke
        self.id = lease
        """0 until it is granted."""
        self.ttl = ttl
        """Seconds, as the server granted them."""
        self.lost = asyncio.Event()
        """Set when the lease is gone, or may be."""
        self.expires_at = 0.0
        """On the loop's clock, reckoned from before the last renewal was asked for."""
        self.renew_at = 0.0
        self.asked_at = 0.0

    async def __aenter__(self) -> Lease:
        loop = asyncio.get_running_loop()
        began = loop.time()
        response = await self._leases.grant(self._wanted, self.id)
        self.id, self.ttl = response.ID, response.TTL
        self.expires_at = began + self.ttl
        self.renew_at = began + self.ttl / 3
        self._leases.keep(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leases.drop(self)
        if self._revoke and not self.lost.is_set():
            try:
                await self._leases.revoke(self.id, timeout=_REVOKE_SECONDS)
            except EtcdError:
                return  # it expires by itself

    def check(self) -> None:
        """Raises LeaseLost when it is gone."""
        if self.lost.is_set():
            raise LeaseLost(self.id)


class Leases:
    """The lease calls of a client, and the task that renews what is kept."""

    def __init__(self, pool: Pool, timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._kept: dict[int, Lease] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def close(self) -> None:
        self._kept.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def grant(self, ttl: int, lease: int = 0) -> pb.LeaseGrantResponse:
        """A lease that nobody keeps alive. ``lease``: its id, 0 lets the server choose."""
        return await self._pool.call(
            _SERVICE + b"LeaseGrant",
            pb.LeaseGrantRequest(TTL=ttl, ID=lease),
            pb.LeaseGrantResponse,
            repeatable=False,
            timeout=self._timeout,
        )

    async def revoke(self, lease: int, *, timeout: float | None = None) -> int:  # noqa: ASYNC109
        """End a lease and delete its keys; the revision afterwards."""
        response = await self._pool.call(
            _SERVICE + b"LeaseRevoke",
            pb.LeaseRevokeRequest(ID=lease),
            pb.LeaseRevokeResponse,
            repeatable=False,
            timeout=timeout or self._timeout,
        )
        return response.header.revision if response.header is not None else 0

    async def time_to_live(self, lease: int, *, keys: bool = False) -> TimeToLive:
        response = await self._pool.call(
            _SERVICE + b"LeaseTimeToLive",
            pb.LeaseTimeToLiveRequest(ID=lease, keys=keys),
            pb.LeaseTimeToLiveResponse,
            repeatable=True,
            timeout=self._timeout,
        )
        return TimeToLive(response.ID, response.TTL, response.grantedTTL, tuple(response.keys))

    async def list(self) -> list[int]:
        """The ids of all leases."""
        response = await self._pool.call(
            _SERVICE + b"LeaseLeases",
            pb.LeaseLeasesRequest(),
            pb.LeaseLeasesResponse,
            repeatable=True,
            timeout=self._timeout,
        )
        return [status.ID for status in response.leases]

    async def keep_alive_once(self, lease: int) -> int:
        """Renew a lease; its seconds. Raises LeaseLost."""
        _, stream = await self._pool.stream(_SERVICE + b"LeaseKeepAlive")
        try:
            stream.send(pb.LeaseKeepAliveRequest(ID=lease).encode())
            async with asyncio.timeout(self._timeout):
                message = await stream.recv()
            ttl = pb.LeaseKeepAliveResponse.decode(message).TTL if message is not None else 0
        finally:
            stream.cancel()
        if ttl <= 0:
            raise LeaseLost(lease)
        return ttl

    # --- keeping --------------------------------------------------------------------------------------

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

    async def _run(self) -> None:
        backoff = Backoff()
        watcher = asyncio.get_running_loop().create_task(self._expire(), name="etcd lease clocks")
        try:
            while self._kept:
                connection = None
                stream = None
                try:
                    connection, stream = await self._pool.stream(_SERVICE + b"LeaseKeepAlive")
                    await self._renew(stream)
                    backoff = Backoff()
                except EtcdError as error:
                    if not resumable(error):
                        for lease in list(self._kept.values()):
                            self._lose(lease)
                        return
                    if connection is not None:
                        self._pool.turn_away(connection)
                finally:
                    if stream is not None:
                        stream.cancel()
                if self._kept:
                    await backoff.pause()
        finally:
            watcher.cancel()

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
        """Ask for what is due and take the answers, until the stream breaks or nothing is kept."""
        loop = asyncio.get_running_loop()
        for lease in self._kept.values():
            # What was asked on an earlier stream and not answered is due again.
            if lease.asked_at:
                lease.asked_at, lease.renew_at = 0.0, loop.time()
        while self._kept:
            now = loop.time()
            for lease in self._kept.values():
                if not lease.asked_at and now >= lease.renew_at:
                    lease.asked_at = now
                    stream.send(pb.LeaseKeepAliveRequest(ID=lease.id).encode())
            due = min(
                (lease.renew_at for lease in self._kept.values() if not lease.asked_at), default=now + 1.0
            )
            try:
                async with asyncio.timeout(min(max(0.001, due - now), 1.0)):
                    message = await stream.recv()
            except TimeoutError:
                continue
            if message is None:
                return
            response = pb.LeaseKeepAliveResponse.decode(message)
            answered = self._kept.get(response.ID)
            if answered is None:
                continue
            if response.TTL <= 0:
                self._lose(answered)
                continue
            answered.expires_at = answered.asked_at + response.TTL
            answered.renew_at = answered.asked_at + response.TTL / 3
            answered.asked_at = 0.0
            self._changed.set()
