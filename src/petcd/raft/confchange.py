"""Changes of the membership: their bytes, and what each does to a configuration.

A simple change alters at most one voter, so that old and new majorities overlap (thesis 4.1). Anything larger
goes through a joint configuration, in which both majorities must agree (Raft paper section 6, thesis 4.3):

    C_old --enter_joint--> C_old,new --leave_joint--> C_new

The functions are pure: a configuration goes in, the next one comes out or ``ConfChangeError`` is raised.
The bytes are those of raftpb.ConfChange and raftpb.ConfChangeV2 with only set fields written; this room
encodes them itself because it imports nothing. Source: contract page "peer", 6.7 and 7.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Final

from petcd.raft.entry import ENTRY_CONF_CHANGE, ENTRY_CONF_CHANGE_V2, ConfState, Entry
from petcd.raft.errors import ConfChangeError


class ConfChangeType(IntEnum):
    """What happens to one member."""

    ADD_NODE = 0
    REMOVE_NODE = 1
    UPDATE_NODE = 2
    ADD_LEARNER_NODE = 3


ADD_NODE: Final = 0
REMOVE_NODE: Final = 1
UPDATE_NODE: Final = 2
ADD_LEARNER_NODE: Final = 3


class ConfChangeTransition(IntEnum):
    """How a change of several members is carried out.

    AUTO uses the simple way where it can; JOINT_IMPLICIT always goes through a joint configuration and leaves
    it by itself; JOINT_EXPLICIT waits for an empty change that says so.
    """

    AUTO = 0
    JOINT_IMPLICIT = 1
    JOINT_EXPLICIT = 2


@dataclass(slots=True)
class ConfChangeSingle:
    """One member's change. Member 0 stands for "no effect": so the server blanks what it found invalid."""

    type: int = ADD_NODE
    node_id: int = 0


@dataclass(slots=True)
class ConfChange:
    """The only change etcd proposes: one member; ``id`` is the request's, ``context`` the server's own."""

    id: int = 0
    type: int = ADD_NODE
    node_id: int = 0
    context: bytes = b""

    def as_v2(self) -> ConfChangeV2:
        return ConfChangeV2(changes=[ConfChangeSingle(self.type, self.node_id)], context=self.context)


@dataclass(slots=True)
class ConfChangeV2:
    """Any number of members at once; without changes (and AUTO) it leaves the joint configuration."""

    transition: int = 0
    changes: list[ConfChangeSingle] = field(default_factory=list)
    context: bytes = b""

    def as_v2(self) -> ConfChangeV2:
        return self

    @property
    def leaves_joint(self) -> bool:
        return self.transition == ConfChangeTransition.AUTO and not self.changes

    @property
    def enters_joint(self) -> bool:
        """Whether the joint way is asked for, or needed because of the number of changes."""
        return self.transition != ConfChangeTransition.AUTO or len(self.changes) > 1

    @property
    def auto_leave(self) -> bool:
        return self.transition != ConfChangeTransition.JOINT_EXPLICIT


AnyConfChange = ConfChange | ConfChangeV2


# -- configurations ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Configuration:
    """Who belongs to the cluster.

    Invariants: a learner is not a voter of either half; ``learners_next`` is part of ``outgoing``, not of
    ``voters`` and not of ``learners``; outside of a joint configuration ``outgoing`` and ``learners_next``
    are empty and ``auto_leave`` is False.
    """

    voters: frozenset[int] = frozenset()
    outgoing: frozenset[int] = frozenset()
    learners: frozenset[int] = frozenset()
    learners_next: frozenset[int] = frozenset()
    auto_leave: bool = False

    @property
    def joint(self) -> bool:
        return bool(self.outgoing)

    @property
    def members(self) -> frozenset[int]:
        return self.voters | self.outgoing | self.learners

    def check(self) -> None:
        """Raise ``ConfChangeError`` where an invariant does not hold (stored and sent configurations)."""
        if self.learners & (self.voters | self.outgoing):
            raise ConfChangeError("a member is both voter and learner")
        if not self.learners_next <= self.outgoing:
            raise ConfChangeError("a member to be demoted is not an outgoing voter")
        if self.learners_next & self.voters:
            raise ConfChangeError("a member to be demoted is an incoming voter")
        if not self.outgoing and self.auto_leave:
            raise ConfChangeError("auto-leave outside of a joint configuration")
        if not self.voters and (self.outgoing or self.learners):
            raise ConfChangeError("a configuration without voters")
        if 0 in self.members:
            raise ConfChangeError("member id 0")

    def to_state(self) -> ConfState:
        return ConfState(
            voters=sorted(self.voters),
            learners=sorted(self.learners),
            voters_outgoing=sorted(self.outgoing),
            learners_next=sorted(self.learners_next),
            auto_leave=self.auto_leave,
        )

    @classmethod
    def from_state(cls, state: ConfState) -> Configuration:
        """Raises: ``ConfChangeError`` where the state is not one that changes can lead to."""
        configuration = cls(
            voters=frozenset(state.voters),
            outgoing=frozenset(state.voters_outgoing),
            learners=frozenset(state.learners),
            learners_next=frozenset(state.learners_next),
            auto_leave=state.auto_leave,
        )
        configuration.check()
        return configuration


def apply_change(configuration: Configuration, change: AnyConfChange) -> Configuration:
    """The configuration after ``change``, by the way the change asks for."""
    v2 = change.as_v2()
    if v2.changes and not any(single.node_id for single in v2.changes):
        return configuration
    if v2.leaves_joint:
        return leave_joint(configuration)
    if v2.enters_joint:
        return enter_joint(configuration, v2.changes, auto_leave=v2.auto_leave)
    return simple(configuration, v2.changes)


def simple(configuration: Configuration, changes: Sequence[ConfChangeSingle]) -> Configuration:
    """Apply changes that alter at most one voter."""
    if configuration.joint:
        raise ConfChangeError("a simple change inside a joint configuration")
    changed = _change(configuration, changes)
    if len(changed.voters ^ configuration.voters) > 1:
        raise ConfChangeError("more than one voter changed without a joint configuration")
    return changed


def enter_joint(
    configuration: Configuration, changes: Sequence[ConfChangeSingle], *, auto_leave: bool
) -> Configuration:
    """The present voters become the outgoing half, the changes make the incoming one."""
    if configuration.joint:
        raise ConfChangeError("already in a joint configuration")
    if not configuration.voters:
        raise ConfChangeError("a configuration without voters cannot become joint")
    joint = replace(configuration, outgoing=configuration.voters, auto_leave=auto_leave)
    return _change(joint, changes)


def leave_joint(configuration: Configuration) -> Configuration:
    """The incoming half stands alone; demoted voters become learners now."""
    if not configuration.joint:
        raise ConfChangeError("not in a joint configuration")
    return Configuration(
        voters=configuration.voters,
        learners=configuration.learners | configuration.learners_next,
    )


def _change(configuration: Configuration, changes: Iterable[ConfChangeSingle]) -> Configuration:
    voters = set(configuration.voters)
    learners = set(configuration.learners)
    learners_next = set(configuration.learners_next)
    for change in changes:
        member = change.node_id
        if member == 0:
            continue
        if change.type == ADD_NODE:
            voters.add(member)
            learners.discard(member)
            learners_next.discard(member)
        elif change.type == ADD_LEARNER_NODE:
            voters.discard(member)
            if member in configuration.outgoing:
                # It still votes in the outgoing half, and a voter must not be a learner.
                learners_next.add(member)
            else:
                learners.add(member)
        elif change.type == REMOVE_NODE:
            voters.discard(member)
            learners.discard(member)
            learners_next.discard(member)
        elif change.type != UPDATE_NODE:
            raise ConfChangeError(f"unknown type {change.type} of a configuration change")
    if not voters:
        raise ConfChangeError("the change would remove all voters")
    changed = replace(
        configuration,
        voters=frozenset(voters),
        learners=frozenset(learners),
        learners_next=frozenset(learners_next),
    )
    changed.check()
    return changed


# -- bytes ---------------------------------------------------------------------------------------------------


def encode_conf_change(change: AnyConfChange) -> tuple[int, bytes]:
    """The entry type and data of a change."""
    out = bytearray()
    if isinstance(change, ConfChange):
        _put_varint(out, 0x08, change.id)
        _put_varint(out, 0x10, change.type)
        _put_varint(out, 0x18, change.node_id)
        _put_bytes(out, 0x22, change.context)
        return ENTRY_CONF_CHANGE, bytes(out)
    _put_varint(out, 0x08, change.transition)
    for single in change.changes:
        inner = bytearray()
        _put_varint(inner, 0x08, single.type)
        _put_varint(inner, 0x10, single.node_id)
        out.append(0x12)
        _append_varint(out, len(inner))
        out += inner
    _put_bytes(out, 0x1A, change.context)
    return ENTRY_CONF_CHANGE_V2, bytes(out)


def decode_conf_change(entry: Entry) -> AnyConfChange:
    """The change an entry carries. Raises: ``ConfChangeError`` where it is not one."""
    if entry.type == ENTRY_CONF_CHANGE:
        change = ConfChange()
        for number, value in _fields(entry.data):
            if number == 1:
                change.id = _integer(value)
            elif number == 2:
                change.type = _integer(value)
            elif number == 3:
                change.node_id = _integer(value)
            elif number == 4:
                change.context = _bytes(value)
        return change
    if entry.type == ENTRY_CONF_CHANGE_V2:
        v2 = ConfChangeV2()
        for number, value in _fields(entry.data):
            if number == 1:
                v2.transition = _integer(value)
            elif number == 2:
                v2.changes.append(_decode_single(_bytes(value)))
            elif number == 3:
                v2.context = _bytes(value)
        return v2
    raise ConfChangeError(f"an entry of type {entry.type} carries no configuration change")


def _decode_single(data: bytes) -> ConfChangeSingle:
    single = ConfChangeSingle()
    for number, value in _fields(data):
        if number == 1:
            single.type = _integer(value)
        elif number == 2:
            single.node_id = _integer(value)
    return single


def _put_varint(out: bytearray, tag: int, value: int) -> None:
    if value:
        out.append(tag)
        _append_varint(out, value)


def _put_bytes(out: bytearray, tag: int, value: bytes) -> None:
    if value:
        out.append(tag)
        _append_varint(out, len(value))
        out += value


def _append_varint(out: bytearray, value: int) -> None:
    assert 0 <= value < 1 << 64
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ConfChangeError("a configuration change ends inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise ConfChangeError("a number of a configuration change has more than ten bytes")


def _fields(data: bytes) -> list[tuple[int, int | bytes]]:
    fields: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        kind = tag & 7
        if kind == 0:
            number, at = _read_varint(data, at)
            fields.append((tag >> 3, number))
            continue
        if kind == 2:
            size, at = _read_varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ConfChangeError(f"wire type {kind} in a configuration change")
        if size > len(data) - at:
            raise ConfChangeError("a configuration change ends inside a field")
        fields.append((tag >> 3, data[at : at + size]))
        at += size
    return fields


def _integer(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ConfChangeError("bytes in the place of a number in a configuration change")
    return value


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ConfChangeError("a number in the place of bytes in a configuration change")
    return value
