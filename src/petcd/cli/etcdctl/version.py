"""version and options (contract cli sections 2.5, 3.21)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from petcd import ETCD_VERSION
from petcd.cli.etcdctl.commands import Leaf, write
from petcd.cli.etcdctl.grammar import usages
from petcd.cli.etcdctl.options import GLOBAL_FLAGS

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context


def _version(context: Context) -> None:
    api = ".".join(ETCD_VERSION.split(".")[:2])
    write(f"etcdctl version: {ETCD_VERSION}\nAPI version: {api}\n")


def _options(context: Context) -> None:
    write("The following options can be passed to any command:\n\n" + usages(GLOBAL_FLAGS))


COMMANDS: Final = {
    "version": Leaf(_version, "version", (), "Prints the version of etcdctl"),
    "options": Leaf(_options, "options", (), "Prints the list of global command-line options"),
}
