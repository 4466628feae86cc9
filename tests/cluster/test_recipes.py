"""Recipes while members die; ``python -m tests.cluster.recipes`` does it for a minute."""

from __future__ import annotations

import pytest
from tests.cluster.recipes import DATA, Report, judge_election, judge_holds, judge_watchers, run
from tests.servers import Kind

from petcd.client import Event, KeyValue


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_is_held_twice(kind: Kind) -> None:
    report = run(kind, 10.0, seed=3)
    print(report.describe())
    assert report.wrong == []
    assert (report.lost, report.repeated, report.duplicate_holders) == (0, 0, 0)
    assert report.kills >= 2  # five where the machine is not busy with other things
    assert report.resumes >= 1
    assert report.events >= 50
    assert report.holds >= 10
    assert report.leaders >= 5 and report.leaders_observed >= 5


def created(key: str, revision: int) -> Event:
    return Event(KeyValue(key.encode(), b"", revision, revision, 1), deleted=False)


def deleted(key: str, revision: int) -> Event:
    return Event(KeyValue(key.encode(), b"", 0, revision, 0), deleted=True)


def holds_of(text: str) -> list[Event]:
    """A history from revision 2 on: ``+a`` and ``-a`` are the lock's keys, the others marks of holds."""
    events = []
    for revision, word in enumerate(text.split(), 2):
        if word[0] == "-":
            events.append(deleted(f"lock/{word[1:]}", revision))
        else:
            events.append(created(f"lock/{word[1:]}" if word[0] == "+" else f"holds/{word}", revision))
    return events


def test_the_judge_of_holds_accepts_turns() -> None:
    history = holds_of("+a +b 2/enter 2/leave -a 3/enter 3/leave -b")
    report = Report("petcd")
    judge_holds([2, 3], history, report)
    assert (report.holds, report.duplicate_holders, report.wrong) == (2, 0, [])
    judge_holds([3, 2], history, report)
    assert report.wrong == ["the tokens of later holders are not larger"]


@pytest.mark.parametrize(
    "history",
    [
        "+a +b 2/enter 3/enter 2/leave -a 3/leave -b",
        "+a +b 2/enter 3/enter -a 3/leave -b",
        "+a +b 2/enter -a 2/leave 3/enter 3/leave -b",
        "+a +b 2/enter 2/leave -a 3/enter -b 3/leave",
    ],
)
def test_the_judge_of_holds_refuses_overlaps(history: str) -> None:
    report = Report("petcd")
    judge_holds([2, 3], holds_of(history), report)
    assert report.duplicate_holders == 1 and len(report.wrong) == 1


def test_the_judge_of_watchers() -> None:
    history = [created(f"{DATA}{number}", number) for number in range(2, 6)] + [created("other", 6)]
    seen = [(event.key, event.revision) for event in history[:4]]
    for watched, lost, repeated, wrong in [
        (seen, 0, 0, 0),
        (seen[:2] + seen[3:], 1, 0, 1),
        ([*seen[:2], seen[1], *seen[2:]], 0, 1, 1),
        ([seen[1], seen[0], *seen[2:]], 0, 0, 1),
    ]:
        report = Report("petcd")
        judge_watchers([watched], history, report)
        assert (report.lost, report.repeated, len(report.wrong)) == (lost, repeated, wrong)


def test_the_judge_of_elections() -> None:
    history = [
        created("election/a", 2),
        created("election/b", 3),
        deleted("election/a", 4),
        created("election/c", 5),
        deleted("election/b", 6),
    ]
    for observed, terms, wrong in [
        ([2, 3, 5], [(0.0, 1.0), (2.0, 3.0), (3.5, 4.0)], 0),
        ([2, 3], [(0.0, 1.0)], 0),  # the last one is about to be seen
        ([2, 5], [(0.0, 1.0)], 1),
        ([2, 2, 3], [(0.0, 1.0)], 1),
        ([3, 2], [(0.0, 1.0)], 1),
        ([4], [(0.0, 1.0)], 1),
        ([2, 3], [(0.0, 1.0), (0.5, 2.0)], 1),
    ]:
        report = Report("petcd")
        judge_election(observed, terms, history, report)
        assert report.leaders == 3
        assert len(report.wrong) == wrong
