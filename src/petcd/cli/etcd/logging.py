"""Log records as zap writes them: JSON or console lines, to streams, files or the systemd journal.

One object per line: ``level``, ``ts``, ``caller``, ``msg``, then the fields. More than 100 lines in a second
with one level and message are thinned to every 100th. Lines are written at once and unbuffered; a failing
output never stops the member. Source: contract/config-metrics.md section 7.3.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from petcd.logs import Level, Logger
from petcd.server.config import Config, ConfigError
from petcd.server.gotext import quote

DEFAULT: Final = "default"
STDERR: Final = "stderr"
STDOUT: Final = "stdout"
JOURNAL: Final = "systemd/journal"

LEVELS: Final = {
    "debug": Level.DEBUG,
    "info": Level.INFO,
    "warn": Level.WARN,
    "error": Level.ERROR,
    "panic": Level.PANIC,
    "fatal": Level.FATAL,
}
_NAMES: Final = {level: name for name, level in LEVELS.items()}
_JOURNAL_PRIORITY: Final = {
    Level.DEBUG: 7,
    Level.INFO: 6,
    Level.WARN: 4,
    Level.ERROR: 3,
    Level.PANIC: 2,
    Level.FATAL: 2,
}
_SAMPLE_FIRST: Final = 100
_SAMPLE_EVERY: Final = 100
_JOURNAL_SOCKET: Final = "/run/systemd/journal/socket"

Write = Callable[[Level, bytes], None]
"""Takes one whole line."""


class LevelError(Exception):
    """An unknown log level; etcd panics over it, so the exit code is 2."""


def parse_level(text: str) -> Level:
    level = LEVELS.get(text.lower())
    if level is None:
        level = {"": Level.INFO, "dpanic": Level.PANIC, "warning": Level.WARN}.get(text.lower())
    if level is None:
        raise LevelError(f"unrecognized level: {quote(text)}")
    return level


# Encoders.


def encode_json(level: Level, stamp: str, caller: str, message: str, fields: Mapping[str, Any]) -> str:
    text = json.dumps(message, ensure_ascii=False)
    head = f'{{"level":"{_NAMES[level]}","ts":"{stamp}","caller":"{caller}","msg":{text}'
    if not fields:
        return head + "}"
    return head + "," + _encode_fields(fields)[1:]


def encode_console(level: Level, stamp: str, caller: str, message: str, fields: Mapping[str, Any]) -> str:
    line = f"{stamp}\t{_NAMES[level]}\t{caller}\t{message}"
    return f"{line}\t{_encode_fields(fields, spaced=True)}" if fields else line


def _encode_fields(fields: Mapping[str, Any], *, spaced: bool = False) -> str:
    separators = (", ", ": ") if spaced else (",", ":")
    try:
        return json.dumps(fields, ensure_ascii=False, separators=separators, default=_plain)
    except (TypeError, ValueError):  # keys that are no texts, or a circle: say what can be said
        texts = {str(key): str(value) for key, value in fields.items()}
        return json.dumps(texts, ensure_ascii=False, separators=separators)


def _plain(value: object) -> Any:
    """What JSON has no form for."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    return str(value)


ENCODERS: Final = {"json": encode_json, "console": encode_console}


class Stamp:
    """Local time in ISO 8601 with microseconds; the second's text is made once per second."""

    __slots__ = ("_now_ns", "_second", "_text", "_zone")

    def __init__(self, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._now_ns = now_ns
        self._second = -1
        self._text = ""
        self._zone = ""

    def __call__(self) -> str:
        second, rest = divmod(self._now_ns(), 1_000_000_000)
        if second != self._second:
            local = time.localtime(second)
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", local)
            self._zone = time.strftime("%z", local) if local.tm_gmtoff else "Z"
            self._second = second
        return f"{self._text}.{rest // 1000:06d}{self._zone}"


def _caller() -> str:
    """``room/module.py:line`` of whoever logged: the first frame outside the loggers."""
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.endswith(("petcd/logs.py", "cli/etcd/logging.py")):
            return f"{'/'.join(file.rsplit('/', 2)[-2:])}:{frame.f_lineno}"
        if frame.f_back is None:
            break
        frame = frame.f_back
    return "petcd"


class Output:
    """The sink of a logger: thins, encodes, writes."""

    __slots__ = ("_counts", "_encode", "_stamp", "_writes")

    def __init__(self, encoder: str, writes: Sequence[Write], stamp: Callable[[], str] | None = None) -> None:
        self._encode = ENCODERS[encoder]
        self._writes = tuple(writes)
        self._stamp = stamp or Stamp()
        self._counts: dict[tuple[Level, str], tuple[str, int]] = {}

    def __call__(self, level: Level, message: str, fields: Mapping[str, Any]) -> None:
        stamp = self._stamp()
        if not self._admit(level, message, stamp[:19]):
            return
        line = self._encode(level, stamp, _caller(), message, fields)
        data = line.encode("utf-8", "replace") + b"\n"
        for write in self._writes:
            try:
                write(level, data)
            except OSError:
                continue  # nowhere left to report it

    def _admit(self, level: Level, message: str, second: str) -> bool:
        key = (level, message)
        seen = self._counts.get(key)
        count = seen[1] + 1 if seen is not None and seen[0] == second else 1
        if len(self._counts) > 4096:
            self._counts.clear()
        self._counts[key] = (second, count)
        return count <= _SAMPLE_FIRST or (count - _SAMPLE_FIRST) % _SAMPLE_EVERY == 0


# Outputs.


def write_to(descriptor: int) -> Write:
    def write(_level: Level, data: bytes) -> None:
        written = os.write(descriptor, data)
        while written < len(data):
            data = data[written:]
            written = os.write(descriptor, data)

    return write


def append_to(path: str) -> Write:
    """Raises OSError."""
    return write_to(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644))


class Journal:
    """The journal's own datagrams; stderr takes over where they cannot be sent."""

    def __init__(self, path: str = _JOURNAL_SOCKET, descriptor: int = 2) -> None:
        import socket

        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._path = path
        self._fallback = write_to(descriptor)

    def __call__(self, level: Level, data: bytes) -> None:
        entry = b"PRIORITY=%d\nSYSLOG_IDENTIFIER=etcd\nPACKAGE=petcd\nMESSAGE=%s" % (
            _JOURNAL_PRIORITY[level],
            data,
        )
        try:
            self._socket.sendto(entry, self._path)
        except OSError:
            self._fallback(level, data)

    def close(self) -> None:
        self._socket.close()


class Rotating:
    """A file that is put aside when it grows past a size: ``name-2006-01-02T15-04-05.000.ext``.

    Of those put aside, the newest ``backups`` (0: all) not older than ``days`` (0: any) stay.
    """

    def __init__(self, path: str, *, megabytes: int, days: int, backups: int, local_time: bool) -> None:
        from pathlib import Path

        self._path = Path(path)
        self._bytes_max = (megabytes or 100) * 1024 * 1024
        self._days = days
        self._backups = backups
        self._local_time = local_time
        self._open()
        self._prune()

    def _open(self) -> None:
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._descriptor).st_size

    def __call__(self, level: Level, data: bytes) -> None:
        if self._size and self._size + len(data) > self._bytes_max:
            self._rotate()
        write_to(self._descriptor)(level, data)
        self._size += len(data)

    def _rotate(self) -> None:
        now_ns = time.time_ns()
        seconds, rest = divmod(now_ns, 1_000_000_000)
        moment = time.localtime(seconds) if self._local_time else time.gmtime(seconds)
        stamp = f"{time.strftime('%Y-%m-%dT%H-%M-%S', moment)}.{rest // 1_000_000:03d}"
        self._path.replace(self._path.with_name(f"{self._path.stem}-{stamp}{self._path.suffix}"))
        os.close(self._descriptor)
        self._open()
        self._prune()

    def _prune(self) -> None:
        pattern = f"{self._path.stem}-????-??-??T??-??-??.???{self._path.suffix}"
        aside = sorted(self._path.parent.glob(pattern), reverse=True)
        limit = time.time() - self._days * 86400
        for position, old in enumerate(aside):
            too_many = self._backups and position >= self._backups
            if too_many or (self._days and old.stat().st_mtime < limit):
                old.unlink(missing_ok=True)


# From a configuration.


def check(config: Config) -> None:
    """The logger's own checks, the first of all. Raises ConfigError, LevelError."""
    if config.logger == "capnslog":
        raise ConfigError("--logger=capnslog is removed in v3.5")
    if config.logger != "zap":
        raise ConfigError(f"unknown logger option {quote(config.logger)}")
    outputs = config.log_outputs or (DEFAULT,)
    if len(outputs) > 1 and DEFAULT in outputs:
        raise ConfigError('multi logoutput for "default" is not supported yet')
    if config.enable_log_rotation:
        _check_rotation(config, outputs)
    if config.log_format not in ENCODERS:
        raise ConfigError(f"unknown log format: {config.log_format}, supported values json, console")
    parse_level(config.log_level)


def _check_rotation(config: Config, outputs: Sequence[str]) -> None:
    files = [output for output in outputs if output not in (DEFAULT, STDERR, STDOUT)]
    if len(files) != 1 or files == [JOURNAL]:
        raise ConfigError(
            "--log-outputs requires a single file path when --log-rotate-config-json is defined"
        )
    try:
        shape = json.loads(config.log_rotation_config_json)
    except ValueError as error:
        raise ConfigError(f"improperly formatted log rotation config: {error}") from None
    kinds = {"maxsize": int, "maxage": int, "maxbackups": int, "localtime": bool, "compress": bool}
    if not isinstance(shape, dict) or any(
        type(value) is not kinds.get(name.lower(), type(value)) for name, value in shape.items()
    ):
        raise ConfigError("invalid log rotation config: a member has the wrong type")
    if shape.get("compress"):
        raise ConfigError("compress in --log-rotation-config-json is not supported by this release of petcd")


def make_logger(config: Config) -> Logger:
    """The logger that the configuration describes; ``check`` has passed. Raises ConfigError."""
    return Logger(Output(config.log_format, _open_outputs(config)), parse_level(config.log_level))


def default_logger() -> Logger:
    """For what is to be said before there is a configuration."""
    return Logger(Output("json", [write_to(2)]))


def _open_outputs(config: Config) -> list[Write]:
    writes: list[Write] = []
    for output in dict.fromkeys(config.log_outputs or (DEFAULT,)):
        if output in (DEFAULT, STDERR):
            writes.append(write_to(2))
        elif output == STDOUT:
            writes.append(write_to(1))
        elif output == JOURNAL:
            writes.append(Journal())
        else:
            try:
                writes.append(_rotating(config, output) if config.enable_log_rotation else append_to(output))
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                raise ConfigError(
                    f"couldn't open sink {quote(output)}: open {output}: {reason}",
                ) from None
    return writes


def _rotating(config: Config, path: str) -> Rotating:
    shape = {name.lower(): value for name, value in json.loads(config.log_rotation_config_json).items()}
    return Rotating(
        path,
        megabytes=shape.get("maxsize", 0),
        days=shape.get("maxage", 0),
        backups=shape.get("maxbackups", 0),
        local_time=shape.get("localtime", False),
    )
