"""The asyncio client of etcd's v3 API, on our own HTTP/2: no grpcio, no protobuf.

async with Client(["10.0.0.1:2379", "10.0.0.2:2379"]) as client:
    await client.put("greeting", "hello")
    print((await client.get("greeting")).value)
    async with client.watch("greeting") as watch:
        async for event in watch: ...
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Final

from petcd.client.kv import (
    Comparison,
    Delete,
    Get,
    HasLease,
    Key,
    Operation,
    Order,
    Put,
    Target,
    Txn,
    Value,
    key_range,
)
from petcd.client.leases import Lease, Leases
from petcd.client.maintenance import Cluster, Maintenance
from petcd.client.pool import Pool
from petcd.client.results import (
    DeleteResult,
    GetResult,
    KeyValue,
    PutResult,
    TxnResult,
    delete_result,
    get_result,
    put_result,
    txn_result,
)
from petcd.client.watches import Hub, Watch
from petcd.pb.etcdserverpb import kv as pb
from petcd.pb.etcdserverpb.watch import WatchCreateRequest

if TYPE_CHECKING:
    import ssl

_KV: Final = b"/etcdserverpb.KV/"


class Client:
    """A client of one cluster. Connects when first used; belongs to the loop it is used in.

    ``timeout`` bounds each call with all its attempts; None waits for ever. Reads are repeated while the
    servers are unavailable; a write is never sent again once bytes of it may have left. What the server
    refuses is raised as a class of ``petcd.errors``.
    """

    def __init__(
        self,
        endpoints: str | Sequence[str] = "127.0.0.1:2379",
        *,
        timeout: float | None = 5.0,
        dial_timeout: float = 2.0,
        tls: ssl.SSLContext | None = None,
        user: str = "",
        password: str = "",
        keepalive: float = 10.0,
        keepalive_timeout: float = 6.0,
    ) -> None:
        self._timeout = timeout
        self._pool = Pool(
            [endpoints] if isinstance(endpoints, str) else list(endpoints),
            tls=tls,
            user=user,
            password=password,
            dial_timeout=dial_timeout,
            keepalive=keepalive,
            keepalive_timeout=keepalive_timeout,
        )
        self._watches = Hub(self._pool)
        self.leases = Leases(self._pool, timeout)
        self.maintenance = Maintenance(self._pool, timeout)
        self.cluster = Cluster(self._pool, timeout)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End watches, keep-alives and the connection. Leases are left to expire."""
        await self._watches.close()
        await self.leases.close()
        await self._pool.close()

    # --- KV -------------------------------------------------------------------------------------------

    async def get(
        self,
        key: Key,
        end: Key | None = None,
        *,
        prefix: bool = False,
        from_key: bool = False,
        revision: int = 0,
        limit: int = 0,
        sort_by: Target | None = None,
        order: Order | None = None,
        keys_only: bool = False,
        count_only: bool = False,
        serializable: bool = False,
    ) -> GetResult:
        """A key, or the range ``[key, end)``, or all keys with the prefix ``key``, or all from ``key`` on."""
        operation = Get(
            key,
            end,
            prefix=prefix,
            from_key=from_key,
            revision=revision,
            limit=limit,
            sort_by=sort_by,
            order=order,
            keys_only=keys_only,
            count_only=count_only,
            serializable=serializable,
        )
        response = await self._pool.call(
            _KV + b"Range",
            operation.request(),
            pb.RangeResponse,
            repeatable=True,
            timeout=self._timeout,
        )
        return get_result(response)

    async def iterate(
        self,
        key: Key = b"",
        end: Key | None = None,
        *,
        prefix: bool = False,
        from_key: bool = False,
        page: int = 1000,
    ) -> AsyncIterator[KeyValue]:
        """All pairs of a range in key order, read page by page at one revision."""
        first, last = key_range(key, end, prefix=prefix or (not key and end is None), from_key=from_key)
        revision = 0
        while True:
            request = pb.RangeRequest(key=first, range_end=last, limit=page, revision=revision)
            response = await self._pool.call(
                _KV + b"Range", request, pb.RangeResponse, repeatable=True, timeout=self._timeout
            )
            result = get_result(response)
            revision = revision or result.revision
            for kv in result.kvs:
                yield kv
            if not result.more or not result.kvs:
                return
            first = result.kvs[-1].key + b"\0"

    async def put(
        self,
        key: Key,
        value: Value = b"",
        *,
        lease: int | HasLease = 0,
        previous: bool = False,
        ignore_value: bool = False,
        ignore_lease: bool = False,
    ) -> PutResult:
        operation = Put(key, value, lease, previous, ignore_value, ignore_lease)
        response = await self._pool.call(
            _KV + b"Put", operation.request(), pb.PutResponse, repeatable=False, timeout=self._timeout
        )
        return put_result(response)

    async def delete(
        self,
        key: Key,
        end: Key | None = None,
        *,
        prefix: bool = False,
        from_key: bool = False,
        previous: bool = False,
    ) -> DeleteResult:
        operation = Delete(key, end, prefix=prefix, from_key=from_key, previous=previous)
        response = await self._pool.call(
            _KV + b"DeleteRange",
            operation.request(),
            pb.DeleteRangeResponse,
            repeatable=False,
            timeout=self._timeout,
        )
        return delete_result(response)

    async def txn(
        self,
        when: Sequence[Comparison] = (),
        then: Sequence[Operation] = (),
        otherwise: Sequence[Operation] = (),
    ) -> TxnResult:
        """If all of ``when`` hold, do ``then``, else ``otherwise``: at one revision, all or nothing."""
        txn = Txn(when, then, otherwise)
        response = await self._pool.call(
            _KV + b"Txn",
            txn.request(),
            pb.TxnResponse,
            repeatable=txn.changes_nothing,
            timeout=self._timeout,
        )
        return txn_result(response)

    async def compact(self, revision: int, *, physical: bool = False) -> None:
        """Forget the history before ``revision``; ``physical`` waits until it is gone from the disk."""
        request = pb.CompactionRequest(revision=revision, physical=physical)
        await self._pool.call(
            _KV + b"Compact", request, pb.CompactionResponse, repeatable=False, timeout=self._timeout
        )

    # --- Watch ----------------------------------------------------------------------------------------

    def watch(
        self,
        key: Key,
        end: Key | None = None,
        *,
        prefix: bool = False,
        from_key: bool = False,
        start_revision: int = 0,
        previous: bool = False,
        progress: bool = False,
        puts: bool = True,
        deletes: bool = True,
    ) -> Watch:
        """Events of a key or range from ``start_revision`` on (0: from now).

        ``progress`` asks the server to tell now and then how far an idle watch has come.
        """
        first, last = key_range(key, end, prefix=prefix, from_key=from_key)
        filters = [number for number, wanted in enumerate((puts, deletes)) if not wanted]
        return Watch(
            self._watches,
            WatchCreateRequest(
                key=first,
                range_end=last,
                start_revision=start_revision,
                prev_kv=previous,
                progress_notify=progress,
                filters=filters,
            ),
        )

    # --- Lease ----------------------------------------------------------------------------------------

    def lease(self, ttl: int, lease: int = 0, *, revoke: bool = True) -> Lease:
        """A lease that is kept alive while entered; ``revoke`` ends it on leaving."""
        return Lease(self.leases, ttl, lease, revoke=revoke)
