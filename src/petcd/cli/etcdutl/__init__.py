"""etcdutl: the tool for a member's files at rest (contract cli section 5; texts of release 3.7)."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``etcdutl`` and return its exit status; without arguments, those of the process are taken."""
    from petcd.cli.etcdutl import commands, tree

    if arguments is None:
        import signal

        # As a Go program does: an interrupt ends the process by its signal, and so does a closed pipe.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        arguments = sys.argv[1:]
    return commands.execute(tree.ROOT, arguments)
