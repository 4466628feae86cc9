"""Endpoints as people write them: ``host:port``, ``http://…``, ``https://…``, ``unix://…``, ``unixs://…``."""

from __future__ import annotations

from typing import NamedTuple


class Endpoint(NamedTuple):
    """Where to connect. ``port`` is -1 for a Unix socket, whose path is ``host``."""

    text: str
    scheme: str
    """``http``, ``https``, ``unix``, ``unixs`` or empty when none was written."""
    host: str
    port: int

    @property
    def wants_tls(self) -> bool | None:
        """True or False when the scheme says so, None when it leaves it open (no scheme, ``unix``)."""
        return {"http": False, "https": True, "unixs": True}.get(self.scheme)


def parse(text: str) -> Endpoint:
    """Read one endpoint. Raises ValueError when it has no port that is a number."""
    scheme, colon, rest = text.partition("://")
    if not colon:
        scheme, rest = "", text
    if not colon and text.startswith(("unix:", "unixs:")):
        scheme, _, rest = text.partition(":")
    scheme = scheme.lower()
    if scheme in ("unix", "unixs"):
        # ``unix://localhost:12345`` is a socket of that name in the working directory, as in Go.
        return Endpoint(text, scheme, rest, -1)
    if scheme not in ("", "http", "https"):
        raise ValueError(f"unsupported scheme in endpoint {text!r}")
    address = rest.partition("/")[0]
    host, colon, number = address.rpartition(":")
    if not colon or not number.isdigit() or int(number) > 65535:
        raise ValueError(f"endpoint {text!r} has no port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return Endpoint(text, scheme, host or "localhost", int(number))
