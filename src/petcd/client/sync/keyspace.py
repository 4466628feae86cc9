"""Keys, watches and leases for threads: of the whole store, or of a namespace within it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec

from petcd.client.keyspace import _UNSET, _Unset
from petcd.client.keyspace import Keyspace as AsyncKeyspace
from petcd.client.results import KeyValue
from petcd.client.sync.blocked import Blocked, blocked, settled
from petcd.client.sync.leases import Lease
from petcd.client.sync.portal import Portal
from petcd.client.sync.services import Leases
from petcd.client.sync.transaction import Transaction
from petcd.client.sync.watches import Watch
from petcd.client.watches import Watch as AsyncWatch

if TYPE_CHECKING:
    from petcd.client.client import Client
    from petcd.client.conditions import Comparison
    from petcd.client.keys import Key

P = ParamSpec("P")


def _iterated(
    method: Callable[Concatenate[AsyncKeyspace, P], AsyncIterator[KeyValue]],
) -> Callable[Concatenate[Keyspace, P], Iterator[KeyValue]]:
    @wraps(method)
    def iterate(self: Keyspace, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[KeyValue]:
        return settled(method(self._calls, *args, **kwargs))

    return iterate


def _watched(
    method: Callable[Concatenate[AsyncKeyspace, P], AsyncWatch],
) -> Callable[Concatenate[Keyspace, P], Watch]:
    @wraps(method)
    def watch(self: Keyspace, /, *args: P.args, **kwargs: P.kwargs) -> Watch:
        method(self._calls, *args, **kwargs)  # a range that makes no sense is refused here and now
        return Watch(self._portal, lambda client: method(self._of(client), *args, **kwargs))

    return watch


class Keyspace(Blocked[AsyncKeyspace]):
    """Keys, transactions, watches and leases. In a namespace all keys are relative to its prefix, those
    given and those returned."""

    def __init__(self, calls: AsyncKeyspace, portal: Portal, of: Callable[[Client], AsyncKeyspace]) -> None:
        super().__init__(calls, portal, of)
        self.leases = Leases(calls.leases, portal, lambda client: of(client).leases)

    @property
    def prefix(self) -> bytes:
        """What every key of this view starts with in the store."""
        return self._calls.prefix

    def namespace(self, prefix: Key) -> Keyspace:
        """The keys that start with ``prefix``, seen without it. Namespaces nest."""
        return Keyspace(
            self._calls.namespace(prefix), self._portal, lambda client: self._of(client).namespace(prefix)
        )

    def options(
        self, *, timeout: float | _Unset | None = _UNSET, require_leader: bool | None = None
    ) -> Keyspace:
        """The same keys with other options for each call: a deadline in seconds (None: none), and whether a
        member that knows no leader must refuse at once."""
        return Keyspace(
            self._calls.options(timeout=timeout, require_leader=require_leader),
            self._portal,
            lambda client: self._of(client).options(timeout=timeout, require_leader=require_leader),
        )

    get = blocked(AsyncKeyspace.get)
    put = blocked(AsyncKeyspace.put)
    delete = blocked(AsyncKeyspace.delete)
    txn = blocked(AsyncKeyspace.txn)
    compact = blocked(AsyncKeyspace.compact)
    iterate = _iterated(AsyncKeyspace.iterate)
    watch = _watched(AsyncKeyspace.watch)

    def when(self, *conditions: Comparison) -> Transaction:
        """A transaction piece by piece: ``client.when(a, b).then(c).otherwise(d).run()``."""
        return Transaction(self.txn, conditions)

    def lease(self, ttl: int, lease: int = 0, *, revoke: bool = True) -> Lease:
        """A lease of ``ttl`` seconds that is kept alive while entered; ``revoke`` ends it on leaving."""
        return Lease(
            self._portal, lambda client: self._of(client).lease(ttl, lease, revoke=revoke), ttl, lease
        )
