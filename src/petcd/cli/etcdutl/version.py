"""version (contract cli section 5.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from petcd import ETCD_VERSION
from petcd.cli.etcdctl.commands import write
from petcd.cli.etcdutl.commands import Tool

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context


def _version(context: Context) -> None:
    api = ".".join(ETCD_VERSION.split(".")[:2])
    write(f"etcdutl version: {ETCD_VERSION}\nAPI version: {api}\n")


COMMANDS: Final = {"version": Tool(_version, "version", (), "Prints the version of etcdutl")}
