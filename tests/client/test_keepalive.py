"""The keeper of leases by itself: what it costs, and what it does when its loop was late."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

from petcd.client.keepalive import Keeper
from petcd.client.leases import Lease
from petcd.client.owner import Owner
from petcd.client.pool import Opened
from petcd.pb.etcdserverpb import lease as pb


class Wire:
    """A stream whose answers wait until they are let go, or come at once."""

    def __init__(self, *, at_once: bool = False) -> None:
        self.asked: list[int] = []
        self._at_once = at_once
        self._answers: deque[bytes] = deque()
        self._came = asyncio.Event()
        self.reads = 0

    @property
    def waiting(self) -> int:
        return len(self._answers)

    def send(self, message: bytes) -> None:
        self.asked.append(pb.LeaseKeepAliveRequest.decode(message).ID)
        if self._at_once:
            self.answer(self.asked[-1])

    def answer(self, *leases: int) -> None:
        for lease in leases:
            self._answers.append(pb.LeaseKeepAliveResponse(ID=lease, TTL=60).encode())
        self._came.set()

    async def recv(self) -> bytes:
        while not self._answers:
            self._came.clear()
            await self._came.wait()
        self.reads += 1
        return self._answers.popleft()

    def cancel(self) -> None:
        self._answers.clear()


class Way:
    """The pool's part that the keeper uses."""

    def __init__(self, wire: Wire) -> None:
        self.owner = Owner()
        self.wire = wire
        self.failures: list[Exception] = []

    async def open(self, _: bytes) -> Opened:
        wire: Any = self.wire
        return Opened(wire, wire, ())

    def refused(self, _: Exception) -> bool:
        return False

    def recover(self, error: Exception, _: Opened | None) -> bool:
        self.failures.append(error)
        return True


class Counted(Lease):
    """A lease that counts how often somebody looks whether it was asked for."""

    looks = 0
    _asked = 0.0

    @property
    def asked_at(self) -> float:  # type: ignore[override]
        Counted.looks += 1
        return self._asked

    @asked_at.setter
    def asked_at(self, moment: float) -> None:
        self._asked = moment


def kept(keeper: Any, number: int, *, ttl: int = 60, kind: type[Lease] = Lease) -> Lease:
    """A lease whose renewal is due now."""
    owner: Any = None
    lease = kind(owner, ttl, number)
    now = asyncio.get_running_loop().time()
    lease.renew_at, lease.expires_at = now, now + ttl
    keeper.keep(lease)
    return lease


def test_a_round_of_renewals_looks_at_each_lease_a_few_times() -> None:
    async def main() -> None:
        wire = Wire(at_once=True)
        way: Any = Way(wire)
        keeper = Keeper(way)
        Counted.looks = 0
        leases = [kept(keeper, number, kind=Counted) for number in range(1, 1001)]
        first = {lease.id: lease.expires_at for lease in leases}
        async with asyncio.timeout(30):
            while wire.reads < len(leases):  # noqa: ASYNC110  a counter has no event
                await asyncio.sleep(0.01)
        assert sorted(wire.asked) == sorted(first)
        assert all(lease.expires_at > first[lease.id] for lease in leases)
        assert Counted.looks < 20 * len(leases)
        await keeper.close()

    asyncio.run(main())


def test_a_late_loop_hears_before_it_judges() -> None:
    async def main() -> None:
        wire = Wire()
        way: Any = Way(wire)
        keeper = Keeper(way)
        leases = [kept(keeper, number) for number in (1, 2, 3)]
        short = kept(keeper, 4, ttl=1)
        async with asyncio.timeout(10):
            while len(wire.asked) < 4:  # noqa: ASYNC110  a list has no event
                await asyncio.sleep(0.001)
            wire.answer(1, 2, 3, 4)
            time.sleep(1.2)  # noqa: ASYNC251  the loop is stalled: longer than patience and than the short lease
            while wire.reads < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert way.failures == []
        assert not any(lease.lost.is_set() for lease in (*leases, short))
        await keeper.close()

    asyncio.run(main())


def test_a_silent_member_is_given_up() -> None:
    async def main() -> None:
        wire = Wire()
        way: Any = Way(wire)
        keeper = Keeper(way)
        lease = kept(keeper, 1, ttl=2)
        async with asyncio.timeout(10):
            await lease.lost.wait()
        assert [str(failure) for failure in way.failures]
        assert "no answer to a keep-alive" in str(way.failures[0])
        assert set(wire.asked) == {1}
        await keeper.close()

    asyncio.run(main())
