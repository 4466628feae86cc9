"""Our codec against Google's, on every message type, and on bytes that are no message at all."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.pb.oracle import ALL, PeerDecodeError, from_peer, peer, random_message, to_peer

from petcd.pb import DecodeError, etcdserverpb, mvccpb, raftpb, which
from petcd.pb.message import Message
from petcd.pb.wire import delimited

# Protobuf's Python keeps a string's bytes unchecked in proto2 only; ours keeps those of the old v2 request.
_LOOSE = {"etcdserverpb.Request", "etcdserverpb.InternalRaftRequest"}
_STRICT = [cls for cls in ALL if cls.FULL_NAME not in _LOOSE]


def _names(classes: list[type[Message]]) -> list[str]:
    return [cls.FULL_NAME for cls in classes]


@pytest.mark.parametrize("cls", ALL, ids=_names(ALL))
def test_random_messages_agree_with_protobuf_both_ways(cls: type[Message]) -> None:
    rng = random.Random(cls.FULL_NAME)
    for _ in range(60 if cls.FIELDS else 1):
        ours = random_message(rng, cls)
        theirs = to_peer(ours)
        encoded = ours.encode()
        assert encoded == theirs.SerializeToString(deterministic=True)
        assert peer(cls).FromString(encoded) == theirs
        decoded = cls.decode(encoded)
        # An always emitted sub-message that was None comes back as an empty one; so it is in protobuf.
        assert decoded == from_peer(cls, theirs)
        assert decoded.encode() == encoded
        padded = b"\xff" + encoded + b"\xff"
        assert cls.decode(padded, 1, len(padded) - 1) == decoded


@pytest.mark.parametrize("cls", ALL, ids=_names(ALL))
def test_an_empty_message_has_defaults(cls: type[Message]) -> None:
    assert cls.decode(b"") == cls()
    assert cls.decode(cls().encode()).encode() == cls().encode()
    assert peer(cls).FromString(cls().encode()) == to_peer(cls())


_ODD_FIELDS = (
    b"\x83\x06\x08\x01\x84\x06",  # a whole group
    b"\x8a\x00\x01a",  # field 1, its tag spelt in two bytes
    b"\xfd\x7f1234",  # 32 bits
    b"\xf9\x7f12345678",  # 64 bits
    b"\x0b",  # a group that does not end
)


def _mangle(rng: random.Random, data: bytes) -> bytes:
    """Bytes near a valid message: flipped, cut, doubled, with strange tags and long varints put in."""
    out = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        place = rng.randrange(len(out) + 1)
        match rng.randrange(6):
            case 0 if out:
                out[place % len(out)] ^= 1 << rng.randrange(8)
            case 1:
                del out[place:]
            case 2:
                out[place:place] = rng.randbytes(rng.randrange(4))
            case 3:
                out += data
            case 4:
                out[place:place] = rng.choice(_ODD_FIELDS)
            case _:
                out[place:place] = b"\x80" * rng.randrange(12) + b"\x01"
    return bytes(out)


def _well_defined(data: bytes) -> bool:
    """Whether all runtimes should agree: some read a tenth varint byte's surplus bits, some refuse it."""
    run = 0
    for byte in data:
        if run >= 4 and byte < 128:
            return False
        run = run + 1 if byte >= 128 else 0
    return True


@pytest.mark.parametrize("cls", _STRICT, ids=_names(_STRICT))
def test_mangled_messages_are_taken_or_refused_as_protobuf_does(cls: type[Message]) -> None:
    rng = random.Random("mangled " + cls.FULL_NAME)
    for _ in range(150):
        data = _mangle(rng, random_message(rng, cls).encode())
        ours = _outcome(cls, data)
        if not _well_defined(data) or ours == "illegal field number":
            continue  # field number 0 is refused by the specification and by Go, and taken by upb
        try:
            theirs = peer(cls).FromString(data)
        except PeerDecodeError:
            assert isinstance(ours, str), data.hex()
            continue
        assert isinstance(ours, cls), data.hex()
        if cls.SYNTAX == "proto3":  # proto2's closed enums hide unknown numbers
            assert ours == from_peer(cls, theirs), data.hex()


def _outcome(cls: type[Message], data: bytes, *where: int) -> Message | str:
    """The message, or the text of the only error there may be."""
    try:
        return cls.decode(data, *where)
    except DecodeError as error:
        return str(error)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=80), number=st.integers(0, len(ALL) - 1), start=st.integers(0, 8))
def test_any_bytes_decode_or_raise_decode_error(data: bytes, number: int, start: int) -> None:
    for cls in (ALL[number], etcdserverpb.InternalRaftRequest, etcdserverpb.TxnRequest, raftpb.Message):
        message = _outcome(cls, data, min(start, len(data)))
        if isinstance(message, str):
            assert message
        else:
            assert cls.decode(message.encode()).encode() == message.encode()


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=60), cut=st.integers(0, 60))
def test_nothing_outside_the_range_is_read_into_the_message(data: bytes, cut: int) -> None:
    cut = min(cut, len(data))
    for cls in (etcdserverpb.TxnRequest, raftpb.Message, mvccpb.KeyValue, etcdserverpb.WatchRequest):
        inside, alone = _outcome(cls, data, 0, cut), _outcome(cls, data[:cut])
        assert inside == alone or (isinstance(inside, str) and isinstance(alone, str))


def _nested_txn(levels: int) -> bytes:
    data = b""
    for _ in range(levels):
        data = delimited(b"\x12", delimited(b"\x22", data))
    return data


def test_nesting_is_bounded() -> None:
    assert etcdserverpb.TxnRequest.decode(_nested_txn(45)).encode() == _nested_txn(45)
    with pytest.raises(DecodeError, match="too deep"):
        etcdserverpb.TxnRequest.decode(_nested_txn(60))
    with pytest.raises(DecodeError, match="too deep"):
        etcdserverpb.TxnRequest.decode(_nested_txn(20_000))
    with pytest.raises(DecodeError, match="too deep"):
        etcdserverpb.PutRequest.decode(b"\x83\x06" * 10_000)
    groups = b"\x83\x06" * 50 + b"\x84\x06" * 50
    assert etcdserverpb.PutRequest.decode(groups + b"\x0a\x01k").key == b"k"


def test_a_repeated_sub_message_merges() -> None:
    first = etcdserverpb.WatchRequest(
        create_request=etcdserverpb.WatchCreateRequest(key=b"a", start_revision=3, filters=[0])
    )
    second = etcdserverpb.WatchRequest(
        create_request=etcdserverpb.WatchCreateRequest(range_end=b"b", start_revision=5, filters=[1])
    )
    merged = etcdserverpb.WatchRequest.decode(first.encode() + second.encode())
    assert merged.create_request == etcdserverpb.WatchCreateRequest(
        key=b"a", range_end=b"b", start_revision=5, filters=[0, 1]
    )


def test_the_last_member_of_a_oneof_wins() -> None:
    compare = etcdserverpb.Compare
    data = compare(version=3).encode() + compare(value=b"v").encode()
    assert compare.decode(data) == compare(value=b"v")
    assert which(compare.decode(data), "target_union") == "value"
    assert which(compare(), "target_union") is None
    # Going to another member and back starts afresh: nothing of the first create_request is left.
    request = etcdserverpb.WatchRequest
    create = request(create_request=etcdserverpb.WatchCreateRequest(key=b"a")).encode()
    cancel = request(cancel_request=etcdserverpb.WatchCancelRequest(watch_id=1)).encode()
    again = request(create_request=etcdserverpb.WatchCreateRequest(prev_kv=True))
    assert request.decode(create + cancel + again.encode()) == again
    assert compare.decode(b"\x20\x00").version == 0


def test_a_wrong_wire_type_is_an_unknown_field() -> None:
    assert etcdserverpb.PutRequest.decode(b"\x08\x05\x12\x01v") == etcdserverpb.PutRequest(value=b"v")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x0a", "unexpected end"),
        (b"\x0a\x05abc", "past its message"),
        (b"\x18\x80", "unexpected end"),
        (b"\x18" + b"\xff" * 10 + b"\x01", "longer than ten bytes"),
        (b"\x18" + b"\xff" * 9 + b"\x02", "overflows 64 bits"),
        (b"\x00\x00", "illegal field number"),
        (b"\x0c", "end of group"),
        (b"\x0e", "illegal wire type"),
        (b"\x0f", "illegal wire type"),
        (b"\x83\x06", "not closed"),
        (b"\x83\x06\x8c\x06", "another's end"),
        (b"\x0a" + b"\xff" * 9 + b"\x01", "past its message"),
        (b"\xf8\xff\xff\xff\x7f\x01", "illegal field number"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, text: str) -> None:
    with pytest.raises(DecodeError, match=text):
        etcdserverpb.PutRequest.decode(data)


def test_strings_must_be_utf8_except_in_v2_requests() -> None:
    with pytest.raises(DecodeError, match="UTF-8"):
        etcdserverpb.AuthUserAddRequest.decode(b"\x0a\x01\xff")
    with pytest.raises(DecodeError, match="UTF-8"):
        etcdserverpb.AuthUserAddRequest.decode(b"\x0a\x03\xed\xa0\x80")  # a lone surrogate
    data = etcdserverpb.Request(Val="x").encode().replace(b"\x22\x01x", b"\x22\x01\xff")
    assert etcdserverpb.Request.decode(data).encode() == data


def test_negative_integers_take_ten_bytes_and_come_back() -> None:
    put = etcdserverpb.PutRequest(key=b"k", lease=-1)
    assert put.encode() == b"\x0a\x01k\x18" + b"\xff" * 9 + b"\x01"
    assert etcdserverpb.PutRequest.decode(put.encode()) == put
    # 32-bit values keep the low 32 bits of whatever arrives.
    assert etcdserverpb.RangeRequest.decode(b"\x28" + b"\xff" * 9 + b"\x01").sort_order == -1
    assert etcdserverpb.HashResponse.decode(b"\x10\x80\x80\x80\x80\x10").hash == 0


def test_a_raw_v2_request_is_not_an_internal_request() -> None:
    paths = {"PUT": "/0/version", "SYNC": "", "QGET": "/1", "DELETE": "/1/a", "POST": "/1"}
    for method, path in paths.items():
        raw = etcdserverpb.Request(ID=7, Method=method, Path=path, Val="3.4.0")
        with pytest.raises(DecodeError):
            etcdserverpb.InternalRaftRequest.decode(raw.encode())


def test_messages_compare_print_and_refuse_unknown_keywords() -> None:
    put = etcdserverpb.PutRequest(key=b"k", lease=3)
    assert repr(put) == "PutRequest(key=b'k', lease=3)"
    assert put != etcdserverpb.PutRequest(key=b"k")
    assert put != object()
    assert etcdserverpb.RangeResponse().kvs is not etcdserverpb.RangeResponse().kvs
    with pytest.raises(TypeError):
        etcdserverpb.PutRequest(nokey=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        hash(put)
    with pytest.raises(AttributeError):
        put.nokey = 1  # type: ignore[attr-defined]
    assert not hasattr(put, "__dict__")


def test_a_message_of_many_merges_stays_linear() -> None:
    big = etcdserverpb.TxnRequest(compare=[etcdserverpb.Compare(key=b"k" * 20)] * 1000)
    data = etcdserverpb.RequestOp(request_txn=big).encode() + b"\x22\x00" * 100_000
    assert etcdserverpb.RequestOp.decode(data).request_txn == big
