"""etcdutl: the tool for a member's files at rest (contract cli section 5; texts of release 3.7)."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``etcdutl`` and return its exit status; without arguments, those of the process are taken."""
    from petcd.cli.etcdutl import commands, tree

    return commands.main(tree.ROOT, arguments)
