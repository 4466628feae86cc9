"""Commands, global flags and help: cobra's layout, with etcd's names and defaults."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from petcd.cli.etcdctl.grammar import (
    Flag,
    FlagSet,
    boolean,
    duration,
    integer,
    string,
    strings,
    unsigned,
    usages,
)

if TYPE_CHECKING:
    from petcd.cli.benchmark.bench import Bench

NAME: Final = "benchmark"
LONG: Final = (
    "benchmark measures an etcd server: it sends requests of one kind as fast as the clients get\n"
    "them answered, or at a rate, and reports how long they took."
)

GLOBAL_FLAGS: Final[tuple[Flag, ...]] = (
    strings("endpoints", "gRPC endpoints", default=("127.0.0.1:2379",)),
    unsigned("conns", "Total number of gRPC connections", default=1),
    unsigned("clients", "Total number of gRPC clients", default=1),
    boolean("target-leader", "connect only to the leader node"),
    boolean("precise", "use full floating point precision"),
    boolean("sample", "'true' to sample requests for every second"),
    string("cert", "identify HTTPS client using this SSL certificate file"),
    string("key", "identify HTTPS client using this SSL key file"),
    string("cacert", "verify certificates of HTTPS-enabled servers using this CA bundle"),
    boolean("insecure-skip-tls-verify", "skip server certificate verification"),
    string("user", "provide username[:password] and prompt if password is not supplied."),
    duration("dial-timeout", "dial timeout for client connections"),
    duration(
        "auto-sync-interval", "AutoSyncInterval is the interval to update endpoints with its latest members"
    ),
    boolean("report-perfdash", "Generate benchmark report in perfdash format"),
)


def accept(_flags: FlagSet, _arguments: list[str]) -> None:
    """Nothing to check."""


@dataclass(frozen=True, slots=True)
class Command:
    """One kind of load."""

    name: str
    summary: str
    run: Callable[[Bench], Coroutine[Any, Any, None]]
    flags: Sequence[Flag] = ()
    arguments: str = ""
    """As the usage line shows them."""
    arguments_max: int = 0
    check: Callable[[FlagSet, list[str]], None] = accept
    """Raises Failure for flags and arguments that do not go together."""
    description: str = ""
    alias: str = ""

    @property
    def use(self) -> str:
        return f"{self.name} {self.arguments}".rstrip()


def help_flag(name: str) -> Flag:
    return boolean("help", f"help for {name}", "h")


def root_help(program: str, commands: Sequence[Command]) -> str:
    width = max(len(command.name) for command in commands)
    rows = [(command.name, command.summary) for command in commands] + [("help", "Help about any command")]
    return (
        f"{LONG}\n\nUsage:\n  {program} [command]\n\nAvailable Commands:\n"
        + "".join(f"  {name.ljust(width)} {summary}\n" for name, summary in sorted(rows))
        + f"\nFlags:\n{usages((*GLOBAL_FLAGS, help_flag(program)))}"
        + f'\nUse "{program} [command] --help" for more information about a command.\n'
    )


def usage(program: str, command: Command) -> str:
    alias = f"\nAliases:\n  {command.name}, {command.alias}\n" if command.alias else ""
    return (
        f"Usage:\n  {program} {command.use} [flags]\n{alias}"
        f"\nFlags:\n{usages((*command.flags, help_flag(command.name)))}"
        f"\nGlobal Flags:\n{usages(GLOBAL_FLAGS)}"
    )


def command_help(program: str, command: Command) -> str:
    return f"{(command.description or command.summary).rstrip()}\n\n{usage(program, command)}"


TOTAL_DEFAULT: Final = 10_000


def sizes(of: str, size: int = 8) -> tuple[Flag, Flag]:
    """--key-size and --val-size."""
    return (
        integer("key-size", f"Key size of {of}", default=size),
        integer("val-size", f"Value size of {of}", default=size),
    )


def key_space() -> Flag:
    return integer("key-space-size", "Maximum possible keys", default=1)


def rate(of: str) -> Flag:
    return integer("rate", f"Maximum {of} per second (0 is no limit)")


def sequential() -> Flag:
    return boolean("sequential-keys", "Use sequential keys")


def consistency() -> Flag:
    return string("consistency", "Linearizable(l) or Serializable(s)", default="l")
