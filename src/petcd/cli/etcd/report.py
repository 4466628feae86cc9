"""Errors as an operator reads them: expected or a bug, in Go's words where scripts match them."""

from __future__ import annotations

import errno
import os
from types import TracebackType
from typing import Final

_ATTEMPT: Final = "error while attempting to bind on address ("


def expected(error: BaseException) -> bool:
    """Whether this can happen to a correct program: the system's errors, and those our rooms declare."""
    if isinstance(error, (OSError, MemoryError)):
        return True
    return any(cls.__module__.startswith("petcd.") for cls in type(error).__mro__)


def describe(error: BaseException) -> str:
    """One line."""
    if isinstance(error, OSError):
        return _describe_os(error)
    text = str(error)
    return text.splitlines()[0] if text else type(error).__name__


def _describe_os(error: OSError) -> str:
    text = str(error)
    if error.errno is None:
        return text or type(error).__name__
    said = reason(error)
    at = text.find(_ATTEMPT)
    if at >= 0:  # both loops word a failed bind this way
        host, _, port = text[at + len(_ATTEMPT) :].partition(")")[0].partition(", ")
        host = host.strip("'\"")
        place = f"[{host}]" if ":" in host else host
        return f"listen tcp {place}:{port.partition(',')[0]}: bind: {said}"
    if error.errno == errno.EADDRINUSE and error.filename is None:
        return f"listen: bind: {said}"
    return f"{error.filename}: {said}" if error.filename is not None else said


def reason(error: OSError) -> str:
    """The system's own words, in lower case as Go has them."""
    return os.strerror(error.errno).lower() if error.errno is not None else str(error)


def location(error: BaseException | None) -> str:
    """``room/module.py:line`` where it was raised."""
    trace: TracebackType | None = error.__traceback__ if error is not None else None
    if trace is None:
        return "unknown"
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{'/'.join(trace.tb_frame.f_code.co_filename.rsplit('/', 2)[-2:])}:{trace.tb_lineno}"
