"""A transaction written piece by piece, and run."""

from __future__ import annotations

from petcd.client.results import TxnResult
from petcd.client.transaction import Steps


class Transaction(Steps[TxnResult]):
    """What is to be compared and done; ``run`` does it, each time anew.

    price = Get("price")
    done = client.when(compare("stock").version > 0).then(Delete("stock"), price).run()
    if done:
        print(done[price].value)
    """

    __slots__ = ()

    def run(self) -> TxnResult:
        """Send it. Raises what ``txn`` raises."""
        return self._start()
