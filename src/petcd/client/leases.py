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
from typing import TYPE_CHECKING, Final, NamedTuple

from petcd.client.errors import LeaseLost
from petcd.client.keepalive import KEEP_ALIVE, Keeper
from petcd.client.keys import HasLease, lease_id
from petcd.client.pool import Opened, Pool
from petcd.client.retry import Backoff, expired
from petcd.errors import EtcdError
from petcd.pb.etcdserverpb import lease as pb

if TYPE_CHECKING:
    from petcd.client.credentials import Metadata

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
    """Attached to it, when asked for; of a namespace only its own, relative."""

    @property
    def exists(self) -> bool:
        return self.remaining >= 0


class Granted(NamedTuple):
    """A lease that the server has granted."""

    id: int
    ttl: int
    """Seconds, as the server granted them: it may be more than was asked for."""

    @property
    def ID(self) -> int:  # noqa: N802  the wire's spelling
        return self.id

    @property
    def TTL(self) -> int:  # noqa: N802  the wire's spelling
        return self.ttl


class Lease:
    """A lease of this client, kept alive while entered and revoked on leaving."""

    def __init__(self, leases: Leases, ttl: int, lease: int = 0, *, revoke: bool = True) -> None:
        self._leases = leases
        self._wanted = ttl
        self._wanted_id = lease
        self._revoke = revoke
        self.id = lease
        """0 until it is granted."""
        self.ttl = ttl
        """Seconds, as the server granted them."""
        self.lost = asyncio.Event()
        """Set when the lease is gone or may be, and when the client is closed. Entering anew makes a new one
        of it."""
        self.expires_at = 0.0
        """On the loop's clock, reckoned from before the last renewal was asked for."""
        self.renew_at = 0.0
        self.asked_at = 0.0

    async def __aenter__(self) -> Lease:
        loop = asyncio.get_running_loop()
        began = loop.time()
        response = await self._leases.grant(self._wanted, self._wanted_id)
        if self.lost.is_set():
            self.lost = asyncio.Event()
        self.id, self.ttl = response.id, response.ttl
        self.expires_at = began + self.ttl
        self.renew_at = began + self.ttl / 3
        self.asked_at = 0.0
        self._leases.keeper.keep(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leases.keeper.drop(self)
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
    """The lease calls of a client or of a namespace."""

    def __init__(
        self,
        pool: Pool,
        keeper: Keeper,
        timeout: float | None,
        *,
        namespace: bytes = b"",
        extra: Metadata = (),
    ) -> None:
        self._pool = pool
        self.keeper = keeper
        """Renews the leases that are entered."""
        self._timeout = timeout
        self._namespace = namespace
        self._extra = extra

    async def grant(self, ttl: int, lease: int = 0) -> Granted:
        """A lease that nobody keeps alive. ``lease``: its id, 0 lets the server choose."""
        response = await self._pool.call(
            _SERVICE + b"LeaseGrant",
            pb.LeaseGrantRequest(TTL=ttl, ID=lease),
            pb.LeaseGrantResponse,
            repeatable=False,
            timeout=self._timeout,
            extra=self._extra,
        )
        return Granted(response.ID, response.TTL)

    async def revoke(self, lease: int | HasLease, *, timeout: float | None = None) -> int:  # noqa: ASYNC109
        """End a lease and delete its keys; the revision afterwards. Raises LeaseNotFound."""
        response = await self._pool.call(
            _SERVICE + b"LeaseRevoke",
            pb.LeaseRevokeRequest(ID=lease_id(lease)),
            pb.LeaseRevokeResponse,
            repeatable=False,
            timeout=timeout or self._timeout,
            extra=self._extra,
        )
        return response.header.revision if response.header is not None else 0

    async def time_to_live(self, lease: int | HasLease, *, keys: bool = False) -> TimeToLive:
        """What is left of a lease, and with ``keys`` which keys hang on it."""
        response = await self._pool.call(
            _SERVICE + b"LeaseTimeToLive",
            pb.LeaseTimeToLiveRequest(ID=lease_id(lease), keys=keys),
            pb.LeaseTimeToLiveResponse,
            repeatable=True,
            timeout=self._timeout,
            extra=self._extra,
        )
        namespace = self._namespace
        names = tuple(key[len(namespace) :] for key in response.keys if key.startswith(namespace))
        return TimeToLive(response.ID, response.TTL, response.grantedTTL, names)

    async def list(self) -> list[int]:
        """The ids of all leases."""
        response = await self._pool.call(
            _SERVICE + b"LeaseLeases",
            pb.LeaseLeasesRequest(),
            pb.LeaseLeasesResponse,
            repeatable=True,
            timeout=self._timeout,
            extra=self._extra,
        )
        return [status.ID for status in response.leases]

    async def keep_alive_once(self, lease: int | HasLease) -> int:
        """Renew a lease; its seconds. Raises LeaseLost when there is none."""
        number = lease_id(lease)
        backoff = Backoff()
        opened: Opened | None = None
        failure: EtcdError | None = None
        try:
            async with asyncio.timeout(self._timeout):
                while True:
                    try:
                        opened = await self._pool.open(KEEP_ALIVE, self._extra)
                        opened.stream.send(pb.LeaseKeepAliveRequest(ID=number).encode())
                        message = await opened.stream.recv()
                        break
                    except EtcdError as error:
                        failure = error
                        if not self._pool.recover(error, opened):
                            raise
                    finally:
                        if opened is not None:
                            opened.stream.cancel()
                    await backoff.pause()
        except TimeoutError:
            raise expired(failure) from failure
        ttl = pb.LeaseKeepAliveResponse.decode(message).TTL if message is not None else 0
        if ttl <= 0:
            raise LeaseLost(number)
        return ttl
