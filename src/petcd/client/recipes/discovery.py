"""Services that announce themselves, and a list of them that keeps itself up to date.

    async with Registration(client, "web", "10.0.0.7:8080", metadata={"zone": "b"}): ...

    async with Discovery(client, "web") as discovery:
        await discovery.wait_for(2)
        print(discovery.addresses)

An instance is a key ``services/web/<id>`` on a lease, its value what Go's etcd name resolver for gRPC writes
and reads: ``{"Op": 0, "Addr": "10.0.0.7:8080", "Metadata": {...}}``.

Not promised: that an instance in the list answers. One that has died stays in it until its ``ttl`` has
passed, and one that lives may be missing for a moment after its lease was lost."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from petcd.client import KeyValue, LeaseLost, TransportFailure
from petcd.client.recipes._place import Place
from petcd.client.recipes._session import TTL, Name, as_bytes, folder
from petcd.client.recipes._view import View
from petcd.client.retry import Backoff
from petcd.errors import EtcdError

if TYPE_CHECKING:
    from petcd.client import Keyspace

PREFIX: Final = "services/"


@dataclass(frozen=True, slots=True)
class Instance:
    """One running instance of a service."""

    id: str
    address: str
    metadata: Any = None
    """What JSON can say."""
    revision: int = 0
    """When it was registered: larger for later ones."""


def _instance(prefix: bytes, kv: KeyValue) -> Instance | None:
    """An instance as it is written; None for a value that is none."""
    try:
        content = json.loads(kv.value)
        return Instance(
            kv.key.removeprefix(prefix).decode(), content["Addr"], content.get("Metadata"), kv.create_revision
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


class Registration:
    """Keeps an instance registered while entered: a lease that is lost is replaced by a new one.

    What the servers refuse is raised on entering. Later it is tried again, about each second, until they take
    it; ``error`` tells of that meanwhile.
    """

    def __init__(
        self,
        client: Keyspace,
        service: Name,
        address: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        prefix: Name = PREFIX,
        ttl: int = TTL,
    ) -> None:
        """``ttl``: seconds after which an instance that has died disappears."""
        self._client = client
        self._prefix = as_bytes(prefix) + folder(service)
        content = {"Op": 0, "Addr": address, "Metadata": None if metadata is None else dict(metadata)}
        self._value = json.dumps(content).encode()
        self._ttl = ttl
        self._place: Place | None = None
        self._registered = asyncio.Event()
        self.error: EtcdError | None = None
        """What the servers refused last when the instance had to register again, or that the client is
        closed; None while it is registered."""
        self._task: asyncio.Task[None] | None = None

    @property
    def key(self) -> bytes:
        """The instance's key; it ends in its lease, so another one follows a lease that was lost."""
        if self._place is None:
            raise RuntimeError("the instance is not registered now")
        return self._place.key

    async def __aenter__(self) -> Self:
        """Wait until it is registered. Raises: what the servers refuse."""
        self._task = asyncio.ensure_future(self._stay())
        registered = asyncio.ensure_future(self._registered.wait())
        try:
            await asyncio.wait((self._task, registered), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            with contextlib.suppress(EtcdError):
                await self.__aexit__()
            raise
        finally:
            registered.cancel()
        if self._task.done():
            self._task.result()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Take the instance off the list."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()

    async def _stay(self) -> None:
        entered = False
        backoff = Backoff()
        while True:
            place = Place(self._client, self._prefix, self._value, self._ttl)
            try:
                await place.take()
                self._place, self.error = place, None
                self._registered.set()
                entered = True
                backoff = Backoff()
                await place.lost.wait()
            except LeaseLost:
                continue
            except EtcdError as error:
                if not entered:
                    raise
                self.error = error
                if isinstance(error, TransportFailure):
                    return  # the client is closed: any other was tried again
            else:
                continue
            finally:
                self._place = None
                self._registered.clear()
                await place.leave()
            await backoff.pause()


class Discovery:
    """The instances of a service; iterating yields the list now and after each change."""

    def __init__(self, client: Keyspace, service: Name, *, prefix: Name = PREFIX) -> None:
        self._prefix = as_bytes(prefix) + folder(service)
        self._view = View(client, self._prefix)

    async def __aenter__(self) -> Self:
        await self._view.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._view.__aexit__()

    @property
    def instances(self) -> list[Instance]:
        """Those that are registered now, the oldest first. Values of another form are left out.

        Raises: what keeps the store from being followed; RuntimeError outside the block.
        """
        self._view.check()
        found = [_instance(self._prefix, kv) for kv in self._view.pairs.values()]
        return sorted((one for one in found if one is not None), key=lambda one: (one.revision, one.id))

    @property
    def addresses(self) -> list[str]:
        return [instance.address for instance in self.instances]

    async def wait_for(self, count: int = 1) -> list[Instance]:
        """Wait until there are at least ``count`` instances; all there are."""
        async for instances in self:
            if len(instances) >= count:
                return instances
        raise AssertionError("the list of instances does not end")

    def __aiter__(self) -> AsyncIterator[list[Instance]]:
        return self._lists()

    async def _lists(self) -> AsyncIterator[list[Instance]]:
        while True:
            changes = self._view.changes
            yield self.instances
            await self._view.wait_changes(changes)
