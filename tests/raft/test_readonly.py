"""``readonly.py``: rounds of heartbeats that confirm reads."""

from __future__ import annotations

from petcd.raft.readonly import PendingRead, ReadOnly


def read(context: bytes, index: int = 5) -> PendingRead:
    return PendingRead(1, context, index)


def contexts(reads: list[PendingRead]) -> list[bytes]:
    return [pending.context for pending in reads]


def test_reads_of_one_turn_share_a_round() -> None:
    reads = ReadOnly()
    reads.add(read(b"a"))
    reads.add(read(b"b"))
    assert reads.due
    reads.begin_round(1)
    assert not reads.due
    assert reads.round == 1
    assert contexts(reads.release(1)) == [b"a", b"b"]
    assert reads.context == b""


def test_a_read_after_the_round_began_waits_for_the_next() -> None:
    reads = ReadOnly()
    reads.add(read(b"a"))
    reads.begin_round(1)
    first = reads.context
    reads.add(read(b"b"))
    reads.begin_round(1)
    assert reads.echoed(2, first)
    assert contexts(reads.release(reads.confirmed[2])) == [b"a"]
    assert reads.echoed(2, reads.context)
    assert contexts(reads.release(reads.confirmed[2])) == [b"b"]


def test_a_later_echo_confirms_earlier_rounds() -> None:
    reads = ReadOnly()
    for context in (b"a", b"b", b"c"):
        reads.add(read(context))
        reads.begin_round(1)
    assert reads.echoed(3, reads.context)
    assert contexts(reads.release(3)) == [b"a", b"b", b"c"]


def test_what_was_not_asked_is_not_confirmed() -> None:
    reads = ReadOnly()
    reads.add(read(b"a"))
    reads.begin_round(1)
    for context in (b"", b"short", (2).to_bytes(8, "little"), b"\xff" * 8, bytes(8)):
        assert not reads.echoed(2, context)
    assert reads.echoed(2, (1).to_bytes(8, "little"))
    assert not reads.echoed(2, (1).to_bytes(8, "little")), "no news"


def test_rounds_go_on_after_a_change_of_the_leader() -> None:
    """An echo from before can therefore never be taken for one of a round of now."""
    reads = ReadOnly()
    reads.add(read(b"a"))
    reads.begin_round(1)
    old = reads.context
    reads.clear()
    reads.add(read(b"b"))
    reads.begin_round(1)
    assert reads.context != old
    reads.echoed(2, old)
    assert contexts(reads.release(reads.confirmed.get(2, 0))) == []
