"""A cluster of real processes, each on a host of its own, configured by ``ETCD_*`` variables as in etcd.conf.

``go`` is Go etcd, ``petcd`` is ours; everything else is the same for both.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.network import Network, address_of
from tests.servers import COMMANDS, GO_ETCDCTL, Kind, clean_environment

NOT_YET = (
    "etcdserver: unhealthy cluster",
    "etcdserver: re-configuration failed due to not enough started members",
    "etcdserver: can only promote a learner member which is in sync with leader",
    "etcdserver: leader changed",
)
"""Refusals of a change of membership that end when the cluster has settled."""

CLIENT_PORT = 2379
PEER_PORT = 2380


def wait_for(
    what: str, condition: Callable[[], Any], *, seconds_max: float = 20.0, pause: float = 0.02
) -> Any:
    """The first true value of ``condition``. Raises: TimeoutError naming what did not come."""
    end = time.monotonic() + seconds_max
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds_max} s")
        time.sleep(pause)


@dataclass
class Member:
    """One host of the cluster: its process, directory and environment."""

    kind: Kind
    host: int
    directory: Path
    network: Network
    env: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    paused: bool = False
    mounted: bool = False
    """The data directory is a file system of its own."""

    @property
    def name(self) -> str:
        return f"m{self.host}"

    @property
    def endpoint(self) -> str:
        return f"{address_of(self.host)}:{CLIENT_PORT}"

    @property
    def client_url(self) -> str:
        return f"http://{self.endpoint}"

    @property
    def peer_url(self) -> str:
        return f"http://{address_of(self.host)}:{PEER_PORT}"

    @property
    def data_dir(self) -> Path:
        return self.directory / "data"

    @property
    def log_path(self) -> Path:
        return self.directory / "log"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process; does not wait for it to serve."""
        assert not self.running, f"{self.name} runs already"
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self.started_at = time.monotonic()
            self.process = subprocess.Popen(
                self.network.command(self.host, COMMANDS[self.kind]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=clean_environment(self.env),
                start_new_session=True,
            )

    def log(self) -> str:
        return self.log_path.read_text("utf-8", "replace") if self.log_path.exists() else ""

    def log_tail(self, characters: int = 3000) -> str:
        return self.log()[-characters:]

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.paused = False

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        self.signal(signal.SIGCONT)
        self.paused = False

    def stop(self, *, seconds_max: float = 20.0) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(seconds_max)

    def health(self, *, seconds_max: float = 1.0) -> bool:
        """Its own answer, which takes a linearizable read."""
        connection = http.client.HTTPConnection(address_of(self.host), CLIENT_PORT, timeout=seconds_max)
        try:
            connection.request("GET", "/health")
            response = connection.getresponse()
            return response.status == 200 and b'"health":"true"' in response.read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    # Disks.

    def mount_small_disk(self, size_bytes: int) -> None:
        """Put the data directory onto a file system of this size."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=700", "petcd-test", str(self.data_dir)],
            check=True,
            capture_output=True,
        )
        self.mounted = True

    def fill_disk(self) -> None:
        """Take all room that is left on the small disk."""
        assert self.mounted
        block = bytes(1 << 16)
        with (self.data_dir / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while filler.write(block):
                pass

    def free_disk(self) -> None:
        (self.data_dir / "filler").unlink()

    @contextlib.contextmanager
    def slow_syncs(self, seconds: float) -> Iterator[None]:
        """Every sync of this process to its disk takes this long. Needs strace."""
        calls = "fdatasync,fsync,msync"
        tracer = subprocess.Popen(
            [
                "strace",
                "-f",
                "-p",
                str(self.pid),
                "-o",
                os.devnull,
                f"--trace={calls}",
                f"--inject={calls}:delay_enter={int(seconds * 1e6)}",
            ],
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        try:
            assert tracer.stderr is not None
            tracer.stderr.readline()  # "Process … attached"
            yield
        finally:
            tracer.send_signal(signal.SIGINT)
            try:
                tracer.wait(10)
            except subprocess.TimeoutExpired:
                tracer.kill()
                tracer.wait()
            assert tracer.stderr is not None
            tracer.stderr.close()


HAS_STRACE = shutil.which("strace") is not None


class Cluster:
    """Members 1 to n on hosts 1 to n."""

    def __init__(
        self,
        kind: Kind,
        size: int,
        *,
        directory: Path | None = None,
        env: Mapping[str, str] = {},
        network: Network | None = None,
    ) -> None:
        self.kind = kind
        self.env = dict(env)
        self.directory = directory or Path(tempfile.mkdtemp(prefix=f"cluster-{kind}-"))
        self._own_directory = directory is None
        self.network = network or Network(size)
        self.members: dict[int, Member] = {}
        self.removed: list[Member] = []
        for host in range(1, size + 1):
            self._member(host)
        initial = ",".join(f"{m.name}={m.peer_url}" for m in self.members.values())
        for member in self.members.values():
            self._configure(member, initial, "new")

    def _member(self, host: int) -> Member:
        member = Member(self.kind, host, self.directory / f"m{host}", self.network)
        self.members[host] = member
        return member

    def _configure(self, member: Member, initial: str, state: str) -> None:
        """What an administrator writes into this host's etcd.conf."""
        member.env = {
            "ETCD_NAME": member.name,
            "ETCD_DATA_DIR": str(member.data_dir),
            "ETCD_LISTEN_PEER_URLS": member.peer_url,
            "ETCD_LISTEN_CLIENT_URLS": member.client_url,
            "ETCD_INITIAL_ADVERTISE_PEER_URLS": member.peer_url,
            "ETCD_ADVERTISE_CLIENT_URLS": member.client_url,
            "ETCD_INITIAL_CLUSTER": initial,
            "ETCD_INITIAL_CLUSTER_STATE": state,
            "ETCD_INITIAL_CLUSTER_TOKEN": "test-cluster",
            **({"ETCD_LOGGER": "zap"} if self.kind == "go" else {}),
            **self.env,
        }

    def __getitem__(self, host: int) -> Member:
        return self.members[host]

    @property
    def endpoints(self) -> list[str]:
        return [member.endpoint for member in self.members.values()]

    @property
    def running(self) -> list[Member]:
        return [m for m in self.members.values() if m.running and not m.paused]

    def start(self, *, seconds_max: float = 30.0) -> Cluster:
        """Start all members at once and wait until each of them serves."""
        for member in self.members.values():
            member.start()
        self.wait_healthy(seconds_max=seconds_max)
        return self

    def wait_healthy(self, *hosts: int, seconds_max: float = 30.0) -> None:
        """Wait until these members (all, if none is named) answer that they are healthy."""
        for host in hosts or self.members:
            member = self.members[host]

            def healthy(member: Member = member) -> bool:
                if not member.running:
                    raise RuntimeError(f"{member.name} has ended:\n{member.log_tail()}")
                return member.health()

            try:
                wait_for(f"{member.name} healthy", healthy, seconds_max=seconds_max)
            except TimeoutError as error:
                raise TimeoutError(f"{error}\n{member.log_tail()}") from None

    # What etcdctl says.

    def etcdctl(
        self, *args: str, via: int | None = None, check: bool = True, seconds_max: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Debian's etcdctl at the clients' address; ``via`` one member or all that run."""
        hosts = [self.members[via]] if via else self.running
        result = subprocess.run(
            [GO_ETCDCTL, "--endpoints", ",".join(m.endpoint for m in hosts), *args],
            text=True,
            capture_output=True,
            env=clean_environment({"ETCDCTL_API": "3"}),
            timeout=seconds_max,
            check=False,
        )
        if check and result.returncode != 0:
            raise AssertionError(
                f"etcdctl {' '.join(args)}: status {result.returncode}\n{result.stdout}{result.stderr}"
            )
        return result

    def status(self, host: int, *, seconds_max: float = 2.0) -> dict[str, Any] | None:
        """``endpoint status`` over the gateway; None when there is no answer."""
        connection = http.client.HTTPConnection(address_of(host), CLIENT_PORT, timeout=seconds_max)
        try:
            connection.request("POST", "/v3/maintenance/status", body=b"{}")
            response = connection.getresponse()
            body = response.read()
            return json.loads(body) if response.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def leader_seen_by(self, host: int) -> int:
        """The member id of the leader as this member sees it; 0 for none."""
        status = self.status(host)
        return int(status.get("leader", 0)) if status else 0

    def leader(self, *, other_than: int = 0, seconds_max: float = 20.0) -> int:
        """The host of the leader, once a running member that is it says so."""

        def find() -> int:
            for member in self.running:
                status = self.status(member.host)
                if status and member.host != other_than:
                    own = status.get("header", {}).get("member_id")
                    if own and own == status.get("leader"):
                        return member.host
            return 0

        found: int = wait_for("a leader", find, seconds_max=seconds_max)
        return found

    def follower(self) -> int:
        """The host of some running member that is not the leader."""
        leader = self.leader()
        return next(m.host for m in self.running if m.host != leader)

    def member_id(self, host: int) -> int:
        status = wait_for(f"status of m{host}", lambda: self.status(host))
        return int(status["header"]["member_id"])

    # Membership.

    def reconfigure(self, *args: str, via: int | None = None, seconds_max: float = 30.0) -> str:
        """A change of membership, tried again while the leader has not been connected to all for long enough.

        Refusals of that kind last for 5 s after any member was away; other errors fail at once.
        """

        def attempt() -> str:
            result = self.etcdctl(*args, via=via, check=False)
            if result.returncode != 0 and not any(text in result.stderr for text in NOT_YET):
                raise AssertionError(f"etcdctl {' '.join(args)}: {result.stdout}{result.stderr}")
            return result.stdout if result.returncode == 0 else ""

        printed: str = wait_for(" ".join(args), attempt, seconds_max=seconds_max, pause=0.3)
        return printed

    def add(self, *, learner: bool = False, env: Mapping[str, str] = {}) -> Member:
        """Add a host to the cluster by ``member add`` and prepare it; the caller starts it."""
        host = max([*self.members, *(m.host for m in self.removed)]) + 1
        if host not in self.network.hosts:
            self.network.add_host(host)
        member = Member(self.kind, host, self.directory / f"m{host}", self.network)
        args = ["member", "add", member.name, f"--peer-urls={member.peer_url}"]
        printed = self.reconfigure(*args, *(["--learner"] if learner else []))
        settings = dict(line.split("=", 1) for line in printed.splitlines() if line.startswith("ETCD_"))
        self.members[host] = member
        self._configure(
            member,
            settings["ETCD_INITIAL_CLUSTER"].strip('"'),
            settings["ETCD_INITIAL_CLUSTER_STATE"].strip('"'),
        )
        member.env.update(env)
        return member

    def remove(self, host: int) -> None:
        """``member remove``, and forget the host; its process ends by itself or is killed."""
        member_id = self.member_id(host)
        others = [m.host for m in self.running if m.host != host]
        self.reconfigure("member", "remove", f"{member_id:x}", via=others[0])
        member = self.members.pop(host)
        self.removed.append(member)
        with contextlib.suppress(subprocess.TimeoutExpired):
            if member.process is not None:
                member.process.wait(5)
        member.kill()

    def close(self) -> None:
        everyone = [*self.members.values(), *self.removed]
        for member in everyone:
            member.kill()
        self.network.close()
        for member in everyone:
            if member.mounted:
                subprocess.run(["umount", "--lazy", str(member.data_dir)], check=False, capture_output=True)
        if self._own_directory and not os.environ.get("PETCD_KEEP_CLUSTER"):
            shutil.rmtree(self.directory, ignore_errors=True)


@contextlib.contextmanager
def cluster(kind: Kind, size: int = 3, *, started: bool = True, **options: Any) -> Iterator[Cluster]:
    """A cluster, with this thread at its clients' address; everything is gone afterwards."""
    made = Cluster(kind, size, **options)
    try:
        with made.network.entered():
            if started:
                made.start()
            yield made
    finally:
        made.close()
