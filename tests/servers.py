"""Real server processes of either kind, for black-box tests: started, killed, paused, restarted.

``go`` is Go etcd (Debian's etcd-server), the other side of most comparisons; ``petcd`` is ours. Both get the
same flags, a directory of their own and free loopback ports.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

Kind = Literal["go", "petcd"]

GO_ETCD = os.environ.get("PETCD_GO_ETCD", "/usr/bin/etcd")
GO_ETCDCTL = os.environ.get("PETCD_GO_ETCDCTL", "/usr/bin/etcdctl")

HAS_GO_ETCD = Path(GO_ETCD).exists()
HAS_GO_ETCDCTL = Path(GO_ETCDCTL).exists()

needs_go_etcd = pytest.mark.skipif(
    not HAS_GO_ETCD, reason="Go etcd is not installed (Debian: etcd-server; .ci/run installs it)"
)
needs_go_etcdctl = pytest.mark.skipif(
    not HAS_GO_ETCDCTL, reason="Go etcdctl is not installed (Debian: etcd-client; .ci/run installs it)"
)

COMMANDS: dict[Kind, list[str]] = {
    "go": [GO_ETCD],
    "petcd": [sys.executable, "-m", "petcd.cli.etcd"],
}


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def clean_environment(extra: Mapping[str, str] = {}) -> dict[str, str]:
    """The environment without what configures an etcd from afar."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ETCD_", "ETCDCTL_"))}
    return {**kept, "ETCD_UNSUPPORTED_ARCH": os.environ.get("ETCD_UNSUPPORTED_ARCH", ""), **extra}


@dataclass
class Server:
    """One server process and what it needs to be started again."""

    kind: Kind
    directory: Path
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    name: str = "default"
    client_port: int = field(default_factory=free_port)
    peer_port: int = field(default_factory=free_port)
    limits: Mapping[str, int] = field(default_factory=dict)
    """Resource limits by prlimit's names (``fsize``, ``nofile``)."""
    process: subprocess.Popen[bytes] | None = None
    ready_seconds: float = 0.0
    """From the start of the process to the first healthy answer."""

    @property
    def data_dir(self) -> Path:
        return self.directory / "data.etcd"

    @property
    def log_path(self) -> Path:
        return self.directory / "log"

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.client_port}"

    @property
    def url(self) -> str:
        return f"http://{self.endpoint}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def command(self) -> list[str]:
        peer = f"http://127.0.0.1:{self.peer_port}"
        limits = [f"--{name}={value}" for name, value in self.limits.items()]
        return [
            *(["prlimit", *limits] if limits else []),
            *COMMANDS[self.kind],
            f"--name={self.name}",
            f"--data-dir={self.data_dir}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster={self.name}={peer}",
            "--logger=zap",
            *self.args,
        ]

    def spawn(self) -> None:
        """Start the process without waiting for it."""
        assert self.process is None or self.process.poll() is not None, "it runs already"
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=clean_environment(self.env),
                start_new_session=True,
            )

    def start(self, *, seconds_max: float = 30.0) -> Server:
        """Start the process and wait until it serves. Raises: RuntimeError with the log's end."""
        started = time.perf_counter()
        self.spawn()
        self.wait_ready(seconds_max=seconds_max)
        self.ready_seconds = time.perf_counter() - started
        return self

    def wait_ready(self, *, seconds_max: float = 30.0) -> None:
        end = time.monotonic() + seconds_max
        while True:
            assert self.process is not None
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.kind} ended with {self.process.returncode}:\n{self.log_tail()}")
            if self.is_healthy():
                return
            if time.monotonic() > end:
                raise RuntimeError(f"{self.kind} is not ready after {seconds_max} s:\n{self.log_tail()}")
            time.sleep(0.005)

    def is_healthy(self) -> bool:
        try:
            status, body = self.http("GET", "/health", seconds_max=1.0)
        except (OSError, http.client.HTTPException):
            return False
        return status == 200 and b'"health":"true"' in body

    def http(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] = {},
        *,
        seconds_max: float = 10.0,
    ) -> tuple[int, bytes]:
        """One HTTP/1.1 exchange: status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.client_port, timeout=seconds_max)
        try:
            connection.request(method, path, body=body, headers=dict(headers))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self, *, seconds_max: float = 20.0) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(seconds_max)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def wait(self, *, seconds_max: float = 20.0) -> int:
        """The exit status of a process that ends by itself."""
        assert self.process is not None
        return self.process.wait(seconds_max)

    def log(self) -> str:
        return self.log_path.read_text("utf-8", "replace") if self.log_path.exists() else ""

    def log_tail(self, characters: int = 4000) -> str:
        return self.log()[-characters:]

    def rss_bytes(self) -> int:
        """Resident memory now."""
        return self._status_bytes("VmRSS")

    def peak_rss_bytes(self) -> int:
        return self._status_bytes("VmHWM")

    def _status_bytes(self, name: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
        raise RuntimeError(f"no {name}")

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def etcdctl(
        self,
        *args: str,
        stdin: str | None = None,
        api: int = 3,
        check: bool = True,
        seconds_max: float = 30.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run Debian's etcdctl against this server."""
        result = subprocess.run(
            [GO_ETCDCTL, f"--endpoints={self.endpoint}", *args],
            input=stdin,
            text=True,
            capture_output=True,
            env=clean_environment({"ETCDCTL_API": str(api)}),
            timeout=seconds_max,
            check=False,
        )
        if check and result.returncode != 0:
            raise AssertionError(
                f"etcdctl {' '.join(args)}: status {result.returncode}\n{result.stdout}{result.stderr}"
            )
        return result


@contextlib.contextmanager
def serving(kind: Kind, directory: Path | None = None, *args: str, **options: object) -> Iterator[Server]:
    """A running server, killed and removed afterwards (its directory too, when it is ours)."""
    own = directory is None
    if directory is None:
        directory = Path(tempfile.mkdtemp(prefix=f"{kind}-"))
    server = Server(kind, directory, args, **options)  # type: ignore[arg-type]
    try:
        server.start()
        yield server
    finally:
        server.kill()
        if own:
            shutil.rmtree(directory, ignore_errors=True)
