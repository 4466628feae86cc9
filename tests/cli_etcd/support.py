"""Reading what ``etcd`` makes of its arguments, ours in this process and Go's in its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from petcd.cli.etcd.command import configure
from petcd.cli.etcd.grammar import parse_arguments
from petcd.cli.etcd.settings import Settings
from petcd.logs import Level, Logger

GO = shutil.which("etcd", path="/usr/bin:/usr/local/bin")

needs_go = [
    pytest.mark.go,
    pytest.mark.skipif(GO is None, reason="Debian's etcd-server is not installed here"),
]


class Log:
    """Collects records."""

    def __init__(self) -> None:
        self.records: list[tuple[Level, str, dict[str, Any]]] = []

    def __call__(self, level: Level, message: str, fields: Mapping[str, Any]) -> None:
        self.records.append((level, message, dict(fields)))

    def logger(self, level: Level = Level.DEBUG) -> Logger:
        return Logger(self, level)

    @property
    def messages(self) -> list[str]:
        return [message for _level, message, _fields in self.records]


def settle(
    arguments: Sequence[str], variables: Mapping[str, str] | None = None, log: Log | None = None
) -> Settings:
    """The checked settings that the arguments give; raises what the command would report."""
    log = log or Log()
    settings, _logger = configure(parse_arguments(arguments), variables or {}, log.logger())
    return settings


def go_complaint(arguments: Sequence[str], variables: Mapping[str, str] | None = None) -> tuple[str, int]:
    """What Go etcd says against these arguments (without its wrapping), and its exit code."""
    assert GO is not None
    environment = {name: text for name, text in os.environ.items() if not name.startswith("ETCD_")}
    done = subprocess.run(
        [GO, *arguments],
        env={**environment, **(variables or {})},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return _strip(done.stderr), done.returncode


def _strip(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if not line.startswith("[WARNING]")]
    for line in lines:
        if "error verifying flags, " in line:
            text = line.partition("error verifying flags, ")[2]
            return text.removesuffix(". See 'etcd --help'.")
        if line.startswith("{"):
            record = json.loads(line)
            if record["level"] == "fatal":
                return str(record.get("error", record["msg"]))
    return lines[0] if lines else ""
