"""Two tools, two servers: how the differential cases are run and what is masked before they are compared."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OUTCOME = tuple[bytes, bytes, int]

_RUNNER = Path(__file__).with_name("runner.py")

_MASKS = (
    # Ids: of clusters, members and leases, decimal and hexadecimal.
    (re.compile(rb"\b\d{17,20}\b"), b"<id>"),
    # A hexadecimal one may be short of a digit or two, and is then padded with blanks.
    (re.compile(rb"(?:(?<= ) {1,3})?\b[0-9a-f]{13,16}\b"), b"<hex>"),
    (re.compile(rb"127\.0\.0\.1:\d+"), b"<endpoint>"),
    (re.compile(rb"(?<![\w.])\d+(\.\d+)?(\xc2\xb5s|ns|ms|s)(?![\w%])"), b"<time>"),
    (re.compile(rb'("(?:raft_term|raftTerm|raftIndex|raftAppliedIndex)":)\d+'), rb"\1<n>"),
    (re.compile(rb'("RaftTerm" : )\d+'), rb"\1<n>"),
    # An id may have fewer digits than another: then it is padded, and a table is narrower.
    (re.compile(rb"^Member +", re.MULTILINE), b"Member "),
    (re.compile(rb" cluster +(?=[0-9a-f<]+$)", re.MULTILINE), b" cluster "),
    (re.compile(rb"-{3,}(?=[-+])"), b"-"),
    (re.compile(rb"(?<=\|) +| +(?=\|)"), b" "),
    # A backend grows when it likes.
    (re.compile(rb'("(?:dbSize|dbSizeInUse)":)\d+'), rb"\1<n>"),
)
_NOISE = re.compile(rb'^(\{"level":.*|\d{4}[-/]\d\d[-/]\d\d .*|stty: .*)\n', re.MULTILINE)


_NAMED = {
    "LEASE": re.compile(rb"lease ([0-9a-f]{16}) granted"),
    "MEMBER": re.compile(rb"^([0-9a-f]+), started", re.MULTILINE),
}


class Names:
    """Ids that one tool's server gave, put in place of their names in later lines."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def learn(self, stdout: bytes) -> None:
        for name, pattern in _NAMED.items():
            found = pattern.search(stdout)
            if found:
                self._known[name] = found[1].decode()

    def fill(self, line: tuple[str, ...]) -> list[str]:
        return [self._known.get(word, word) for word in line]


def masked(outcome: OUTCOME) -> OUTCOME:
    """Without ids, times, ports and log lines."""
    stdout, stderr, status = outcome
    stderr = _NOISE.sub(b"", stderr)
    for pattern, word in _MASKS:
        stdout, stderr = pattern.sub(word, stdout), pattern.sub(word, stderr)
    return stdout, stderr, status


@dataclass
class GoTool:
    """Debian's etcdctl against its own server."""

    path: str
    endpoint: str

    def run(self, arguments: list[str], stdin: bytes, env: dict[str, str]) -> OUTCOME:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ETCD_", "ETCDCTL_"))}
        done = subprocess.run(
            [self.path, *arguments],
            input=stdin,
            capture_output=True,
            env={**kept, "ETCDCTL_API": "3", **env},
            timeout=30,
            check=False,
        )
        return done.stdout, done.stderr, done.returncode


@dataclass
class OurTool:
    """Our etcdctl, forked for each run from one process that has it imported."""

    endpoint: str
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(_RUNNER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

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
