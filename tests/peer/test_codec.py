"""Messages and entries as bytes: the examples of the contract, the protobuf classes as the other opinion."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petcd.pb import raftpb, splice
from petcd.pb.wire import DecodeError
from petcd.peer.codec import Route, decode_entry, decode_message, encode_entry, encode_message
from petcd.raft import (
    MSG_APP,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_SNAP,
    MSG_VOTE,
    ConfState,
    Entry,
    Message,
    Snapshot,
    SnapshotMetadata,
)


def decode(data: bytes) -> Message:
    return decode_message(data, 0, len(data))


uint64 = st.one_of(st.integers(0, 300), st.integers(0, (1 << 64) - 1))
entries = st.builds(Entry, uint64, uint64, st.integers(0, 2), st.binary(max_size=300))
snapshots = st.builds(
    Snapshot,
    st.binary(max_size=20),
    st.builds(
        SnapshotMetadata,
        st.builds(
            ConfState,
            st.lists(uint64, max_size=3),
            st.lists(uint64, max_size=3),
            st.lists(uint64, max_size=3),
            st.lists(uint64, max_size=3),
            st.booleans(),
        ),
        uint64,
        uint64,
    ),
)
messages = st.builds(
    Message,
    st.integers(0, 23),
    uint64,
    uint64,
    uint64,
    uint64,
    uint64,
    st.one_of(st.just(()), st.lists(entries, min_size=1, max_size=4)),
    uint64,
    st.none() | snapshots,
    st.booleans(),
    uint64,
    st.binary(max_size=40),
)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        # 3.7's MsgVote, and the forwarded read of 6.5 less its empty fields
        (Message(MSG_VOTE, 0x11, 0x12, 2, 1, 3), "0805 1011 1812 2002 2801 3003"),
        (
            Message(MSG_READ_INDEX, 1, 2, entries=[Entry(data=bytes.fromhex("fb9ba1fb7673d003"))]),
            "080f 1001 1802 3a10 080010001800 2208fb9ba1fb7673d003",
        ),
        (
            Message(MSG_APP_RESP, 1, 2, 3, log_term=2, index=5, reject=True, reject_hint=4),
            "0804 1001 1802 2003 2802 3005 5001 5804",
        ),
        (
            Message(MSG_HEARTBEAT, 1, 2, 2, commit=4, context=bytes.fromhex("0100000000000000")),
            "0808 1001 1802 2002 4004 62080100000000000000",
        ),
    ],
)
def test_written_form(message: Message, text: str) -> None:
    assert encode_message(message).hex() == text.replace(" ", "")
    assert decode(bytes.fromhex(text)) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # MsgVote of 3.4, with every scalar and an empty snapshot
        (
            "0805 1011 1812 2002 2801 3003 4000 4a0a12080a0228001000180050005800",
            Message(MSG_VOTE, 0x11, 0x12, 2, 1, 3, snapshot=Snapshot()),
        ),
        # of 3.6
        ("0805 1011 1812 2002 2801 3003 4000 5000 5800 6800", Message(MSG_VOTE, 0x11, 0x12, 2, 1, 3)),
        # an entry as 3.7 writes it, without its type
        ("0803 3a04 10021804", Message(MSG_APP, entries=[Entry(2, 4)])),
        # a vote and responses (3.6+), which this raft has no use for
        ("0804 1001 6802 7202 0804", Message(MSG_APP_RESP, 1)),
        # the same field twice: the last counts
        ("0804 1001 1002", Message(MSG_APP_RESP, 2)),
        # out of order, and fields nobody knows
        ("1001 0804 a20602 0000", Message(MSG_APP_RESP, 1)),
        ("", Message(0)),
    ],
)
def test_other_spellings(text: str, message: Message) -> None:
    assert decode(bytes.fromhex(text)) == message


@pytest.mark.parametrize(
    "text",
    [
        "08",
        "0803 3a05 10021804",
        "0803 3a04 100218",
        "0803 620a 00",
        "00 00",
        "0c",
        "0803 4a02 0a05",
        "08ffffffffffffffffffff01",
        "0803 3a06 080310021804",
    ],
)
def test_broken(text: str) -> None:
    with pytest.raises(DecodeError):
        decode(bytes.fromhex(text))


@settings(max_examples=100, deadline=None)
@given(messages)
def test_there_and_back(message: Message) -> None:
    assert decode(encode_message(message)) == message


@settings(max_examples=100, deadline=None)
@given(messages)
def test_the_protobuf_classes_agree(message: Message) -> None:
    """What is written means the same to them, and their full spelling means the same to us."""
    other = raftpb.Message.decode(encode_message(message))
    assert (other.type, other.to, other.from_, other.term) == (
        message.type,
        message.to,
        message.from_,
        message.term,
    )
    assert [(e.Type, e.Term, e.Index, e.Data) for e in other.entries] == [
        (e.type, e.term, e.index, e.data) for e in message.entries
    ]
    assert (other.snapshot is None) == (message.snapshot is None)
    assert decode(other.encode()) == message


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_soup(data: bytes) -> None:
    for read in (decode_message, decode_entry):
        try:
            read(data, 0, len(data))
        except DecodeError:
            continue


@settings(max_examples=100, deadline=None)
@given(messages, st.data())
def test_soup_near_a_message(message: Message, data: st.DataObject) -> None:
    encoded = bytearray(encode_message(message) or b"\0")
    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(encoded))
    except DecodeError:
        return


@settings(max_examples=100, deadline=None)
@given(messages, st.booleans())
def test_a_known_route_changes_nothing(message: Message, same: bool) -> None:
    """Whether it is the message's own, another or none."""
    route = Route(message.to, message.from_) if same else Route(0x8E9E05C52164694D, 7)
    data = encode_message(message)
    assert decode_message(data, 0, len(data), route) == decode(data)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40), st.booleans())
def test_soup_behind_a_known_route(data: bytes, cut: bool) -> None:
    route = Route(0x8E9E05C52164694D, 0x8211F1D0F64F3269)
    data = b"\x08\x03" + route.encoded + data
    end = 12 if cut else len(data)
    try:
        expected: Message | str = decode_message(data, 0, end)
    except DecodeError as error:
        expected = str(error)
    try:
        assert decode_message(data, 0, end, route) == expected
    except DecodeError:
        assert isinstance(expected, str)


def test_an_entry_is_encoded_once_for_log_and_followers() -> None:
    entry = Entry(3, 9, 0, b"data")
    message = Message(MSG_APP, 2, 1, 3, 3, 8, [entry])
    encode_message(message)
    made = entry.encoded
    assert made == splice.entry(0, 3, 9, b"data")
    assert encode_entry(entry) is made
    ((index, logged),) = splice.normal_entries([entry])
    assert (index, logged) == (9, made)
    assert logged is made
    assert entry.encoded is None, "the log keeps the entry, not both of its forms"


def test_a_received_entry_goes_into_the_log_as_it_came() -> None:
    encoded = splice.entry(0, 3, 9, b"data")
    entry = decode_entry(b"xx" + encoded + b"yy", 2, 2 + len(encoded))
    assert entry.encoded == encoded
    other = decode_entry(bytes.fromhex("10021804"), 0, 4)
    assert (other.term, other.index, other.encoded) == (2, 4, None), "what looks different is made anew"


def test_a_proposal_keeps_no_form() -> None:
    """It will get a term and an index, and maybe another when it is proposed again."""
    entry = Entry(data=b"put")
    encode_message(Message(MSG_PROP, 2, 1, entries=[entry]))
    assert entry.encoded is None


@pytest.mark.parametrize("entry", [Entry(data=b"put"), Entry(5, 6, 0, b"put")])
def test_a_forwarded_proposal_brings_no_form(entry: Entry) -> None:
    """The leader gives it its place in the log, whatever place it came with."""
    proposed = decode(encode_message(Message(MSG_PROP, 2, 1, entries=[entry])))
    assert proposed.entries == [entry]
    assert proposed.entries[0].encoded is None


def test_snapshots_are_written_in_full() -> None:
    """Releases up to 3.6 want every scalar here."""
    metadata = SnapshotMetadata(ConfState([1, 2]), 5, 2)
    encoded = encode_message(Message(MSG_SNAP, 2, 1, 2, snapshot=Snapshot(b"{}", metadata)))
    assert encoded.hex().endswith("0a027b7d120c0a0608010802280010051802")
