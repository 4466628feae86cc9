"""The report: its text to the letter, and its figures against statistics and brute force."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from petcd.cli.benchmark.numbers import shortest
from petcd.cli.benchmark.report import PERCENTILES, Report, histogram, percentile

MS = 1_000_000
SECOND = 1_000_000_000


def filled(milliseconds: Sequence[float], *, seconds: float = 2.0, **options: bool) -> Report:
    """A report of requests that all began at 0."""
    report = Report("put", **options)
    report.begin(0)
    for latency in milliseconds:
        report.add(0, int(latency * MS))
    report.end(int(seconds * SECOND))
    return report


GOLDEN = """
Summary:
  Total:	2.0000 secs.
  Slowest:	1.0000 secs.
  Fastest:	0.0010 secs.
  Average:	0.5005 secs.
  Stddev:	0.2887 secs.
  Requests/sec:	500.0000

Response time histogram:
  0.0010 [1]	|
  0.1009 [99]	|∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎
  0.2008 [100]	|∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎
  0.3007 [100]	|∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎
  0.4006 [100]	|∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎
  0.5005 [100]	|∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎
  0.6004 [100]	|∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎
  0.7003 [100]	|∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎
  0.8002 [100]	|∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎
  0.9001 [100]	|∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎
  1.0000 [100]	|∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎∎

Latency distribution:
  10% in 0.1010 secs.
  25% in 0.2510 secs.
  50% in 0.5010 secs.
  75% in 0.7510 secs.
  90% in 0.9010 secs.
  95% in 0.9510 secs.
  99% in 0.9910 secs.
  99.9% in 1.0000 secs.
"""


def test_a_thousand_requests_to_the_letter() -> None:
    """1 ms to 1000 ms: every figure can be reckoned by hand."""
    assert filled(range(1, 1001)).text() == GOLDEN


def test_errors_stand_below_the_commonest_first() -> None:
    report = filled(range(1, 1001))
    for text, count in (("etcdserver: request timed out", 2), ("b", 1), ("a", 1)):
        for _ in range(count):
            report.fail(text)
    assert report.text() == GOLDEN + (
        "\nError distribution:\n  [2]\tetcdserver: request timed out\n  [1]\ta\n  [1]\tb\n"
    )
    assert (report.answered, report.failed) == (1000, 4)


def test_a_report_of_errors_alone_has_no_summary() -> None:
    report = filled([])
    assert report.text() == ""
    report.fail("oops")
    assert report.text() == "\nError distribution:\n  [1]\toops\n"


def test_full_precision() -> None:
    text = filled([1.5, 2.25, 10], seconds=0.012, precise=True).text()
    assert text.startswith(
        "\nSummary:\n  Total:\t0.012 secs.\n  Slowest:\t0.01 secs.\n  Fastest:\t0.0015 secs.\n"
        "  Average:\t0.004583333333333333 secs.\n"
    )
    assert "  Requests/sec:\t250\n" in text
    assert "  0.0015 [1]\t|∎" in text


def test_one_request_fills_the_first_bucket() -> None:
    text = filled([3]).text()
    assert text.count("  0.0030 [") == 11
    assert "  0.0030 [1]\t|" + "∎" * 40 + "\n" in text
    # No percentile of a single request is known.
    assert text.endswith("\nLatency distribution:\n")


def test_samples_by_second_with_the_idle_ones() -> None:
    report = Report("put", sample=True, epoch=1_700_000_000 * SECOND)
    report.begin(0)
    for began, latency in ((0.1, 10), (0.2, 30), (0.9, 20), (3.5, 2.5)):
        start = int(began * SECOND)
        report.add(start, start + int(latency * MS))
    report.end(4 * SECOND)
    assert report.text().endswith(
        "\nSample in one second (unix latency throughput):\n"
        "UNIX-SECOND,MIN-LATENCY-MS,AVG-LATENCY-MS,MAX-LATENCY-MS,AVG-THROUGHPUT\n"
        "1700000000,10ms,20ms,30ms,3\n"
        "1700000001,0s,0s,0s,0\n"
        "1700000002,0s,0s,0s,0\n"
        "1700000003,2.5ms,2.5ms,2.5ms,1\n\n"
    )


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=300))
def test_the_summary_is_what_statistics_say(latencies: list[int]) -> None:
    report = Report("put")
    report.begin(5)
    for latency in latencies:
        report.add(7, 7 + latency)
    report.end(5 + 3 * SECOND)
    ordered = report.ordered()
    seconds = [latency / 1e9 for latency in latencies]
    summary = report.summary(ordered)
    assert ordered == sorted(seconds)
    assert (summary.fastest, summary.slowest) == (min(seconds), max(seconds))
    assert math.isclose(summary.average, statistics.fmean(seconds), rel_tol=1e-12)
    assert math.isclose(summary.deviation, statistics.pstdev(seconds), rel_tol=1e-9, abs_tol=1e-15)
    assert math.isclose(summary.per_second, len(latencies) / 3, rel_tol=1e-12)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=400), st.sampled_from(PERCENTILES))
def test_a_percentile_is_the_first_value_with_enough_before_it(values: list[int], percent: float) -> None:
    ordered = sorted(float(value) for value in values)
    enough = [value for at, value in enumerate(ordered) if at * 100.0 / len(ordered) >= percent]
    assert percentile(ordered, percent) == (enough[0] if enough else None)


@pytest.mark.parametrize("count", [1000, 4000, 10_001])
def test_percentiles_of_many_are_the_quantiles(count: int) -> None:
    """Of many values the choice among definitions moves a percentile by at most one rank."""
    ordered = [float(value) for value in range(count)]
    quantiles = statistics.quantiles(ordered, n=1000, method="inclusive")
    for percent in PERCENTILES:
        found = percentile(ordered, percent)
        assert found is not None
        assert abs(found - quantiles[round(percent * 10) - 1]) <= 1


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=300))
def test_every_value_is_in_the_lowest_bucket_that_holds_it(latencies: list[int]) -> None:
    ordered = sorted(latency / 1e9 for latency in latencies)
    rows = histogram(ordered)
    bounds = [bound for bound, _ in rows]
    expected = [0] * len(bounds)
    for value in ordered:
        expected[next(at for at, bound in enumerate(bounds) if value <= bound)] += 1
    assert [count for _, count in rows] == expected
    assert sum(expected) == len(latencies)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (10.0, "10"),
        (99.9, "99.9"),
        (123456.7, "123456.7"),
        (1000000.0, "1e+06"),
        (1234567.8, "1.2345678e+06"),
        (0.0001, "0.0001"),
        (0.00001234, "1.234e-05"),
        (-2.5, "-2.5"),
        (1e22, "1e+22"),
        (1e-100, "1e-100"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_numbers_as_go_prints_them(value: float, text: str) -> None:
    assert shortest(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_printed_is_the_number(value: float) -> None:
    assert float(shortest(value)) == value
