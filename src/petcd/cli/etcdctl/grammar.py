"""The grammar of the command line: pflag's rules, without argparse (contract cli section 2.4).

A ``FlagSet`` holds declared flags and the values given; ``parse`` splits arguments into flags and
positional words. Errors carry pflag's texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from petcd.cli.etcdctl import golang


class FlagError(Exception):
    """An argument that is no flag of this command, or a value its flag refuses."""


class HelpRequested(Exception):
    """``--help`` or ``-h`` was given."""


class Flag:
    """One declared flag. ``kind`` names its type the way help prints it."""

    __slots__ = ("default", "hidden", "kind", "name", "shorthand", "usage")

    def __init__(
        self, name: str, kind: str, default: Any, usage: str, shorthand: str = "", *, hidden: bool = False
    ) -> None:
        self.name = name
        self.kind = kind
        self.default = default
        self.usage = usage
        self.shorthand = shorthand
        self.hidden = hidden

    @property
    def takes_no_value(self) -> bool:
        return self.kind == "bool"


def boolean(name: str, usage: str, shorthand: str = "", *, default: bool = False) -> Flag:
    return Flag(name, "bool", default, usage, shorthand)


def string(name: str, usage: str, shorthand: str = "", *, default: str = "") -> Flag:
    return Flag(name, "string", default, usage, shorthand)


def strings(name: str, usage: str, *, default: tuple[str, ...] = ()) -> Flag:
    return Flag(name, "strings", list(default), usage)


def integer(name: str, usage: str, *, default: int = 0) -> Flag:
    return Flag(name, "int", default, usage)


def unsigned(name: str, usage: str, *, default: int = 0) -> Flag:
    return Flag(name, "uint", default, usage)


def number(name: str, usage: str, *, default: float = 0.0) -> Flag:
    return Flag(name, "float", default, usage)


def duration(name: str, usage: str, *, default: int = 0) -> Flag:
    return Flag(name, "duration", default, usage)


def _parse_strings(text: str) -> list[str]:
    # pflag reads one CSV record; quotes are rare enough to leave the reader unimported otherwise.
    if not text:
        return []
    if '"' not in text:
        return text.split(",")
    import csv

    return next(csv.reader([text]), [])


_PARSERS: Final[dict[str, Callable[[str], Any]]] = {
    "bool": golang.parse_bool,
    "string": str,
    "strings": _parse_strings,
    "int": lambda text: golang.parse_int(text, 0),
    "uint": lambda text: golang.parse_uint(text, 0),
    "float": golang.parse_float,
    "duration": golang.parse_duration,
}


class FlagSet:
    """Declared flags, by name and by shorthand, with the values given so far."""

    __slots__ = ("changed", "flags", "shorthands", "values")

    def __init__(self, flags: Iterable[Flag] = ()) -> None:
        self.flags: dict[str, Flag] = {}
        self.shorthands: dict[str, Flag] = {}
        self.values: dict[str, Any] = {}
        self.changed: set[str] = set()
        self.add(flags)

    def add(self, flags: Iterable[Flag]) -> None:
        for flag in flags:
            if flag.name in self.flags:
                continue
            self.flags[flag.name] = flag
            if flag.shorthand:
                self.shorthands[flag.shorthand] = flag
            self.values[flag.name] = flag.default

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def set(self, flag: Flag, text: str) -> None:
        """Give ``flag`` a value; raises FlagError with pflag's text."""
        try:
            value = _PARSERS[flag.kind](text)
        except golang.ParseError as error:
            shown = f"-{flag.shorthand}, --{flag.name}" if flag.shorthand else f"--{flag.name}"
            raise FlagError(
                f"invalid argument {golang.quote(text)} for {golang.quote(shown)} flag: {error}"
            ) from None
        if flag.kind == "strings" and flag.name in self.changed:
            value = self.values[flag.name] + value
        self.values[flag.name] = value
        self.changed.add(flag.name)

    def consumes_next(self, word: str) -> bool:
        """Whether ``word`` is a flag whose value is the next argument, as cobra guesses before parsing."""
        if "=" in word:
            return False
        if word.startswith("--"):
            flag = self.flags.get(word[2:])
        elif len(word) == 2 and word[0] == "-":
            flag = self.shorthands.get(word[1:])
        else:
            return False
        return flag is None or not flag.takes_no_value

    def parse(self, arguments: Sequence[str]) -> tuple[list[str], int]:
        """Read all arguments: the positional ones, and how many stood before ``--`` (-1: there was none)."""
        positional: list[str] = []
        rest = list(arguments)
        rest.reverse()
        while rest:
            word = rest.pop()
            if len(word) < 2 or word[0] != "-":
                positional.append(word)
            elif word == "--":
                dash = len(positional)
                rest.reverse()
                return positional + rest, dash
            elif word.startswith("--"):
                self._long(word, rest)
            else:
                self._short(word, rest)
        return positional, -1

    def _long(self, word: str, rest: list[str]) -> None:
        name, equals, value = word[2:].partition("=")
        if not name or name[0] == "-":
            raise FlagError(f"bad flag syntax: {word}")
        flag = self.flags.get(name)
        if flag is None:
            if name == "help":
                raise HelpRequested
            raise FlagError(f"unknown flag: --{name}")
        if not equals:
            if flag.takes_no_value:
                value = "true"
            elif rest:
                value = rest.pop()
            else:
                raise FlagError(f"flag needs an argument: {word}")
        self.set(flag, value)

    def _short(self, word: str, rest: list[str]) -> None:
        letters = word[1:]
        while letters:
            # A byte, not a character, as in Go.
            shown = f"{_rune(chr(golang.raw(letters[0])[0]))} in -{letters}"
            letter, letters = letters[0], letters[1:]
            flag = self.shorthands.get(letter)
            if flag is None:
                if letter == "h":
                    raise HelpRequested
                raise FlagError(f"unknown shorthand flag: {shown}")
            if letters.startswith("=") and len(letters) > 1:
                value, letters = letters[1:], ""
            elif flag.takes_no_value:
                value = "true"
            elif letters:
                value, letters = letters, ""
            elif rest:
                value = rest.pop()
            else:
                raise FlagError(f"flag needs an argument: {shown}")
            self.set(flag, value)


def _rune(letter: str) -> str:
    """``%q`` of a byte: single quotes."""
    inner = golang.quote(letter)[1:-1].replace('\\"', '"').replace("'", "\\'")
    return f"'{inner}'"


def shown_value(flag: Flag, value: Any) -> str:
    """A flag's value as ``%v`` prints it (``--debug``)."""
    if flag.kind == "bool":
        return "true" if value else "false"
    if flag.kind == "duration":
        return golang.duration(value)
    if flag.kind == "float":
        return f"{value:g}"
    if flag.kind == "strings":
        return "[" + ",".join(value) + "]"
    return str(value)


def usages(flags: Iterable[Flag]) -> str:
    """The aligned flag lines of a help text, sorted by name."""
    rows: list[tuple[str, str]] = []
    for flag in sorted(flags, key=lambda flag: flag.name):
        if flag.hidden:
            continue
        left = f"  -{flag.shorthand}, --{flag.name}" if flag.shorthand else f"      --{flag.name}"
        if flag.kind != "bool":
            left += f" {flag.kind}"
        default = ""
        if flag.default not in (0, "", False, [], None):
            shown = f'"{flag.default}"' if flag.kind == "string" else shown_value(flag, flag.default)
            default = f" (default {shown})"
        rows.append((left, flag.usage + default))
    width = max((len(left) for left, _ in rows), default=0)
    return "".join(f"{left.ljust(width)}   {right}\n" for left, right in rows)
