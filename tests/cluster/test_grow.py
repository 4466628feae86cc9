"""Learners come, are promoted, and old members go, under load: ``tests.cluster.grow``, in short."""

from __future__ import annotations

import pytest
from tests.cluster.grow import run
from tests.servers import Kind

pytestmark = pytest.mark.slow


def test_from_three_to_five_and_back(kind: Kind) -> None:
    report = run(kind, calm=0.2)
    print(report.describe())
    assert report.failures == []
    assert report.wrong == []
    assert report.acknowledged == report.sent > 200
