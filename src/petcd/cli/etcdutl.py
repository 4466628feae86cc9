"""``etcdutl``: the tool for a member's files at rest. So far it prints its version; the rest comes later."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from petcd import ETCD_VERSION, __version__

_LATER: Final = {
    "backup": "0.3.0",
    "completion": "0.3.0",
    "defrag": "0.3.0",
    "hashkv": "0.3.0",
    "migrate": "0.3.0",
    "snapshot": "0.3.0",
}
"""Commands of etcdutl by the release that brings them."""

_HELP: Final = """\
Usage:
  etcdutl version

Prints the version. The commands {commands} come with petcd {release}.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script; the exit code."""
    words = [word for word in (sys.argv[1:] if arguments is None else arguments) if not word.startswith("-")]
    asked = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] == ["version"]:
        print(f"etcdutl version: {ETCD_VERSION}")
        print("API version: " + ".".join(ETCD_VERSION.split(".")[:2]))
        print(f"petcd version: {__version__}")
        return 0
    if not words and (not asked or asked[0] in ("-h", "--help")):
        print(_HELP.format(commands=", ".join(_LATER), release="0.3.0"), end="")
        return 0
    command = words[0] if words else asked[0]
    release = _LATER.get(command)
    if release is None:
        kind = "unknown flag:" if command.startswith("-") else "unknown command"
        what = command if command.startswith("-") else f'"{command}" for "etcdutl"'
        print(f"Error: {kind} {what}", file=sys.stderr)
    else:
        print(
            f"Error: etcdutl {command} is not supported by petcd {__version__}; petcd {release} brings it",
            file=sys.stderr,
        )
    return 1


if __name__ == "__main__":
    sys.exit(main())
