"""The two streams: examples of the contract, every way to cut the bytes, and soup."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.peer.test_codec import entries as some_entries
from tests.peer.test_codec import messages

from petcd.peer.framing import (
    MESSAGE_BYTES_MAX,
    U64,
    MessageReader,
    MessageWriter,
    MsgAppReader,
    MsgAppWriter,
    StreamFault,
)
from petcd.raft import MSG_APP, MSG_HEARTBEAT, Entry, Message


def written(writer: MessageWriter | MsgAppWriter, *sent: Message) -> bytes:
    out: list[bytes] = []
    for message in sent:
        writer.write(message, out)
    return b"".join(out)


def app(index: int, *entries: Entry, term: int = 2, log_term: int = 2, commit: int = 0) -> Message:
    return Message(MSG_APP, 7, 9, term, log_term, index, list(entries) or (), commit)


# --- message ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "heartbeat",
    [
        "000000000000001e 08081000180020002800300040004a0a12080a0228001000180050005800",
        "0000000000000014 0808100018002000280030004000500058006800",
        "0000000000000002 0808",
    ],
)
def test_link_heartbeats_of_all_releases_are_no_messages(heartbeat: str) -> None:
    assert MessageReader(9, 7).feed(bytes.fromhex(heartbeat)) == []
    assert MessageWriter.link_heartbeat.hex() == "00000000000000020808"


def test_a_heartbeat_of_raft_is_a_message() -> None:
    reader = MessageReader(9, 7)
    (message,) = reader.feed(bytes.fromhex("0000000000000006 0808 1001 1802"))
    assert message == Message(MSG_HEARTBEAT, 1, 2)


@settings(max_examples=50, deadline=None)
@given(st.lists(messages, max_size=5), st.data())
def test_messages_however_they_are_cut(sent: list[Message], data: st.DataObject) -> None:
    sent = [message for message in sent if message.from_]
    stream = written(MessageWriter(), *sent)
    assert fed(MessageReader(9, 7), cut(stream, data)) == sent


def test_a_message_over_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(StreamFault, match="limit"):
        MessageReader(9, 7).feed(U64.pack(MESSAGE_BYTES_MAX + 1))


# --- msgapp ----------------------------------------------------------------------------------------------

FULL_37 = (
    "02 0000000000000025 0803109b91c5bfe9e6aec8d401189bf7cfaeb594aca06d 2002 2801 3003 3a04 10021804 4003"
)


def test_the_contracts_examples() -> None:
    reader = MsgAppReader(9, 7)
    (full,) = reader.feed(bytes.fromhex(FULL_37))
    assert full == Message(MSG_APP, 0xD490BB3697F1489B, 0x6D40B0A355D3FB9B, 2, 1, 3, [Entry(2, 4)], 3)
    # Index and term go on from there.
    assert reader.feed(bytes.fromhex("01 0000000000000000 0000000000000006")) == [app(4, commit=6)]
    entry = "0800100218092204deadbeef"
    stream = f"01 0000000000000001 {len(entry) // 2:016x} {entry} 0000000000000008"
    assert reader.feed(bytes.fromhex(stream)) == [app(4, Entry(2, 9, 0, b"\xde\xad\xbe\xef"), commit=8)]
    assert reader.feed(b"\0\0\0") == []
    assert reader.feed(bytes.fromhex("01 0000000000000000 0000000000000009")) == [app(5, commit=9)]


def test_what_follows_in_order_takes_the_short_form() -> None:
    writer = MsgAppWriter()
    assert written(writer, app(3, Entry(2, 4), log_term=1))[0] == 2, "first: in full"
    assert written(writer, app(4, Entry(2, 5), Entry(2, 6)))[0] == 1
    assert written(writer, app(6, commit=6)).hex() == "01" + "00" * 8 + "0000000000000006"
    assert written(writer, app(7))[0] == 2, "a gap"
    assert written(writer, app(7))[0] == 1
    assert written(writer, app(7, term=3))[0] == 2, "a new term over an old entry"
    assert written(writer, app(7, term=3, log_term=3))[0] == 1
    assert written(MsgAppWriter(), app(0, term=0, log_term=0))[0] == 1, "the state at the start is zero"


apps = st.lists(
    st.builds(
        lambda index, run, term, log_term, commit: Message(
            MSG_APP,
            7,
            9,
            term,
            log_term,
            index,
            [Entry(e.term, index + 1 + n, e.type, e.data) for n, e in enumerate(run)] or (),
            commit,
        ),
        st.integers(0, 4),
        st.lists(some_entries, max_size=4),
        st.integers(0, 2),
        st.integers(0, 2),
        st.integers(0, 10),
    ),
    max_size=8,
)


@settings(max_examples=100, deadline=None)
@given(apps, st.data())
def test_msgapps_however_they_are_cut(sent: list[Message], data: st.DataObject) -> None:
    writer = MsgAppWriter()
    stream = b"".join(written(writer, message) + b"\0" * (n % 3) for n, message in enumerate(sent))
    reader = MsgAppReader(9, 7)
    assert fed(reader, cut(stream, data)) == sent
    assert not reader.midway


@pytest.mark.parametrize(
    "stream",
    [
        "03",
        "ff",
        "02 0000000000000002 0808",  # not a MsgApp
        "02 0000000020000001",
        "02 0000000000000001 08",
        "01 0000000000000001 0000000020000001",
        "01 0000000000000001 0000000000000001 08",
    ],
)
def test_broken_streams(stream: str) -> None:
    with pytest.raises(StreamFault):
        MsgAppReader(9, 7).feed(bytes.fromhex(stream))


def test_endless_empty_entries_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take few bytes on the wire and many here."""
    monkeypatch.setattr("petcd.peer.framing.MESSAGE_BYTES_MAX", 1 << 20)
    reader = MsgAppReader(9, 7)
    reader.feed(b"\x01" + b"\xff" * 8)
    reader.feed(bytes(8 * 8000))
    with pytest.raises(StreamFault, match="limit"):
        reader.feed(bytes(8 * 8000))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=5))
def test_soup(pieces: list[bytes]) -> None:
    for reader in (MessageReader(9, 7), MsgAppReader(9, 7)):
        try:
            for piece in pieces:
                reader.feed(piece)
        except StreamFault:
            continue


def test_a_large_message_in_many_pieces_costs_no_more_than_its_bytes() -> None:
    """The pieces are joined once: a hundred thousand of them are done in a moment."""
    message = app(3, Entry(2, 4, 0, bytes(4 << 20)), log_term=1)
    stream = written(MsgAppWriter(), message)
    reader = MsgAppReader(9, 7)
    out = []
    for at in range(0, len(stream), 100):
        out += reader.feed(stream[at : at + 100])
    assert out == [message]


def cut(stream: bytes, data: st.DataObject) -> list[bytes]:
    places = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    return [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]


def fed(reader: MessageReader | MsgAppReader, pieces: list[bytes]) -> list[Message]:
    out = []
    for piece in pieces:
        out += reader.feed(piece)
    return out
