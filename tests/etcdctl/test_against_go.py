"""The same command lines by Debian's etcdctl and by ours, compared byte for byte after masking ids and times.

Each tool has a Go etcd of its own and runs every line in the same order, so that revisions agree.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.etcdctl.cases import GROUPS, Case
from tests.etcdctl.side import GoTool, Names, OurTool, masked
from tests.servers import GO_ETCDCTL, needs_go_etcd, needs_go_etcdctl, serving

pytestmark = [pytest.mark.go, pytest.mark.slow, needs_go_etcd, needs_go_etcdctl]


@pytest.fixture(params=list(GROUPS))
def group(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def tools() -> Iterator[tuple[GoTool, OurTool]]:
    with serving("go") as one, serving("go") as other:
        ours = OurTool(other.endpoint)
        try:
            yield GoTool(GO_ETCDCTL, one.endpoint), ours
        finally:
            ours.close()


def _environment(case: Case, endpoint: str) -> dict[str, str]:
    return {"ETCDCTL_ENDPOINTS": endpoint, **case.env}


def compare(group: str, tools: tuple[GoTool, OurTool]) -> tuple[int, int, list[str]]:
    """Run a group: how many cases are identical, how many differ for their reason, reports of the rest."""
    go, ours = tools
    same = explained = 0
    wrong = []
    names, own_names = Names(), Names()
    for case in GROUPS[group]:
        theirs = go.run(names.fill(case.line), case.stdin, _environment(case, go.endpoint))
        own = ours.run(own_names.fill(case.line), case.stdin, _environment(case, ours.endpoint))
        names.learn(theirs[0])
        own_names.learn(own[0])
        theirs, own = masked(theirs), masked(own)
        if own == theirs:
            same += 1
        elif case.differs and (own[2] == theirs[2] or case.status_differs):
            explained += 1
        else:
            wrong.append(f"{case.name}\n  go   {theirs}\n  ours {own}")
    return same, explained, wrong


def test_same_text_stream_and_status(group: str, tools: tuple[GoTool, OurTool]) -> None:
    same, explained, wrong = compare(group, tools)
    print(f"{group}: {same} identical, {explained} differ for a stated reason, {len(wrong)} wrong")
    assert not wrong, "\n".join(wrong)
