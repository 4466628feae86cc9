"""TLS listeners: certificates replaced while serving, client certificates, revocation, HTTP over h2."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.net.helpers import ECHO
from tests.net.test_edge import Site, run, site

from petcd.net.grpc.client import ClientConnection, TransportFailure
from petcd.net.tls import (
    TlsConfigError,
    TlsOptions,
    client_context,
    common_name,
    openssl_ciphers,
    revocation_check,
    server_context,
)
from petcd.seams.real import RealDisk

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test ca")])
        self.name = name
        self.certificate = (
            self._builder(name, self.key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.ca_file = self._write("ca.pem", self.certificate.public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + DAY)
        )

    def _write(self, name: str, data: bytes) -> str:
        path = self.folder / name
        path.write_bytes(data)
        return str(path)

    def issue(self, common: str, stem: str) -> tuple[str, str, int]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = self._builder(subject, key).add_extension(names, critical=False)
        signed = certificate.sign(self.key, hashes.SHA256())
        cert_file = self._write(f"{stem}.crt", signed.public_bytes(serialization.Encoding.PEM))
        key_file = self._write(
            f"{stem}.key",
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )
        return cert_file, key_file, signed.serial_number

    def revoke(self, *serials: int, pem: bool) -> str:
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name)
        builder = builder.last_update(NOW - DAY).next_update(NOW + DAY)
        for serial in serials:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW).build()
            builder = builder.add_revoked_certificate(entry)
        encoding = serialization.Encoding.PEM if pem else serialization.Encoding.DER
        return self._write("ca.crl", builder.sign(self.key, hashes.SHA256()).public_bytes(encoding))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def connect(where: Site, context: ssl.SSLContext) -> ClientConnection:
    return await ClientConnection.connect(where.address, tls=context, timeout=5)


def test_call_and_replaced_certificate(authority: Authority) -> None:
    cert, key, serial = authority.issue("server", "server")

    async def test() -> None:
        server = server_context(TlsOptions(cert_file=cert, key_file=key))
        client = client_context(TlsOptions(ca_file=authority.ca_file))
        async with site(tls=server) as where:
            conn = await connect(where, client)
            assert await conn.unary(ECHO, b"x") == b"x"
            seen = conn._transport.get_extra_info("peercert")["serialNumber"]
            assert int(seen, 16) == serial
            _, _, renewed = authority.issue("server", "server")
            conn2 = await connect(where, client)
            seen = conn2._transport.get_extra_info("peercert")["serialNumber"]
            assert int(seen, 16) == renewed
            assert await conn.unary(ECHO, b"y") == b"y"
            conn.close()
            conn2.close()

    run(test)


def test_client_certificates(authority: Authority) -> None:
    cert, key, _ = authority.issue("server", "server")
    own, own_key, _ = authority.issue("root", "client")

    async def test() -> None:
        names: list[Any] = []

        def admit(transport: Any) -> None:
            names.append(common_name(transport))

        options = TlsOptions(cert_file=cert, key_file=key, ca_file=authority.ca_file)
        async with site(tls=server_context(options), admit=admit) as where:
            with pytest.raises(TransportFailure):
                await connect(where, client_context(TlsOptions(ca_file=authority.ca_file)))
            names.clear()
            given = TlsOptions(cert_file=own, key_file=own_key, ca_file=authority.ca_file)
            conn = await connect(where, client_context(given))
            assert await conn.unary(ECHO, b"x") == b"x"
            assert names == ["root"]
            conn.close()

    run(test)


@pytest.mark.parametrize("pem", [False, True])
def test_revoked(authority: Authority, pem: bool) -> None:
    cert, key, _ = authority.issue("server", "server")
    own, own_key, serial = authority.issue("root", "client")
    crl = authority.revoke(1234, pem=pem)

    async def test() -> None:
        options = TlsOptions(cert_file=cert, key_file=key, ca_file=authority.ca_file)
        given = client_context(TlsOptions(cert_file=own, key_file=own_key, ca_file=authority.ca_file))
        check = revocation_check(RealDisk(), crl)
        async with site(tls=server_context(options), admit=check) as where:
            conn = await connect(where, given)
            conn.close()
            authority.revoke(1234, serial, pem=pem)
            with pytest.raises(TransportFailure):
                await connect(where, given)
            authority._write("ca.crl", b"garbage")
            with pytest.raises(TransportFailure):
                await connect(where, given)

    run(test)


def test_http_over_h2_on_the_same_connection(authority: Authority) -> None:
    """Below TLS the content type decides: a browser's request gets the HTTP handlers (wire-v3.md 2.2)."""
    cert, key, _ = authority.issue("server", "server")

    async def test() -> None:
        server = server_context(TlsOptions(cert_file=cert, key_file=key))
        client = client_context(TlsOptions(ca_file=authority.ca_file, alpn=("h2",)))
        async with site(tls=server) as where:
            reader, writer = await asyncio.open_connection(where.address.host, where.address.port, ssl=client)
            conn = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
            conn.initiate_connection()

            async def ask(method: str, path: str, body: bytes = b"") -> tuple[dict[str, str], bytes]:
                sid = conn.get_next_available_stream_id()
                fields = [(":method", method), (":scheme", "https"), (":path", path), (":authority", "x")]
                conn.send_headers(sid, fields, end_stream=not body)
                if body:
                    conn.send_data(sid, body, end_stream=True)
                writer.write(conn.data_to_send())
                head: dict[str, str] = {}
                got = b""
                while True:
                    for event in conn.receive_data(await reader.read(65536)):
                        if isinstance(event, h2.events.ResponseReceived):
                            head = dict(event.headers)
                        elif isinstance(event, h2.events.DataReceived):
                            got += event.data
                        elif isinstance(event, h2.events.StreamEnded):
                            return head, got
                    writer.write(conn.data_to_send())

            head, got = await ask("GET", "/health")
            assert head[":status"] == "200" and got == b'{"health":"true"}'
            head, got = await ask("POST", "/echo", b"a body")
            assert got == b"a body" and head["x-method"] == "POST"
            head, got = await ask("GET", "/stream")
            assert got == b"onetwo"
            head, got = await ask("GET", "/nope")
            assert head[":status"] == "404"
            head, got = await ask("GET", "/bug")
            assert head[":status"] == "500"
            head, got = await ask("HEAD", "/health")
            assert head["content-length"] == "17" and got == b""
            writer.close()

    run(test)


def test_http1_over_tls(authority: Authority) -> None:
    cert, key, _ = authority.issue("server", "server")

    async def test() -> None:
        server = server_context(TlsOptions(cert_file=cert, key_file=key))
        client = client_context(TlsOptions(ca_file=authority.ca_file, alpn=("http/1.1",)))
        async with site(tls=server) as where:
            reader, writer = await asyncio.open_connection(where.address.host, where.address.port, ssl=client)
            writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert (await reader.read()).endswith(b'{"health":"true"}')
            writer.close()

    run(test)


def test_old_versions_are_refused(authority: Authority) -> None:
    cert, key, _ = authority.issue("server", "server")

    async def test() -> None:
        options = TlsOptions(cert_file=cert, key_file=key, version_min="TLS1.3")
        client = client_context(TlsOptions(ca_file=authority.ca_file, version_max="TLS1.2"))
        async with site(tls=server_context(options)) as where:
            with pytest.raises(TransportFailure):
                await connect(where, client)

    run(test)


class TestOptions:
    def test_both_files_or_none(self) -> None:
        with pytest.raises(TlsConfigError, match="must both be present"):
            server_context(TlsOptions(cert_file="a"))
        with pytest.raises(TlsConfigError, match="must both be present"):
            client_context(TlsOptions(key_file="a"))

    def test_missing_file(self, tmp_path: Path) -> None:
        missing = str(tmp_path / "none")
        with pytest.raises(TlsConfigError, match="cannot load"):
            server_context(TlsOptions(cert_file=missing, key_file=missing))
        with pytest.raises(TlsConfigError, match="cannot load"):
            client_context(TlsOptions(ca_file=missing))

    def test_ciphers(self) -> None:
        assert openssl_ciphers(["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]) == "ECDHE-RSA-AES128-GCM-SHA256"
        with pytest.raises(TlsConfigError, match="TLS_AES_128"):
            openssl_ciphers(["TLS_AES_128_GCM_SHA256"])

    def test_versions(self) -> None:
        with pytest.raises(TlsConfigError, match="unexpected TLS version"):
            client_context(TlsOptions(version_min="TLS9"))
        with pytest.raises(TlsConfigError, match="greater"):
            client_context(TlsOptions(version_min="TLS1.3", version_max="TLS1.2"))
