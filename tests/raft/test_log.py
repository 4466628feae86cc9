"""``log.py``: appending, overwriting, sizes, what is handed out and what of it is durable."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petcd.raft import CompactedError, ConfState, Entry, MessageError, Snapshot, SnapshotMetadata, StateError
from petcd.raft.log import Log, Mark

checked = settings(max_examples=100, deadline=None)


def entries(first: int, *terms: int, data: bytes = b"") -> list[Entry]:
    return [Entry(term, index, data=data) for index, term in enumerate(terms, first)]


def log(*terms: int, commit: int = 0, offset: int = 0, offset_term: int = 0, data: bytes = b"") -> Log:
    made = Log(
        SnapshotMetadata(ConfState([1]), offset, offset_term), entries(offset + 1, *terms, data=data), commit
    )
    made.check()
    return made


def terms_of(of: Log) -> list[int]:
    return [entry.term for entry in of.entries]


class TestStart:
    def test_a_gap_is_refused(self) -> None:
        with pytest.raises(StateError, match="entry 3 stands where 2 belongs"):
            Log(SnapshotMetadata(), [Entry(1, 1), Entry(1, 3)])

    def test_a_falling_term_is_refused(self) -> None:
        with pytest.raises(StateError, match="falls from 2 to 1"):
            Log(SnapshotMetadata(), entries(1, 2, 1))

    def test_commit_and_applied_must_be_in_the_log(self) -> None:
        with pytest.raises(StateError, match="committed to 3"):
            Log(SnapshotMetadata(), entries(1, 1, 1), 3)
        with pytest.raises(StateError, match="applied to 3"):
            Log(SnapshotMetadata(), entries(1, 1, 1), 1, 3)

    def test_what_was_applied_is_committed(self) -> None:
        made = Log(SnapshotMetadata(), entries(1, 1, 1), 1, 2)
        assert (made.committed, made.applied, made.applying) == (2, 2, 2)

    def test_what_a_snapshot_covers_is_applied(self) -> None:
        made = log(2, 2, offset=7, offset_term=1)
        assert (made.first_index, made.last_index, made.committed, made.applied) == (8, 9, 7, 7)
        assert made.stable == made.handed == 9


class TestTerms:
    def test_at_and_around_the_offset(self) -> None:
        made = log(5, 6, offset=10, offset_term=4)
        assert [made.term_at(i) for i in range(8, 15)] == [0, 0, 4, 5, 6, 0, 0]
        assert made.matches(10, 4) and made.matches(12, 6)
        assert not made.matches(13, 0), "what does not exist has no term, not even 0"
        assert not made.matches(9, 0)

    def test_before_everything(self) -> None:
        made = log()
        assert made.matches(0, 0)
        assert made.last_term == 0
        assert made.is_up_to_date(0, 0)

    @pytest.mark.parametrize(
        ("index", "term", "expected"),
        [(1, 4, True), (3, 3, True), (4, 3, True), (2, 3, False), (9, 2, False)],
    )
    def test_up_to_date(self, index: int, term: int, expected: bool) -> None:
        """Paper 5.4.1: the later term wins, then the longer log."""
        assert log(1, 2, 3).is_up_to_date(index, term) is expected

    @checked
    @given(
        st.lists(st.integers(0, 2), max_size=12), st.integers(0, 3), st.integers(0, 16), st.integers(0, 20)
    )
    def test_find_conflict_by_term(self, steps: list[int], offset: int, index: int, term: int) -> None:
        terms, last = [], 1
        for step in steps:
            last += step
            terms.append(last)
        made = log(*terms, offset=offset, offset_term=1 if offset else 0)
        expected = min(index, made.last_index)
        while made.offset <= expected and made.term_at(expected) > term:
            expected -= 1
        found, found_term = made.find_conflict_by_term(index, term)
        assert found == expected
        assert found_term == made.term_at(expected)


class TestAppend:
    @pytest.mark.parametrize(
        ("prev", "prev_term", "new", "expected"),
        [
            (3, 3, (4, 4), [1, 2, 3, 4, 4]),
            (3, 3, (), [1, 2, 3]),
            (2, 2, (3,), [1, 2, 3]),  # known already
            (1, 1, (2, 3, 4), [1, 2, 3, 4]),  # half known
            (1, 1, (2,), [1, 2, 3]),  # a shorter message does not shorten the log
            (2, 2, (4, 4), [1, 2, 4, 4]),  # a conflict: the rest goes
            (1, 1, (4,), [1, 4]),
            (0, 0, (1, 2, 4), [1, 2, 4]),
        ],
    )
    def test_takes(self, prev: int, prev_term: int, new: tuple[int, ...], expected: list[int]) -> None:
        made = log(1, 2, 3)
        assert made.maybe_append(prev, prev_term, 0, entries(prev + 1, *new)) == prev + len(new)
        assert terms_of(made) == expected
        made.check()

    @pytest.mark.parametrize(("prev", "prev_term"), [(3, 2), (4, 3), (4, 0), (2, 3)])
    def test_does_not_fit(self, prev: int, prev_term: int) -> None:
        made = log(1, 2, 3)
        assert made.maybe_append(prev, prev_term, 3, entries(prev + 1, 9)) is None
        assert terms_of(made) == [1, 2, 3]
        assert made.committed == 0

    def test_commits_no_further_than_the_message_reaches(self) -> None:
        """Contract 6.4: commit := min(leader's commit, last new index). What is behind it may differ."""
        made = log(1, 1, 1)
        made.maybe_append(1, 1, 9, entries(2, 1))
        assert made.committed == 2

    def test_a_committed_entry_is_never_replaced(self) -> None:
        made = log(1, 1, 1, commit=2)
        with pytest.raises(MessageError, match="entry 2 of term 5 would replace a committed one of term 1"):
            made.maybe_append(1, 1, 0, entries(2, 5))
        assert terms_of(made) == [1, 1, 1]
        made.check()

    def test_random_histories_agree_with_a_list(self) -> None:
        draw = random.Random(8)
        for _ in range(100):
            made, model = log(), [0]
            term = 1
            for _ in range(30):
                term += draw.random() < 0.3
                prev = draw.randrange(made.committed, len(model))
                new = entries(prev + 1, *[term] * draw.randrange(4), data=b"x" * draw.randrange(5))
                known = model[prev]
                assert made.maybe_append(prev, known, 0, new) is not None
                if new and (len(model) <= prev + 1 or model[prev + 1] != term):
                    del model[prev + 1 :]
                for entry in new:
                    if entry.index < len(model) and model[entry.index] == entry.term:
                        continue
                    del model[entry.index :]
                    model.append(entry.term)
                assert [0, *terms_of(made)] == model
                if draw.random() < 0.3:
                    made.hand_out()
                if draw.random() < 0.2:
                    made.commit_to(draw.randrange(made.committed, made.last_index + 1))
                made.check()


class TestSizes:
    def test_limit(self) -> None:
        made = log(1, 1, 1, 1, data=b"12345")
        assert made.limit(1, 5, 100) == 5
        assert made.limit(1, 5, 20) == 5
        assert made.limit(1, 5, 19) == 4
        assert made.limit(2, 5, 10) == 4
        assert made.limit(2, 5, 1) == 3, "one entry always fits"
        assert made.limit(3, 3, 1) == 3

    def test_limit_survives_compaction_and_overwriting(self) -> None:
        made = log(1, 1, 1, 1, commit=2, data=b"12345")
        made.maybe_append(3, 1, 0, entries(4, 2, 2, data=b"123456789"))
        made.take_committed(1 << 20)
        made.applied_to(2)
        made.keep_snapshot(Snapshot(metadata=SnapshotMetadata(ConfState([1]), 2, 1)))
        made.compact(2)
        made.check()
        assert made.limit(3, 6, 14) == 5
        assert made.bytes_between(3, 6) == 23
        assert made.uncommitted_bytes == 23

    def test_slice(self) -> None:
        made = log(1, 1, 1, offset=4, offset_term=1, data=b"12")
        assert [e.index for e in made.slice(5, 99)] == [5, 6, 7]
        assert [e.index for e in made.slice(6, 8, 2)] == [6]
        assert made.slice(8, 9) == []
        with pytest.raises(CompactedError, match="begins at 5"):
            made.slice(4, 6)


class TestWriting:
    def test_handed_out_once(self) -> None:
        made = log(1)
        made.append(entries(2, 1, 1))
        assert [e.index for e in made.hand_out()] == [2, 3]
        assert not made.has_unhanded
        assert made.hand_out() == []
        assert made.stable == 1

    def test_marks_are_cut_back_by_overwriting(self) -> None:
        """Even if an entry of the same index and term comes back: its own writing has to end first."""
        made = log(1)
        made.append(entries(2, 2, 2, 2))
        made.hand_out()
        made.marks.append(Mark(1, 4, 2, own_vote=False))
        made.maybe_append(2, 2, 0, entries(3, 3))
        assert made.marks[0].index == 2
        assert made.handed == 2
        made.hand_out()
        made.marks.append(Mark(2, 3, 3, own_vote=False))
        # A later leader has the old entries after all.
        made.maybe_append(2, 2, 0, entries(3, 2, 2))
        assert [mark.index for mark in made.marks] == [2, 2]
        made.stable_to(made.marks.popleft().index)
        assert made.stable == 2
        made.check()

    def test_a_snapshot_forgets_what_was_being_written(self) -> None:
        made = log(1, 1, commit=1)
        made.append(entries(3, 2))
        made.hand_out()
        made.marks.append(Mark(1, 3, 2, own_vote=False))
        made.restore(Snapshot(metadata=SnapshotMetadata(ConfState([1]), 9, 3)))
        assert made.marks[0].index == 1
        assert (made.stable, made.handed, made.last_index, made.first_index) == (1, 9, 9, 10)
        made.check()


class TestApplying:
    def test_only_what_is_committed_and_on_our_disk(self) -> None:
        made = log(1, 1)
        made.append(entries(3, 1, 1))
        made.hand_out()
        made.commit_to(4)
        assert [e.index for e in made.take_committed(1 << 20)] == [1, 2]
        assert not made.has_committed()
        made.stable_to(4)
        assert [e.index for e in made.take_committed(1 << 20)] == [3, 4]
        assert made.take_committed(1 << 20) == []
        made.applied_to(3)
        assert (made.applied, made.applying) == (3, 4)

    def test_in_bounded_portions(self) -> None:
        made = log(1, 1, 1, commit=3, data=b"12345")
        assert [e.index for e in made.take_committed(10)] == [1, 2]
        assert [e.index for e in made.take_committed(10)] == [3]

    def test_a_snapshot_comes_first(self) -> None:
        made = log(1, commit=1)
        made.restore(Snapshot(metadata=SnapshotMetadata(ConfState([1]), 5, 2)))
        made.append(entries(6, 2))
        made.hand_out()
        made.commit_to(6)
        made.stable_to(6)
        assert not made.has_committed()
        made.applied_to(5)
        assert [e.index for e in made.take_committed(1 << 20)] == [6]

    def test_compaction_needs_a_snapshot_and_keeps_the_rest(self) -> None:
        made = log(1, 1, 2, commit=3)
        made.take_committed(1 << 20)
        made.applied_to(3)
        with pytest.raises(AssertionError):
            made.compact(2)
        made.keep_snapshot(Snapshot(metadata=SnapshotMetadata(ConfState([1]), 3, 2)))
        made.compact(2)
        assert (made.first_index, made.offset_term, terms_of(made)) == (3, 1, [2])
        made.compact(1)
        assert made.first_index == 3
        made.compact(3)
        assert (made.first_index, made.last_index, made.last_term) == (4, 3, 2)
        made.check()
