"""Varints and skipping, below the messages."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petcd.pb import wire
from petcd.pb.wire import VARINTS, DecodeError, delimited, long_varint, skip, tag, varint


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 64))
def test_varints_come_back(value: int, shift: int) -> None:
    value >>= shift
    encoded = varint(value)
    assert len(encoded) == max(1, -(-value.bit_length() // 7))
    assert long_varint(b"\xff" + encoded + b"\x00", 1) == (value, 1 + len(encoded))


@pytest.mark.parametrize("bits", range(65))
def test_varints_at_every_boundary(bits: int) -> None:
    for value in {max(0, 2**bits - 1), min(2**bits, 2**64 - 1), min(2**bits + 1, 2**64 - 1)}:
        out = bytearray()
        rest = value
        while rest > 127:
            out.append(rest % 128 + 128)
            rest //= 128
        out.append(rest)
        assert varint(value) == bytes(out)
        assert long_varint(bytes(out), 0) == (value, len(out))


def test_negative_numbers_are_two_s_complement() -> None:
    assert varint(-1) == b"\xff" * 9 + b"\x01"
    assert varint(-(2**63)) == b"\x80" * 9 + b"\x01"


def test_overlong_varints_are_read_up_to_ten_bytes() -> None:
    assert long_varint(b"\x81\x00", 0) == (1, 2)
    assert long_varint(b"\x81" + b"\x80" * 8 + b"\x00", 0) == (1, 10)
    with pytest.raises(DecodeError):
        long_varint(b"\x81" + b"\x80" * 9 + b"\x00", 0)
    with pytest.raises(IndexError):
        long_varint(b"\x80\x80", 0)


def test_tags_and_the_table() -> None:
    assert tag(1, 2) == b"\x0a"
    assert tag(100, 2) == b"\xa2\x06"
    assert tag(9900, 2) == varint(9900 * 8 + 2)
    assert all(varint(n) == entry for n, entry in enumerate(VARINTS))
    assert delimited(b"\x12", b"x" * 3000) == b"\x12" + varint(3000) + b"x" * 3000


def test_skip_passes_over_each_wire_type() -> None:
    for field_tag, value in (
        (0x08, b"\xff\x01"),
        (0x09, b"12345678"),
        (0x0A, b"\x03abc"),
        (0x0D, b"1234"),
        (0x0B, b"\x10\x01\x13\x1a\x01x\x14\x0c"),
    ):
        assert skip(value, 0, len(value), field_tag) == len(value)


def test_varint_remembers_a_bounded_number_of_upper_halves() -> None:
    for n in range(2 * wire._HEADS_MAX):
        value = n << 40 | 5
        encoded = varint(value)
        assert long_varint(encoded, 0) == (value, len(encoded))
    assert len(wire._heads) <= wire._HEADS_MAX
