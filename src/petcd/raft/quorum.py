"""Majorities, and majorities of two configurations at once.

A joint decision needs both halves (Raft paper section 6). An empty half agrees with everything, so that the
simple configuration is the joint one with an empty outgoing half and nothing needs a second code path.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import IntEnum
from typing import Final, Protocol

EVERYTHING: Final = 1 << 64
"""What an empty half has acknowledged: more than any index can be."""


class VoteResult(IntEnum):
    """How an election stands."""

    PENDING = 0
    LOST = 1
    WON = 2


VOTE_PENDING: Final = VoteResult.PENDING
VOTE_LOST: Final = VoteResult.LOST
VOTE_WON: Final = VoteResult.WON


class HasMatch(Protocol):
    """The part of a follower's progress that a quorum looks at."""

    match: int


def majority_match(voters: Collection[int], progress: Mapping[int, HasMatch]) -> int:
    """The highest index that a majority of ``voters`` has; ``EVERYTHING`` without voters."""
    if not voters:
        return EVERYTHING
    acknowledged = sorted([progress[voter].match for voter in voters])
    return acknowledged[(len(acknowledged) - 1) >> 1]


def majority_number(voters: Collection[int], numbers: Mapping[int, int]) -> int:
    """The same for plain numbers; a voter that is not listed has 0."""
    if not voters:
        return EVERYTHING
    acknowledged = sorted([numbers.get(voter, 0) for voter in voters])
    return acknowledged[(len(acknowledged) - 1) >> 1]


def majority_vote(voters: Collection[int], votes: Mapping[int, bool]) -> VoteResult:
    """Whether a majority of ``voters`` said yes, can no longer say yes, or has not decided."""
    if not voters:
        return VOTE_WON
    needed = len(voters) // 2 + 1
    granted = 0
    missing = 0
    for voter in voters:
        vote = votes.get(voter)
        if vote is None:
            missing += 1
        elif vote:
            granted += 1
    if granted >= needed:
        return VOTE_WON
    if granted + missing >= needed:
        return VOTE_PENDING
    return VOTE_LOST


def joint_match(
    incoming: Collection[int], outgoing: Collection[int], progress: Mapping[int, HasMatch]
) -> int:
    """The highest index that both halves have."""
    index = majority_match(incoming, progress)
    if outgoing:
        index = min(index, majority_match(outgoing, progress))
    return index


def joint_number(incoming: Collection[int], outgoing: Collection[int], numbers: Mapping[int, int]) -> int:
    """The highest number that both halves have."""
    return min(majority_number(incoming, numbers), majority_number(outgoing, numbers))


def joint_vote(incoming: Collection[int], outgoing: Collection[int], votes: Mapping[int, bool]) -> VoteResult:
    """Won where both halves won, lost where either lost."""
    first = majority_vote(incoming, votes)
    second = majority_vote(outgoing, votes)
    if first == second:
        return first
    if VOTE_LOST in (first, second):
        return VOTE_LOST
    return VOTE_PENDING
