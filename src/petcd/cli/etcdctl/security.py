"""The TLS context that the certificate flags ask for, and Go's words for what is wrong (contract cli 2.8)."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from petcd.cli.etcdctl.commands import BAD_ARGS, Exit

_CERTIFICATE: Final = "-----BEGIN CERTIFICATE-----"
_SWITCHED: Final = "PEM inputs may have been switched"
_KEY_ENDS: Final = "PRIVATE KEY-----"


def client_context(cert: str, key: str, ca: str, *, skip_verify: bool, alpn: str = "h2") -> ssl.SSLContext:
    """A context from files of PEM; empty names leave a part out. Raises Exit."""
    if bool(cert) != bool(key):
        raise Exit(BAD_ARGS, f"KeyFile and CertFile must both be present[key: {key}, cert: {cert}]")
    texts = {name: _read(name) for name in (cert, key, ca) if name}
    if cert:
        _check_pair(texts[cert], texts[key])
    try:
        context = ssl.create_default_context(cafile=ca or None)
        if cert:
            context.load_cert_chain(cert, key)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise Exit(BAD_ARGS, "tls: private key does not match public key") from None
        raise Exit(BAD_ARGS, f"tls: {error}") from None
    context.set_alpn_protocols([alpn])
    if skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _read(name: str) -> str:
    try:
        return Path(name).read_text("latin-1")
    except OSError as error:
        raise Exit(BAD_ARGS, f"open {name}: {(error.strerror or '').lower()}") from None


def _check_pair(cert: str, key: str) -> None:
    """What Go says of files that hold no such thing, or each other's."""
    if _CERTIFICATE not in cert:
        if _KEY_ENDS in cert:
            text = "certificate PEM data in certificate input, but did find a private key; " + _SWITCHED
        elif "-----BEGIN " in cert:
            text = "certificate PEM data in certificate input"
        else:
            text = "any PEM data in certificate input"
        raise Exit(BAD_ARGS, f"tls: failed to find {text}")
    if _KEY_ENDS not in key:
        if _CERTIFICATE in key:
            raise Exit(BAD_ARGS, "tls: found a certificate rather than a key in the PEM for the private key")
        raise Exit(BAD_ARGS, "tls: failed to find any PEM data in key input")
