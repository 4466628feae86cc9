"""What a running command is handed: its flags and arguments, and on demand the server and the printer.

The environment is read when the server is first needed, as the Go tool does: argument errors come before
complaints about variables (contract cli sections 2.3, 2.8).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from petcd.cli.etcdctl import golang
from petcd.cli.etcdctl.commands import (
    BAD_ARGS,
    BAD_CONNECTION,
    BAD_FEATURE,
    ERROR,
    Command,
    Exit,
    complain,
)
from petcd.cli.etcdctl.grammar import Flag, FlagError, FlagSet, shown_value
from petcd.cli.etcdctl.options import GLOBAL_FLAGS

if TYPE_CHECKING:
    from petcd.cli.etcdctl.printers import Printer
    from petcd.cli.etcdctl.session import Session

FORMATS = ("simple", "json", "fields", "table", "protobuf")
_WATCH_VARIABLES = frozenset(("ETCDCTL_WATCH_KEY", "ETCDCTL_WATCH_RANGE_END"))


class Context:
    """One run of one command."""

    def __init__(
        self, command: Command, flags: FlagSet, arguments: list[str], dash: int, line: list[str]
    ) -> None:
        self.command = command
        self.flags = flags
        self.arguments = arguments
        self.dash = dash
        """How many of ``arguments`` stood before ``--``; -1 when there was none."""
        self.line = line
        """All words after ``etcdctl``, as they came."""
        self.started = time.monotonic()
        self._session: Session | None = None
        self._printer: Printer | None = None
        self._settled = False
        self._discovered: list[str] | None = None

    def close(self) -> None:
        if self._session is not None:
            self._session.close()

    # --- settings -------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Take the environment in, honour ``--debug``, and refuse an unknown output format."""
        if self._settled:
            return
        self._settled = True
        watching = self.command.name == "watch"
        read_environment(self.flags, os.environ, _WATCH_VARIABLES if watching else frozenset())
        if self.flags["debug"]:
            for flag in sorted(GLOBAL_FLAGS, key=lambda flag: flag.name):
                value = self.flags[flag.name]
                shown = "[" + " ".join(value) + "]" if flag.kind == "strings" else shown_value(flag, value)
                complain(f"{variable(flag)}={shown}")

    @property
    def hex(self) -> bool:
        return bool(self.flags["hex"])

    @property
    def printer(self) -> Printer:
        if self._printer is None:
            self.settle()
            from petcd.cli.etcdctl import printers

            self._printer = printers.make(self.flags["write-out"], hexadecimal=self.hex)
        return self._printer

    def check_format(self) -> None:
        if self.flags["write-out"] not in FORMATS:
            raise Exit(BAD_FEATURE, "unsupported output format")

    def deadline(self) -> float:
        """When a short command gives up (``--command-timeout``), on the monotonic clock."""
        return float(self.started + self.flags["command-timeout"] / 1e9)

    # --- the server -----------------------------------------------------------------------------------

    @property
    def session(self) -> Session:
        """The connection to the cluster; made, and logged in, at first use."""
        if self._session is None:
            self.settle()
            endpoints = self.endpoints()
            session = self.open(endpoints)
            self.check_format()
            self._session = session
            session.login()
        return self._session

    def timeless(self) -> Session:
        """The session without ``--command-timeout``, for the commands it does not apply to (section 2.7)."""
        session = self.session
        session.deadline = None
        return session

    def endpoints(self) -> list[str]:
        """Found by DNS where that was asked for, else those of ``--endpoints``."""
        if self.flags["discovery-srv"]:
            if self._discovered is None:
                from petcd.cli.etcdctl import discovery

                self._discovered = discovery.client_endpoints(
                    self.flags["discovery-srv"],
                    self.flags["discovery-srv-name"],
                    insecure=self.flags["insecure-discovery"],
                )
            if self._discovered:
                return list(self._discovered)
        return list(self.flags["endpoints"])

    def open(self, endpoints: list[str]) -> Session:
        """A session of its own to ``endpoints``, with this command's security; not yet connected."""
        if not endpoints:
            raise Exit(BAD_CONNECTION, "etcdclient: no available endpoints")
        from petcd.cli.etcdctl.session import Session

        flags = self.flags
        for name in ("cert", "key", "cacert"):
            if name in flags.changed and not flags[name]:
                raise Exit(BAD_ARGS, f"empty string is passed to --{name} option")
        user, password = self.credentials()
        if not password:
            # As in Go's client, a name alone is nobody.
            user = ""
        return Session(
            [endpoint.strip() for endpoint in endpoints],
            dial_timeout=flags["dial-timeout"] / 1e9,
            deadline=self.deadline(),
            keepalive=(flags["keepalive-time"] / 1e9, flags["keepalive-timeout"] / 1e9),
            cert=flags["cert"],
            key=flags["key"],
            ca=flags["cacert"],
            tls=not flags["insecure-transport"],
            skip_verify=flags["insecure-skip-tls-verify"],
            server_name=flags["discovery-srv"] if not flags["insecure-discovery"] else "",
            user=user,
            password=password,
            token=flags["auth-jwt-token"],
            send_limit=flags["max-request-bytes"],
            receive_limit=flags["max-recv-bytes"],
        )

    def credentials(self) -> tuple[str, str]:
        """User and password from ``--user`` and ``--password``; asks when only the name is known."""
        flags = self.flags
        if flags["auth-jwt-token"] or not flags["user"]:
            return "", ""
        user: str = flags["user"]
        if flags["password"]:
            return user, flags["password"]
        name, colon, password = user.partition(":")
        if colon:
            return name, password
        from petcd.cli.etcdctl.prompt import ask_password

        password = ask_password("Password: ").strip()
        flags.values["password"] = password
        return user, password

    def call(self, method: str, request: Any, response: Any, *, read: bool = False) -> Any:
        """One unary call under the command's timeout."""
        return self.session.call(method, request, response, read=read)


def variable(flag: Flag) -> str:
    return "ETCDCTL_" + flag.name.upper().replace("-", "_")


def read_environment(flags: FlagSet, environment: Mapping[str, str], known: frozenset[str]) -> None:
    """Give global flags their ``ETCDCTL_*`` values; a flag given on both sides is fatal."""
    named = {variable(flag): flag for flag in sorted(GLOBAL_FLAGS, key=lambda flag: flag.name)}
    for name, flag in named.items():
        value = environment.get(name)
        if value is None:
            continue
        if flag.name in flags.changed:
            _log(
                "fatal",
                "conflicting environment variable is shadowed by corresponding command-line flag "
                "(either unset environment variable or disable flag))",
                name,
            )
            raise Exit(ERROR)
        if not value:
            continue
        before = flags.values[flag.name]
        try:
            flags.set(flag, value)
        except FlagError:
            flags.values[flag.name] = before
    for name, value in environment.items():
        if name.startswith("ETCDCTL_") and name not in named and name not in known:
            _log("warn", "unrecognized environment variable", f"{name}={value}")


def _log(level: str, message: str, shown: str) -> None:
    """One line of zap's JSON on stderr."""
    import datetime

    from petcd.cli.etcdctl.printers.json import string

    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    complain(
        f'{{"level":"{level}","ts":"{now}","caller":"flags/flag.go","msg":{string(message)},'
        f'"environment-variable":{string(golang.text_of(golang.raw(shown)))}}}'
    )
