"""The differential cases the other way round: one tool, ours, against Go etcd and against petcd.

Groups whose services petcd has in full; what differs by release stands with the group it is in.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.etcdctl.cases import GROUPS
from tests.etcdctl.side import Names, OurTool, masked
from tests.servers import needs_go_etcd, serving

pytestmark = [pytest.mark.go, pytest.mark.slow, needs_go_etcd]


@pytest.fixture
def tools() -> Iterator[tuple[OurTool, OurTool]]:
    with serving("go") as go, serving("petcd") as petcd:
        pair = OurTool(go.endpoint), OurTool(petcd.endpoint)
        try:
            yield pair
        finally:
            for tool in pair:
                tool.close()


@pytest.mark.parametrize("group", ["kv", "txn", "lease", "watch", "concurrency"])
def test_same_answers(group: str, tools: tuple[OurTool, OurTool]) -> None:
    go_names, petcd_names = Names(), Names()
    wrong = []
    for case in GROUPS[group]:
        if "protobuf" in case.differs:
            continue
        answers = []
        for tool, names in zip(tools, (go_names, petcd_names), strict=True):
            environment = {"ETCDCTL_ENDPOINTS": tool.endpoint, **case.env}
            answer = tool.run(names.fill(case.line), case.stdin, environment)
            names.learn(answer[0])
            answers.append(masked(answer))
        if answers[0] != answers[1]:
            wrong.append(f"{case.name}\n  go    {answers[0]}\n  petcd {answers[1]}")
    assert not wrong, "\n".join(wrong)
