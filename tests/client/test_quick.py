"""Gets and puts without messages in between give what the messages give."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from petcd.client.quick import Answers, get_request, put_request
from petcd.client.results import get_result, put_result
from petcd.pb import mvccpb
from petcd.pb.etcdserverpb import kv as pb
from petcd.pb.etcdserverpb.header import ResponseHeader
from petcd.pb.wire import DecodeError

IDS = st.integers(0, (1 << 64) - 1)
NUMBERS = st.integers(0, (1 << 63) - 1)
HEADERS = st.builds(ResponseHeader, cluster_id=IDS, member_id=IDS, revision=NUMBERS, raft_term=IDS)
PAIRS = st.builds(
    mvccpb.KeyValue,
    key=st.binary(max_size=300),
    value=st.binary(max_size=300),
    create_revision=NUMBERS,
    mod_revision=NUMBERS,
    version=NUMBERS,
    lease=st.integers(-(1 << 63), (1 << 63) - 1),
)
RANGES = st.builds(
    pb.RangeResponse,
    header=st.none() | HEADERS,
    kvs=st.lists(PAIRS, max_size=4),
    more=st.booleans(),
    count=st.integers(0, 1 << 40),
)
PUTS = st.builds(pb.PutResponse, header=st.none() | HEADERS, prev_kv=st.none() | PAIRS)
USUAL = ResponseHeader(cluster_id=1 << 63, member_id=1 << 62, revision=123_456, raft_term=2)


@given(st.binary(min_size=1, max_size=5000))
def test_a_get_request(key: bytes) -> None:
    assert get_request(key) == pb.RangeRequest(key=key).encode()


@given(st.binary(min_size=1, max_size=3000), st.binary(max_size=3000), st.integers(0, 1 << 62))
@example(b"k", b"", 0)
def test_a_put_request(key: bytes, value: bytes, lease: int) -> None:
    assert put_request(key, value, lease) == pb.PutRequest(key=key, value=value, lease=lease).encode()


@given(st.lists(RANGES | PUTS, max_size=8), st.integers(0, 3))
@example([pb.PutResponse(header=USUAL), pb.RangeResponse(header=USUAL)], 0)
@example([pb.RangeResponse(header=USUAL, kvs=[mvccpb.KeyValue(value=b"v" * 20_000)], count=1)] * 2, 0)
def test_answers_are_what_messages_say(responses: list[pb.RangeResponse | pb.PutResponse], skip: int) -> None:
    answers = Answers()
    for response in responses:
        for _ in range(2):  # known by then, whatever it was
            if isinstance(response, pb.PutResponse):
                assert answers.put(response.encode(), skip) == put_result(response, skip)
            else:
                assert answers.get(response.encode(), skip) == get_result(response, skip)


@given(PUTS, RANGES, st.data())
def test_damaged_answers_are_refused_or_read_as_messages_are(
    put: pb.PutResponse, found: pb.RangeResponse, data: st.DataObject
) -> None:
    answers = Answers()
    answers.put(pb.PutResponse(header=put.header).encode(), 0)
    damaged = bytearray(found.encode())
    if damaged:
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    raw = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    try:
        expected = get_result(pb.RangeResponse.decode(raw))
    except DecodeError:
        with pytest.raises(DecodeError):
            answers.get(raw, 0)
    else:
        assert answers.get(raw, 0) == expected
