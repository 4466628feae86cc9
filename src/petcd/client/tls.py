"""TLS as the client's user gives it: files and choices, read again for every new connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True, slots=True)
class Tls:
    """How to speak TLS. All are paths of PEM files but the last two; "" means not given.

    The files are read for each new connection, so certificates may be replaced while the client runs.
    """

    ca: str = ""
    """Who may sign the server's certificate; the system's authorities when not given."""
    cert: str = ""
    """Our own certificate, for servers that want one; only together with ``key``."""
    key: str = ""
    server_name: str = ""
    """The name the server's certificate must carry, when it is not the endpoint's host."""
    insecure: bool = False
    """Take any certificate. Whoever stands between can then read and change everything."""

    def context(self) -> ssl.SSLContext:
        """Raises ``petcd.net.tls.TlsConfigError`` for files that cannot be used."""
        from petcd.net.tls import TlsOptions, client_context  # late: most clients use no TLS

        return client_context(
            TlsOptions(cert_file=self.cert, key_file=self.key, ca_file=self.ca, alpn=("h2",)),
            insecure_skip_verify=self.insecure,
        )
