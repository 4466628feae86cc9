"""The asyncio client's methods for threads, without a second copy of them.

Those that make plain calls are run over a pool whose calls block: their coroutines then never wait, and one
step brings them to their end (``blocked``). Those that need a stream run in the background thread
(``streamed``). Either way parameters, results and errors are the asyncio client's own, for type checkers too.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast

from petcd.client.calls import Calls
from petcd.client.client import Client
from petcd.client.pool import Pool as AsyncPool
from petcd.client.sync.pool import Pool
from petcd.client.sync.portal import Portal

if TYPE_CHECKING:
    from petcd.client.credentials import Metadata

C = TypeVar("C")
P = ParamSpec("P")
T = TypeVar("T")


class BlockingCalls(Calls):
    """Calls of a pool for threads: its coroutines block and never wait."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def exchange(
        self,
        path: bytes,
        message: bytes,
        *,
        repeatable: bool,
        timeout: float | None,  # noqa: ASYNC109  as the pool's
        extra: Metadata = (),
        confirm: Callable[[bytes], bool] | None = None,
    ) -> bytes:
        return self._pool.exchange(
            path, message, repeatable=repeatable, timeout=timeout, extra=extra, confirm=confirm
        )

    async def exchange_at(
        self,
        endpoint: str,
        path: bytes,
        message: bytes,
        *,
        timeout: float | None,  # noqa: ASYNC109  as the pool's
    ) -> bytes:
        return self._pool.exchange_at(endpoint, path, message, timeout=timeout)


def blocking_calls(pool: Pool) -> AsyncPool:
    """What services of the asyncio client take for their pool."""
    return cast("AsyncPool", BlockingCalls(pool))


class Blocked(Generic[C]):
    """A service for threads. ``calls`` is the asyncio one over a pool that blocks, ``of`` finds the one that
    belongs to the background thread's client."""

    def __init__(self, calls: C, portal: Portal, of: Callable[[Client], C]) -> None:
        self._calls = calls
        self._portal = portal
        self._of = of


def settle(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise RuntimeError("a call that blocks was about to wait for an event loop")


def settled(items: AsyncIterator[T]) -> Iterator[T]:
    """The items of an asynchronous generator that never waits."""
    try:
        while True:
            try:
                yield settle(_next(items))
            except StopAsyncIteration:
                return
    finally:
        if isinstance(items, AsyncGenerator):
            settle(items.aclose())


async def _next(items: AsyncIterator[T]) -> T:
    return await anext(items)


def blocked(
    method: Callable[Concatenate[C, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Blocked[C], P], T]:
    """A method that makes plain calls, in the calling thread."""

    @wraps(method)
    def call(self: Blocked[C], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return settle(method(self._calls, *args, **kwargs))

    return call


def streamed(
    method: Callable[Concatenate[C, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Blocked[C], P], T]:
    """A method that needs a stream, in the background thread."""

    @wraps(method)
    def call(self: Blocked[C], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._portal.run(lambda client: method(self._of(client), *args, **kwargs))

    return call
