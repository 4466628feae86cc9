"""``inflights.py``: the window of unacknowledged messages."""

from __future__ import annotations

import pytest

from petcd.raft.inflights import Inflights


def test_an_acknowledgement_frees_everything_before_it() -> None:
    window = Inflights(4)
    for index in (3, 5, 9):
        window.add(index)
    window.free_to(2)
    assert len(window) == 3
    window.free_to(6)
    assert list(window.last_indexes) == [9]
    window.free_to(9)
    assert len(window) == 0


def test_full_at_the_bound() -> None:
    window = Inflights(2)
    window.add(1)
    assert not window.full
    window.add(2)
    assert window.full
    with pytest.raises(AssertionError):
        window.add(3)
    window.free_to(1)
    assert not window.full


def test_indexes_only_grow() -> None:
    window = Inflights(8)
    window.add(7)
    with pytest.raises(AssertionError):
        window.add(7)
    window.clear()
    window.add(1)
