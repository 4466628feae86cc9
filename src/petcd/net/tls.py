"""TLS contexts from certificate, key, CA and CRL files, with etcd's rules (config-metrics.md 8.2).

A server's certificate is read again for every handshake, so files can be replaced without a restart:
OpenSSL calls back before it picks the certificate, and gets a context made then. A revocation list is, as
in etcd, only a set of serial numbers: neither its signature nor its dates nor the issuer are looked at.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from petcd.seams.disk import Disk


class TlsConfigError(Exception):
    """The files or options cannot make a context; the text says which."""


_VERSIONS: Final = {
    "": None,
    "TLS1.2": ssl.TLSVersion.TLSv1_2,
    "TLS1.3": ssl.TLSVersion.TLSv1_3,
}

_CIPHERS: Final = {
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256": "AES128-SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": "ECDHE-ECDSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": "ECDHE-RSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
}
"""Go's names; the suites of TLS 1.3 cannot be chosen, and those OpenSSL has dropped (RC4, 3DES) are not
offered."""

ALPN: Final = ["h2", "http/1.1"]


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """One side's files and choices; "" means not given."""

    cert_file: str = ""
    key_file: str = ""
    ca_file: str = ""
    crl_file: str = ""
    client_cert_auth: bool = False
    cipher_suites: tuple[str, ...] = ()
    version_min: str = "TLS1.2"
    version_max: str = ""
    alpn: tuple[str, ...] = tuple(ALPN)


def server_context(options: TlsOptions) -> ssl.SSLContext:
    """A context that makes itself anew for each handshake. Raises TlsConfigError for what is wrong now."""
    if not options.cert_file or not options.key_file:
        raise TlsConfigError(
            f"KeyFile and CertFile must both be present[key: {options.key_file}, cert: {options.cert_file}]"
        )
    context = _server_context(options)

    def renew(connection: Any, _name: str | None, _context: ssl.SSLContext) -> int | None:
        try:
            connection.context = _server_context(options)
        except TlsConfigError:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        return None

    context.sni_callback = renew
    return context


def _server_context(options: TlsOptions) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _configure(context, options)
    # Either asks for client certificates (8.2); without a CA of its own, the system's roots judge them.
    if options.ca_file or options.client_cert_auth:
        context.verify_mode = ssl.CERT_REQUIRED
        _load_ca(context, options)
    return context


def client_context(
    options: TlsOptions, *, insecure_skip_verify: bool = False, check_hostname: bool = True
) -> ssl.SSLContext:
    """A client's context; certificate and key are optional, but only together."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = check_hostname and not insecure_skip_verify
    if insecure_skip_verify:
        context.verify_mode = ssl.CERT_NONE
    else:
        _load_ca(context, options)
    if bool(options.cert_file) != bool(options.key_file):
        raise TlsConfigError(
            f"KeyFile and CertFile must both be present[key: {options.key_file}, cert: {options.cert_file}]"
        )
    _configure(context, options)
    return context


def _configure(context: ssl.SSLContext, options: TlsOptions) -> None:
    try:
        low, high = _VERSIONS[options.version_min], _VERSIONS[options.version_max]
    except KeyError as error:
        raise TlsConfigError(f"unexpected TLS version {error.args[0]!r}") from None
    if low is not None and high is not None and high < low:
        raise TlsConfigError("min version can't be greater than max version")
    context.minimum_version = low if low is not None else ssl.TLSVersion.TLSv1_2
    if high is not None:
        context.maximum_version = high
    if options.cipher_suites:
        context.set_ciphers(openssl_ciphers(options.cipher_suites))
    context.set_alpn_protocols(list(options.alpn))
    if options.cert_file:
        try:
            context.load_cert_chain(options.cert_file, options.key_file)
        except (OSError, ssl.SSLError) as error:
            raise TlsConfigError(f"cannot load {options.cert_file}, {options.key_file}: {error}") from error


def _load_ca(context: ssl.SSLContext, options: TlsOptions) -> None:
    if not options.ca_file:
        context.load_default_certs()
        return
    try:
        context.load_verify_locations(options.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise TlsConfigError(f"cannot load {options.ca_file}: {error}") from error


def openssl_ciphers(names: Sequence[str]) -> str:
    """Go's suite names as OpenSSL's list. Raises TlsConfigError for one it does not know."""
    out = []
    for name in names:
        known = _CIPHERS.get(name)
        if known is None:
            raise TlsConfigError(f"unexpected TLS cipher suite {name!r}")
        out.append(known)
    return ":".join(out)


def revocation_check(disk: Disk, crl_file: str) -> Callable[[Any], str | None]:
    """A check of a connection's certificate against the list in ``crl_file``, read anew each time.

    It takes a transport and returns the reason to refuse it, or None.
    """

    def check(transport: Any) -> str | None:
        from cryptography import x509  # late: 30 ms that only listeners with a list should pay

        der = _peer_certificate(transport)
        if der is None:
            return None
        serial = x509.load_der_x509_certificate(der).serial_number
        try:
            raw = disk.read(crl_file)
            load = x509.load_pem_x509_crl if raw.lstrip()[:5] == b"-----" else x509.load_der_x509_crl
            revoked = load(raw).get_revoked_certificate_by_serial_number(serial)
        except (OSError, ValueError) as error:
            return f"cannot read the revocation list {crl_file}: {error}"
        return f"transport: certificate serial {serial:x} revoked" if revoked is not None else None

    return check


def _peer_certificate(transport: Any) -> bytes | None:
    connection = transport.get_extra_info("ssl_object")
    der: bytes | None = connection.getpeercert(binary_form=True) if connection is not None else None
    return der


def common_name(transport: Any) -> str | None:
    """The CommonName of the verified client certificate, None without one."""
    certificate = transport.get_extra_info("peercert")
    if not certificate:
        return None
    for rdn in certificate.get("subject", ()):
        for key, value in rdn:
            if key == "commonName":
                return str(value)
    return None
