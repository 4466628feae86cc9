"""The command line and the environment, read as Go's flag package reads them.

Source: contract/config-metrics.md sections 1.1 and 1.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from petcd.cli.etcd.flags import FLAGS
from petcd.cli.etcd.kinds import KEEP, BadValue
from petcd.server.config import ConfigError
from petcd.server.gotext import quote


class UsageError(Exception):
    """The command line cannot be parsed: the text and the usage on stderr, exit code 2."""


class SetupError(Exception):
    """A file's list of URLs cannot be used: printed as it is, not logged; exit code 1."""


class HelpAsked(Exception):
    """``-h``, ``-help``: not an error, but the end of parsing."""


class Given:
    """What was given: values by flag name, and which flags were given at all."""

    __slots__ = ("names", "rest", "values")

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.names: set[str] = set()
        self.rest: Sequence[str] = ()
        """Arguments after the last flag."""

    def set(self, name: str, value: Any) -> None:
        self.names.add(name)
        if value is not KEEP:
            self.values[name] = value


def parse_arguments(arguments: Sequence[str]) -> Given:
    """Raises UsageError, HelpAsked."""
    given = Given()
    at = 0
    while at < len(arguments):
        argument = arguments[at]
        if len(argument) < 2 or argument[0] != "-":
            break
        at += 1
        if argument == "--":
            break
        name, equals, text = argument[2 if argument[1] == "-" else 1 :].partition("=")
        if not name or name[0] == "-":
            raise UsageError(f"bad flag syntax: {argument}")
        flag = FLAGS.get(name)
        if flag is None:
            if name in ("help", "h"):
                raise HelpAsked
            raise UsageError(f"flag provided but not defined: -{name}")
        boolean = flag.kind.boolean
        if not equals:
            if boolean:
                text = "true"
            elif at < len(arguments):
                text = arguments[at]
                at += 1
            else:
                raise UsageError(f"flag needs an argument: -{name}")
        try:
            given.set(name, flag.kind.parse(text))
        except BadValue as error:
            if boolean:
                raise UsageError(f"invalid boolean value {quote(text)} for -{name}: {error}") from None
            raise UsageError(f"invalid value {quote(text)} for flag -{name}: {error}") from None
    given.rest = arguments[at:]
    return given


class Environment:
    """What the ``ETCD_`` variables did, for the log."""

    __slots__ = ("error", "shadowed", "unrecognized", "used", "version")

    def __init__(self) -> None:
        self.used: list[tuple[str, str]] = []
        self.unrecognized: list[str] = []
        self.shadowed = ""
        """A variable whose flag is also given: fatal."""
        self.error: ConfigError | None = None
        self.version = ""
        """ETCD_VERSION, which is never taken for the flag."""


def apply_environment(given: Given, variables: Mapping[str, str]) -> Environment:
    """Let ``ETCD_`` variables set the flags that the command line did not."""
    told = Environment()
    if not any(name.startswith("ETCD_") for name in variables):
        return told
    told.version = variables.get("ETCD_VERSION", "")
    handled = {"ETCD_VERSION", "ETCD_CONFIG_FILE", "ETCD_UNSUPPORTED_ARCH"}
    for name in sorted(FLAGS):
        flag = FLAGS[name]
        variable = flag.environment
        text = variables.get(variable, "")
        if name in given.names:
            if variable in variables and not told.shadowed:
                told.shadowed = variable
            handled.add(variable)
        elif text and variable not in handled:
            handled.add(variable)
            try:
                given.set(name, flag.kind.parse(text))
            except BadValue as error:
                told.error = ConfigError(f"invalid value {quote(text)} for {variable}: {error}")
            else:
                told.used.append((variable, text))
    for name, text in variables.items():
        if name.startswith("ETCD_") and name not in handled:
            told.unrecognized.append(f"{name}={text}")
    return told
