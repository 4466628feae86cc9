"""Whole clusters under random clients and faults; every checker at the end of every seed.

A few dozen seeds run with everything else. ``PETCD_SEEDS=2000`` makes it so many, in as many processes as
there are processors; what a seed that fails did is printed by
``python -m tests.simulation --cluster --seed N --trace``.
"""

from __future__ import annotations

import argparse
import os

import pytest
from tests.simulation import mutations, storm
from tests.simulation.__main__ import results

from petcd.raft import MSG_PROP, Entry, Message

SEEDS = int(os.environ.get("PETCD_SEEDS", "0"))


def test_seeds() -> None:
    """Half of the seeds of the short form have another number of members."""
    failed = []
    shares = [(SEEDS, 5, 0)] if SEEDS else [(10, 5, 0), (8, 3, 0), (2, 7, 0), (4, 1, 0)]
    for seeds, size, start in shares:
        args = argparse.Namespace(
            seeds=seeds, members=size, start=start, jobs=(os.cpu_count() or 1) if SEEDS else 1
        )
        for seed, outcome, problem in results(args):
            if outcome is None:
                failed.append(f"seed {seed} of {size} members: {problem}")
    assert not failed, "\n".join(failed)


def test_what_the_seeds_reach() -> None:
    """The faults and requests that the checkers are about do occur."""
    outcomes = [storm.run(seed) for seed in range(30, 40)]
    assert sum(one.answered for one in outcomes) > 300
    assert sum(one.snapshots for one in outcomes) > 0
    assert sum(one.crashes for one in outcomes) > 5
    assert sum(one.leaders for one in outcomes) > 15
    assert len(set().union(*(one.faults for one in outcomes))) > 10


def test_a_seed_is_a_run() -> None:
    first, second = storm.run(7), storm.run(7)
    assert first == second
    assert first.digest
    assert storm.run(7, traced=True) == first, "being watched changes the run"
    assert storm.run(8).digest != first.digest


def test_a_trace_tells_what_happened() -> None:
    lines = storm.trace_of(7)
    assert any("became leader" in line for line in lines)
    assert any("disk" in line for line in lines)


@pytest.mark.parametrize(("seed", "size"), [(1520, 5), (101653, 5), (112112, 5)])
def test_seeds_that_failed_once(seed: int, size: int) -> None:
    """1520: an answer about entries that the same batch replaced (the watcher of disks was too strict).
    101653: a timer that was due when its member ended. 112112: two answers of one moment (the checker took
    them in the order of the questions)."""
    storm.run(seed, size)


FAST = (
    "send a vote before it is on disk",
    "forget to store the vote",
    "count ourselves before our disk has it",
    "acknowledge before the sync",
    "apply again after a restart",
    "read a revision again that was sent",
)


@pytest.mark.parametrize("name", FAST)
def test_mistakes_are_caught(name: str) -> None:
    assert mutations.seeds_to_catch(name, 30) is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in mutations.MUTATIONS if name not in FAST])
def test_all_mistakes_are_caught(name: str) -> None:
    assert mutations.seeds_to_catch(name, first=mutations.MUTATIONS[name].first) is not None


def test_mistakes_are_undone() -> None:
    before = storm.run(3).digest
    for name in mutations.MUTATIONS:
        with mutations.made(name):
            pass
    assert storm.run(3).digest == before


def test_what_crosses_the_wire_is_a_copy() -> None:
    from tests.simulation.network import copy_message

    entry = Entry(2, 3, 0, b"data", request=object())
    copy = copy_message(Message(MSG_PROP, to=1, from_=2, term=2, entries=[entry], context=b"c"))
    assert copy.entries[0] == entry
    assert copy.entries[0] is not entry
    assert copy.entries[0].request is None
    assert copy.context == b"c"
