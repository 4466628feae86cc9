"""TLS options of the client, against Go etcd: petcd does not serve TLS yet."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.net.test_tls import Authority
from tests.servers import free_port, needs_go_etcd, serving

from petcd.client import Client, Tls, TransportFailure

pytestmark = [pytest.mark.go, needs_go_etcd]


@dataclass
class Site:
    """A server that wants certificates of its own authority."""

    endpoint: str
    ca: str
    cert: str
    key: str
    other_ca: str


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder)
    (folder / "other").mkdir()
    cert, key, _ = authority.issue("localhost", "server")
    ours, our_key, _ = authority.issue("somebody", "client")
    plain, secure = free_port(), free_port()
    arguments = [
        f"--listen-client-urls=http://127.0.0.1:{plain},https://127.0.0.1:{secure}",
        f"--cert-file={cert}",
        f"--key-file={key}",
        f"--trusted-ca-file={authority.ca_file}",
        "--client-cert-auth",
    ]
    with serving("go", None, *arguments, client_port=plain):
        other = Authority(folder / "other").ca_file
        yield Site(f"127.0.0.1:{secure}", authority.ca_file, ours, our_key, other)


async def reads(endpoint: str, tls: Tls | ssl.SSLContext | None) -> int:
    async with Client(endpoint, timeout=1.5, tls=tls) as client:
        return (await client.get("tls")).count


def test_certificates_of_both_sides(site: Site) -> None:
    ours = Tls(ca=site.ca, cert=site.cert, key=site.key)
    assert asyncio.run(reads(site.endpoint, ours)) == 0
    assert asyncio.run(reads(f"https://{site.endpoint}", ours)) == 0
    assert asyncio.run(reads(site.endpoint, ours.context())) == 0


def test_any_certificate_where_that_is_wanted(site: Site) -> None:
    assert asyncio.run(reads(site.endpoint, Tls(cert=site.cert, key=site.key, insecure=True))) == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ca": ""}, "certificate verify failed"),
        ({"server_name": "elsewhere.test"}, "Hostname mismatch"),
        # TLS 1.3 tells of a missing certificate only after the handshake.
        ({"cert": "", "key": ""}, "certificate required|connection lost|closed by the server|handshake"),
    ],
)
def test_what_does_not_fit_is_told(site: Site, change: dict[str, str], reason: str) -> None:
    options = {"ca": site.ca, "cert": site.cert, "key": site.key} | change
    with pytest.raises(TransportFailure, match=reason):
        asyncio.run(reads(site.endpoint, Tls(**options)))  # type: ignore[arg-type]


def test_https_alone_trusts_the_systems_authorities(site: Site) -> None:
    with pytest.raises(TransportFailure, match="certificate verify failed"):
        asyncio.run(reads(f"https://{site.endpoint}", None))


def test_files_are_read_for_each_connection(site: Site, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    shutil.copy(site.other_ca, ca)

    async def main() -> None:
        tls = Tls(ca=str(ca), cert=site.cert, key=site.key)
        async with Client(site.endpoint, timeout=1.5, tls=tls) as client:
            with pytest.raises(TransportFailure):
                await client.get("tls")
            await asyncio.to_thread(shutil.copy, site.ca, ca)
            assert (await client.get("tls")).count == 0

    asyncio.run(main())


def test_files_that_are_not_there(site: Site) -> None:
    with pytest.raises(TransportFailure, match="cannot load"):
        asyncio.run(reads(site.endpoint, Tls(ca="/nowhere.pem")))
    with pytest.raises(TransportFailure, match="must both be present"):
        asyncio.run(reads(site.endpoint, Tls(ca=site.ca, cert=site.cert)))
