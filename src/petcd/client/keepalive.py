"""The task that renews the leases a client holds: all over one stream, each after a third of its time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from petcd.client.pool import REFUSALS_MAX, Opened, Pool
from petcd.client.retry import Backoff
from petcd.client.schedule import Schedule
from petcd.errors import Code, EtcdError
from petcd.net.grpc.client import ClientStream, TransportFailure
from petcd.pb.etcdserverpb import lease as pb

if TYPE_CHECKING:
    from petcd.client.leases import Lease

KEEP_ALIVE: Final = b"/etcdserverpb.Lease/LeaseKeepAlive"
_PATIENCE: Final = 1.0
"""The least that a renewal may take, in seconds, before the member is given up."""
_BATCH: Final = 500
"""Renewals that are sent before answers are looked at."""


class Keeper:
    """Renews what it is given to keep, and tells a lease when it is lost."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._kept: dict[int, Lease] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stream: ClientStream | None = None
        self._renewals = Schedule()
        self._patience = Schedule()
        """Until when the answer to a renewal may take."""
        self._expiries = Schedule()
        self._wakes_at = 0.0
        """When expiries are looked at next."""
        self._heard_at = 0.0
        """The last answer to anything."""
        self._backoff = Backoff()
        self._refusals = 0
        self._closed = False
        pool.owner.on_change.append(self._start_anew)

    async def close(self) -> None:
        """Renew no more; the leases are left to expire, and those who hold them are told."""
        self._closed = True
        self._lose_all()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def _start_anew(self) -> None:
        # Nobody renews them here any more: a forked parent still may, but this process does not know.
        for lease in self._kept.values():
            lease.lost = asyncio.Event()
        self._lose_all()
        self._expiries.clear()
        self._stream = None
        self._changed = asyncio.Event()
        self._task = None

    def keep(self, lease: Lease) -> None:
        if self._closed:
            lease.lost.set()
            return
        self._kept[lease.id] = lease
        self._renewals.add(lease.renew_at, lease)
        self._watch_clock(lease)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="etcd leases")

    def drop(self, lease: Lease) -> None:
        self._kept.pop(lease.id, None)

    def _lose(self, lease: Lease) -> None:
        self._kept.pop(lease.id, None)
        lease.lost.set()

    def _lose_all(self) -> None:
        for lease in list(self._kept.values()):
            self._lose(lease)

    async def _run(self) -> None:
        clocks = asyncio.get_running_loop().create_task(self._expire(), name="etcd lease clocks")
        clocks.add_done_callback(self._clocks_ended)
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

    def _clocks_ended(self, clocks: asyncio.Task[None]) -> None:
        if not clocks.cancelled() and clocks.exception() is not None:
            self._lose_all()  # nobody would tell them

    async def _expire(self) -> None:
        """Tell a lease that its time is over even while no server answers."""
        loop = asyncio.get_running_loop()
        while True:
            if self._expiries.soonest <= loop.time():
                # This loop may have been late: what the server said before is heard before the judgement.
                await asyncio.sleep(0)
                if self._stream is not None:
                    await self._hear(self._stream)
                now = loop.time()
                while (entry := self._expiries.take(now)) is not None:
                    moment, lease = entry
                    if lease.expires_at == moment and self._keeps(lease):
                        self._lose(lease)
            self._wakes_at = min(self._expiries.soonest, loop.time() + 60)
            self._changed.clear()
            try:
                async with asyncio.timeout_at(self._wakes_at):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _keeps(self, lease: Lease) -> bool:
        return self._kept.get(lease.id) is lease

    async def _renew(self, stream: ClientStream) -> None:
        """Ask for what is due and take the answers, until the stream breaks or nothing is kept.

        Raises TransportFailure when an answer takes so long that another member may be in time.
        """
        loop = asyncio.get_running_loop()
        self._heard_at = loop.time()
        self._start_stream(self._heard_at)
        self._stream = stream
        try:
            while self._kept:
                self._ask(stream, loop.time())
                if not stream.waiting:
                    self._judge(loop.time())
                    pause = min(self._renewals.soonest - loop.time(), 0.5)
                    try:
                        async with asyncio.timeout(max(0.001, pause)):
                            message = await stream.recv()
                    except TimeoutError:
                        continue
                    if message is None:
                        return
                    self._answered(message)
                await self._hear(stream)
                # Answers may come so fast that ``recv`` never waits: the loop has others to serve.
                await asyncio.sleep(0)
        finally:
            self._stream = None

    def _start_stream(self, now: float) -> None:
        """What was asked on an earlier stream and not answered is due again."""
        self._patience.clear()
        self._renewals.clear()
        for lease in self._kept.values():
            if lease.asked_at:
                lease.asked_at, lease.renew_at = 0.0, now
            self._renewals.add(lease.renew_at, lease)

    def _ask(self, stream: ClientStream, now: float) -> None:
        for _ in range(_BATCH):
            entry = self._renewals.take(now)
            if entry is None:
                return
            moment, lease = entry
            if lease.renew_at == moment and not lease.asked_at and self._keeps(lease):
                lease.asked_at = now
                stream.send(pb.LeaseKeepAliveRequest(ID=lease.id).encode())
                self._patience.add(now + max(_PATIENCE, lease.ttl / 6), lease)

    def _judge(self, now: float) -> None:
        """Give the member up when it is silent although answers are due. It answers in order, so what it
        says to others is on the way to ours."""
        while self._patience.soonest <= now:
            entry = self._patience.take(now)
            assert entry is not None
            _, lease = entry
            if not lease.asked_at or not self._keeps(lease):
                continue
            patience = max(_PATIENCE, lease.ttl / 6)
            waits_until = max(lease.asked_at, self._heard_at) + patience
            if waits_until <= now:
                raise TransportFailure(Code.UNAVAILABLE, "no answer to a keep-alive", sent=True)
            self._patience.add(waits_until, lease)

    async def _hear(self, stream: ClientStream) -> None:
        """Take the answers that have come, without waiting for more."""
        while stream.waiting:
            message = await stream.recv()
            if message is not None:
                self._answered(message)

    def _answered(self, message: bytes) -> None:
        response = pb.LeaseKeepAliveResponse.decode(message)
        self._backoff, self._refusals = Backoff(), 0
        self._heard_at = asyncio.get_running_loop().time()
        lease = self._kept.get(response.ID)
        if lease is None or not lease.asked_at:
            return
        if response.TTL <= 0:
            self._lose(lease)
            return
        lease.expires_at = lease.asked_at + response.TTL
        lease.renew_at = lease.asked_at + response.TTL / 3
        lease.asked_at = 0.0
        self._renewals.add(lease.renew_at, lease)
        self._watch_clock(lease)

    def _watch_clock(self, lease: Lease) -> None:
        """Its expiry has changed."""
        self._expiries.add(lease.expires_at, lease)
        if lease.expires_at < self._wakes_at:
            self._changed.set()
