"""Commands and how they are found, helped and run: cobra's rules (contract cli sections 2.4 to 2.6).

A ``Command`` of the tree knows its name, its one-line summary and the module that holds the rest; the module
is imported only when that command runs or is asked for help, because start-up time counts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Final, NoReturn

from petcd.cli.etcdctl.grammar import Flag, FlagError, FlagSet, HelpRequested, boolean, usages

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context

SUCCESS: Final = 0
ERROR: Final = 1
BAD_CONNECTION: Final = 2
INVALID_INPUT: Final = 3
BAD_FEATURE: Final = 4
INTERRUPTED: Final = 5
BAD_ARGS: Final = 128

GROUPS: Final = (
    ("kv", "Key-value commands:"),
    ("cluster", "Cluster maintenance commands:"),
    ("concurrency", "Concurrency commands:"),
    ("auth", "Authentication commands:"),
    ("util", "Utility commands:"),
)


class Exit(Exception):
    """The command is over: an exit status and, unless empty, the text after ``Error: ``."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def bad_args(message: str) -> NoReturn:
    raise Exit(BAD_ARGS, message)


class Leaf:
    """What a command's module says about one runnable command."""

    __slots__ = ("description", "flags", "run", "use")

    def __init__(
        self,
        run: Callable[[Context], None],
        use: str,
        flags: Sequence[Flag] = (),
        description: str = "",
    ) -> None:
        self.run = run
        self.use = use
        self.flags = tuple(flags)
        self.description = description


class Command:
    """A node of the tree: the root, a group (has children) or a runnable command (names its module)."""

    __slots__ = ("children", "group", "module", "name", "parent", "persistent", "summary")

    def __init__(
        self,
        name: str,
        summary: str,
        module: str = "",
        *,
        group: str = "",
        children: Sequence[Command] = (),
        persistent: Sequence[Flag] = (),
    ) -> None:
        self.name = name
        self.summary = summary
        self.module = module
        self.group = group
        self.children = tuple(children)
        """In the order of the Go tool, which its suggestions show."""
        self.persistent = tuple(persistent)
        self.parent: Command | None = None
        for child in self.children:
            child.parent = self

    @property
    def path(self) -> str:
        return f"{self.parent.path} {self.name}" if self.parent else self.name

    def leaf(self) -> Leaf:
        """The runnable command's own declaration; imports its module."""
        module = import_module(f"petcd.cli.etcdctl.{self.module}")
        key = self.path.partition(" ")[2]
        found: Leaf = module.COMMANDS[key]
        return found

    def inherited(self) -> list[Flag]:
        flags: list[Flag] = []
        node: Command | None = self
        while node is not None:
            flags.extend(node.persistent)
            node = node.parent
        return flags

    def find_next(self, word: str) -> Command | None:
        """The child of that name, or the only one it is a prefix of."""
        matches = []
        for child in self.children:
            if child.name == word:
                return child
            if child.name.startswith(word):
                matches.append(child)
        return matches[0] if len(matches) == 1 else None

    def suggestions(self, word: str) -> list[str]:
        typed = word.lower()
        return [
            child.name
            for child in self.children
            if child.name.startswith(typed) or _distance(typed, child.name) <= 2
        ]


def _distance(one: str, other: str) -> int:
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


def _command_words(command: Command, arguments: Sequence[str]) -> list[int]:
    """Positions of the words that are neither flags nor, as far as ``command`` knows them, flags' values."""
    flags = FlagSet([*command.inherited(), boolean("help", "", "h")])
    words = []
    at = 0
    while at < len(arguments):
        word = arguments[at]
        if word == "--":
            break
        if flags.consumes_next(word):
            at += 1
        elif word and word[0] != "-":
            words.append(at)
        at += 1
    return words


def find(root: Command, arguments: Sequence[str]) -> tuple[Command, list[str], list[int]]:
    """The command meant, its arguments without the command words, and the places of what else is a word."""
    command, rest = root, list(arguments)
    while True:
        words = _command_words(command, rest)
        following = command.find_next(rest[words[0]]) if words else None
        if following is None:
            return command, rest, words
        del rest[words[0]]
        command = following


def execute(root: Command, arguments: Sequence[str]) -> int:
    """Run one command line; the exit status. Everything cobra itself says is said here."""
    if arguments and arguments[0] in ("__complete", "__completeNoDesc"):
        from petcd.cli.etcdctl import complete

        return complete.run(root, list(arguments[1:]), described=arguments[0] == "__complete")
    command, rest, words = find(root, arguments)
    if command is root and words:
        word = rest[words[0]]
        if word == "help":
            del rest[words[0]]
            return _help_command(root, rest)
        _print_unknown(root, word)
        return ERROR
    leaf = command.leaf() if command.module else None
    flags = FlagSet(leaf.flags if leaf else ())
    flags.add(command.inherited())
    flags.add([boolean("help", f"help for {command.name}", "h")])
    try:
        positional, dash = flags.parse(rest)
        if flags["help"] or leaf is None:
            raise HelpRequested
    except HelpRequested:
        write(help_text(command, usage_text))
        return SUCCESS
    except FlagError as error:
        complain(f"Error: {error}")
        complain(usage_text(command))
        return ERROR
    from petcd.cli.etcdctl.context import Context

    context = Context(command, flags, positional, dash, list(arguments))
    try:
        leaf.run(context)
    except Exit as error:
        sys.stdout.flush()
        if error.message:
            complain(f"Error: {error.message}")
        return error.status
    finally:
        context.close()
    return SUCCESS


def write(text: str) -> None:
    """To stdout, as the bytes the text stands for."""
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
    sys.stdout.buffer.flush()


def complain(text: str) -> None:
    """A line on stderr."""
    sys.stderr.buffer.write(text.encode("utf-8", "surrogateescape") + b"\n")
    sys.stderr.buffer.flush()


def _print_unknown(root: Command, word: str) -> None:
    from petcd.cli.etcdctl.golang import quote

    message = f'Error: unknown command {quote(word)} for "{root.name}"'
    similar = root.suggestions(word)
    if similar:
        message += "\n\nDid you mean this?\n" + "".join(f"\t{name}\n" for name in similar)
    complain(message)
    complain(f"Run '{root.name} --help' for usage.")


def _help_command(root: Command, arguments: list[str]) -> int:
    if "--help" in arguments or "-h" in arguments or arguments == ["help"]:
        write(
            "Help provides help for any command in the application.\n"
            f"Simply type {root.name} help [path to command] for full details.\n\n"
            f"Usage:\n  {root.name} help [command] [flags]\n\nFlags:\n  -h, --help   help for help\n"
        )
        return SUCCESS
    return explain(root, arguments, usage_text)


def explain(root: Command, arguments: Sequence[str], usage: Callable[[Command], str]) -> int:
    """``help`` with the path to a command."""
    command, rest, words = find(root, arguments)
    if command is root and words:
        topic = " ".join(f"`{rest[at]}`" for at in words)
        complain(f"Unknown help topic [{topic}]")
        complain(usage(root).rstrip("\n"))
        return SUCCESS
    write(help_text(command, usage))
    return SUCCESS


def help_text(command: Command, usage: Callable[[Command], str]) -> str:
    leaf = command.leaf() if command.module else None
    description = (leaf.description if leaf else "") or command.summary
    return f"{description.rstrip()}\n\n{usage(command)}"


def usage_text(command: Command) -> str:
    """The usage part of a help text: layout of 3.7, where global flags stand only in ``options``."""
    leaf = command.leaf() if command.module else None
    out = ["Usage:\n"]
    if leaf is not None:
        parent = command.parent.path + " " if command.parent else ""
        out.append(f"  {parent}{leaf.use} [flags]\n")
    if command.children:
        out.append(f"  {command.path} [command]\n")
        width = max(11, *(len(child.name) for child in command.children))
        if command.parent is None:
            for key, title in GROUPS:
                members = [child for child in command.children if child.group == key]
                if not members:
                    continue
                rows = [(child.name, child.summary) for child in members]
                if key == "util":
                    rows.append(("help", "Help about any command"))
                out.append(f"\n{title}\n")
                out.extend(f"  {name.ljust(width)} {summary}\n" for name, summary in sorted(rows))
        else:
            members = sorted(command.children, key=lambda child: child.name)
            out.append("\nAvailable Commands:\n")
            out.extend(f"  {child.name.ljust(width)} {child.summary}\n" for child in members)
    local = list(leaf.flags) if leaf else []
    node: Command | None = command
    while node is not None and node.parent is not None:
        local.extend(node.persistent)
        node = node.parent
    if command.parent is not None:
        local.append(boolean("help", f"help for {command.name}", "h"))
        out.append("\nFlags:\n" + usages(local))
    if command.children:
        out.append(f'\nUse "{command.path} [command] --help" for more information about a command.')
    root = command.path.partition(" ")[0]
    out.append(
        f'\nUse "{root} options" for a list of global command-line options (applies to all commands).\n'
    )
    return "".join(out)
