"""The ``etcd`` command: what a member is told, how it logs, how it starts and ends.

Nothing heavy is imported before the command line has been read: a version, a help or a mistake costs no event
loop.
"""

from __future__ import annotations


def main() -> int:
    """The console script."""
    from petcd.cli.etcd.command import run

    return run()
