"""What ``etcd --help`` and ``etcd --version`` print, and the few lines under a mistake."""

from __future__ import annotations

from typing import Final

from petcd import ETCD_VERSION, __version__
from petcd.cli.etcd import build
from petcd.cli.etcd.flags import GROUPS, Flag
from petcd.cli.etcd.kinds import format_value

USAGE: Final = """\
Usage:

  etcd [flags]
    Run a member.

  etcd --version
    Print the version.

  etcd -h | --help
    Print this help and every flag.

  etcd --config-file FILE
    Run a member as a YAML or JSON file describes it; other flags and the environment are then ignored.

  etcd gateway
    Forward TCP connections to a cluster (in a later release).

  etcd grpc-proxy
    Stand between clients and a cluster (in a later release).
"""


def shown_default(flag: Flag) -> str:
    return flag.shown if flag.shown is not None else format_value(flag.default())


def flags_text() -> str:
    """Every flag of 3.7.1, grouped as Go's help."""
    out: list[str] = []
    for group, flags in GROUPS.items():
        out.append(f"\n{group}:")
        for flag in flags:
            out.append(f"  --{flag.name} '{shown_default(flag)}'")
            out.append(f"    {flag.help}")
    out.append(
        "\nUnsafe flags give up guarantees of the consensus protocol: use them to rescue data and for tests."
    )
    out.append("Flags of older releases are accepted too; docs/configuration.md lists them.")
    return "\n".join(out) + "\n"


def version_text() -> str:
    """Four lines that scripts parse, with honest values, and one of our own."""
    return (
        f"etcd Version: {ETCD_VERSION}\n"
        f"Git SHA: {build.GIT_SHA}\n"
        f"Go Version: {build.runtime()}\n"
        f"Go OS/Arch: {'/'.join(build.system())}\n"
        f"petcd Version: {__version__}\n"
    )
