"""Debian's etcdctl and ours against one server: nothing differs without a reason that holds."""

from __future__ import annotations

import pytest
from tests.etcdctl.differential import compare
from tests.etcdctl.groups import GROUPS
from tests.servers import Kind, needs_go_etcd, needs_go_etcdctl

pytestmark = [pytest.mark.go, pytest.mark.slow, needs_go_etcd, needs_go_etcdctl]


@pytest.mark.parametrize(
    ("name", "kind"), [(group.name, kind) for group in GROUPS.values() for kind in group.kinds]
)
def test_same_text_stream_and_status(name: str, kind: Kind) -> None:
    verdict = compare(GROUPS[name], kind)
    differ = len(verdict.exact) + len(verdict.layout)
    print(f"{name}, {kind}: {len(verdict.identical)} identical, {differ} differ, {len(verdict.wrong)} wrong")
    assert not verdict.wrong, "\n".join(verdict.wrong)
