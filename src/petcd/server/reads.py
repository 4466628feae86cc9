"""Linearizable reads: whoever waits shares one read-index round (thesis section 6.4).

A round's reads are fixed before it is asked for the first time, so any answer to it, however late and from
whichever leader, names an index that covers every write acknowledged before the first of them came. Asking
again with the same context is safe for that reason, and is what happens when a message was lost or the
leader has changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from petcd import errors
from petcd.errors import Code
from petcd.logs import Logger
from petcd.raft import Node
from petcd.seams import Clock
from petcd.server.ids import RequestIds

_BYTES_PER_RUN: Final = 2 * 1024 * 1024
"""Answers made at a stretch; the reads after that wait for the next callback."""
_RETRY_TICKS: Final = 5

Read = tuple[Callable[[Any, Any], object], Any, Any]
"""A waiting read: function, waiter, request. Called as ``function(waiter, request)``."""


class Reads:
    """The linearizable reads of one member."""

    __slots__ = (
        "_asked",
        "_began_tick",
        "_clock",
        "_context",
        "_ids",
        "_logger",
        "_node",
        "_round",
        "_timeout_ticks",
        "_waiting",
        "bytes",
        "failed_rounds",
        "on_slow",
        "queued",
        "slow_rounds",
        "slow_seconds",
    )

    def __init__(
        self,
        node: Node,
        ids: RequestIds,
        clock: Clock,
        logger: Logger,
        *,
        timeout_ticks: int,
        slow_seconds: float,
        on_slow: Callable[[float, list[Read]], object],
    ) -> None:
        self._node = node
        self._ids = ids
        self._clock = clock
        self._logger = logger
        self._timeout_ticks = timeout_ticks
        self.slow_seconds = slow_seconds
        self.on_slow = on_slow
        self.queued: list[Read] = []
        """Reads that no round covers yet."""
        self._round: list[Read] = []
        self._context = b""
        self._began_tick = 0
        self._asked = False
        """Whether the present round has been asked of anybody."""
        self._waiting: list[tuple[int, int, list[Read]]] = []
        """(index, the round's tick, reads): answered when the index is applied."""
        self.bytes = 0
        """Bytes of answers made in the present run, counted by whoever makes them."""
        self.slow_rounds = self.failed_rounds = 0

    def begin(self, tick: int) -> None:
        """Start a round for what is queued, unless one is under way."""
        if self._round or not self.queued:
            return
        self._round, self.queued = self.queued, []
        self._context = self._ids.next().to_bytes(8, "big")
        self._began_tick = tick
        self._asked = self._node.read_index(self._context)

    def on_state(self, index: int, context: bytes, applied: int, tick: int) -> None:
        """A round's answer: reads may be served once ``index`` is applied."""
        if context != self._context:
            return  # an answer to a round that was answered before, or given up
        reads, self._round = self._round, []
        self._context = b""
        if index <= applied:
            self._answer(reads)
        else:
            self._waiting.append((index, self._began_tick, reads))
        self.begin(tick)

    def on_applied(self, applied: int) -> None:
        """Answer the reads whose index is reached."""
        if not self._waiting:
            return
        still = []
        for waiting in self._waiting:
            if waiting[0] > applied:
                still.append(waiting)
            else:
                self._answer(waiting[2])
        self._waiting = still

    def on_leader(self) -> None:
        """A leader is known that may not have been asked."""
        if self._round:
            self._asked = self._node.read_index(self._context)

    def on_tick(self, tick: int) -> None:
        """Ask again for a round without an answer; give up what has waited for the requests' own timeout."""
        if self._round:
            waited = tick - self._began_tick
            if waited > self._timeout_ticks:
                reads, self._round = self._round, []
                self._context = b""
                self.failed_rounds += 1
                _fail(reads, errors.RequestTimeout())
            elif not self._asked or (waited % _RETRY_TICKS == 0 and waited):
                self.slow_rounds += self._asked
                self._asked = self._node.read_index(self._context)
        if self._waiting and tick - self._waiting[0][1] > self._timeout_ticks:
            late = [w for w in self._waiting if tick - w[1] > self._timeout_ticks]
            self._waiting = [w for w in self._waiting if tick - w[1] <= self._timeout_ticks]
            for _, _, reads in late:
                _fail(reads, errors.RequestTimeout())

    def fail_all(self, error: errors.EtcdError) -> None:
        reads = self.queued + self._round
        for _, _, waiting in self._waiting:
            reads += waiting
        self.queued, self._round, self._waiting = [], [], []
        self._context = b""
        _fail(reads, error)

    def _answer(self, reads: list[Read]) -> None:
        """Answer reads; one that fails for a reason of its own cannot have changed anything, so the rest goes
        on."""
        began = self._clock.monotonic()
        self.bytes = 0
        for place, (answer, waiter, request) in enumerate(reads, 1):
            try:
                answer(waiter, request)
            except Exception as bug:  # noqa: BLE001 - it is this reader's alone
                self._logger.error("read failed", error=f"{type(bug).__name__}: {bug}")
                waiter.fail(Code.INTERNAL, "internal error")
            if self.bytes > _BYTES_PER_RUN and place < len(reads):
                self._clock.call_soon(self._answer, reads[place:])  # others want the loop, too
                del reads[place:]
                break
        took = self._clock.monotonic() - began
        if took > self.slow_seconds:
            self.on_slow(took, reads)


def _fail(reads: list[Read], error: errors.EtcdError) -> None:
    for _, waiter, _ in reads:
        waiter.fail(error.code, error.text)
