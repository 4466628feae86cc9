"""Go's spellings (contract cli section 1)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petcd.cli.etcdctl import golang


def test_quote_check_value() -> None:
    assert golang.quote(bytes.fromhex("6100ff01c3a909")) == '"a\\x00\\xff\\x01é\\t"'


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"", '""'),
        (b'say "hi" \\', '"say \\"hi\\" \\\\"'),
        (b"\a\b\f\n\r\t\v\x7f\x1b", '"\\a\\b\\f\\n\\r\\t\\v\\x7f\\x1b"'),
        ("\u00a0\u2028".encode(), '"\\u00a0\\u2028"'),
        ("\U0001f600".encode(), '"\U0001f600"'),
        ("\U000e0001".encode(), '"\\U000e0001"'),
        (b"\xe2\x28", '"\\xe2("'),
    ],
)
def test_quote(value: bytes, shown: str) -> None:
    assert golang.quote(value) == shown


@given(st.binary(max_size=30))
@settings(max_examples=100, deadline=None)
def test_unquote_undoes_quote(value: bytes) -> None:
    literal = golang.unquote(golang.quote(value))
    assert literal is not None
    assert golang.raw(literal) == value


@pytest.mark.parametrize(
    "literal", ['"', '"a', 'a"', '"\\x1"', '"\\q"', '"\\400"', '"\\ud800"', "'a'", '"a"b']
)
def test_unquote_refuses(literal: str) -> None:
    assert golang.unquote(literal) is None


@pytest.mark.parametrize(
    ("nanoseconds", "shown"),
    [
        (0, "0s"),
        (999, "999ns"),
        (903_138, "903.138µs"),
        (2_492_760, "2.49276ms"),
        (5_000_354_697, "5.000354697s"),
        (60_500_000_000, "1m0.5s"),
        (3_600_000_000_000, "1h0m0s"),
        (-1_500_000_000, "-1.5s"),
    ],
)
def test_durations(nanoseconds: int, shown: str) -> None:
    assert golang.duration(nanoseconds) == shown
    assert golang.parse_duration(shown) == nanoseconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abc", 'time: invalid duration "abc"'),
        ("", 'time: invalid duration ""'),
        ("5", 'time: missing unit in duration "5"'),
        ("5x", 'time: unknown unit "x" in duration "5x"'),
        ("1.2.3s", 'time: invalid duration "1.2.3s"'),
    ],
)
def test_bad_durations(text: str, message: str) -> None:
    with pytest.raises(golang.ParseError) as caught:
        golang.parse_duration(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (9, "9 B"),
        (10, "10 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (20480, "20 kB"),
        (20500, "20 kB"),
        (44999, "45 kB"),
        (2147483648, "2.1 GB"),
    ],
)
def test_sizes(count: int, shown: str) -> None:
    assert golang.size(count) == shown


@pytest.mark.parametrize(
    ("text", "base", "value"),
    [
        ("12", 10, 12),
        ("-3", 10, -3),
        ("+4", 10, 4),
        ("ff", 16, 255),
        ("0x1f", 0, 31),
        ("010", 0, 8),
        ("1_0", 0, 10),
    ],
)
def test_integers(text: str, base: int, value: int) -> None:
    assert golang.parse_int(text, base) == value


@pytest.mark.parametrize(
    ("text", "base", "why"),
    [
        ("zz", 16, "invalid syntax"),
        ("0x1", 16, "invalid syntax"),
        ("1_0", 10, "invalid syntax"),
        ("", 10, "invalid syntax"),
        ("--1", 10, "invalid syntax"),
        (" 1", 10, "invalid syntax"),
        ("9223372036854775808", 10, "value out of range"),
    ],
)
def test_bad_integers(text: str, base: int, why: str) -> None:
    with pytest.raises(golang.ParseError) as caught:
        golang.parse_int(text, base)
    assert str(caught.value) == f"strconv.ParseInt: parsing {golang.quote(text)}: {why}"
