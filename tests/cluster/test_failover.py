"""The leader is killed under load; ``python -m tests.cluster.failover`` does it a hundred times."""

from __future__ import annotations

import pytest
from tests.cluster.failover import run
from tests.servers import Kind

pytestmark = pytest.mark.slow

ELECTION_SECONDS = 1.0


def test_a_new_leader_soon_and_nothing_lost(kind: Kind) -> None:
    report = run(kind, 3, seed=2)
    print(report.describe())
    assert report.wrong == []
    assert len(report.leader_seconds) == 3
    # Timeouts are drawn between one and two election timeouts, so two are the most one round can take;
    # the second round that a split vote needs is allowed for once.
    assert sorted(report.leader_seconds)[1] < 2 * ELECTION_SECONDS + 0.5, report.describe()
    assert max(report.leader_seconds) < 4 * ELECTION_SECONDS + 1, report.describe()
    assert max(report.write_seconds) < 4 * ELECTION_SECONDS + 1, report.describe()
    assert len(report.written.acknowledged) > 100
