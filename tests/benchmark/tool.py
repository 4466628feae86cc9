"""Our benchmark as a process."""

from __future__ import annotations

import subprocess
import sys

from tests.servers import clean_environment

COMMAND = [sys.executable, "-m", "petcd.cli.benchmark"]


class Run:
    """What a finished run left: its streams as text, and its status."""

    def __init__(self, *line: str, endpoint: str = "", seconds_max: float = 30.0) -> None:
        where = [f"--endpoints={endpoint}"] if endpoint else []
        done = subprocess.run(
            [*COMMAND, *where, *line],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env=clean_environment(),
            timeout=seconds_max,
            check=False,
        )
        self.out = done.stdout.decode()
        self.err = done.stderr.decode()
        self.status = done.returncode
        assert "Traceback" not in self.err, self.err

    def counted(self) -> list[int]:
        """How many requests each histogram holds."""
        totals = []
        for part in self.out.split("Response time histogram:\n")[1:]:
            rows = part.split("\n\n")[0].splitlines()
            totals.append(sum(int(row.split("[")[1].split("]")[0]) for row in rows))
        return totals
