"""``progress.py``: the three ways to send to a member, and what moves between them."""

from __future__ import annotations

import random

import pytest

from petcd.raft.progress import PROBE, REPLICATE, SNAPSHOT, Progress


def progress(match: int = 5, next_index: int = 9, window: int = 3) -> Progress:
    made = Progress(next_index, window, is_learner=False, match=match)
    made.check()
    return made


def test_probe_sends_one_message() -> None:
    p = progress()
    p.sent(8, 4, empty=True)
    assert p.is_paused and p.next == 9
    p.check()


def test_replicate_sends_ahead_until_the_window_is_full() -> None:
    p = progress()
    p.become_replicate()
    assert p.next == 6
    for last in (7, 8, 10):
        assert not p.is_paused
        p.sent(last, 4, empty=False)
        p.check()
    assert p.is_paused and p.next == 11
    assert p.maybe_update(7)
    p.inflights.free_to(7)
    assert not p.is_paused
    p.check()


def test_snapshot_pauses_until_its_fate_is_known() -> None:
    p = progress()
    p.become_snapshot(20)
    assert p.is_paused and p.state is SNAPSHOT and p.next == 21
    p.check()
    p.become_probe()
    assert (p.state, p.next, p.pending_snapshot) == (PROBE, 21, 0)
    p.check()


def test_a_failed_snapshot_starts_from_what_was_acknowledged() -> None:
    p = progress()
    p.become_snapshot(20)
    p.snapshot_failed()
    p.become_probe()
    assert p.next == 6


@pytest.mark.parametrize(
    ("rejected", "hint", "taken", "next_index"),
    [
        (8, 7, True, 8),  # the probe at 8 was refused, it matches at 7 at the latest
        (8, 20, True, 8),  # a hint beyond the refused index is worth nothing
        (8, 2, True, 6),  # what was acknowledged stays
        (7, 6, False, 9),  # an answer to another probe
    ],
)
def test_probe_goes_back(rejected: int, hint: int, taken: bool, next_index: int) -> None:
    p = progress()
    p.sent(8, 0, empty=True)
    assert p.maybe_decrease(rejected, hint) is taken
    assert p.next == next_index
    assert p.is_paused is not taken


@pytest.mark.parametrize(("rejected", "taken"), [(5, False), (4, False), (6, True), (9, True), (10, False)])
def test_replicate_goes_back_to_what_was_acknowledged(rejected: int, taken: bool) -> None:
    p = progress(window=9)
    p.become_replicate()
    p.sent(9, 0, empty=False)
    assert p.next == 10
    assert p.maybe_decrease(rejected, 0) is taken
    assert p.next == (6 if taken else 10)


def test_old_news_is_none() -> None:
    p = progress()
    assert not p.maybe_update(5)
    assert p.maybe_update(12)
    assert (p.match, p.next) == (12, 13)


def test_commit_is_worth_a_message_only_where_the_entries_are_sent() -> None:
    p = progress()
    assert not p.can_bump_commit(8), "probing carries the commit index anyway"
    p.become_replicate()
    assert p.can_bump_commit(5)
    p.sent(5, 5, empty=True)
    assert not p.can_bump_commit(5)
    assert not p.can_bump_commit(6), "it has no entry 6 that could be committed"
    p.sent(7, 5, empty=False)
    assert p.can_bump_commit(6)


def test_random_answers_keep_the_invariants() -> None:
    draw = random.Random(4)
    for _ in range(200):
        p = progress(match=0, next_index=draw.randrange(1, 30))
        last = 30
        for _ in range(60):
            event = draw.randrange(6)
            if event == 0 and not p.is_paused:
                end = p.next - 1 if p.inflights.full else draw.randrange(p.next - 1, last + 1)
                p.sent(end, 0, empty=end == p.next - 1)
            elif event == 1:
                index = draw.randrange(last + 1)
                if p.maybe_update(index):
                    if p.state is PROBE:
                        p.become_replicate()
                    elif p.state is REPLICATE:
                        p.inflights.free_to(index)
                    else:
                        p.become_replicate()
            elif event == 2 and p.maybe_decrease(draw.randrange(last), draw.randrange(last)):
                if p.state is REPLICATE:
                    p.become_probe()
            elif event == 3 and p.state is not SNAPSHOT and p.match < last and draw.random() < 0.3:
                p.become_snapshot(draw.randrange(p.match + 1, last + 1))
            elif event == 4 and p.state is SNAPSHOT:
                if draw.random() < 0.5:
                    p.snapshot_failed()
                p.become_probe()
            elif event == 5:
                p.paused = False
            p.check()
