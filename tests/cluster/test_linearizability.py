"""A short run of ``tests.cluster.linearizability``, and whether its replay sees what it is there to see."""

from __future__ import annotations

import pytest
from tests.cluster.linearizability import Recorded, replay, run
from tests.servers import Kind

from petcd.pb import mvccpb


@pytest.mark.slow
def test_a_tormented_cluster_is_linearizable(kind: Kind) -> None:
    report = run(kind, seconds=22, clients=10, seed=3)
    print(report.describe())
    assert report.wrong == []
    assert len(report.faults) >= 3
    assert sum(operation.complete is not None for operation in report.recorded.history) > 500


def put(key: bytes, value: bytes, revision: int) -> mvccpb.Event:
    return mvccpb.Event(kv=mvccpb.KeyValue(key=key, value=value, mod_revision=revision))


def delete(key: bytes, revision: int) -> mvccpb.Event:
    kv = mvccpb.KeyValue(key=key, mod_revision=revision)
    return mvccpb.Event(type=mvccpb.EventType.DELETE, kv=kv)


EVENTS = [put(b"a", b"1", 2), put(b"b", b"2", 3), put(b"a", b"3", 5), delete(b"a", 6)]


def recorded(*reads: tuple[int, bytes, bytes | None, int]) -> Recorded:
    made = Recorded(reads=list(reads), asked={(b"a", b"1"), (b"b", b"2"), (b"a", b"3")})
    made.wrote(2, b"a", b"1")
    made.wrote(6, b"a", None)
    return made


def test_replay_accepts_what_is_true() -> None:
    reads = [
        (1, b"a", None, 0),
        (4, b"a", b"1", 2),
        (5, b"a", b"3", 5),
        (9, b"a", None, 0),
        (3, b"b", b"2", 3),
    ]
    assert replay(EVENTS, recorded(*reads)) == []


@pytest.mark.parametrize(
    "read",
    [
        (5, b"a", b"1", 2),  # stale: its header says 5
        (4, b"a", b"3", 5),  # from the future
        (5, b"a", b"3", 4),  # another mod revision
        (6, b"a", b"3", 5),  # deleted by then
        (3, b"b", None, 0),  # there by then
    ],
)
def test_replay_refuses_a_read_that_was_not_true(read: tuple[int, bytes, bytes | None, int]) -> None:
    assert len(replay(EVENTS, recorded(read))) == 1


def test_replay_refuses_what_is_lost_moved_doubled_or_made_up() -> None:
    assert "is lost" in replay(EVENTS[1:], recorded())[0]
    assert len(replay([put(b"a", b"1", 1), *EVENTS[1:]], recorded())) == 1
    assert "never asked" in replay([*EVENTS, put(b"b", b"9", 7)], recorded())[0]
    assert "never asked" in replay([*EVENTS, put(b"b", b"2", 7)], recorded())[0]
    assert "out of order" in replay([EVENTS[1], EVENTS[0], *EVENTS[2:]], recorded())[0]
    twice = recorded()
    twice.wrote(2, b"a", b"1")
    assert len(twice.failures) == 1
