"""benchmark: load for an etcd server, and a report of how it bore it. See docs/benchmark.md."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``benchmark`` and return its exit status; without arguments, those of the process are taken."""
    from petcd.cli.benchmark.process import execute

    return execute(sys.argv[1:] if arguments is None else arguments)
