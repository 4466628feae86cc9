"""Counts of calls per method, as plain integers; a scrape turns them into etcd's ``grpc_server_*``
families."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from petcd.errors import GRPC_NAMES, Code

if TYPE_CHECKING:
    from petcd.net.grpc.router import Method, Router


class MethodStats:
    """One method's counts.

    For a unary method ``received`` and ``sent`` count only what ``started`` and ``ok`` do not say already,
    so that the hot path touches two integers.
    """

    __slots__ = ("_failed", "_received", "_sent", "_unary", "ok", "started")

    def __init__(self, unary: bool) -> None:
        self._unary = unary
        self.started = 0
        self.ok = 0
        self._received = 0
        self._sent = 0
        self._failed: dict[int, int] = {}

    def count_received(self, count: int) -> None:
        self._received += count

    def count_sent(self) -> None:
        self._sent += 1

    def count_end(self, code: int) -> None:
        """A call ended with this status."""
        if code:
            self._failed[code] = self._failed.get(code, 0) + 1
        else:
            self.ok += 1

    @property
    def received(self) -> int:
        """Messages received."""
        return self.started + self._received if self._unary else self._received

    @property
    def sent(self) -> int:
        """Messages sent."""
        return self.ok if self._unary else self._sent

    def handled_by_name(self) -> Iterator[tuple[str, int]]:
        """(status as Go spells it, calls that ended so)."""
        if self.ok:
            yield GRPC_NAMES[Code.OK], self.ok
        for code, count in sorted(self._failed.items()):
            yield (GRPC_NAMES[Code(code)] if 0 <= code <= 16 else f"Code({code})"), count


class Counted(Protocol):
    """An edge, as far as the statistics care."""

    @property
    def bytes_in(self) -> int: ...

    @property
    def bytes_out(self) -> int: ...


class GrpcStats:
    """What the metrics page reads: the methods of a router and the bytes of its edges."""

    __slots__ = ("_edges", "_router")

    def __init__(self, router: Router, edges: Sequence[Counted]) -> None:
        self._router = router
        self._edges = edges

    @property
    def bytes_received(self) -> int:
        return sum(edge.bytes_in for edge in self._edges)

    @property
    def bytes_sent(self) -> int:
        return sum(edge.bytes_out for edge in self._edges)

    def methods(self) -> Iterable[Method]:
        return self._router.methods.values()
