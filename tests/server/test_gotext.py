"""Go's texts, both ways."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petcd.server import gotext


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("5s", 5_000_000_000),
        ("+5s", 5_000_000_000),
        ("-1h5us", -3_600_000_005_000),
        (".5s", 500_000_000),
        ("1.s", 1_000_000_000),
        ("1m30s", 90_000_000_000),
        ("100ms", 100_000_000),
        ("3µs", 3_000),
        ("1.5h", 5_400_000_000_000),
        ("2562047h47m16.854775807s", (1 << 63) - 1),
    ],
)
def test_reads_durations(text: str, nanoseconds: int) -> None:
    assert gotext.parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", 'time: invalid duration ""'),
        (".", 'time: invalid duration "."'),
        ("x", 'time: invalid duration "x"'),
        ("-1", 'time: missing unit in duration "-1"'),
        ("5 s", 'time: unknown unit " s" in duration "5 s"'),
        ("3d", 'time: unknown unit "d" in duration "3d"'),
        ("9999999h", 'time: invalid duration "9999999h"'),
        ("--1s", 'time: invalid duration "--1s"'),
    ],
)
def test_refuses_durations_in_go_s_words(text: str, reason: str) -> None:
    with pytest.raises(gotext.SyntaxFault) as caught:
        gotext.parse_duration(text)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.1, "100ms"),
        (1, "1s"),
        (1.5, "1.5s"),
        (90, "1m30s"),
        (3600, "1h0m0s"),
        (7200.25, "2h0m0.25s"),
        (0.000001032, "1.032µs"),
        (-0.001032504, "-1.032504ms"),
        (3e-9, "3ns"),
    ],
)
def test_writes_durations(seconds: float, text: str) -> None:
    assert gotext.format_duration(seconds) == text


@settings(max_examples=100, deadline=None)
@given(st.integers(-(1 << 62), 1 << 62))
def test_durations_survive_the_round_trip(nanoseconds: int) -> None:
    assert gotext.parse_duration(gotext.format_nanoseconds(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("007", 7), ("0x10", 16), ("0b11", 3), ("0o17", 15), ("1_000", 1000), ("0x_ff", 255)],
)
def test_reads_integers_with_any_base(text: str, value: int) -> None:
    assert gotext.parse_uint(text) == value
    assert gotext.parse_int("-" + text) == -value


@pytest.mark.parametrize("text", ["", "-1", "+1", "abc", "1.5", " 1", "1 ", "08", "_1", "1__0", "010_", "٣"])
def test_refuses_what_is_not_an_unsigned_integer(text: str) -> None:
    with pytest.raises(gotext.SyntaxFault):
        gotext.parse_uint(text)


def test_keeps_integers_in_their_width() -> None:
    assert gotext.parse_uint(str((1 << 64) - 1)) == (1 << 64) - 1
    with pytest.raises(gotext.RangeFault):
        gotext.parse_uint(str(1 << 64))
    with pytest.raises(gotext.RangeFault):
        gotext.parse_uint("4294967296", 32)
    assert gotext.parse_int(str(-(1 << 63))) == -(1 << 63)
    with pytest.raises(gotext.RangeFault):
        gotext.parse_int(str(1 << 63))


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("a", '"a"'),
        ('a"b\\', '"a\\"b\\\\"'),
        ("a\nb\x01", '"a\\nb\\x01"'),
        ("ä日", '"ä日"'),
        ("\u200b\udc80", '"\\u200b\\x80"'),
    ],
)
def test_quotes_like_percent_q(text: str, quoted: str) -> None:
    assert gotext.quote(text) == quoted
