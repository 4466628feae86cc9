"""``GOFAIL_FAILPOINTS``: faults for a real process, in the language of etcd's own test builds.

    GOFAIL_FAILPOINTS='raftBeforeSave=sleep(1000);raftAfterSave=3*off->panic("here")'

A term is ``[count*]action``; terms follow one another after ``->``, and the last one without a count lasts.
Actions: ``sleep(milliseconds)`` or ``sleep("1.5s")``, ``panic`` (the process ends at once, as if killed) and
``off``. Without the variable nothing here is reached. Source: contract history section 1.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from petcd.seams.failpoints import Failpoints
from petcd.server.config import ConfigError
from petcd.server.gotext import parse_duration

_TERM: Final = re.compile(r"(?:(\d+)\*)?(sleep|panic|off)(?:\((.*)\))?")
_PANIC_CODE: Final = 2
_Term = tuple[int | None, Callable[[], object]]
"""How often, and what; None: for good."""


def arm_failpoints(failpoints: Failpoints, text: str) -> None:
    """Arm what ``text`` names. Raises: ConfigError."""
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, terms = part.partition("=")
        if not equals:
            raise ConfigError(f"GOFAIL_FAILPOINTS: {part!r} has no action")
        failpoints.arm(name, _chain([_parse(term.strip()) for term in terms.split("->")]))


def _parse(text: str) -> _Term:
    match = _TERM.fullmatch(text)
    if match is None:
        raise ConfigError(f"GOFAIL_FAILPOINTS: {text!r} is no action")
    count = int(match[1]) if match[1] else None
    argument = (match[3] or "").strip('"')
    if match[2] == "off":
        return count, lambda: None
    if match[2] == "panic":
        return count, lambda: _panic(argument)
    try:
        seconds = int(argument) / 1000 if argument.isdecimal() else parse_duration(argument) / 1e9
    except ValueError as error:
        raise ConfigError(f"GOFAIL_FAILPOINTS: {text!r}: {error}") from None
    return count, lambda: time.sleep(seconds)


def _panic(argument: str) -> None:
    sys.stderr.write(f"failpoint panic: {argument}\n")
    sys.stderr.flush()
    os._exit(_PANIC_CODE)


def _chain(terms: list[_Term]) -> Callable[[], object]:
    left = deque(terms)

    def hit() -> None:
        while left:
            count, action = left[0]
            if count is None:
                action()
                return
            if count:
                left[0] = (count - 1, action)
                action()
                return
            left.popleft()

    return hit
