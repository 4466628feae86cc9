"""Which lease is next: moments in their order, so that no turn looks at all leases."""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from petcd.client.leases import Lease


class Schedule:
    """Leases by one of their moments, the soonest first.

    A moment that changes is added again; the entry of the old one stays until its turn comes, and whoever
    takes it compares it with the lease's present moment.
    """

    __slots__ = ("_entries", "_numbers")

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Lease]] = []
        self._numbers = count()

    def add(self, moment: float, lease: Lease) -> None:
        heapq.heappush(self._entries, (moment, next(self._numbers), lease))

    @property
    def soonest(self) -> float:
        """The first moment; infinite when there is none."""
        return self._entries[0][0] if self._entries else float("inf")

    def take(self, until: float) -> tuple[float, Lease] | None:
        """The first entry, if its moment is not after ``until``; it is removed."""
        if not self._entries or self._entries[0][0] > until:
            return None
        moment, _, lease = heapq.heappop(self._entries)
        return moment, lease

    def clear(self) -> None:
        self._entries.clear()
