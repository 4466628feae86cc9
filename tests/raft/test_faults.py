"""Whole clusters under faults, each drawn from one seed. A failing seed is a complete report: run it
again."""

from __future__ import annotations

import pytest
from tests.raft.faults import run

SEEDS = 160


@pytest.mark.parametrize("block", range(8))
def test_safe_under_faults_and_live_afterwards(block: int) -> None:
    """Election safety, log matching, leader completeness, state machine safety, reads; then progress."""
    answered = committed = 0
    for seed in range(block * SEEDS // 8, (block + 1) * SEEDS // 8):
        try:
            watcher = run(seed, 2500, changes=seed % 4 != 0).cluster.watcher
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        answered += watcher.answered
        committed += watcher.commit_max
    assert answered > 50 and committed > 400, "a run in which nothing happens shows nothing"


def test_a_seed_repeats_exactly() -> None:
    """The same seed gives the same history, to the last byte of the state machines."""
    first, second = (run(11, 2000) for _ in range(2))
    for member, other in zip(first.cluster.members.values(), second.cluster.members.values(), strict=True):
        assert member.digest == other.digest
        assert member.node.status() == other.node.status()
