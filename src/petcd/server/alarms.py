"""The replicated set of alarms (contract wire-v3 section 10.2)."""

from __future__ import annotations

from typing import Final

from petcd import errors
from petcd.pb.etcdserverpb import AlarmMember
from petcd.storage import schema
from petcd.storage.backend import Backend

NONE: Final = 0
NOSPACE: Final = 1
CORRUPT: Final = 2

NAMES: Final = {NONE: "NONE", NOSPACE: "NOSPACE", CORRUPT: "CORRUPT"}

GET: Final = 0
ACTIVATE: Final = 1
DEACTIVATE: Final = 2


class Alarms:
    """Which (member, alarm) pairs are active; ``nospace`` and ``corrupt`` stand beside for the hot path."""

    __slots__ = ("_active", "_backend", "any_active", "corrupt", "nospace")

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._active: set[tuple[int, int]] = set()
        self.nospace = self.corrupt = self.any_active = False

    def restore(self) -> None:
        self._active = set()
        for key, _ in self._backend.range(schema.ALARM, b"", None):
            record = AlarmMember.decode(key)
            self._active.add((record.memberID, record.alarm))
        self._note()

    def get(self, alarm: int = NONE) -> list[tuple[int, int]]:
        """(member id, alarm) pairs in order; all of them for NONE."""
        return sorted(pair for pair in self._active if alarm in (NONE, pair[1]))

    def is_active(self, member_id: int, alarm: int) -> bool:
        return (member_id, alarm) in self._active

    def activate(self, member_id: int, alarm: int) -> list[tuple[int, int]]:
        """The pair that is active now, also when it was before; nothing for NONE."""
        if alarm == NONE:
            return []
        self._active.add((member_id, alarm))
        self._backend.put(schema.ALARM, self._key(member_id, alarm), b"")
        self._note()
        return [(member_id, alarm)]

    def deactivate(self, member_id: int, alarm: int) -> list[tuple[int, int]]:
        """The pair that was removed, or nothing."""
        if (member_id, alarm) not in self._active:
            return []
        self._active.discard((member_id, alarm))
        self._backend.delete(schema.ALARM, self._key(member_id, alarm))
        self._note()
        return [(member_id, alarm)]

    def refuse_writes(self, *, needs_space: bool) -> None:
        """The check in front of every mutating request.

        Raises:
            Corrupt, NoSpace: in this order.
        """
        if self.corrupt:
            raise errors.Corrupt()
        if needs_space and self.nospace:
            raise errors.NoSpace()

    def _note(self) -> None:
        self.any_active = bool(self._active)
        self.nospace = any(alarm == NOSPACE for _, alarm in self._active)
        self.corrupt = any(alarm == CORRUPT for _, alarm in self._active)

    @staticmethod
    def _key(member_id: int, alarm: int) -> bytes:
        return AlarmMember(memberID=member_id, alarm=alarm).encode()
