"""A lock that one holder has at a time, first come, first served.

    async with Lock(client, "locks/reports") as lock:
        await client.txn(when=[lock.held], then=[Put("report", text)])

The keys are those of ``etcdctl lock`` and of Go's concurrency.Mutex, and holders of both kinds exclude each
other.

What no lock over a network can promise: that only one program *acts* as the holder. A holder that is stopped
for longer than its lease lives (a long pause, a suspended machine, a lost network) wakes up and does not know
yet that the next one holds the lock; ``lost`` is set soon, but an instruction may be faster. So where it
matters the resource must decide:

- writes to etcd: put ``lock.held`` among the conditions of the transaction. The store then carries it out
  only while this holder holds the lock;
- other resources: send ``lock.token`` along, and let the resource refuse a token smaller than the largest it
  has seen.

Names: a lock's keys lie below ``name/``, so no lock may be named like a path below another one's name.
"""

from __future__ import annotations

from typing import Self

from petcd.client.recipes._place import Holder, Place


class Lock(Holder):
    """A lock; entering waits for it, leaving releases it.

    Guarantees, by the store's order of revisions: at most one lease has the oldest key; holders take turns in
    the order in which their keys were created; tokens grow. A holder that dies is followed by the next one
    when its ``ttl`` has passed. A waiting contender that loses its lease starts again at the end of the line.
    """

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def acquire(self) -> None:
        """Wait for the lock, as long as it takes. Cancelled (``asyncio.timeout``) it leaves no key behind."""
        await self._acquire(self._turn)

    async def try_acquire(self) -> bool:
        """Take the lock if nobody has it or waits for it; whether it was taken."""
        return await self._acquire(self._first)

    async def _turn(self, place: Place) -> bool:
        await place.wait_first(self._prefix)
        return True

    async def _first(self, place: Place) -> bool:
        _, older = await place.older(self._prefix)
        return not older
