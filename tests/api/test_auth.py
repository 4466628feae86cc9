"""Authentication is off, and says so."""

from __future__ import annotations

import pytest
from tests.server.lab import Lab, simulated

from petcd import errors
from petcd.errors import EtcdError
from petcd.pb import etcdserverpb as pb


@simulated()
async def test_auth_is_off(lab: Lab) -> None:
    await lab.put(b"a")
    status = await lab.call(pb.AuthStatusRequest())
    assert (status.enabled, status.authRevision, status.header.revision) == (False, 1, 2)
    expected = int(errors.AuthNotEnabled.code), errors.AuthNotEnabled.text
    assert await lab.refused(pb.AuthenticateRequest(name="root", password="x")) == expected
    with pytest.raises(EtcdError, match="unknown method UserAdd for service"):
        await lab.connection.unary(b"/etcdserverpb.Auth/UserAdd", b"")
