"""What every recipe stands on: calls repeated until a member answers, and a lease of its own for each holder.

A recipe lives longer than the member it talks to. So its calls are made such that carrying one out twice does
no harm (a comparison sees to that), and are then repeated for as long as no member answers. Whoever does not
want to wait so long puts ``asyncio.timeout`` around the recipe.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

from petcd.client import Event, LeaseLost, StoreRewound, TransportFailure
from petcd.client.pool import Backoff
from petcd.errors import Code, Compacted, EtcdError, RequestTooManyRequests

if TYPE_CHECKING:
    from petcd.client import Keyspace
    from petcd.client.leases import Lease

T = TypeVar("T")

TTL: Final = 10
"""Seconds a holder's key outlives a holder that has died, unless told otherwise; as etcdctl's lock."""
_LAST_ATTEMPT_SECONDS: Final = 2.0

Name = bytes | str


def as_bytes(text: Name) -> bytes:
    return text.encode() if isinstance(text, str) else text


def folder(name: Name) -> bytes:
    """The prefix of everything that belongs to a name."""
    return as_bytes(name) + b"/"


def will_pass(error: EtcdError) -> bool:
    """Whether no member answered, or none could just then, so that asking again makes sense."""
    if isinstance(error, TransportFailure):
        return error.code != Code.CANCELLED
    return error.code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED) or isinstance(
        error, RequestTooManyRequests
    )


def read_again(error: EtcdError) -> bool:
    """Whether a watch that ended so is begun anew from a reading of the store: its history is compacted or
    another one, or no member took it in time."""
    return isinstance(error, (Compacted, StoreRewound)) or will_pass(error)


async def persist(call: Callable[[], Awaitable[T]]) -> T:
    """The result of a call that may be carried out twice, however many members fail meanwhile.

    Raises: what the servers refuse.
    """
    backoff = Backoff()
    while True:
        try:
            return await call()
        except EtcdError as error:
            if not will_pass(error):
                raise
        await backoff.pause()


async def look_again(
    client: Keyspace,
    key: bytes,
    after: int,
    *,
    prefix: bool = False,
    puts: bool = True,
    deletes: bool = True,
    matters: Callable[[Event], bool] = lambda _: True,
) -> None:
    """Wait for a change of the key or prefix after revision ``after``.

    It also returns when the history since then has been compacted, or no member takes the watch: the caller
    looks at the store again.
    """
    patient = client.options(timeout=None)
    watch = patient.watch(key, prefix=prefix, start_revision=after + 1, puts=puts, deletes=deletes)
    try:
        async with watch:
            async for event in watch:
                if matters(event):
                    return
    except EtcdError as error:
        if not read_again(error):
            raise
        return
    raise client_closed()


def client_closed() -> TransportFailure:
    """What is raised where a watch ends because its client was closed."""
    return TransportFailure(Code.CANCELLED, "the client is closed", sent=False)


async def unless(lost: asyncio.Event, lease: int, work: Coroutine[Any, Any, T], *, grace: float = 0.0) -> T:
    """The result of ``work``, which is cancelled when ``lost`` is set first. Raises LeaseLost then.

    ``grace``: seconds that it still has after that.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(lost.wait())
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done() and grace:
            await asyncio.wait((task,), timeout=grace)
        if not task.done():
            raise LeaseLost(lease)
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


class Session:
    """A lease of one holder: granted and given back whatever members do meanwhile.

    Every holder has a lease of its own. So giving it back removes the holder's key for certain: a put that
    is still on its way names a lease that is gone, and the servers refuse it.
    """

    def __init__(self, client: Keyspace, ttl: int) -> None:
        self._client = client
        self._lease: Lease = client.lease(ttl, revoke=False)

    @property
    def id(self) -> int:
        return self._lease.id

    @property
    def lost(self) -> asyncio.Event:
        return self._lease.lost

    def check(self) -> None:
        """Raises LeaseLost when it is gone."""
        self._lease.check()

    async def open(self) -> None:
        # A grant of unknown fate leaves at worst a lease without keys, which expires by itself.
        await persist(self._lease.__aenter__)

    async def within(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``, which is given up when it has none two seconds after the lease was lost.

        Raises LeaseLost then.
        """
        return await unless(self.lost, self.id, work, grace=_LAST_ATTEMPT_SECONDS)

    async def close(self) -> None:
        """Revoke the lease. While no member answers this is tried for as long as the lease has left.

        It is renewed no more as soon as this was called, and counts as lost.
        """
        if not self.id:
            return
        await self._lease.__aexit__()
        now = asyncio.get_running_loop().time()
        seconds = _LAST_ATTEMPT_SECONDS if self.lost.is_set() else self._lease.expires_at - now
        self.lost.set()
        try:
            async with asyncio.timeout(max(seconds, _LAST_ATTEMPT_SECONDS)):
                await persist(lambda: self._client.leases.revoke(self.id))
        except (TimeoutError, EtcdError):
            return  # it expires by itself, or has done so


async def guard(
    client: Keyspace, session: Session, key: bytes, token: int, revision: int, lost: asyncio.Event
) -> None:
    """Set ``lost`` when the lease is lost or its key, created at ``token`` and seen at ``revision``, deleted.

    The watch usually knows before the next renewal of the lease does. A key that can no longer be watched
    counts as lost.
    """

    async def deleted(after: int) -> None:
        while True:
            await look_again(client, key, after, puts=False)
            seen = await persist(lambda: client.get(key))
            if seen.first is None or seen.first.create_revision != token:
                return
            after = seen.revision

    with contextlib.suppress(LeaseLost, EtcdError):
        await unless(session.lost, session.id, deleted(revision))
    lost.set()
