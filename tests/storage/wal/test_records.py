"""The bytes of frames: against the contract's examples, and against a plain encoding of walpb.Record."""

from __future__ import annotations

import struct

import google_crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petcd.pb import raftpb, walpb
from petcd.storage.wal import encode_hard_state, records


def plain_frame(record_type: int, crc: int, data: bytes) -> bytes:
    body = walpb.Record(type=record_type, crc=crc, data=data).encode()
    padding = -len(body) % 8
    field = len(body) | ((0x80 | padding) << 56 if padding else 0)
    return struct.pack("<Q", field) + body + bytes(padding)


def test_head_of_a_new_log_is_the_contracts_example() -> None:
    metadata = bytes.fromhex("089188cbdae1e4d4ea6610f695a6bac6dfca8c48")
    head, crc = records.segment_head(0, metadata, None)
    assert head.startswith(bytes.fromhex("0400000000000084 0804100000000000"))
    assert crc == 0x0755E1AF
    frame, crc = records.chain(records.SNAPSHOT, crc, b"\x08\x00\x10\x00")
    assert crc == 0xAA50EB0D
    assert len(frame) % 8 == 0


@given(st.lists(st.binary(max_size=700), max_size=20), st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_entries_are_framed_as_the_plain_encoder_does(payloads: list[bytes], crc: int) -> None:
    parts: list[bytes] = []
    end, last = records.append_entries(parts, crc, list(enumerate(payloads, 1)))
    expected = b""
    for data in payloads:
        crc = google_crc32c.extend(crc, data)
        # An entry is never empty, so the encoder always writes the data; walpb leaves empty data out.
        expected += plain_frame(records.ENTRY, crc, data) if data else records.frame(records.ENTRY, crc, data)
    assert b"".join(parts) == expected
    assert end == crc
    assert last == len(payloads)


@given(
    st.sampled_from([records.METADATA, records.ENTRY, records.STATE, records.SNAPSHOT, 9, 200]),
    st.integers(0, 2**32 - 1),
    st.one_of(st.binary(min_size=1, max_size=40), st.integers(1, 9000).map(bytes)),
)
@settings(max_examples=200, deadline=None)
def test_every_record_is_framed_as_the_plain_encoder_does(kind: int, crc: int, data: bytes) -> None:
    for _ in range(2):  # by the table, which the first fills
        assert records.frame(kind, crc, data) == plain_frame(kind, crc, data)


@given(*[st.integers(0, 2**64 - 1)] * 3)
def test_hard_states_are_written_with_all_their_fields(term: int, vote: int, commit: int) -> None:
    state = raftpb.HardState(term=term, vote=vote, commit=commit)
    assert encode_hard_state(term, vote, commit) == state.encode()


def test_short_checksums_take_fewer_bytes() -> None:
    # One checksum in sixteen has its top four bits clear, and one in 2**11 even fewer bytes.
    seen = set()
    for i in range(30_000):
        data = i.to_bytes(4, "big")
        parts: list[bytes] = []
        crc, _ = records.append_entries(parts, 0, [(1, data)])
        if crc < 1 << 28:
            seen.add((crc.bit_length() + 6) // 7)
            assert b"".join(parts) == plain_frame(records.ENTRY, crc, data)
    assert {3, 4} <= seen


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("0000000000000000-0000000000000000.wal", (0, 0)),
        ("0000000000000001-000000000002ea19.wal", (1, 0x2EA19)),
        ("0000000000000001-000000000002ea19.wal.broken", None),
        ("0.tmp", None),
        ("x-y.wal", None),
        ("00.wal", None),
        ("-.wal", None),
        ("0_1-00.wal", None),
    ],
)
def test_segment_names(name: str, parsed: tuple[int, int] | None) -> None:
    assert records.parse_segment_name(name) == parsed
    if parsed is not None:
        assert records.segment_name(*parsed) == name


def test_torn_is_judged_by_sectors_of_the_file() -> None:
    body = b"x" * 2000
    assert not records.is_torn(body, 0, 2000, 8)
    # The second sector's share of a body that begins at offset 8 of the file.
    hole = body[:504] + bytes(512) + body[1016:]
    assert records.is_torn(hole, 0, 2000, 8)
    assert not records.is_torn(hole, 0, 2000, 100)
    assert records.is_torn(b"yy" + hole, 2, 2000, 8)
