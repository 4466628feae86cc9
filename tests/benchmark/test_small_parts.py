"""Keys, the pacer, the line on a terminal, perf-dash's file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from petcd.cli.benchmark.display import Standing, line, span
from petcd.cli.benchmark.failures import Failure
from petcd.cli.benchmark.keys import check_space, numbered
from petcd.cli.benchmark.pacer import Pacer
from petcd.cli.benchmark.perfdash import document, write
from petcd.cli.benchmark.report import Report


@pytest.mark.parametrize(
    ("number", "key"),
    [(0, "00"), (1, "02"), (63, "7e"), (64, "8001"), (300, "d804"), (1 << 40, "808080808040")],
)
def test_keys_are_zigzag_varints(number: int, key: str) -> None:
    assert numbered(number, 0).hex() == key
    assert numbered(number, 8) == bytes.fromhex(key).ljust(8, b"\0")


@given(st.integers(1, 3000))
def test_a_key_space_has_as_many_keys_as_it_says(space: int) -> None:
    size = len(numbered(space - 1, 0))
    check_space(size, space)
    keys = {numbered(number, size) for number in range(space)}
    assert len(keys) == space
    assert {len(key) for key in keys} == {size}


@pytest.mark.parametrize(
    ("size", "space", "text"),
    [
        (8, 0, "expected positive --key-space-size, got (0)"),
        (1, 65, "--key-size 1 is too small for --key-space-size 65: it takes 2 bytes"),
    ],
)
def test_a_key_space_that_cannot_be(size: int, space: int, text: str) -> None:
    with pytest.raises(Failure) as caught:
        check_space(size, space)
    assert str(caught.value) == text


class Clock:
    """A clock that stands until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_moments_lie_evenly_apart() -> None:
    pacer = Pacer(100, Clock())
    assert [round(pacer.delay(), 9) for _ in range(4)] == [0.0, 0.01, 0.02, 0.03]


def test_a_little_lateness_is_made_up_for() -> None:
    clock = Clock()
    pacer = Pacer(1000, clock)
    pacer.delay()
    clock.now += 0.005
    # The moments at 1 to 5 ms have come.
    assert [pacer.delay() <= 1e-9 for _ in range(6)] == [True] * 5 + [False]


def test_a_long_pause_is_not() -> None:
    clock = Clock()
    pacer = Pacer(1000, clock)
    pacer.delay()
    clock.now += 60
    due = 0
    while pacer.delay() <= 0:
        due += 1
    assert due in (10, 11)  # ten milliseconds' worth; the moment that is just due may be off by a rounding


def drawn(done: int, total: int = 1000, columns: int = 100, **now: int) -> str:
    before = Standing(100, 0, 100 * 2_000_000)
    return line("put", total, Standing(done, **now), before, step=0.5, took=2.0, columns=columns)


def test_the_line_says_how_far_how_fast_and_how_long_yet() -> None:
    assert drawn(600, columns=80, latencies=100 * 2_000_000 + 500 * 4_000_000) == (
        "put [================>           ]  60.00%  600/1000  1000/s  mean 4ms  left 1s"
    )


def test_the_line_tells_failures() -> None:
    assert "  7 failed  " in drawn(600, failed=7)


def test_the_line_at_the_end() -> None:
    text = drawn(1000)
    assert ">" not in text
    assert "left" not in text
    assert "100.00%  1000/1000" in text


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(2, 300), st.integers(0, 10**9))
def test_the_line_never_wraps(done: int, total: int, columns: int, failed: int) -> None:
    assert len(drawn(done, total, columns, failed=failed, latencies=done)) < columns


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0s"), (59.4, "59s"), (59.6, "1m00s"), (185, "3m05s"), (3600, "1h00m"), (7620, "2h07m")],
)
def test_times_to_go_by(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_perf_dash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report("txn-put")
    for milliseconds in range(1, 101):
        report.add(0, milliseconds * 1_000_000)
    assert json.loads(document(report)) == {
        "version": "v1",
        "dataItems": [
            {
                "data": {"Perc50": 51.0, "Perc90": 91.0, "Perc99": 100.0},
                "labels": {"Operation": "TXN-PUT"},
                "unit": "ms",
            }
        ],
    }
    monkeypatch.setenv("ARTIFACTS", str(tmp_path / "a" / "b"))
    path = write(report, 1_700_000_000)
    assert path == tmp_path / "a" / "b" / "EtcdAPI_benchmark_txn-put_2023-11-14T22:13:20Z.json"
    assert path.read_text() == document(report)
