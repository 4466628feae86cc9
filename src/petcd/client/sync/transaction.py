"""A transaction written piece by piece, and run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from petcd.client.conditions import Comparison
from petcd.client.kv import Operation
from petcd.client.results import TxnResult

Run = Callable[[Sequence[Comparison], Sequence[Operation], Sequence[Operation]], TxnResult]


class Transaction:
    """What is to be compared and done; ``run`` does it, each time anew.

    price = Get("price")
    done = client.when(compare("stock").version > 0).then(Delete("stock"), price).run()
    if done:
        print(done[price].value)
    """

    __slots__ = ("_conditions", "_otherwise", "_run", "_then")

    def __init__(
        self,
        run: Run,
        conditions: tuple[Comparison, ...],
        then: tuple[Operation, ...] = (),
        otherwise: tuple[Operation, ...] = (),
    ) -> None:
        self._run = run
        self._conditions = conditions
        self._then = then
        self._otherwise = otherwise

    def when(self, *conditions: Comparison) -> Transaction:
        """The same with more conditions: all must hold."""
        return Transaction(self._run, self._conditions + conditions, self._then, self._otherwise)

    def then(self, *operations: Operation) -> Transaction:
        """The same with more to do when the conditions hold."""
        return Transaction(self._run, self._conditions, self._then + operations, self._otherwise)

    def otherwise(self, *operations: Operation) -> Transaction:
        """The same with more to do when they do not hold."""
        return Transaction(self._run, self._conditions, self._then, self._otherwise + operations)

    def run(self) -> TxnResult:
        """Send it. Raises what ``txn`` raises."""
        return self._run(self._conditions, self._then, self._otherwise)
