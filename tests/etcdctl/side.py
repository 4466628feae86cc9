"""One tool and the server it talks to: how a case is run, and what is masked before outcomes are compared."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.etcdctl.case import Case, Holds, Kill, Other, RaiseAlarm, Step, Until, Write
from tests.etcdctl.reasons import OUTCOME
from tests.servers import GO_ETCDCTL

_RUNNER = Path(__file__).with_name("runner.py")
_SECONDS_MAX = 40.0

_MASKS = (
    # Ids: of leases, and of clusters and members, decimal and hexadecimal.
    (re.compile(rb"\b\d{17,20}\b"), b"<id>"),
    # A hexadecimal one may be short of a digit or two, and is then padded with blanks.
    (re.compile(rb"(?:(?<= ) {1,3})?\b[0-9a-f]{13,16}\b"), b"<hex>"),
    (re.compile(rb"127\.0\.0\.1:\d{2,}"), b"<endpoint>"),
    (re.compile(rb"(?<![\w.])\d+(\.\d+)?(\xc2\xb5s|ns|ms|s)(?![\w%])"), b"<time>"),
    (re.compile(rb"\b\d+(?:\.\d)? [kM]B\b"), b"<size>"),
    (re.compile(rb"\b\d+%"), b"<n>%"),
    (re.compile(rb'("(?:raft_term|raftTerm|raftIndex|raftAppliedIndex)":)\d+'), rb"\1<n>"),
    (re.compile(rb'("(?:RaftTerm|RaftIndex|RaftAppliedIndex|DBSize|DBSizeInUse)" : )\d+'), rb"\1<n>"),
    # An id may have fewer digits than another: then it is padded, and a table is narrower.
    (re.compile(rb"^Member +", re.MULTILINE), b"Member "),
    (re.compile(rb" cluster +(?=[0-9a-f<]+$)", re.MULTILINE), b" cluster "),
    (re.compile(rb"-{3,}(?=[-+])"), b"-"),
    (re.compile(rb"(?<=\|) +| +(?=\|)"), b" "),
    # A backend grows when it likes.
    (re.compile(rb'("(?:dbSize|dbSizeInUse)":)\d+'), rb"\1<n>"),
    (re.compile(rb"\b\d+ writes/s"), b"<n> writes/s"),
    (re.compile(rb"system memory used : [\d.]+ MB"), b"system memory used : <size>"),
)
_NOISE = re.compile(
    rb'^(\{"level":.*|\d{4}[-/]\d\d[-/]\d\d .*|stty: .*|(?:INFO|WARNING|ERROR): \d{4}/.*)\n', re.MULTILINE
)
"""Log lines, and the older tool's complaints about a stdin that is no terminal."""

_NAMED = {
    "LEASE": re.compile(rb"lease ([0-9a-f]{16}) granted"),
    "MEMBER": re.compile(rb"^([0-9a-f]+), started", re.MULTILINE),
    "LEARNER": re.compile(rb"^([0-9a-f]+), unstarted", re.MULTILINE),
}


class Names:
    """Ids that one tool's server gave, put in place of their names in later lines."""

    def __init__(self, known: dict[str, str] | None = None) -> None:
        self.known = dict(known or {})

    def learn(self, stdout: bytes) -> None:
        for name, pattern in _NAMED.items():
            found = pattern.search(stdout)
            if found:
                self.known[name] = found[1].decode()

    def fill(self, line: tuple[str, ...]) -> list[str]:
        return [self.word(word) for word in line]

    def word(self, word: str) -> str:
        """A name alone, or names in braces within a word."""
        if word in self.known:
            return self.known[word]
        if "{" in word:
            for name, value in self.known.items():
                word = word.replace(f"{{{name}}}", value)
        return word


_ENCODED = re.compile(rb'(?<="key":")[A-Za-z0-9+/=]{16,}(?=")')


_MEMBERS = re.compile(rb'(?<="members":\[)\{.+\}(?=\]\}$)', re.MULTILINE)
_INITIAL = re.compile(rb'(?<=^ETCD_INITIAL_CLUSTER=")[^"]+', re.MULTILINE)


def _ordered(found: re.Match[bytes]) -> bytes:
    """Members stand in the order of their ids, and those of later members are drawn from the time."""
    parts = re.split(rb',(?=\{"ID"|\w+=)', found[0])
    return b",".join(sorted(parts))


def _ordered_lines(stdout: bytes) -> bytes:
    if b", started, " not in stdout:
        return stdout
    return b"".join(sorted(stdout.splitlines(keepends=True)))


def _encoded_key(found: re.Match[bytes]) -> bytes:
    """A key of a lock or an election in json holds an id, too."""
    key = base64.b64decode(found[0])
    return re.sub(rb"/[0-9a-f]{13,16}$", b"/<hex>", key) if b"/" in key else found[0]


def masked(outcome: OUTCOME) -> OUTCOME:
    """Without ids, times, ports and log lines."""
    stdout, stderr, status = outcome
    stderr = _NOISE.sub(b"", stderr)
    stdout = _ENCODED.sub(_encoded_key, stdout)
    for pattern, word in _MASKS:
        stdout, stderr = pattern.sub(word, stdout), pattern.sub(word, stderr)
    stdout = _INITIAL.sub(_ordered, _MEMBERS.sub(_ordered, stdout))
    return _ordered_lines(stdout), stderr, status


def clean(env: dict[str, str]) -> dict[str, str]:
    """The environment of a tool: ours, without what would configure it, and what the case wants."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ETCD_", "ETCDCTL_"))}
    return {**kept, **env}


@dataclass
class GoTool:
    """Debian's etcdctl."""

    path: str = GO_ETCDCTL

    def command(self) -> list[str]:
        return [self.path]

    def run(self, arguments: list[str], stdin: bytes, env: dict[str, str]) -> OUTCOME:
        done = subprocess.run(
            [self.path, *arguments],
            input=stdin,
            capture_output=True,
            env=clean({"ETCDCTL_API": "3", **env}),
            timeout=_SECONDS_MAX,
            check=False,
        )
        return done.stdout, done.stderr, done.returncode

    def close(self) -> None:
        """Nothing of it runs on."""


@dataclass
class OurTool:
    """Our etcdctl, forked for each run from one process that has it imported."""

    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(_RUNNER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def command(self) -> list[str]:
        return [sys.executable, "-c", "from petcd.cli.etcdctl import main; raise SystemExit(main())"]

    def run(self, arguments: list[str], stdin: bytes, env: dict[str, str]) -> OUTCOME:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        request = {"arguments": arguments, "stdin": stdin.decode("latin-1"), "env": env}
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return (
            answer["stdout"].encode("latin-1"),
            answer["stderr"].encode("latin-1"),
            answer["status"],
        )

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


class Running:
    """A command that goes on; what it has printed so far can be waited for."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
        )
        self.seen = b""
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)

    def until(self, text: bytes, times: int = 1) -> None:
        end = time.monotonic() + _SECONDS_MAX
        while self.seen.count(text) < times:
            if time.monotonic() > end or self.process.poll() is not None:
                raise TimeoutError(f"no {text!r} in {self.seen!r}")
            assert self.process.stdout is not None
            self.seen += self.process.stdout.read() or b""
            time.sleep(0.005)

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        if data:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        else:
            self.process.stdin.close()
            self.process.stdin = None

    def end(self) -> OUTCOME:
        try:
            out, err = self.process.communicate(timeout=_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return self.seen + out, err, self.process.returncode


@dataclass
class Side:
    """A tool, its server and the names of what that server made."""

    tool: GoTool | OurTool
    endpoints: str
    """What ``--endpoints`` defaults to for every line."""
    names: Names
    options: tuple[str, ...] = ()
    """What the third party needs to reach the server."""

    def run(self, case: Case) -> OUTCOME:
        for step in case.before:
            self._do(step, None)
        line = self.names.fill(case.line)
        env = {name: self.names.word(value) for name, value in case.env.items()}
        if not any(word.startswith("--endpoints") for word in line) and "-d" not in line:
            env = {"ETCDCTL_ENDPOINTS": self.endpoints, **env}
        outcome = self._live(case, line, env) if case.steps else self.tool.run(line, case.stdin, env)
        self.names.learn(outcome[0])
        return masked(outcome)

    def _live(self, case: Case, line: list[str], env: dict[str, str]) -> OUTCOME:
        running = Running([*self.tool.command(), *line], clean({"ETCDCTL_API": "3", **env}))
        try:
            for step in case.steps:
                self._do(step, running)
        except TimeoutError as missing:
            running.process.kill()
            out, err, _ = running.end()
            raise TimeoutError(f"{missing}: {out!r} {err!r}") from None
        return running.end()

    def _do(self, step: Step, running: Running | None) -> None:
        match step:
            case Other(line):
                command = [*self.options, *self.names.fill(line)]
                out, err, status = GoTool().run(command, b"", {"ETCDCTL_ENDPOINTS": self.endpoints})
                if status:
                    raise RuntimeError(f"{line}: {err.decode()}")
                self.names.learn(out)
            case Holds(key, value):
                self._wait_for(key, value)
            case RaiseAlarm(number):
                raise_alarm(self.endpoints.split(",")[0], number)
            case Until(text, times):
                assert running is not None
                running.until(text, times)
            case Write(data):
                assert running is not None
                running.write(data)
            case Kill(number):
                assert running is not None
                running.process.send_signal(number)

    def _wait_for(self, key: str, value: str) -> None:
        end = time.monotonic() + _SECONDS_MAX
        wanted = f"{value}\n".encode() if value else b""
        line = [*self.options, "get", key, "--print-value-only"]
        while GoTool().run(line, b"", {"ETCDCTL_ENDPOINTS": self.endpoints})[0] != wanted:
            if time.monotonic() > end:
                raise TimeoutError(f"{key} does not become {value!r}")


def raise_alarm(endpoint: str, number: int) -> None:
    """Let the member at ``endpoint`` report an alarm."""
    from petcd.client.blocking import connect
    from petcd.pb.etcdserverpb import maintenance as pb

    host, _, port = endpoint.rpartition(":")
    connection = connect(host, int(port), timeout=5.0)
    try:
        status = connection.unary("/etcdserverpb.Maintenance/Status", pb.StatusRequest().encode())
        header = pb.StatusResponse.decode(status).header
        request = pb.AlarmRequest(action=1, memberID=header.member_id if header else 0, alarm=number)
        connection.unary("/etcdserverpb.Maintenance/Alarm", request.encode())
    finally:
        connection.close()


@contextlib.contextmanager
def closing(*sides: Side) -> Iterator[tuple[Side, ...]]:
    try:
        yield sides
    finally:
        for side in sides:
            side.tool.close()
