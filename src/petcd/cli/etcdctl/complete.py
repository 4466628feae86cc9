"""``__complete``: what may follow a line that is being typed (cobra's protocol with its shell scripts).

The last argument is the word under the cursor. Candidates come one a line, with a TAB and a description
unless ``__completeNoDesc`` asked; the last line is ``:`` and a number that tells the shell whether file names
may be offered too. Scripts made by the Go tool work with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from petcd.cli.etcdctl.commands import SUCCESS, Command, complain, find, write
from petcd.cli.etcdctl.grammar import Flag, FlagError, FlagSet, HelpRequested, boolean

_DEFAULT: Final = 0
_NO_FILES: Final = 4
_NAMES: Final = {_DEFAULT: "ShellCompDirectiveDefault", _NO_FILES: "ShellCompDirectiveNoFileComp"}

_VALUES: Final = {
    "write-out": ("fields", "json", "protobuf", "simple", "table"),
    "order": ("ASCEND", "DESCEND"),
    "sort-by": ("CREATE", "KEY", "MODIFY", "VALUE", "VERSION"),
    "consistency": ("l", "s"),
    "load": ("s", "m", "l", "xl"),
}
"""Flags that take one of a few words."""
_ARGUMENTS: Final = {"completion": ("bash", "fish", "powershell", "zsh")}

Candidate = tuple[str, str]


class _Unknown(Exception):
    """The words before the cursor make no command line."""


def run(root: Command, arguments: list[str], *, described: bool) -> int:
    """Print the candidates for a line (the words after the tool's name); the exit status."""
    *before, word = arguments or [""]
    try:
        candidates, directive = _candidates(root, before, word)
    except _Unknown as unknown:
        complain(f"[Debug] [Error] {unknown}")
        candidates, directive = [], _DEFAULT
    for name, text in candidates:
        write(f"{name}\t{text}\n" if described and text else f"{name}\n")
    write(f":{directive}\n")
    complain(f"Completion ended with directive: {_NAMES[directive]}")
    return SUCCESS


def _candidates(root: Command, before: list[str], word: str) -> tuple[list[Candidate], int]:
    if before and before[0] == "help":
        return _commands(find(root, before[1:])[0], word), _NO_FILES
    command, rest, words = find(root, before)
    if command is root and words:
        raise _Unknown(f"Unable to find a command for arguments: [{' '.join(rest)}]")
    leaf = command.leaf() if command.module else None
    own = [*(leaf.flags if leaf else ()), boolean("help", f"help for {command.name}", "h")]
    flags = FlagSet([*own, *command.inherited()])
    pending = _pending(flags, rest)
    positional = _parse(flags, rest[:-1] if pending else rest)
    if "--" not in rest and word.startswith("-") and not pending:
        name, equals, value = word.lstrip("-").partition("=")
        if not equals:
            return list(_flags(command.inherited(), own, word)), _NO_FILES
        pending = flags.flags.get(name) or flags.shorthands.get(name)
        word = value
    if pending is not None:
        return _values(pending, word)
    if command.children and not positional:
        return _commands(command, word), _NO_FILES
    choices = _ARGUMENTS.get(command.name, ()) if not positional else ()
    return [(name, "") for name in choices if name.startswith(word)], _NO_FILES if choices else _DEFAULT


def _pending(flags: FlagSet, rest: list[str]) -> Flag | None:
    """The flag whose value is the word under the cursor."""
    if not rest or "--" in rest or not flags.consumes_next(rest[-1]):
        return None
    return flags.flags.get(rest[-1][2:]) or flags.shorthands.get(rest[-1][1:])


def _parse(flags: FlagSet, rest: list[str]) -> list[str]:
    try:
        return flags.parse(rest)[0]
    except HelpRequested:
        return []
    except FlagError as error:
        raise _Unknown(f"Error while parsing flags from args [{' '.join(rest)}]: {error}") from None


def _commands(command: Command, word: str) -> list[Candidate]:
    known = [(child.name, child.summary) for child in command.children]
    if command.parent is None:
        known.append(("help", "Help about any command"))
    return sorted(candidate for candidate in known if candidate[0].startswith(word))


def _flags(inherited: list[Flag], own: list[Flag], word: str) -> Iterator[Candidate]:
    seen = set()
    for flags in (inherited, own):
        for flag in sorted(flags, key=lambda flag: flag.name):
            if flag.name in seen or flag.hidden:
                continue
            seen.add(flag.name)
            for shown in (f"--{flag.name}", f"-{flag.shorthand}" if flag.shorthand else ""):
                if shown and shown.startswith(word):
                    yield shown, flag.usage


def _values(flag: Flag, word: str) -> tuple[list[Candidate], int]:
    choices = _VALUES.get(flag.name)
    if choices is None:
        return [], _DEFAULT
    return [(choice, "") for choice in choices if choice.startswith(word)], _NO_FILES
