"""These tests need root and a kernel with network namespaces; elsewhere they are skipped, and say so.

``PETCD_CLUSTER_KIND=go`` runs them against Go etcd, which shows that they ask for nothing of our own.
"""

from __future__ import annotations

import os
from typing import cast

import pytest
from tests.cluster.network import missing
from tests.servers import HAS_GO_ETCDCTL, Kind

KIND = cast("Kind", os.environ.get("PETCD_CLUSTER_KIND", "petcd"))


@pytest.fixture(scope="session")
def kind() -> Kind:
    """The kind of the members, where clusters can be made and asked."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    if not HAS_GO_ETCDCTL:
        pytest.skip("Go etcdctl is not installed (Debian: etcd-client; .ci/run installs it)")
    return KIND
