"""docs/benchmark.md: every command and flag has its place, and the report shown is one of ours."""

from __future__ import annotations

import re
from pathlib import Path

from petcd.cli.benchmark.commands import GLOBAL_FLAGS
from petcd.cli.benchmark.process import COMMANDS

PAGE = (Path(__file__).parents[2] / "docs" / "benchmark.md").read_text()


def test_every_command_and_flag_is_named() -> None:
    named = set(re.findall(r"--[a-z][a-z-]+", PAGE))
    wanted = {f"--{flag.name}" for flag in GLOBAL_FLAGS}
    for command in COMMANDS:
        assert f"`{command.name}" in PAGE
        wanted |= {f"--{flag.name}" for flag in command.flags}
    assert wanted - named == set()
    assert named - wanted == {"--help"}


def test_the_report_shown_is_whole() -> None:
    """Its counts add up to the total of the command shown, and its percentiles rise."""
    shown = PAGE.split("```text\n")[1].split("```")[0]
    assert sum(int(count) for count in re.findall(r"\[(\d+)\]\t", shown)) == 50_000
    percentiles = [float(value) for value in re.findall(r"% in ([\d.]+) secs", shown)]
    assert len(percentiles) == 8
    assert percentiles == sorted(percentiles)
