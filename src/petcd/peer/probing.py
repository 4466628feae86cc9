"""Whether the others' URLs answer, how fast, and whether their clocks agree; for logs and metrics only.

Source: contract page "peer", section 5.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import partial
from typing import Final

from petcd.peer.local import Local, PeerStatus, UrlPicker
from petcd.peer.pool import Call, HttpPool
from petcd.server.ids import hex_id
from petcd.server.peering import PeerAnswer

PROBE_SECONDS: Final = 4.0
_LOG_SECONDS: Final = 30.0
_CLOCK_DIFFERENCE_MAX: Final = 1.0


def now_text(wall_ns: int) -> str:
    """RFC 3339 with as many digits of nanoseconds as are needed, as Go writes it."""
    seconds, nanoseconds = divmod(wall_ns, 10**9)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    digits = f"{nanoseconds:09d}".rstrip("0")
    return f"{text}.{digits}Z" if digits else f"{text}Z"


def parse_now(body: bytes) -> float | None:
    """Unix seconds in the answer of ``/raft/probing``; None where it does not say."""
    try:
        shape = json.loads(body)
        text = shape["Now"]
        if shape["OK"] is not True or not isinstance(text, str):
            return None
        moment = datetime.fromisoformat(text)
        return moment.timestamp() if moment.tzinfo is not None else None
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


class Prober:
    """Asks all URLs of one member each ``PROBE_SECONDS``."""

    __slots__ = ("_calls", "_local", "_logged_at", "_picker", "_pool", "_status", "_stopped")

    def __init__(self, local: Local, pool: HttpPool, picker: UrlPicker, status: PeerStatus) -> None:
        self._local = local
        self._pool = pool
        self._picker = picker
        self._status = status
        self._logged_at = local.world.clock.monotonic()
        self._calls: dict[Call, None] = {}
        self._stopped = False

    def start(self) -> None:
        self._local.world.clock.call_later(PROBE_SECONDS, self._probe)

    def stop(self) -> None:
        self._stopped = True
        for call in self._calls:
            call.cancel()
        self._calls.clear()

    def _probe(self) -> None:
        if self._stopped:
            return
        clock = self._local.world.clock
        for call in self._calls:
            call.cancel()
        self._calls.clear()
        for url in self._picker.all():
            done = partial(self._answered, clock.monotonic())
            call = self._pool.request(
                url, "GET", "/raft/probing", (), done, seconds_max=PROBE_SECONDS, reuse=False
            )
            self._calls[call] = None
        clock.call_later(PROBE_SECONDS, self._probe)

    def _answered(self, asked_at: float, answer: PeerAnswer) -> None:
        if self._stopped:
            return
        clock = self._local.world.clock
        now = clock.monotonic()
        took = now - asked_at
        peer_now = parse_now(answer.body) if answer.status == 200 else None
        if peer_now is not None:
            self._status.counters.round_trip_seconds.observe(took)
        if now < self._logged_at + _LOG_SECONDS:
            return
        fields = {"remote-peer-id": hex_id(self._status.member_id), "rtt": f"{took * 1000:.3f}ms"}
        if peer_now is None:
            self._logged_at = now
            why = answer.body[:200].decode("utf-8", "replace").strip() or f"status {answer.status}"
            self._local.logger.warn("prober detected unhealthy status", **fields, error=why)
            return
        difference = clock.wall_ns() / 1e9 - took / 2 - peer_now
        if abs(difference) > _CLOCK_DIFFERENCE_MAX:
            self._logged_at = now
            self._local.logger.warn(
                "prober found high clock drift", **fields, **{"clock-drift": f"{difference:.3f}s"}
            )
