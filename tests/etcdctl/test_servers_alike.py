"""The differential cases the other way round: one tool, ours, against Go etcd and against petcd."""

from __future__ import annotations

import pytest
from tests.etcdctl.groups import GROUPS
from tests.etcdctl.topology import sides
from tests.servers import needs_go_etcd

pytestmark = [pytest.mark.go, pytest.mark.slow, needs_go_etcd]


@pytest.mark.parametrize("name", ["kv", "txn", "lease", "watch", "concurrency"])
def test_same_answers(name: str) -> None:
    wrong = []
    with sides("twins", "go") as (_, go), sides("twins", "petcd") as (_, petcd):
        for case in GROUPS[name].cases:
            if case.only:
                continue
            theirs, own = go.run(case), petcd.run(case)
            if theirs != own:
                wrong.append(f"{case.name}\n  go    {theirs}\n  petcd {own}")
    assert not wrong, "\n".join(wrong)
