"""Watches and leases when something fails that is no answer of a server."""

from __future__ import annotations

import asyncio
from typing import NoReturn

import pytest
from tests.client.stub import Stub
from tests.servers import free_port

from petcd.client import Client, LeaseLost, Tls, TransportFailure
from petcd.pb.etcdserverpb import lease as lease_pb

GRANTED = lease_pb.LeaseGrantResponse(ID=7, TTL=60)


@pytest.mark.parametrize(
    ("host", "tls", "reason"),
    [
        ("https://127.0.0.1", Tls(ca="/nowhere.pem"), "cannot load"),
        ("https://127.0.0.1", Tls(cert="/nowhere.pem"), "must both be present"),
        ("http://" + "x" * 70 + ".test", None, "label"),
    ],
)
def test_what_prevents_dialling_is_a_transport_failure(host: str, tls: Tls | None, reason: str) -> None:
    async def main() -> None:
        async with Client(f"{host}:{free_port()}", tls=tls, timeout=0.2) as client:
            with pytest.raises(TransportFailure, match=reason):
                await client.get("k")

    asyncio.run(main())


def test_an_error_that_nobody_foresaw_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("no such thing")

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: None)
        async with Stub({"LeaseGrant": [GRANTED]}).serving() as stub, Client(stub.endpoint) as client:
            monkeypatch.setattr(client._pool, "open", broken)
            async with asyncio.timeout(5):
                with pytest.raises(TransportFailure, match="no such thing") as caught:
                    await client.watch("k").__aenter__()
                assert isinstance(caught.value.__cause__, RuntimeError)
                async with client.lease(60, revoke=False) as lease:
                    await lease.lost.wait()
                    with pytest.raises(LeaseLost):
                        lease.check()

    asyncio.run(main())
