"""Remembered header blocks must mean what a fresh decoder says they mean, always."""

from __future__ import annotations

import contextlib

import pytest
from hpack import Decoder, Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from petcd.net.http2.frames import ProtocolFault
from petcd.net.http2.headers import (
    BLOCKS_MAX,
    HeaderDecoder,
    HeaderEncoder,
    hpack_integer,
    literal,
    status_field,
)


def inserting(name: bytes, value: bytes) -> bytes:
    return b"\x40" + hpack_integer(len(name), 7, 0) + name + hpack_integer(len(value), 7, 0) + value


def use(decoder: HeaderDecoder[list[tuple[bytes, bytes]]], block: bytes) -> list[tuple[bytes, bytes]]:
    known = decoder.blocks.get(block)
    if known is not None:
        return known
    fields = decoder.decode(block)
    decoder.remember(block, fields)
    return fields


def test_a_repeated_block_is_remembered() -> None:
    decoder: HeaderDecoder[list[tuple[bytes, bytes]]] = HeaderDecoder(1 << 16)
    use(decoder, inserting(b"a", b"1"))
    use(decoder, b"\xbe")
    assert list(decoder.blocks) == [b"\xbe"]
    assert use(decoder, b"\xbe") == [(b"a", b"1")]


def test_a_block_that_inserts_is_never_remembered() -> None:
    """Played from memory it would not insert the second time."""
    decoder: HeaderDecoder[list[tuple[bytes, bytes]]] = HeaderDecoder(1 << 16)
    block = inserting(b"a", b"1")
    for _ in range(3):
        assert use(decoder, block) == [(b"a", b"1")]
        assert not decoder.blocks
    assert use(decoder, b"\xbe\xbf\xc0") == [(b"a", b"1")] * 3


def test_an_insertion_that_evicts_its_equal_is_a_change() -> None:
    """Length and size of the table stay the same; its content does not."""
    decoder: HeaderDecoder[list[tuple[bytes, bytes]]] = HeaderDecoder(1 << 16)
    big = 4096 - 32 - 1
    use(decoder, inserting(b"a", b"x" * big))
    assert use(decoder, b"\xbe") == [(b"a", b"x" * big)]
    use(decoder, inserting(b"a", b"y" * big))
    assert use(decoder, b"\xbe") == [(b"a", b"y" * big)]


def test_a_resize_to_nothing_and_back_is_a_change() -> None:
    decoder: HeaderDecoder[list[tuple[bytes, bytes]]] = HeaderDecoder(1 << 16)
    use(decoder, inserting(b"a", b"1"))
    use(decoder, b"\xbe")
    use(decoder, b"\x20\x3f\xe1\x1f\x88")
    with pytest.raises(ProtocolFault):
        use(decoder, b"\xbe")


def test_memory_is_bounded() -> None:
    decoder: HeaderDecoder[list[tuple[bytes, bytes]]] = HeaderDecoder(1 << 16)
    for i in range(BLOCKS_MAX * 3):
        use(decoder, literal(b"a", b"%d" % i))
        assert len(decoder.blocks) <= BLOCKS_MAX
    use(decoder, literal(b"a", b"x" * 10000))
    assert max(map(len, decoder.blocks)) < 10000


_fields = st.lists(
    st.tuples(
        st.sampled_from([b"a", b"b", b":path", b"content-type"]),
        st.sampled_from([b"", b"1", b"2", b"x" * 50, b"y" * 1500]),
    ),
    max_size=4,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(_fields, st.sampled_from([0, 100, 4096])), max_size=30))
def test_memory_never_changes_the_meaning(steps: list[object]) -> None:
    encoder, plain = Encoder(), Decoder()
    decoder: HeaderDecoder[list[tuple[bytes, bytes]]] = HeaderDecoder(1 << 20)
    for step in steps:
        if isinstance(step, int):
            # One change before each block, and a real one: the library's encoder loses others.
            if step != encoder.header_table_size and not encoder.table_size_changes:
                encoder.header_table_size = step
            continue
        block = encoder.encode(step)
        assert [tuple(x) for x in use(decoder, block)] == [tuple(x) for x in plain.decode(block, raw=True)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), max_size=40))
def test_our_encoder_and_any_decoder_agree(steps: list[tuple[int, int]]) -> None:
    encoder, decoder = HeaderEncoder(), Decoder()
    for kind, value in steps:
        if kind == 3:
            encoder.resize(value * 30)
            continue
        fields = [(b":path", b"/m%d" % kind), (b"token", b"t" * value)]
        block = encoder.encode((kind, value), fields)
        assert [tuple(x) for x in decoder.decode(block, raw=True)] == fields


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80))
def test_garbage_is_decoded_or_refused(block: bytes) -> None:
    decoder: HeaderDecoder[list[tuple[bytes, bytes]]] = HeaderDecoder(1 << 16)
    with contextlib.suppress(ProtocolFault):
        decoder.decode(block)


@pytest.mark.parametrize("status", [200, 204, 404, 415, 503])
def test_status(status: int) -> None:
    assert Decoder().decode(status_field(status), raw=True)[0] == (b":status", b"%d" % status)


@given(st.binary(max_size=300), st.binary(max_size=300))
@settings(max_examples=50, deadline=None)
def test_literal(name: bytes, value: bytes) -> None:
    assert [tuple(x) for x in Decoder().decode(literal(name, value), raw=True)] == [(name, value)]
