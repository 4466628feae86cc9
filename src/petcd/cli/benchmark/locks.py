"""What stm may hold while a transaction runs: nothing, a lock of the client's making, or the server's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from petcd.cli.benchmark import paths
from petcd.cli.benchmark.channels import Channel, every
from petcd.cli.benchmark.failures import Failure
from petcd.cli.benchmark.leases import grant, keep_alive_once
from petcd.cli.benchmark.watchers import WatchStream
from petcd.cli.etcdctl.kv import prefix_end
from petcd.errors import EtcdError, LeaseNotFound
from petcd.pb import v3lockpb
from petcd.pb.etcdserverpb import kv as pb
from petcd.pb.etcdserverpb import lease as leasepb

_NAME: Final = b"stmlock"
_TTL_SECONDS: Final = 60
_FAREWELL_SECONDS: Final = 2.0
_DELETED: Final = 1


class Locker:
    """No lock at all (``stm``)."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    async def open(self) -> None:
        """What it takes once for a run. Raises EtcdError."""

    async def close(self) -> None:
        """Give back what ``open`` took."""

    async def lock(self) -> None:
        """Raises EtcdError, Failure."""

    async def unlock(self) -> None:
        """Raises EtcdError."""


class _Leased(Locker):
    """A lock that ends with its lease."""

    lease = 0

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self.lease = await grant(self.channel, _TTL_SECONDS)
        self._keeper = asyncio.ensure_future(every(_TTL_SECONDS / 3, self._keep))

    async def _keep(self) -> None:
        # One that fails is asked again in time; a lease that is gone shows in the next lock.
        with contextlib.suppress(EtcdError, Failure):
            await keep_alive_once(self.channel, self.lease)

    async def close(self) -> None:
        if self._keeper is None:
            return
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
        with contextlib.suppress(EtcdError, Failure, TimeoutError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                request = leasepb.LeaseRevokeRequest(ID=self.lease)
                await self.channel.unary(paths.LEASE_REVOKE, request.encode())


class ClientLock(_Leased):
    """``lock-client``: the oldest key under a prefix has the lock, each other waits for those before it."""

    _prefix = _NAME + b"/"

    @property
    def key(self) -> bytes:
        return self._prefix + f"{self.lease:x}".encode()

    async def lock(self) -> None:
        first = pb.RangeRequest(
            key=self._prefix,
            range_end=prefix_end(self._prefix),
            limit=1,
            sort_order=pb.SortOrder.ASCEND,
            sort_target=pb.SortTarget.CREATE,
        )
        put = pb.PutRequest(key=self.key, lease=self.lease)
        own = pb.RangeRequest(key=self.key)
        request = pb.TxnRequest(
            compare=[pb.Compare(target=pb.CompareTarget.CREATE, key=self.key, create_revision=0)],
            success=[pb.RequestOp(request_put=put), pb.RequestOp(request_range=first)],
            # Left over from an attempt that failed half-way.
            failure=[pb.RequestOp(request_range=own), pb.RequestOp(request_range=first)],
        )
        response = pb.TxnResponse.decode(await self.channel.unary(paths.TXN, request.encode()))
        revision = response.header.revision if response.header is not None else 0
        mine, oldest = (operation.response_range for operation in response.responses)
        if mine is not None and mine.kvs:
            revision = mine.kvs[0].create_revision
        if oldest is not None and oldest.kvs and oldest.kvs[0].create_revision != revision:
            await self._wait(revision)

    async def _wait(self, revision: int) -> None:
        """Until every key made before ``revision`` is gone."""
        older = pb.RangeRequest(
            key=self._prefix,
            range_end=prefix_end(self._prefix),
            limit=1,
            sort_order=pb.SortOrder.DESCEND,
            sort_target=pb.SortTarget.CREATE,
            max_create_revision=revision - 1,
        )
        while True:
            answer = await self.channel.unary(paths.RANGE, older.encode())
            response = pb.RangeResponse.decode(answer)
            if not response.kvs or response.header is None:
                break
            await self._deleted(response.kvs[0].key, response.header.revision + 1)
        answer = await self.channel.unary(paths.RANGE, pb.RangeRequest(key=self.key).encode())
        if not pb.RangeResponse.decode(answer).kvs:
            raise LeaseNotFound

    async def _deleted(self, key: bytes, revision: int) -> None:
        stream = await WatchStream.open(self.channel)
        try:
            stream.ask(key, revision=revision)
            async for response in stream.responses():
                if any(event.type == _DELETED for event in response.events):
                    return
        finally:
            stream.close()

    async def unlock(self) -> None:
        request = pb.DeleteRangeRequest(key=self.key)
        await self.channel.unary(paths.DELETE_RANGE, request.encode())


class ServerLock(_Leased):
    """``lock-rpc``: the server's own lock service."""

    _key = b""

    async def lock(self) -> None:
        request = v3lockpb.LockRequest(name=_NAME, lease=self.lease)
        answer = await self.channel.unary(paths.LOCK, request.encode())
        self._key = v3lockpb.LockResponse.decode(answer).key

    async def unlock(self) -> None:
        if self._key:
            request = v3lockpb.UnlockRequest(key=self._key)
            self._key = b""
            await self.channel.unary(paths.UNLOCK, request.encode())


LOCKERS: Final[dict[str, Callable[[Channel], Locker]]] = {
    "stm": Locker,
    "lock-client": ClientLock,
    "lock-rpc": ServerLock,
}
