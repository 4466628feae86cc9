"""completion: scripts that complete command words and flags (contract cli section 5.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from petcd.cli.etcdctl import completion
from petcd.cli.etcdutl.commands import Tool

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context


def _completion(context: Context) -> None:
    completion.COMMANDS["completion"].run(context)


COMMANDS: Final = {
    "completion": Tool(
        _completion,
        "completion [bash|zsh|fish|powershell]",
        (),
        "Generates the completion script for a shell.",
        exactly=1,
    ),
}
