"""Commands run for watch and lock, and how Go names their ends."""

from __future__ import annotations

import os
import signal
import subprocess
from shutil import which
from typing import Final

from petcd.cli.etcdctl.golang import quote, raw

_SIGNALS: Final = {
    1: "hangup",
    2: "interrupt",
    3: "quit",
    6: "aborted",
    9: "killed",
    11: "segmentation fault",
    13: "broken pipe",
    14: "alarm clock",
    15: "terminated",
}


def run(command: list[str], extra: dict[str, str]) -> tuple[str, int]:
    """Run it with our stdout and stderr, no stdin and ``extra`` in its environment.

    Returns Go's words for what went wrong (empty: nothing did) and the exit status (255 for a signal).
    """
    if "/" not in command[0] and which(command[0]) is None:
        return f"exec: {quote(raw(command[0]))}: executable file not found in $PATH", 1
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **extra},
        )
    except OSError as error:
        return f"fork/exec {command[0]}: {(error.strerror or '').lower()}", 1
    status = process.wait()
    if status == 0:
        return "", 0
    if status < 0:
        return f"signal: {_SIGNALS.get(-status, signal.Signals(-status).name)}", 255
    return f"exit status {status}", status
