"""What the process asks of its machine: its own address, names, the init daemon."""

from __future__ import annotations

import os
import socket
from typing import Final

from petcd.cli.etcd.checks import is_ip
from petcd.server.config import ConfigError
from petcd.server.url import Url

_ROUTES: Final = "/proc/net/route"
_SIOCGIFADDR: Final = 0x8915
_ROUTE_UP: Final = 0x1


def default_host(routes: str = _ROUTES) -> str:
    """The address of the interface that the default route leaves by. Raises OSError where there is none."""
    with open(routes, encoding="ascii") as file:
        lines = file.read().splitlines()
    for line in lines[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[1] == fields[7] == "00000000" and int(fields[3], 16) & _ROUTE_UP:
            return _interface_address(fields[0])
    raise OSError(f"no default route in {routes}")


def _interface_address(interface: str) -> str:
    import fcntl
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("256s", interface.encode()[:15])
        answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
    return socket.inet_ntoa(answer[20:24])


def resolve(url: Url) -> str:
    """A URL's text with its host name looked up, to compare by; localhost stays, as in etcd.

    Raises ConfigError.
    """
    if url.unix or url.host == "localhost" or is_ip(url.host):
        return str(url)
    try:
        found = socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigError(f"failed to resolve {url} to match --initial-cluster ({error})") from None
    address = sorted(str(entry[4][0]) for entry in found)[0]
    return f"{url.scheme}://{address}:{url.port}"


def notify(state: str) -> bool:
    """One datagram to systemd; False when nobody asked for it. Raises OSError."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return False
    if path[0] == "@":
        path = "\0" + path[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.connect(path)
        channel.sendall(state.encode())
    return True
