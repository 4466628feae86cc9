"""``docs/history.md`` keeps its word: every test and every mutation that it names exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from tests.history import test_mutations as ours
from tests.raft import test_mutations as raft

TESTS = Path(__file__).resolve().parent.parent
PAGE = (TESTS.parent / "docs" / "history.md").read_text()


@cache
def functions(path: str) -> set[str]:
    tree = ast.parse((TESTS / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def rows() -> list[list[str]]:
    """The cells of every row of the tables."""
    found = []
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and cells[0] != "row" and set(line) - set("|-"):
            found.append(cells)
    return found


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 60
    missing = [f"{path}::{name}" for path, name in named if name not in functions(path)]
    assert not missing


def test_every_scenario_is_in_the_table() -> None:
    named = {name for path, name in re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE) if path.startswith("history/")}
    for path in sorted((TESTS / "history").glob("test_*.py")):
        if path.name in ("test_documentation.py", "test_mutations.py"):
            continue
        there = {name for name in functions(f"history/{path.name}") if name.startswith("test_")}
        assert there <= named, path.name


def test_every_mutation_that_is_named_exists() -> None:
    kinds = {"H": set(ours.MUTATIONS), "R": set(raft.MUTATIONS)}
    named: dict[str, set[str]] = {"H": set(), "R": set()}
    for cells in rows():
        assert len(cells) == 4, cells
        for mutation in filter(None, cells[3].split("; ")):
            kind, name = mutation.split(" ", 1)
            assert name in kinds[kind], mutation
            named[kind].add(name)
    assert named["H"] == kinds["H"]
