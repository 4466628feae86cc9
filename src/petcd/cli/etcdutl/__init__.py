"""etcdutl: the tool for a member's files at rest (contract cli section 5; texts of release 3.7)."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``etcdutl`` and return its exit status; without arguments, those of the process are taken."""
    from petcd.cli.etcdutl import commands, tree

    if arguments is not None:
        return commands.execute(tree.ROOT, arguments)
    import os
    import signal

    # As a Go program does: a closed pipe ends the process by its signal, and so does an interrupt, once what
    # was begun is cleaned away.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        return commands.execute(tree.ROOT, sys.argv[1:])
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        return 128 + signal.SIGINT
