"""kill -9 at random moments: the short form of ``python -m tests.crash``."""

from __future__ import annotations

import pytest
from tests.crash import kill
from tests.crash.check import hash_of

from petcd.pb import mvccpb


@pytest.mark.slow
def test_acknowledged_puts_survive_kills() -> None:
    report = kill.run("petcd", rounds=8, seed=11)
    assert not report.wrong, report.describe()
    assert report.acknowledged > 2000, report.describe()


@pytest.mark.slow
def test_they_survive_with_segments_and_snapshots_turning_over() -> None:
    """Small snapshot intervals make every crash meet snapshots and purges too."""
    report = kill.run("petcd", rounds=3, seed=12, args=("--snapshot-count=500",))
    assert not report.wrong, report.describe()


def test_the_replay_computes_etcd_s_own_hash() -> None:
    """The contract's test vector (section 8.4), never compacted."""

    def put(
        key: bytes, revision: int, create: int, version: int, value: bytes, lease: int = 0
    ) -> mvccpb.Event:
        kv = mvccpb.KeyValue(
            key=key, value=value, lease=lease, create_revision=create, mod_revision=revision, version=version
        )
        return mvccpb.Event(kv=kv)

    events = [
        put(b"a", 2, 2, 1, b"1"),
        put(b"a", 3, 2, 2, b"2"),
        put(b"x", 4, 4, 1, b""),
        put(b"y", 4, 4, 1, b"q"),
        mvccpb.Event(type=mvccpb.EventType.DELETE, kv=mvccpb.KeyValue(key=b"a", mod_revision=5)),
        put(b"y", 6, 4, 2, b"z", lease=99),
        put(b"a", 7, 7, 1, b"9"),
    ]
    assert hash_of([]) == 1084519789
    assert hash_of(events[:1]) == 2587454935
    assert hash_of(events[:4]) == 548246512
    assert hash_of(events[:5]) == 337674203
    assert hash_of(events) == 1138148878
