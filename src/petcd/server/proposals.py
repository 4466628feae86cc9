"""Requests that are on their way through the log, and who waits for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from petcd import errors


class Waiter(Protocol):
    """Whoever asked. A gRPC call fits; the member's own proposals bring their own."""

    def reply(self, message: bytes, /) -> None: ...

    def fail(self, code: int, text: str, /) -> None: ...


class Nobody:
    """A waiter that does not wait."""

    def reply(self, message: bytes, /) -> None:
        return

    def fail(self, code: int, text: str, /) -> None:
        return


NOBODY: Final = Nobody()


class Proposal:
    """One proposed request; it travels with its raft entry as ``Entry.request``.

    ``kind`` is the request's field number in ``InternalRaftRequest``.
    """

    __slots__ = ("begun_tick", "id", "kind", "request", "waiter")

    def __init__(self, kind: int, request: object, waiter: Waiter, request_id: int, begun_tick: int) -> None:
        self.kind = kind
        self.request = request
        self.waiter = waiter
        self.id = request_id
        self.begun_tick = begun_tick


class Proposals:
    """The pending proposals of this member by request id, oldest first."""

    __slots__ = ("_timeout_ticks", "by_id", "failed")

    def __init__(self, timeout_ticks: int) -> None:
        self._timeout_ticks = timeout_ticks
        self.by_id: dict[int, Proposal] = {}
        self.failed = 0

    def expire(self, tick: int, why: Callable[[int], errors.EtcdError]) -> None:
        """Tell those who have waited too long, ``why(begun tick)``. What they asked for may still happen."""
        oldest = tick - self._timeout_ticks
        late = []
        for proposal in self.by_id.values():
            if proposal.begun_tick >= oldest:
                break
            late.append(proposal)
        for proposal in late:
            del self.by_id[proposal.id]
            self.failed += 1
            error = why(proposal.begun_tick)
            proposal.waiter.fail(error.code, error.text)

    def fail_all(self, error: errors.EtcdError) -> None:
        pending, self.by_id = self.by_id, {}
        for proposal in pending.values():
            self.failed += 1
            proposal.waiter.fail(error.code, error.text)
