"""Keys, watches and leases: of the whole store, or of a namespace within it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

from petcd.client.conditions import Comparison
from petcd.client.credentials import Metadata
from petcd.client.hub import Hub
from petcd.client.keepalive import Keeper
from petcd.client.keys import HasLease, Key, Value, absolute, key_range, lease_id, to_bytes
from petcd.client.kv import Delete, Operation, Order, Target, Txn, sorting
from petcd.client.leases import Lease, Leases
from petcd.client.pool import REQUIRE_LEADER, Pool
from petcd.client.quick import Answers, get_request, put_request
from petcd.client.results import (
    DeleteResult,
    GetResult,
    KeyValue,
    PutResult,
    TxnResult,
    delete_result,
    txn_result,
)
from petcd.client.transaction import Transaction
from petcd.client.watches import Watch
from petcd.pb.etcdserverpb import kv as pb
from petcd.pb.etcdserverpb.watch import WatchCreateRequest

_KV: Final = b"/etcdserverpb.KV/"
_RANGE: Final = _KV + b"Range"
_PUT: Final = _KV + b"Put"


class _Unset:
    """Stands for an option that was not given, where None means something."""


_UNSET: Final = _Unset()


class Core(NamedTuple):
    """What a client and its views share."""

    pool: Pool
    keeper: Keeper
    watches: Hub
    """Of watches that want a member with a leader."""
    lonely_watches: Hub
    """Of watches that take any member."""


class Keyspace:
    """Keys, transactions, watches and leases. In a namespace all keys are relative to its prefix, those
    given and those returned.

    ``timeout`` bounds each call with all its attempts; None waits for ever.
    """

    def __init__(self, core: Core, *, namespace: bytes, timeout: float | None, require_leader: bool) -> None:
        self._core = core
        self._namespace = namespace
        self._skip = len(namespace)
        self._timeout = timeout
        self._require_leader = require_leader
        self._extra: Metadata = (REQUIRE_LEADER,) if require_leader else ()
        self._call = core.pool.call
        self._exchange = core.pool.exchange
        self._answers = Answers()
        self.leases = Leases(core.pool, core.keeper, timeout, namespace=namespace, extra=self._extra)

    @property
    def prefix(self) -> bytes:
        """What every key of this view starts with in the store."""
        return self._namespace

    def namespace(self, prefix: Key) -> Keyspace:
        """The keys that start with ``prefix``, seen without it. Namespaces nest."""
        return Keyspace(
            self._core,
            namespace=self._namespace + to_bytes(prefix),
            timeout=self._timeout,
            require_leader=self._require_leader,
        )

    def options(
        self, *, timeout: float | _Unset | None = _UNSET, require_leader: bool | None = None
    ) -> Keyspace:
        """The same keys with other options for each call: a deadline in seconds (None: none), and whether a
        member that knows no leader must refuse at once."""
        return Keyspace(
            self._core,
            namespace=self._namespace,
            timeout=self._timeout if isinstance(timeout, _Unset) else timeout,
            require_leader=self._require_leader if require_leader is None else require_leader,
        )

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
        min_mod_revision: int = 0,
        max_mod_revision: int = 0,
        min_create_revision: int = 0,
        max_create_revision: int = 0,
    ) -> GetResult:
        """A key, or the range ``[key, end)``, or all keys with the prefix ``key``, or all from ``key`` on.

        ``serializable``: what the member asked knows, which may be old but needs no quorum.
        """
        first, last = key_range(key, end, prefix=prefix, from_key=from_key)
        if self._skip:
            first, last = absolute(self._namespace, first, last)
        if (
            last
            or revision
            or limit
            or keys_only
            or count_only
            or serializable
            or sort_by is not None
            or order is not None
            or min_mod_revision
            or max_mod_revision
            or min_create_revision
            or max_create_revision
            or not first
        ):
            sort_order, sort_target = sorting(sort_by, order)
            request = pb.RangeRequest(
                key=first,
                range_end=last,
                limit=limit,
                revision=revision,
                sort_order=sort_order,
                sort_target=sort_target,
                serializable=serializable,
                keys_only=keys_only,
                count_only=count_only,
                min_mod_revision=min_mod_revision,
                max_mod_revision=max_mod_revision,
                min_create_revision=min_create_revision,
                max_create_revision=max_create_revision,
            ).encode()
        else:
            request = get_request(first)
        answer = await self._exchange(
            _RANGE, request, repeatable=True, timeout=self._timeout, extra=self._extra
        )
        return self._answers.get(answer, self._skip)

    async def iterate(
        self,
        key: Key = b"",
        end: Key | None = None,
        *,
        prefix: bool = False,
        from_key: bool = False,
        page: int = 1000,
        revision: int = 0,
        keys_only: bool = False,
    ) -> AsyncIterator[KeyValue]:
        """All pairs of a range in key order, read page by page at one revision (0: the present one)."""
        first, last = key_range(key, end, prefix=prefix or (not key and end is None), from_key=from_key)
        first, last = absolute(self._namespace, first, last)
        while True:
            request = pb.RangeRequest(
                key=first, range_end=last, limit=page, revision=revision, keys_only=keys_only
            )
            answer = await self._exchange(
                _RANGE, request.encode(), repeatable=True, timeout=self._timeout, extra=self._extra
            )
            result = self._answers.get(answer, self._skip)
            revision = revision or result.revision
            for kv in result.kvs:
                yield kv
            if not result.more or not result.kvs:
                return
            first = self._namespace + result.kvs[-1].key + b"\0"

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
        """Write a key. ``ignore_value`` and ``ignore_lease`` keep what the key has, which must exist."""
        name = to_bytes(key)
        if self._skip:
            name, _ = absolute(self._namespace, name, b"")
        if previous or ignore_value or ignore_lease or not name:
            request = pb.PutRequest(
                key=name,
                value=to_bytes(value),
                lease=lease_id(lease),
                prev_kv=previous,
                ignore_value=ignore_value,
                ignore_lease=ignore_lease,
            ).encode()
        else:
            request = put_request(name, to_bytes(value), lease_id(lease))
        answer = await self._exchange(
            _PUT, request, repeatable=False, timeout=self._timeout, extra=self._extra
        )
        return self._answers.put(answer, self._skip)

    async def delete(
        self,
        key: Key,
        end: Key | None = None,
        *,
        prefix: bool = False,
        from_key: bool = False,
        previous: bool = False,
    ) -> DeleteResult:
        """Delete a key or a range, written as for ``get``."""
        operation = Delete(key, end, prefix, from_key, previous)
        response = await self._call(
            _KV + b"DeleteRange",
            operation.request(self._namespace),
            pb.DeleteRangeResponse,
            repeatable=False,
            timeout=self._timeout,
            extra=self._extra,
        )
        return delete_result(response, self._skip)

    async def txn(
        self,
        when: Sequence[Comparison] = (),
        then: Sequence[Operation] = (),
        otherwise: Sequence[Operation] = (),
    ) -> TxnResult:
        """If all of ``when`` hold, do ``then``, else ``otherwise``: at one revision, all or nothing.

        Where ``when`` holds the modification revision of a key that ``then`` writes, and ``otherwise`` only
        reads, a transaction whose answer was lost is sent again: it cannot happen twice. If the answer then
        says that the comparison failed, the first failure is raised: the first attempt may be the cause.
        """
        txn = Txn(tuple(when), tuple(then), tuple(otherwise))
        response = await self._call(
            _KV + b"Txn",
            txn.request(self._namespace),
            pb.TxnResponse,
            repeatable=txn.changes_nothing,
            timeout=self._timeout,
            extra=self._extra,
            confirm=_succeeded if txn.happens_once else None,
        )
        return txn_result(response, txn, self._skip)

    def when(self, *conditions: Comparison) -> Transaction:
        """A transaction piece by piece: ``await client.when(a, b).then(c).otherwise(d)``."""
        return Transaction(self.txn, conditions)

    async def compact(self, revision: int, *, physical: bool = False) -> None:
        """Forget the whole store's history before ``revision``; ``physical`` waits until it is gone from the
        disk."""
        request = pb.CompactionRequest(revision=revision, physical=physical)
        await self._call(
            _KV + b"Compact",
            request,
            pb.CompactionResponse,
            repeatable=False,
            timeout=self._timeout,
            extra=self._extra,
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
        require_leader: bool = True,
    ) -> Watch:
        """Events of a key or range from ``start_revision`` on (0: from now).

        ``progress`` asks the server to tell now and then how far an idle watch has come. Without
        ``require_leader`` it stays with a member that is cut off from the others, and hears nothing then.
        """
        first, last = key_range(key, end, prefix=prefix, from_key=from_key)
        first, last = absolute(self._namespace, first, last)
        filters = [number for number, wanted in enumerate((puts, deletes)) if not wanted]
        return Watch(
            self._core.watches if require_leader else self._core.lonely_watches,
            WatchCreateRequest(
                key=first,
                range_end=last,
                start_revision=start_revision,
                prev_kv=previous,
                progress_notify=progress,
                filters=filters,
            ),
            self._skip,
            self._timeout,
        )

    # --- Lease ----------------------------------------------------------------------------------------

    def lease(self, ttl: int, lease: int = 0, *, revoke: bool = True) -> Lease:
        """A lease of ``ttl`` seconds that is kept alive while entered; ``revoke`` ends it on leaving."""
        return Lease(self.leases, ttl, lease, revoke=revoke)


def _succeeded(response: pb.TxnResponse) -> bool:
    return response.succeeded
