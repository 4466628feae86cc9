"""How far long work has come, on a terminal and nowhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final

from petcd.cli.etcdctl.golang import size

_COLUMNS: Final = 40
_EVERY_SECONDS: Final = 0.1
_AFTER_SECONDS: Final = 0.3
"""What takes no longer needs no bar."""


class Bar:
    """One line on stderr, drawn over itself and gone at the end. Call it with what, done, total.

    ``unit`` writes an amount; bytes, unless told otherwise. A total of 0 is not known.
    """

    def __init__(self, unit: Callable[[int], str] = size) -> None:
        self._unit = unit
        self._shows = sys.stderr.isatty()
        self._next = time.monotonic() + _AFTER_SECONDS
        self._drawn = 0

    def __call__(self, what: str, done: int, total: int) -> None:
        if not self._shows:
            return
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _EVERY_SECONDS
        if total:
            filled = min(done * _COLUMNS // total, _COLUMNS)
            body = ("=" * filled + ">")[:_COLUMNS].ljust(_COLUMNS)
            line = f"{what} [{body}] {min(done * 100 // total, 100)}% of {self._unit(total)}"
        else:
            line = f"{what} {self._unit(done)}"
        sys.stderr.write("\r" + line.ljust(self._drawn))
        sys.stderr.flush()
        self._drawn = len(line)

    def close(self) -> None:
        """Leave no trace."""
        if self._drawn:
            sys.stderr.write("\r" + " " * self._drawn + "\r")
            sys.stderr.flush()
            self._drawn = 0
