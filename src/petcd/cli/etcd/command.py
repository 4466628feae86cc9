"""From the command line to a running member, or to the reason why there is none.

Exit codes: 0 for help and version, 2 for a command line that cannot be parsed and for panics, 1 for every
other refusal. Source: contract/config-metrics.md sections 1, 2 and 7.1.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from petcd.cli.etcd.grammar import (
    Environment,
    HelpAsked,
    SetupError,
    UsageError,
    apply_environment,
    parse_arguments,
)
from petcd.server.config import ConfigError
from petcd.server.gotext import quote

if TYPE_CHECKING:
    from petcd.cli.etcd.grammar import Given
    from petcd.cli.etcd.settings import Settings
    from petcd.logs import Logger

_LATER = ("gateway", "grpc-proxy")


def run(arguments: Sequence[str] | None = None, variables: Mapping[str, str] | None = None) -> int:
    """Do what the arguments say; the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    variables = os.environ if variables is None else variables
    if arguments and arguments[0] in _LATER:
        print_to(sys.stderr, f"Error: etcd {arguments[0]} is not supported by this release of petcd\n")
        return 1
    try:
        given = parse_arguments(arguments)
    except HelpAsked:
        from petcd.cli.etcd.usage import USAGE, flags_text

        print_to(sys.stderr, USAGE)
        print_to(sys.stdout, flags_text())
        return 0
    except UsageError as error:
        from petcd.cli.etcd.usage import USAGE

        print_to(sys.stderr, f"{error}\n{USAGE}")
        return 2
    if given.values.get("version") and not given.rest:
        from petcd.cli.etcd.usage import version_text

        print_to(sys.stdout, version_text())
        return 0
    return _start(given, variables)


def _start(given: Given, variables: Mapping[str, str]) -> int:
    from petcd.cli.etcd import logging
    from petcd.cli.etcd.checks import AdvertiseError

    logger = logging.default_logger()
    arguments = list(sys.argv)
    try:
        settings, logger = configure(given, variables, logger)
    except SetupError as error:
        print_to(sys.stderr, f"{error}\n")
        return 1
    except logging.LevelError as error:
        print_to(sys.stderr, f"panic: {error}\n")
        return 2
    except _Shadowed as shadowed:
        logger.fatal(
            "conflicting environment variable is shadowed by corresponding command-line flag "
            "(either unset environment variable or disable flag))",
            **{"environment-variable": shadowed.variable},
        )
        return 1
    except ConfigError as error:
        logger.info("Running: ", args=arguments)
        logger.warn("failed to verify flags", error=str(error))
        if isinstance(error, AdvertiseError):
            logger.warn("advertise client URLs are not set", error=str(error))
        return 1
    logger.info("Running: ", args=arguments)
    # Until the member serves, collecting what the imports leave behind is wasted time.
    gc.disable()
    from petcd.cli.etcd import process

    return process.run(settings, logger)


class _Shadowed(Exception):
    """A flag and its environment variable are both given."""

    def __init__(self, variable: str) -> None:
        super().__init__(variable)
        self.variable = variable


def configure(given: Given, variables: Mapping[str, str], early: Logger) -> tuple[Settings, Logger]:
    """Everything up to a checked configuration and its logger.

    ``early`` takes what has to be said before that logger exists. Raises ConfigError and the errors of
    logging and configfile.
    """
    from petcd.cli.etcd import checks, logging, settings

    if given.rest:
        raise ConfigError(f"{quote(given.rest[0])} is not a valid flag")
    path = given.values.get("config-file") or variables.get("ETCD_CONFIG_FILE", "")
    if path:
        from petcd.cli.etcd import configfile

        try:
            given = configfile.load(path)
        finally:
            early.info(
                "loaded server configuration, other configuration command line flags and environment "
                "variables will be ignored if provided",
                path=path,
            )
    else:
        _tell(apply_environment(given, variables), early)
    built = settings.assemble(given, from_file=bool(path))
    checks.check_fallback(built.config)
    logging.check(built.config)
    logger = logging.make_logger(built.config)
    try:
        checks.check(built)
    finally:
        for level, message, fields in built.notes:
            logger.log(level, message, fields)
    checks.refuse_unsupported(built.config)
    return built, logger


def _tell(environment: Environment, logger: Logger) -> None:
    """Log what the environment did. Raises ConfigError where it cannot be used."""
    if environment.version:
        logger.warn("cannot set special environment variable", key="ETCD_VERSION", value=environment.version)
    for variable, value in environment.used:
        logger.info(
            "recognized and used environment variable",
            **{"variable-name": variable, "variable-value": value},
        )
    if environment.shadowed:
        raise _Shadowed(environment.shadowed)
    for text in environment.unrecognized:
        logger.warn("unrecognized environment variable", **{"environment-variable": text})
    if environment.error is not None:
        raise environment.error


def print_to(stream: TextIO, text: str) -> None:
    """A reader that has gone away is not an error."""
    try:
        stream.write(text)
        stream.flush()
    except (BrokenPipeError, ValueError):
        # What is left in the buffer would fail again when the interpreter ends.
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        except (OSError, ValueError):
            return
