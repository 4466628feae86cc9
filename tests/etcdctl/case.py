"""What a differential case is: a line, what it is fed, what goes on around it, why it may differ."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.etcdctl.reasons import OUTCOME, Reason


@dataclass(frozen=True)
class Until:
    """Wait until the running command has printed this, so often."""

    text: bytes
    times: int = 1


@dataclass(frozen=True)
class Other:
    """A third party (Debian's etcdctl) runs this line against the same server."""

    line: tuple[str, ...]


@dataclass(frozen=True)
class Holds:
    """Wait until the server holds this value of this key; empty: no such key."""

    key: str
    value: str


@dataclass(frozen=True)
class Write:
    """Bytes for the running command's stdin; none: its end."""

    data: bytes = b""


@dataclass(frozen=True)
class Kill:
    """A signal for the running command."""

    number: int


@dataclass(frozen=True)
class RaiseAlarm:
    """The member reports an alarm of this number (1: no space, 2: corrupt)."""

    number: int


Step = Until | Other | Holds | Write | Kill | RaiseAlarm


@dataclass(frozen=True)
class Case:
    """One line, run by both tools.

    ``steps`` go on while the command runs; without them it gets ``stdin`` and is waited for. ``before`` comes
    first. With ``differs`` the outcomes may differ as that reason says; where the older release has nothing
    like it, ``expect`` is what ours must be.
    """

    line: tuple[str, ...]
    stdin: bytes = b""
    env: dict[str, str] = field(default_factory=dict)
    differs: Reason | None = None
    expect: OUTCOME | None = None
    steps: tuple[Step, ...] = ()
    before: tuple[Step, ...] = ()
    only: str = ""
    """The kind of server this case makes sense against; empty: either."""

    @property
    def name(self) -> str:
        parts = [f"{k}={v}" for k, v in self.env.items()] + list(self.line)
        text = " ".join(part if part and " " not in part else repr(part) for part in parts)
        if self.stdin:
            text += f" <<< {self.stdin[:40]!r}"
        return text


def c(
    *line: str,
    stdin: bytes = b"",
    env: dict[str, str] | None = None,
    differs: Reason | None = None,
    expect: OUTCOME | None = None,
    steps: tuple[Step, ...] = (),
    before: tuple[Step, ...] = (),
    only: str = "",
) -> Case:
    return Case(line, stdin, env or {}, differs, expect, steps, before, only)


def other(*line: str) -> Other:
    return Other(line)


@dataclass(frozen=True)
class Group:
    """Cases that run one after the other.

    ``where`` names the servers: ``twins`` (one for each tool, alike to the ids), ``trio`` (one cluster of
    three for both), ``tls`` and ``mutual`` (twins that speak TLS, the latter asking for a certificate).
    """

    name: str
    cases: list[Case]
    where: str = "twins"
    kinds: tuple[str, ...] = ("go", "petcd")
