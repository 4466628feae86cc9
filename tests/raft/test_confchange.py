"""``confchange.py``: the bytes of changes, and what they do to a configuration."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petcd.raft import (
    ADD_LEARNER_NODE,
    ADD_NODE,
    ENTRY_CONF_CHANGE,
    ENTRY_CONF_CHANGE_V2,
    REMOVE_NODE,
    UPDATE_NODE,
    ConfChange,
    ConfChangeError,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeV2,
    Configuration,
    ConfState,
    Entry,
    decode_conf_change,
    encode_conf_change,
)
from petcd.raft.confchange import apply_change, enter_joint, leave_joint, simple

checked = settings(max_examples=100, deadline=None)
uint64 = st.integers(0, (1 << 64) - 1)


def configuration(*voters: int, learners: tuple[int, ...] = ()) -> Configuration:
    return Configuration(voters=frozenset(voters), learners=frozenset(learners))


def singles(*words: str) -> list[ConfChangeSingle]:
    """``+1`` add, ``~1`` learner, ``-1`` remove, ``=1`` update."""
    kinds = {"+": ADD_NODE, "~": ADD_LEARNER_NODE, "-": REMOVE_NODE, "=": UPDATE_NODE}
    return [ConfChangeSingle(kinds[word[0]], int(word[1:])) for word in words]


class TestBytes:
    def test_as_etcd_3_7_writes_it(self) -> None:
        """Contract 7.3: the addition of a member at the bootstrap; only set fields are written."""
        change = ConfChange(0, ADD_NODE, 0x66D553261B52C411, b"{}")
        assert encode_conf_change(change) == (
            ENTRY_CONF_CHANGE,
            bytes.fromhex("189188cbdae1e4d4ea66 22027b7d"),
        )

    def test_as_etcd_3_4_writes_it(self) -> None:
        """Contract 7.3, 3.4 to 3.6: zeros are written too."""
        data = bytes.fromhex("0800 1000 189188cbdae1e4d4ea66 22027b7d")
        change = decode_conf_change(Entry(type=ENTRY_CONF_CHANGE, data=data))
        assert change == ConfChange(0, ADD_NODE, 0x66D553261B52C411, b"{}")

    def test_an_empty_entry_leaves_the_joint_configuration(self) -> None:
        change = decode_conf_change(Entry(type=ENTRY_CONF_CHANGE_V2, data=b""))
        assert change == ConfChangeV2()
        assert change.as_v2().leaves_joint
        assert encode_conf_change(ConfChangeV2()) == (ENTRY_CONF_CHANGE_V2, b"")

    @checked
    @given(st.builds(ConfChange, uint64, st.integers(0, 3), uint64, st.binary()))
    def test_v1_round_trip(self, change: ConfChange) -> None:
        kind, data = encode_conf_change(change)
        assert decode_conf_change(Entry(type=kind, data=data)) == change

    @checked
    @given(
        st.builds(
            ConfChangeV2,
            st.integers(0, 2),
            st.lists(st.builds(ConfChangeSingle, st.integers(0, 3), uint64), max_size=4),
            st.binary(),
        )
    )
    def test_v2_round_trip(self, change: ConfChangeV2) -> None:
        kind, data = encode_conf_change(change)
        assert decode_conf_change(Entry(type=kind, data=data)) == change

    @checked
    @given(st.binary(max_size=40), st.integers(0, 3))
    def test_garbage_is_read_or_refused(self, data: bytes, kind: int) -> None:
        with suppress(ConfChangeError):
            decode_conf_change(Entry(type=kind, data=data))

    @pytest.mark.parametrize(
        "data",
        ["08", "0880", "22ff", "0a0100", "2003" + "0b", "18" + "ff" * 10, "0d0102"],
        ids=["tag", "varint", "length", "bytes for id", "group", "long varint", "fixed32"],
    )
    def test_broken(self, data: str) -> None:
        with pytest.raises(ConfChangeError):
            decode_conf_change(Entry(type=ENTRY_CONF_CHANGE, data=bytes.fromhex(data)))

    def test_unknown_fields_are_skipped(self) -> None:
        data = bytes.fromhex("2a0161 3005 390102030405060708 1807")
        assert decode_conf_change(Entry(type=ENTRY_CONF_CHANGE, data=data)) == ConfChange(node_id=7)


class TestSimple:
    @pytest.mark.parametrize(
        ("words", "voters", "learners"),
        [
            (("+4",), {1, 2, 3, 4}, set()),
            (("-3",), {1, 2}, set()),
            (("~4",), {1, 2, 3}, {4}),
            (("~3",), {1, 2}, {3}),  # a demotion outside of a joint configuration
            (("=3",), {1, 2, 3}, set()),
            (("-9",), {1, 2, 3}, set()),
            (("+3",), {1, 2, 3}, set()),
            (("~4", "~5"), {1, 2, 3}, {4, 5}),  # learners do not vote, so several fit
        ],
    )
    def test_changes(self, words: tuple[str, ...], voters: set[int], learners: set[int]) -> None:
        changed = simple(configuration(1, 2, 3), singles(*words))
        assert changed == Configuration(frozenset(voters), learners=frozenset(learners))

    def test_promotion(self) -> None:
        assert simple(configuration(1, learners=(2,)), singles("+2")) == configuration(1, 2)

    @pytest.mark.parametrize("words", [("+4", "+5"), ("-1", "-2"), ("+4", "-1")])
    def test_two_voters_at_once_are_refused(self, words: tuple[str, ...]) -> None:
        with pytest.raises(ConfChangeError, match="more than one voter"):
            simple(configuration(1, 2, 3), singles(*words))

    def test_the_last_voter_stays(self) -> None:
        with pytest.raises(ConfChangeError, match="all voters"):
            simple(configuration(1, learners=(2,)), singles("-1"))

    def test_the_first_voter_of_an_empty_configuration(self) -> None:
        assert simple(configuration(), singles("+1")) == configuration(1)

    def test_member_zero_has_no_effect(self) -> None:
        for change in (ConfChange(node_id=0, type=REMOVE_NODE), ConfChangeV2(1, singles("+0"))):
            assert apply_change(configuration(1), change) == configuration(1)
            assert apply_change(configuration(), change) == configuration()

    def test_unknown_types_are_refused(self) -> None:
        with pytest.raises(ConfChangeError, match="unknown type 9"):
            apply_change(configuration(1), ConfChange(type=9, node_id=2))


class TestJoint:
    def test_there_and_back(self) -> None:
        old = configuration(1, 2, 3, learners=(6,))
        joint = enter_joint(old, singles("+4", "+6", "-1", "~2"), auto_leave=True)
        assert joint.voters == {3, 4, 6}
        assert joint.outgoing == {1, 2, 3}
        assert joint.learners == set()
        assert joint.learners_next == {2}, "a voter of the outgoing half cannot be a learner yet"
        assert joint.auto_leave
        assert joint.members == {1, 2, 3, 4, 6}
        assert leave_joint(joint) == configuration(3, 4, 6, learners=(2,))

    @pytest.mark.parametrize(
        ("transition", "words", "joint", "auto_leave"),
        [
            (ConfChangeTransition.AUTO, ("+4",), False, False),
            (ConfChangeTransition.AUTO, ("+4", "+5"), True, True),
            (ConfChangeTransition.JOINT_IMPLICIT, ("+4",), True, True),
            (ConfChangeTransition.JOINT_EXPLICIT, ("+4",), True, False),
        ],
    )
    def test_transitions(
        self, transition: ConfChangeTransition, words: tuple[str, ...], joint: bool, auto_leave: bool
    ) -> None:
        changed = apply_change(configuration(1, 2, 3), ConfChangeV2(int(transition), singles(*words)))
        assert (changed.joint, changed.auto_leave) == (joint, auto_leave)

    def test_only_leaving_is_allowed_inside(self) -> None:
        joint = enter_joint(configuration(1), singles("+2"), auto_leave=False)
        for change in (ConfChange(node_id=3), ConfChangeV2(1, singles("+3"))):
            with pytest.raises(ConfChangeError):
                apply_change(joint, change)
        assert apply_change(joint, ConfChangeV2()) == configuration(1, 2)

    def test_there_is_nothing_to_leave_outside(self) -> None:
        with pytest.raises(ConfChangeError, match="not in a joint"):
            apply_change(configuration(1), ConfChangeV2())

    def test_random_changes_keep_the_invariants(self) -> None:
        draw = random.Random(6)
        reached_joint = 0
        for _ in range(300):
            present = configuration(1)
            for _ in range(20):
                words = [f"{draw.choice('+~-')}{draw.randrange(1, 7)}" for _ in range(draw.randrange(1, 4))]
                change = ConfChangeV2(draw.randrange(3), singles(*words))
                if present.joint and draw.random() < 0.5:
                    change = ConfChangeV2()
                try:
                    after = apply_change(present, change)
                except ConfChangeError:
                    continue
                after.check()
                assert after.voters
                if not present.joint and not after.joint:
                    assert len(present.voters ^ after.voters) <= 1, "old and new majorities overlap"
                if after.joint:
                    reached_joint += 1
                    assert after.outgoing == (present.outgoing or present.voters)
                assert Configuration.from_state(after.to_state()) == after
                present = after
        assert reached_joint > 100


class TestStates:
    @pytest.mark.parametrize(
        "state",
        [
            ConfState([1], learners=[1]),
            ConfState([1], learners_next=[2]),
            ConfState([1, 2], voters_outgoing=[1, 2], learners_next=[2]),
            ConfState([1], auto_leave=True),
            ConfState([], voters_outgoing=[1]),
            ConfState([], learners=[1]),
            ConfState([0]),
        ],
    )
    def test_impossible_states_are_refused(self, state: ConfState) -> None:
        with pytest.raises(ConfChangeError):
            Configuration.from_state(state)

    def test_sorted_and_complete(self) -> None:
        state = ConfState([3, 1], [9, 8], [2, 1], [2], auto_leave=True)
        assert Configuration.from_state(state).to_state() == ConfState(
            [1, 3], [8, 9], [1, 2], [2], auto_leave=True
        )
