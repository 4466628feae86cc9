"""How etcdutl finds, helps and runs its commands: cobra's rules in their plain form (contract cli 5.1).

The tree, the flags and the search are etcdctl's; what differs is what cobra itself says. Here global flags
have a section of their own in every help, and a mistake in the command line is told before the usage and
again after it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Final

from petcd.cli.etcdctl.commands import (
    ERROR,
    SUCCESS,
    Command,
    Exit,
    Leaf,
    complain,
    explain,
    find,
    help_text,
    write,
)
from petcd.cli.etcdctl.golang import quote
from petcd.cli.etcdctl.grammar import Flag, FlagError, FlagSet, HelpRequested, boolean, usages

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context

_PADDING: Final = 11


class Tool(Leaf):
    """A runnable command, with what cobra checks of its arguments before it runs."""

    __slots__ = ("exactly", "required", "single_dash")

    def __init__(
        self,
        run: Callable[[Context], None],
        use: str,
        flags: Sequence[Flag] = (),
        description: str = "",
        *,
        required: tuple[str, ...] = (),
        exactly: int | None = None,
        single_dash: bool = False,
    ) -> None:
        super().__init__(run, use, flags, description)
        self.required = required
        self.exactly = exactly
        self.single_dash = single_dash
        """Its flags are those of a plain Go program: ``-raw`` is ``--raw``."""


class Node(Command):
    """A node of etcdutl's tree."""

    __slots__ = ()

    def leaf(self) -> Tool:
        module = import_module(f"petcd.cli.etcdutl.{self.module}")
        found: Tool = module.COMMANDS[self.path.partition(" ")[2]]
        return found


def main(root: Node, arguments: Sequence[str] | None, *, again_on_stdout: bool = False) -> int:
    """``execute``; without arguments, those of the process are taken, and it ends as a Go program does: a
    closed pipe ends it by its signal, and so does an interrupt, once what was begun is cleaned away."""
    if arguments is not None:
        return execute(root, arguments, again_on_stdout=again_on_stdout)
    try:
        return execute(root, sys.argv[1:], again_on_stdout=again_on_stdout)
    except BrokenPipeError:
        number = signal.SIGPIPE
    except KeyboardInterrupt:
        number = signal.SIGINT
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number


def execute(root: Node, arguments: Sequence[str], *, again_on_stdout: bool = False) -> int:
    """Run one command line; the exit status. ``again_on_stdout`` is how etcd-dump-db repeats a mistake."""
    if arguments and arguments[0] in ("__complete", "__completeNoDesc"):
        from petcd.cli.etcdctl import complete

        return complete.run(root, list(arguments[1:]), described=arguments[0] == "__complete")
    command, rest, words = find(root, arguments)
    if command is root and words and root.children:
        word = rest[words[0]]
        if word == "help":
            del rest[words[0]]
            return explain(root, rest, usage_text)
        text = f"unknown command {quote(word)} for {quote(root.name)}"
        similar = root.suggestions(word)
        if similar:
            text += "\n\nDid you mean this?\n" + "".join(f"\t{name}\n" for name in similar)
        complain(f"Error: {text}\nRun '{root.name} --help' for usage.")
        _repeat(text, again_on_stdout)
        return ERROR
    tool = command.leaf() if command.module else None
    assert tool is None or isinstance(tool, Tool)
    flags = FlagSet(tool.flags if tool else ())
    flags.add(command.inherited())
    flags.add([boolean("help", f"help for {command.name}", "h")])
    if tool is not None and tool.single_dash:
        rest = _double_dashes(tool, rest)
    try:
        positional, dash = flags.parse(rest)
        if flags["help"] or tool is None:
            raise HelpRequested
        _check(tool, flags, positional)
    except HelpRequested:
        write(help_text(command, usage_text))
        return SUCCESS
    except FlagError as error:
        complain(f"Error: {error}")
        complain(usage_text(command))
        _repeat(str(error), again_on_stdout)
        return ERROR
    from petcd.cli.etcdctl.context import Context

    return run(tool, Context(command, flags, positional, dash, list(arguments)))


def _repeat(text: str, on_stdout: bool) -> None:
    if on_stdout:
        write(text + "\n")
    else:
        complain(f"Error: {text}")


def run(leaf: Leaf, context: Context) -> int:
    """Run a command whose arguments are in order; the exit status."""
    from petcd.pb.wire import DecodeError
    from petcd.storage.errors import StorageError

    try:
        leaf.run(context)
    except Exit as error:
        if error.message:
            complain(f"Error: {error.message}")
        return error.status
    except BrokenPipeError:
        raise
    except (StorageError, DecodeError, OSError) as error:
        complain(f"Error: {error}")
        return ERROR
    return SUCCESS


def _double_dashes(tool: Tool, arguments: list[str]) -> list[str]:
    names = {flag.name for flag in tool.flags} | {"help"}
    return [
        f"-{word}" if word[:1] == "-" and word[1:].partition("=")[0] in names else word for word in arguments
    ]


def _check(tool: Tool, flags: FlagSet, positional: list[str]) -> None:
    if tool.exactly is not None and len(positional) != tool.exactly:
        raise FlagError(f"accepts {tool.exactly} arg(s), received {len(positional)}")
    missing = [name for name in sorted(tool.required) if name not in flags.changed]
    if missing:
        raise FlagError(f"required flag(s) {', '.join(map(quote, missing))} not set")


def usage_text(command: Command) -> str:
    """The usage part of a help text: cobra's own layout."""
    leaf = command.leaf() if command.module else None
    parent = f"{command.parent.path} " if command.parent else ""
    out = ["Usage:\n"]
    if leaf is not None:
        out.append(f"  {parent}{leaf.use}{' [flags]' if '[flags]' not in leaf.use else ''}\n")
    if command.children:
        out.append(f"  {command.path} [command]\n\nAvailable Commands:\n")
        rows = [(child.name, child.summary) for child in command.children]
        if command.parent is None:
            rows.append(("help", "Help about any command"))
        width = max(_PADDING, *(len(name) for name, _ in rows))
        out.extend(f"  {name.ljust(width)} {summary}\n" for name, summary in sorted(rows))
    local = [*(leaf.flags if leaf else ()), *command.persistent]
    local.append(boolean("help", f"help for {command.name}", "h"))
    out.append("\nFlags:\n" + usages(local))
    if command.parent is not None and (inherited := command.parent.inherited()):
        out.append("\nGlobal Flags:\n" + usages(inherited))
    if command.children:
        out.append(f'\nUse "{command.path} [command] --help" for more information about a command.\n')
    return "".join(out)
