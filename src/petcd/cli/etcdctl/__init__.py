"""etcdctl: the command-line client (contract cli sections 1 to 4; texts of release 3.7)."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``etcdctl`` and return its exit status; without arguments, those of the process are taken."""
    from petcd.cli.etcdctl import commands, tree

    if arguments is None:
        import signal

        # As a Go program does: an interrupt ends the process by its signal.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        arguments = sys.argv[1:]
    status = tree.refuse_api_version()
    if status:
        return status
    try:
        return commands.execute(tree.ROOT, arguments)
    except BrokenPipeError:
        return _closed_pipe()


def _closed_pipe() -> int:
    """Nobody reads our output any more: end by the signal for that, as a Go program does.

    The signal itself stays ignored while we run, because it would also come from a socket.
    """
    import os
    import signal

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
    return 128 + signal.SIGPIPE
