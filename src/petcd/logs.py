"""Structured logging: a message that never varies, and fields that do.

The sink decides the format (zap's JSON or its console form, ``petcd.cli.etcd.logging``). A logger costs one
comparison when its level is off. Values of keys and secrets never go into fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any


class Level(IntEnum):
    DEBUG = -1
    INFO = 0
    WARN = 1
    ERROR = 2
    PANIC = 4
    FATAL = 5


Sink = Callable[[Level, str, Mapping[str, Any]], None]
"""Takes one record. The sink adds time and caller."""


def _discard(_level: Level, _message: str, _fields: Mapping[str, Any]) -> None:
    return None


class Logger:
    __slots__ = ("_fields", "_sink", "level")

    def __init__(self, sink: Sink = _discard, level: Level = Level.INFO, **fields: Any) -> None:
        self._sink = sink
        self.level = level
        self._fields = fields

    def bind(self, **fields: Any) -> Logger:
        """A logger that adds these fields to every record."""
        return Logger(self._sink, self.level, **{**self._fields, **fields})

    def debug(self, message: str, /, **fields: Any) -> None:
        self._log(Level.DEBUG, message, fields)

    def info(self, message: str, /, **fields: Any) -> None:
        self._log(Level.INFO, message, fields)

    def warn(self, message: str, /, **fields: Any) -> None:
        self._log(Level.WARN, message, fields)

    def error(self, message: str, /, **fields: Any) -> None:
        self._log(Level.ERROR, message, fields)

    def fatal(self, message: str, /, **fields: Any) -> None:
        """Record only; stopping is the caller's business."""
        self._log(Level.FATAL, message, fields)

    def log(self, level: Level, message: str, fields: Mapping[str, Any]) -> None:
        """A record whose level is not known where it is written."""
        self._log(level, message, fields)

    def _log(self, level: Level, message: str, fields: Mapping[str, Any]) -> None:
        if level >= self.level:
            self._sink(level, message, {**self._fields, **fields} if self._fields else fields)


NULL = Logger()
