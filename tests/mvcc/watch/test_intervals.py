"""The interval map against a list."""

from __future__ import annotations

import time
from random import Random

import pytest

from petcd.mvcc.watch.intervals import IntervalMap


@pytest.mark.parametrize("seed", range(20))
def test_it_finds_what_a_walk_finds(seed: int) -> None:
    rng = Random(seed)
    intervals: IntervalMap[tuple[bytes, bytes | None]] = IntervalMap()
    model: set[tuple[bytes, bytes | None]] = set()

    def point() -> bytes:
        return bytes(rng.choice(b"abc") for _ in range(rng.randrange(1, 4)))

    for _ in range(300):
        start = point()
        end = rng.choice([None, start + b"\xff", point()])
        if end is not None and end <= start:
            continue
        interval = (start, end)
        if interval in model:
            assert intervals.get(start, end) == interval
            if rng.random() < 0.7:
                intervals.remove(start, end)
                model.remove(interval)
        else:
            assert intervals.get(start, end) is None
            intervals.put(start, end, interval)
            model.add(interval)
        where = point()
        found = intervals.at(where)
        assert len(found) == len(set(found))
        assert set(found) == {i for i in model if i[0] <= where and (i[1] is None or where < i[1])}
        assert found == sorted(found, key=lambda i: (i[0], i[1] is None, i[1] or b""))
        intervals.check()
        assert len(intervals) == len(model)


def test_ascending_inserts_stay_shallow() -> None:
    intervals: IntervalMap[int] = IntervalMap()
    for n in range(5000):
        intervals.put(b"/%05d/" % n, b"/%05d0" % n, n)
    assert intervals.at(b"/02500/x") == [2500]
    intervals.check()
    begin = time.perf_counter()
    for n in range(5000):
        intervals.remove(b"/%05d/" % n, b"/%05d0" % n)
    assert time.perf_counter() - begin < 5
    assert intervals.at(b"/02500/x") == []
