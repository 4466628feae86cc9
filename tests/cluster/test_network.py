"""The network of namespaces itself: addresses, one-way cuts, and nothing left behind."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cluster.network import CLIENTS, Network, address_of
from tests.servers import Kind

RECEIVER = """
import socket
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.bind(("0.0.0.0", 7))
print("ready", flush=True)
while True:
    print(receiver.recv(100).decode(), flush=True)
"""


@pytest.fixture(scope="module")
def network(kind: Kind) -> Iterator[Network]:
    made = Network(2)
    yield made
    made.close()
    assert not list(Path("/run/netns").glob(f"{made.name}-*"))


@contextlib.contextmanager
def receiver(network: Network, host: int) -> Iterator[subprocess.Popen[str]]:
    command = network.command(host, [sys.executable, "-c", RECEIVER])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


SENDER = """
import socket, sys
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(sys.argv[2].encode(), (sys.argv[1], 7))
"""


def send(network: Network, sender: int, to: int, text: str) -> None:
    command = [sys.executable, "-c", SENDER, address_of(to), text]
    subprocess.run(network.command(sender, command), check=True, timeout=10)


def test_a_cut_is_silent_one_way_and_can_be_healed(network: Network) -> None:
    with receiver(network, 1) as one, receiver(network, 2) as two:
        assert one.stdout is not None
        assert two.stdout is not None
        network.cut_one_way([1], [2])
        send(network, 1, 2, "lost")
        send(network, 2, 1, "there")
        assert one.stdout.readline() == "there\n"
        send(network, CLIENTS, 2, "from a client")
        assert two.stdout.readline() == "from a client\n"
        network.heal()
        send(network, 1, 2, "after")
        assert two.stdout.readline() == "after\n"


def test_an_isolated_host_can_be_cut_off_from_clients_too(network: Network) -> None:
    with receiver(network, 2) as two:
        assert two.stdout is not None
        network.isolate(2, from_clients=True)
        send(network, CLIENTS, 2, "lost")
        send(network, 1, 2, "lost")
        network.heal()
        send(network, 1, 2, "there")
        assert two.stdout.readline() == "there\n"


def test_the_clients_address_is_entered_and_left(network: Network) -> None:
    def addresses() -> str:
        return subprocess.run(["ip", "-4", "address"], capture_output=True, text=True, check=True).stdout

    outside = addresses()
    with network.entered():
        assert address_of(CLIENTS) in addresses()
        with socket.socket() as probe:
            probe.settimeout(5)
            started = time.monotonic()
            with pytest.raises(ConnectionRefusedError):
                probe.connect((address_of(1), 9))
            assert time.monotonic() - started < 1
    assert addresses() == outside
