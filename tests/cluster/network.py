"""A network of hosts on one machine: a namespace with an address of its own for each, joined by a bridge.

Nothing of it touches the machine's own network. The bridge lives in a namespace too, which is where clients
run (``entered``), and no namespace has a way out: what is sent to an address that is not there goes nowhere.

Every host knows every other's hardware address from the start, so cutting one direction of a link is one
changed entry in the sender's neighbour table: packets leave and reach nobody, silently, as on a broken wire.
That needs neither iptables nor tc, which many kernels lack.

Namespaces of a process that died without removing them are removed, with what runs in them, when the next
network is made.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

PREFIX = "petcd-test"
SUBNET = "10.99.0"
CLIENTS = 254
"""The host number of the bridge's own address, where clients are."""

_NOBODY = "02:00:00:00:ff:ff"
_CLONE_NEWNET = 0x40000000
_numbers = itertools.count(1)


def missing() -> str:
    """Why networks cannot be made here; empty when they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for tool in ("ip", "nsenter"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed (Debian: iproute2, util-linux)"
    name = f"{PREFIX}-{os.getpid()}-probe"
    made = _quiet("ip", "netns", "add", name)
    bridge = made == 0 and _quiet("ip", "-n", name, "link", "add", "probe", "type", "bridge") == 0
    _quiet("ip", "netns", "del", name)
    return "" if bridge else "the kernel refuses network namespaces or bridges"


def _quiet(*command: str) -> int:
    return subprocess.run(command, capture_output=True, check=False).returncode


def _ip(lines: Iterable[str], namespace: str = "") -> None:
    """Several commands of ip(8) in one process."""
    where = ["-n", namespace] if namespace else []
    result = subprocess.run(
        ["ip", *where, "-batch", "-"],
        input="\n".join(lines) + "\n",
        text=True,
        capture_output=True,
        check=False,
    )
    if result.returncode != 0:
        raise RuntimeError(f"ip: {result.stderr}")


def _hardware(host: int) -> str:
    return f"02:00:00:00:00:{host:02x}"


def address_of(host: int) -> str:
    return f"{SUBNET}.{host}"


def remove_stale() -> None:
    """Remove what tests that were killed have left behind."""
    for path in Path("/run/netns").glob(f"{PREFIX}-*"):
        owner = int(path.name.split("-")[2])
        if not Path(f"/proc/{owner}").exists():
            _remove(path.name)


def _remove(namespace: str) -> None:
    result = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False)
    for pid in result.stdout.split():
        if int(pid) != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    _quiet("ip", "netns", "del", namespace)


def _enter(descriptor: int) -> None:
    """Move this thread into a network namespace; threads and processes it starts from now on follow."""
    if hasattr(os, "setns"):
        os.setns(descriptor, _CLONE_NEWNET)
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Network:
    """Hosts 1 to n at 10.99.0.1 to 10.99.0.n, and the clients at 10.99.0.254."""

    def __init__(self, hosts: int) -> None:
        remove_stale()
        self.name = f"{PREFIX}-{os.getpid()}-{next(_numbers)}"
        self.hosts: list[int] = []
        self._cut: set[tuple[int, int]] = set()
        self._namespaces: list[str] = []
        atexit.register(self.close)
        try:
            self._add_namespace(self.hub)
            _ip(
                [
                    "link set lo up",
                    f"link add br0 address {_hardware(CLIENTS)} type bridge stp_state 0",
                    f"address add {address_of(CLIENTS)}/24 dev br0",
                    "link set br0 up",
                ],
                self.hub,
            )
            for host in range(1, hosts + 1):
                self.add_host(host)
        except BaseException:
            self.close()
            raise

    @property
    def hub(self) -> str:
        return f"{self.name}-hub"

    def namespace(self, host: int) -> str:
        return self.hub if host == CLIENTS else f"{self.name}-h{host}"

    def _add_namespace(self, name: str) -> None:
        _ip([f"netns add {name}"])
        self._namespaces.append(name)

    def add_host(self, host: int) -> None:
        """One more host on the bridge."""
        name = self.namespace(host)
        self._add_namespace(name)
        _ip(
            [
                f"link add port{host} type veth peer name eth0 address {_hardware(host)} netns {name}",
                f"link set port{host} master br0 up",
            ],
            self.hub,
        )
        _ip(
            [
                "link set lo up",
                f"address add {address_of(host)}/24 dev eth0",
                "link set eth0 up",
                *(self._neighbour(other) for other in [*self.hosts, CLIENTS]),
            ],
            name,
        )
        for other in [*self.hosts, CLIENTS]:
            _ip([self._neighbour(host, at=other)], self.namespace(other))
        self.hosts.append(host)

    def _neighbour(self, host: int, *, at: int = 0, cut: bool = False) -> str:
        device = "br0" if at == CLIENTS else "eth0"
        hardware = _NOBODY if cut else _hardware(host)
        return f"neigh replace {address_of(host)} lladdr {hardware} dev {device} nud permanent"

    # Faults.

    def _set(self, pairs: Iterable[tuple[int, int]], *, cut: bool) -> None:
        by_sender: dict[int, list[str]] = {}
        for sender, receiver in pairs:
            if cut != ((sender, receiver) in self._cut):
                by_sender.setdefault(sender, []).append(self._neighbour(receiver, at=sender, cut=cut))
                (self._cut.add if cut else self._cut.discard)((sender, receiver))
        for sender, lines in by_sender.items():
            _ip(lines, self.namespace(sender))

    def cut_one_way(self, senders: Iterable[int], receivers: Iterable[int]) -> None:
        """What ``senders`` send to ``receivers`` is lost; the other direction still works."""
        receivers = list(receivers)
        self._set([(a, b) for a in senders for b in receivers if a != b], cut=True)

    def cut(self, one: Iterable[int], other: Iterable[int]) -> None:
        """Nothing passes between the two groups."""
        one, other = list(one), list(other)
        self.cut_one_way(one, other)
        self.cut_one_way(other, one)

    def isolate(self, host: int, *, from_clients: bool = False) -> None:
        """A host without the other hosts; clients still reach it unless told."""
        self.cut(
            [host], [*(other for other in self.hosts if other != host), *([CLIENTS] if from_clients else [])]
        )

    def heal(self) -> None:
        """Every link works again."""
        self._set(list(self._cut), cut=False)

    # Programs.

    def command(self, host: int, command: Sequence[str]) -> list[str]:
        """The command that runs ``command`` on a host; it keeps its process id."""
        return ["nsenter", f"--net=/run/netns/{self.namespace(host)}", *command]

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread's sockets, and its child processes, are at the clients' address meanwhile."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        hub = os.open(f"/run/netns/{self.hub}", os.O_RDONLY)
        try:
            _enter(hub)
            try:
                yield
            finally:
                _enter(home)
        finally:
            os.close(hub)
            os.close(home)

    def close(self) -> None:
        """Remove all namespaces, and end what still runs in them."""
        atexit.unregister(self.close)
        for name in reversed(self._namespaces):
            _remove(name)
        self._namespaces.clear()
