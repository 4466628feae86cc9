"""The text scenarios under ``scenarios/``. ``PETCD_REGENERATE=1`` rewrites the traces; then read the diff."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.raft.scenario import observe

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    observed = observe(path)
    if os.environ.get("PETCD_REGENERATE"):
        path.write_text(observed)
    assert observed == path.read_text()


def test_there_are_scenarios() -> None:
    assert len(SCENARIOS) >= 15
