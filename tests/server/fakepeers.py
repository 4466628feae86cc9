"""Peers that a test speaks for: it says who is reachable and what they answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.server.lab import Lab

from petcd.seams import Clock
from petcd.server.clusterversion import ClusterVersionMonitor
from petcd.server.corruption import CorruptionMonitor
from petcd.server.peering import PeerAnswer, Solo


class Asked(NamedTuple):
    """One request that the member made of another."""

    urls: tuple[str, ...]
    method: str
    path: str
    body: bytes
    headers: dict[str, str]


class FakePeers(Solo):
    """``answer`` decides each request; the answer comes a millisecond later."""

    def __init__(self, clock: Clock, answer: Callable[[Asked], PeerAnswer] | None = None) -> None:
        self._clock = clock
        self.answer = answer or (lambda _: PeerAnswer(0, {}, b"connection refused"))
        self.active: dict[int, float] = {}
        self.asked: list[Asked] = []

    def active_since(self, member_id: int) -> float | None:
        return self.active.get(member_id)

    def request(
        self,
        urls: Sequence[str],
        method: str,
        path: str,
        done: Callable[[PeerAnswer], object],
        *,
        body: bytes = b"",
        headers: Sequence[tuple[str, str]] = (),
        timeout_seconds: float = 5.0,
    ) -> None:
        assert timeout_seconds > 0
        asked = Asked(tuple(urls), method, path, body, dict(headers))
        self.asked.append(asked)
        self._clock.call_later(0.001, lambda: done(self.answer(asked)))


def use_peers(lab: Lab, answer: Callable[[Asked], PeerAnswer] | None = None) -> FakePeers:
    """Give the lab's member such peers, and stop what asks them without being told."""
    for monitor in lab.etcd._monitors:
        if isinstance(monitor, (ClusterVersionMonitor, CorruptionMonitor)):
            monitor.stop()
    peers = FakePeers(lab.member.clock, answer)
    lab.member.peers = peers
    return peers
