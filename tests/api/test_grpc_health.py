"""grpc.health.v1 (contract wire-v3 section 2.1)."""

from __future__ import annotations

import pytest
from tests.server.lab import Lab, simulated

from petcd.errors import Code, EtcdError
from petcd.pb.healthpb import HealthCheckRequest, HealthCheckResponse


@simulated()
async def test_check(lab: Lab) -> None:
    raw = await lab.connection.unary(b"/grpc.health.v1.Health/Check", b"")
    assert HealthCheckResponse.decode(raw).status == 1
    named = HealthCheckRequest(service="etcdserverpb.KV").encode()
    with pytest.raises(EtcdError, match="unknown service") as caught:
        await lab.connection.unary(b"/grpc.health.v1.Health/Check", named)
    assert caught.value.code == Code.NOT_FOUND


@simulated()
async def test_watch(lab: Lab) -> None:
    for service, status in (("", 1), ("etcdserverpb.KV", 3)):
        talk = lab.stream("/grpc.health.v1.Health/Watch", HealthCheckResponse)
        assert (await talk.ask(HealthCheckRequest(service=service))).status == status
        talk.raw.half_close()
        assert await talk.silent(5), "the status never changes and the stream never ends"
        talk.raw.cancel()
