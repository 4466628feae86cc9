"""The set of alarms and what it refuses (contract wire-v3 section 10.2)."""

from __future__ import annotations

import pytest

from petcd import errors
from petcd.pb.etcdserverpb import AlarmMember
from petcd.server.alarms import CORRUPT, NONE, NOSPACE, Alarms
from petcd.storage import schema
from petcd.storage.memory_backend import MemoryBackend


def test_life_of_an_alarm() -> None:
    backend = MemoryBackend()
    alarms = Alarms(backend)
    assert alarms.activate(1, NONE) == []
    assert alarms.activate(2, NOSPACE) == alarms.activate(2, NOSPACE) == [(2, NOSPACE)]
    assert alarms.activate(1, CORRUPT) == [(1, CORRUPT)]
    assert alarms.get() == [(1, CORRUPT), (2, NOSPACE)]
    assert alarms.get(NOSPACE) == [(2, NOSPACE)]
    assert (alarms.is_active(2, NOSPACE), alarms.is_active(1, NOSPACE)) == (True, False)
    keys = [AlarmMember.decode(key) for key, value in backend.range(schema.ALARM, b"", None) if value == b""]
    assert [(one.memberID, one.alarm) for one in keys] == [(1, CORRUPT), (2, NOSPACE)]
    again = Alarms(backend)
    again.restore()
    assert again.get() == alarms.get()
    assert (again.any_active, again.nospace, again.corrupt) == (True, True, True)
    assert again.deactivate(1, NOSPACE) == []
    assert again.deactivate(1, CORRUPT) == [(1, CORRUPT)]
    assert (again.any_active, again.nospace, again.corrupt) == (True, True, False)
    assert again.deactivate(2, NOSPACE) == [(2, NOSPACE)]
    assert not again.any_active
    assert backend.range(schema.ALARM, b"", None) == []


def test_what_is_refused() -> None:
    alarms = Alarms(MemoryBackend())
    alarms.refuse_writes(needs_space=True)
    alarms.activate(9, NOSPACE)
    alarms.refuse_writes(needs_space=False)
    with pytest.raises(errors.NoSpace):
        alarms.refuse_writes(needs_space=True)
    alarms.activate(9, CORRUPT)
    for needs_space in (False, True):
        with pytest.raises(errors.Corrupt):
            alarms.refuse_writes(needs_space=needs_space)
