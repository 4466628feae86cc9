"""Which endpoint to use next: those that served well before those that failed lately."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Final

from petcd.client.endpoints import Endpoint

_REST_FIRST: Final = 0.5
_REST_MAX: Final = 15.0
_FORGIVEN_AFTER: Final = 60.0
"""Seconds without a new failure after which the old ones no longer count."""


class Health:
    """What is known of one endpoint."""

    __slots__ = ("endpoint", "failed_at", "failures", "rests_until")

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.failures = 0
        self.failed_at = 0.0
        self.rests_until = 0.0


class Balance:
    """The endpoints in their order. One that failed rests: it is tried only after the others, for a time
    that doubles with each failure."""

    def __init__(self, endpoints: Iterable[Endpoint], *, shuffle: bool = False) -> None:
        self._shuffle = shuffle
        self._all: list[Health] = []
        self.replace(endpoints)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def endpoints(self) -> list[Endpoint]:
        return [health.endpoint for health in self._all]

    def replace(self, endpoints: Iterable[Endpoint]) -> None:
        """Take other endpoints; what is known of those that stay is kept."""
        known = {health.endpoint: health for health in self._all}
        wanted = [known.get(endpoint) or Health(endpoint) for endpoint in dict.fromkeys(endpoints)]
        if not wanted:
            raise ValueError("no endpoints")
        if self._shuffle:
            random.shuffle(wanted)
        self._all = wanted

    def order(self, now: float) -> list[Health]:
        """All of them, the best first: the rested as they stand, then the others as their rest ends."""
        return sorted(self._all, key=lambda health: max(health.rests_until - now, 0.0))

    def failed(self, endpoint: Endpoint, now: float) -> None:
        for health in self._all:
            if health.endpoint == endpoint:
                if now - health.failed_at > _FORGIVEN_AFTER:
                    health.failures = 0
                health.rests_until = now + min(_REST_FIRST * 2.0**health.failures, _REST_MAX)
                health.failures += 1
                health.failed_at = now
