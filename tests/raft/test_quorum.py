"""``quorum.py`` against a deliberately plain majority, which tries every set of voters."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from petcd.raft.quorum import (
    EVERYTHING,
    VOTE_LOST,
    VOTE_PENDING,
    VOTE_WON,
    VoteResult,
    joint_match,
    joint_number,
    joint_vote,
    majority_match,
    majority_number,
    majority_vote,
)

members = st.frozensets(st.integers(1, 9), max_size=7)
checked = settings(max_examples=100, deadline=None)


@dataclass
class Match:
    match: int


def majorities(voters: frozenset[int]) -> list[tuple[int, ...]]:
    """Every set that is a majority."""
    return [
        chosen
        for size in range(len(voters) // 2 + 1, len(voters) + 1)
        for chosen in combinations(voters, size)
    ]


def plain_index(voters: frozenset[int], numbers: dict[int, int]) -> int:
    """The highest index that all of some majority have reached."""
    if not voters:
        return EVERYTHING
    return max(min(numbers.get(v, 0) for v in chosen) for chosen in majorities(voters))


def plain_vote(voters: frozenset[int], votes: dict[int, bool]) -> VoteResult:
    """Won where a majority said yes; lost where the missing votes cannot make one."""
    if not voters or any(all(votes.get(v, False) for v in chosen) for chosen in majorities(voters)):
        return VOTE_WON
    if any(all(votes.get(v, True) for v in chosen) for chosen in majorities(voters)):
        return VOTE_PENDING
    return VOTE_LOST


@checked
@given(members, st.dictionaries(st.integers(1, 9), st.integers(0, 20)))
def test_majority_index(voters: frozenset[int], numbers: dict[int, int]) -> None:
    progress = {v: Match(numbers.get(v, 0)) for v in range(1, 10)}
    assert majority_number(voters, numbers) == plain_index(voters, numbers)
    assert majority_match(voters, progress) == plain_index(voters, numbers)


@checked
@given(members, st.dictionaries(st.integers(1, 9), st.booleans()))
def test_majority_vote(voters: frozenset[int], votes: dict[int, bool]) -> None:
    assert majority_vote(voters, votes) is plain_vote(voters, votes)


@checked
@given(members, members, st.dictionaries(st.integers(1, 9), st.integers(0, 20)))
def test_joint_index_is_what_both_halves_have(
    incoming: frozenset[int], outgoing: frozenset[int], numbers: dict[int, int]
) -> None:
    progress = {v: Match(numbers.get(v, 0)) for v in range(1, 10)}
    expected = min(plain_index(incoming, numbers), plain_index(outgoing, numbers))
    assert joint_number(incoming, outgoing, numbers) == expected
    assert joint_match(incoming, outgoing, progress) == expected


@checked
@given(members, members, st.dictionaries(st.integers(1, 9), st.booleans()))
def test_joint_vote_needs_both_halves(
    incoming: frozenset[int], outgoing: frozenset[int], votes: dict[int, bool]
) -> None:
    halves = {plain_vote(incoming, votes), plain_vote(outgoing, votes)}
    result = joint_vote(incoming, outgoing, votes)
    assert (result is VOTE_WON) == (halves == {VOTE_WON})
    assert (result is VOTE_LOST) == (VOTE_LOST in halves)


def test_an_empty_half_agrees_with_everything() -> None:
    assert joint_number((1, 2, 3), (), {1: 5, 2: 4, 3: 1}) == 4
    assert joint_vote((), (), {}) is VOTE_WON
