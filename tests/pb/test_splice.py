"""Every splice is byte for byte what the message's own encoder gives."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petcd.pb import DecodeError, raftpb, splice
from petcd.pb import etcdserverpb as rpc
from petcd.pb.mvccpb import Event, KeyValue

_positive = st.integers(1, 2**63 - 1).flatmap(lambda n: st.sampled_from([n, n % 3000 + 1, n % 300_000 + 1]))
_uint64 = st.integers(0, 2**64 - 1)
_key = st.binary(min_size=1, max_size=40) | st.just(b"k" * 3000)
_value = st.binary(max_size=200) | st.just(b"v" * 5000)
_kv = st.builds(
    lambda key, create, mod, version, value, lease: KeyValue(
        key=key, create_revision=create, mod_revision=mod, version=version, value=value, lease=lease
    ),
    _key,
    _positive,
    _positive,
    _positive,
    _value,
    st.just(0) | st.integers(-(2**63), 2**63 - 1),
)
_check = settings(max_examples=60, deadline=None)


@_check
@given(_uint64, _uint64, st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_header(cluster: int, member: int, revision: int, term: int) -> None:
    message = rpc.PutResponse(
        header=rpc.ResponseHeader(cluster_id=cluster, member_id=member, revision=revision, raft_term=term)
    )
    assert splice.header(splice.header_prefix(cluster, member), revision, term) == message.encode()
    headers = splice.Header(cluster, member)
    for at in ((revision, term), (revision, term), (5, 1), (revision, term)):
        assert headers.at(*at) == splice.header(splice.header_prefix(cluster, member), *at)


@_check
@given(_kv)
def test_key_value(kv: KeyValue) -> None:
    made = splice.key_value(kv.key, kv.create_revision, kv.mod_revision, kv.version, kv.value, kv.lease)
    assert made == kv.encode()
    same = splice.key_value(kv.key, kv.mod_revision, kv.mod_revision, 1, kv.value, 0)
    assert KeyValue.decode(same) == KeyValue(
        key=kv.key, create_revision=kv.mod_revision, mod_revision=kv.mod_revision, version=1, value=kv.value
    )
    assert splice.tombstone(kv.key) == KeyValue(key=kv.key).encode()
    stripped = splice.without_value(kv.encode())
    kv.value = b""
    assert stripped == kv.encode()


def test_without_value_refuses_garbage() -> None:
    with pytest.raises(DecodeError):
        splice.without_value(b"\x0a")


@_check
@given(st.lists(_kv, max_size=4), st.booleans(), st.integers(0, 5000))
def test_response_bodies(kvs: list[KeyValue], more: bool, count: int) -> None:
    encoded = [kv.encode() for kv in kvs]
    ranged = rpc.RangeResponse(kvs=kvs, more=more, count=count)
    assert splice.range_response(encoded, more, count) == ranged.encode()
    deleted = rpc.DeleteRangeResponse(deleted=count, prev_kvs=kvs)
    assert splice.delete_range_response(count, encoded) == deleted.encode()
    put = rpc.PutResponse(prev_kv=kvs[0] if kvs else None)
    assert splice.put_response(encoded[0] if kvs else None) == put.encode()
    ops = [rpc.ResponseOp(response_range=ranged), rpc.ResponseOp(response_put=put)]
    spliced = [splice.response_op(1, ranged.encode()), splice.response_op(2, put.encode())]
    assert spliced == [op.encode() for op in ops]
    txn = rpc.TxnResponse(succeeded=more, responses=ops)
    assert splice.txn_response(more, spliced) == txn.encode()
    assert splice.response_op(4, txn.encode()) == rpc.ResponseOp(response_txn=txn).encode()


@_check
@given(_kv, st.none() | _kv, st.integers(-1, 2**40), st.text(max_size=5), st.booleans(), st.booleans())
def test_watch_responses(
    kv: KeyValue, prev: KeyValue | None, number: int, reason: str, first: bool, second: bool
) -> None:
    before = None if prev is None else prev.encode()
    put = Event(kv=kv, prev_kv=prev)
    assert splice.event_put(kv.encode(), before) == put.encode()
    delete = Event(type=1, kv=KeyValue(key=kv.key, mod_revision=kv.mod_revision), prev_kv=prev)
    assert splice.event_delete(kv.key, kv.mod_revision, before) == delete.encode()
    header = rpc.ResponseHeader(revision=9)
    response = rpc.WatchResponse(
        header=header,
        watch_id=number,
        created=first,
        canceled=second,
        compact_revision=max(number, 0),
        cancel_reason=reason,
        fragment=first,
        events=[put, delete],
    )
    made = splice.watch_response(
        splice.header(b"", 9, 0),
        number,
        splice.event_fields([put.encode(), delete.encode()]),
        created=first,
        canceled=second,
        compact_revision=max(number, 0),
        cancel_reason=reason,
        fragment=first,
    )
    assert made == response.encode()


@_check
@given(_key, _value, _uint64, st.text(max_size=5), st.integers(0, 2**63))
def test_internal_requests(key: bytes, value: bytes, request_id: int, user: str, auth_revision: int) -> None:
    put = rpc.PutRequest(key=key, value=value)
    request_id = request_id or 1
    plain = rpc.InternalRaftRequest(put=put, header=rpc.RequestHeader(ID=request_id))
    assert splice.internal_put(request_id, put.encode()) == plain.encode()
    assert splice.internal_request(4, put.encode(), request_id) == plain.encode()
    header = rpc.RequestHeader(ID=request_id, username=user, auth_revision=auth_revision)
    named = rpc.InternalRaftRequest(put=put, header=header)
    made = splice.internal_request(4, put.encode(), request_id, user.encode(), auth_revision)
    assert made == named.encode()
    late = rpc.InternalRaftRequest(header=header, auth_enable=rpc.AuthEnableRequest())
    made = splice.internal_request(1000, b"", request_id, user.encode(), auth_revision)
    assert made == late.encode()
    for message in (plain, named, late):
        assert splice.internal_header_id(message.encode()) == request_id
    assert splice.internal_header_id(rpc.InternalRaftRequest(put=put).encode()) == 0
    plain.ID = 7
    assert splice.internal_header_id(plain.encode()) == 7
    assert splice.internal_header_id(b"") == 0
    assert splice.internal_header_id(b"\x22\x00\xa2\x06\x00") == 0


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=30), st.integers(0, 30), st.integers(0, 255))
def test_the_id_scanner_agrees_with_the_decoder(tail: bytes, place: int, byte: int) -> None:
    whole = bytearray(splice.internal_put(2**63 + 5, b"\x0a\x01k") + tail)
    whole[place % len(whole)] = byte
    try:
        scanned = splice.internal_header_id(bytes(whole))
    except DecodeError:
        with pytest.raises(DecodeError):
            rpc.InternalRaftRequest.decode(bytes(whole))
        return
    try:
        message = rpc.InternalRaftRequest.decode(bytes(whole))
    except DecodeError:
        return  # the scanner does not look into bodies
    assert scanned == (message.ID or (message.header.ID if message.header else 0))


@_check
@given(st.integers(0, 2), _positive, _positive, st.binary(max_size=200) | st.just(b"d" * 3000))
def test_entry(entry_type: int, term: int, index: int, data: bytes) -> None:
    entry = raftpb.Entry(Type=entry_type, Term=term, Index=index, Data=data)
    assert splice.entry(entry_type, term, index, data) == entry.encode()
