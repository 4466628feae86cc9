"""The line on a terminal that says how far a run is; elsewhere nothing is drawn.

    put [===========>                  ]  36.21%  36210/100000  25301/s  mean 3.9ms  left 3s

The rate and the mean are those of the last half second, the time left follows the rate of the whole run.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from time import monotonic
from typing import Final, NamedTuple, TextIO

_REDRAW_SECONDS: Final = 0.5
_BAR_MIN: Final = 10
_BAR_MAX: Final = 40
_COLUMNS_DEFAULT: Final = 80


class Standing(NamedTuple):
    """How far a run is."""

    done: int
    """Requests answered or failed."""
    failed: int = 0
    latencies: int = 0
    """The sum over the answered ones, nanoseconds; 0 where there is none to speak of."""


def span(seconds: float) -> str:
    """A time to go by: ``42s``, ``3m05s``, ``2h07m``."""
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole // 60 % 60:02d}m"


def line(
    title: str, total: int, now: Standing, before: Standing, *, step: float, took: float, columns: int
) -> str:
    """What is drawn ``took`` seconds after the beginning, ``step`` after ``before``; less than a row."""
    share = min(1.0, now.done / total) if total else 1.0
    done = now.done - before.done
    parts = [f"{share:7.2%}", f"{now.done}/{total}", f"{done / step if step else 0:.0f}/s"]
    answered = done - (now.failed - before.failed)
    if now.latencies and answered > 0:
        parts.append(f"mean {(now.latencies - before.latencies) / answered / 1e6:.3g}ms")
    if now.failed:
        parts.append(f"{now.failed} failed")
    if 0 < now.done < total:
        parts.append(f"left {span(took / now.done * (total - now.done))}")
    figures = "  ".join(parts)
    room = min(_BAR_MAX, columns - 1 - len(title) - len(figures) - 4)
    if room < _BAR_MIN:
        return f"{title} {figures}"[: columns - 1]
    filled = int(share * room)
    bar = "=" * filled + ">" if filled < room else "=" * room
    return f"{title} [{bar.ljust(room)}] {figures}"


class Display:
    """Draws on ``stream`` while it is entered, if that is a terminal."""

    def __init__(self, stream: TextIO, title: str, total: int, standing: Callable[[], Standing]) -> None:
        self._stream = stream
        self._title = title
        self._total = total
        self._standing = standing
        self._task: asyncio.Task[None] | None = None
        self._began = self._drawn_at = 0.0
        self._before = Standing(0)

    async def __aenter__(self) -> Display:
        if self._stream.isatty():
            self._began = self._drawn_at = monotonic()
            self._task = asyncio.get_running_loop().create_task(self._run(), name="benchmark display")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            # The last line speaks of the whole run.
            self._before, self._drawn_at = Standing(0), self._began
            self._draw()
            self._stream.write("\n")
            self._stream.flush()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_REDRAW_SECONDS)
            self._draw()

    def _draw(self) -> None:
        now, at = self._standing(), monotonic()
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns or _COLUMNS_DEFAULT
        except OSError:
            columns = _COLUMNS_DEFAULT
        text = line(
            self._title,
            self._total,
            now,
            self._before,
            step=at - self._drawn_at,
            took=at - self._began,
            columns=columns,
        )
        # Blanks to the edge wipe what was longer; the last column is left alone, where some terminals wrap.
        self._stream.write("\r" + text.ljust(columns - 1))
        self._stream.flush()
        self._before, self._drawn_at = now, at
