"""A transaction written piece by piece, and awaited."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import Any, Generic, Self, TypeVar

from petcd.client.conditions import Comparison
from petcd.client.kv import Operation
from petcd.client.results import TxnResult

R = TypeVar("R")

Run = Callable[[Sequence[Comparison], Sequence[Operation], Sequence[Operation]], R]
"""``txn`` of a client."""


class Steps(Generic[R]):
    """What is to be compared and done; how it is run is left to the two clients."""

    __slots__ = ("_conditions", "_otherwise", "_run", "_then")

    def __init__(
        self,
        run: Run[R],
        conditions: tuple[Comparison, ...],
        then: tuple[Operation, ...] = (),
        otherwise: tuple[Operation, ...] = (),
    ) -> None:
        self._run = run
        self._conditions = conditions
        self._then = then
        self._otherwise = otherwise

    def when(self, *conditions: Comparison) -> Self:
        """The same with more conditions: all must hold."""
        return type(self)(self._run, self._conditions + conditions, self._then, self._otherwise)

    def then(self, *operations: Operation) -> Self:
        """The same with more to do when the conditions hold."""
        return type(self)(self._run, self._conditions, self._then + operations, self._otherwise)

    def otherwise(self, *operations: Operation) -> Self:
        """The same with more to do when they do not hold."""
        return type(self)(self._run, self._conditions, self._then, self._otherwise + operations)

    def _start(self) -> R:
        return self._run(self._conditions, self._then, self._otherwise)


class Transaction(Steps[Coroutine[Any, Any, TxnResult]]):
    """What is to be compared and done. Awaiting it runs it; each ``await`` runs it once more.

    price = Get("price")
    done = await client.when(compare("stock").version > 0).then(Delete("stock"), price)
    if done:
        print(done[price].value)
    """

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, TxnResult]:
        return self._start().__await__()
