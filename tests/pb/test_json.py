"""The JSON mapping, held against protobuf's own, and the gateway's rules one by one."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.pb.oracle import peer, random_message, to_peer

from petcd.pb import etcdserverpb as rpc
from petcd.pb import json as pbjson
from petcd.pb.json import JsonError
from petcd.pb.message import Message
from petcd.pb.services import METHODS

_CLASSES = sorted(
    {cls for m in METHODS if m.gateway for cls in (m.request, m.response)}, key=lambda cls: cls.FULL_NAME
)


@pytest.mark.parametrize("cls", _CLASSES, ids=[cls.FULL_NAME for cls in _CLASSES])
def test_random_messages_agree_with_protobuf(cls: type[Message]) -> None:
    rng = random.Random("json " + cls.FULL_NAME)
    for _ in range(40):
        message = random_message(rng, cls)
        theirs = to_peer(message)
        expected = json_format.MessageToDict(theirs, preserving_proto_field_name=True)
        assert json.loads(pbjson.dumps(message)) == expected
        assert pbjson.loads(cls, pbjson.dumps(message)) == message
        camel = json_format.MessageToJson(theirs)
        assert pbjson.loads(cls, camel) == message
        assert json_format.Parse(pbjson.dumps(message), peer(cls)()) == theirs


def test_output_is_compact_in_declaration_order_with_proto_names() -> None:
    response = rpc.RangeResponse(
        header=rpc.ResponseHeader(cluster_id=2**64 - 1, raft_term=3),
        kvs=[rpc.RangeResponse.FIELDS[1].message_type.decode(b"\x0a\x01k\x10\x02\x2a\x01\xff")],
        count=1,
    )
    assert pbjson.dumps(response) == (
        '{"header":{"cluster_id":"18446744073709551615","raft_term":"3"},'
        '"kvs":[{"key":"aw==","create_revision":"2","value":"/w=="}],"count":"1"}'
    )
    assert pbjson.dumps(rpc.HashResponse(hash=7)) == '{"hash":7}'
    assert pbjson.dumps(rpc.PutResponse(header=rpc.ResponseHeader())) == '{"header":{}}'
    assert pbjson.dumps(rpc.Compare(result=3, version=0)) == '{"result":"NOT_EQUAL","version":"0"}'
    assert pbjson.dumps(rpc.Compare(result=77)) == '{"result":77}'
    assert pbjson.dumps(rpc.AuthenticateRequest(name='é"<')) == '{"name":"é\\"<"}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", rpc.RangeRequest()),
        (" \n", rpc.RangeRequest()),
        ("{}", rpc.RangeRequest()),
        ('{"range_end":"AA=="}', rpc.RangeRequest(range_end=b"\0")),
        ('{"rangeEnd":"AA=="}', rpc.RangeRequest(range_end=b"\0")),
        ('{"key":"-_8"}', rpc.RangeRequest(key=b"\xfb\xff")),
        ('{"key":"+/8"}', rpc.RangeRequest(key=b"\xfb\xff")),
        ('{"key":"+/8="}', rpc.RangeRequest(key=b"\xfb\xff")),
        ('{"limit":5}', rpc.RangeRequest(limit=5)),
        ('{"limit":"5"}', rpc.RangeRequest(limit=5)),
        ('{"limit":"-5"}', rpc.RangeRequest(limit=-5)),
        ('{"limit":5.0}', rpc.RangeRequest(limit=5)),
        ('{"limit":1.5e1}', rpc.RangeRequest(limit=15)),
        ('{"limit":"120e-1"}', rpc.RangeRequest(limit=12)),
        ('{"limit":0e999999999999}', rpc.RangeRequest()),
        ('{"limit":9223372036854775807}', rpc.RangeRequest(limit=2**63 - 1)),
        ('{"limit":"-9223372036854775808"}', rpc.RangeRequest(limit=-(2**63))),
        ('{"sort_order":"DESCEND"}', rpc.RangeRequest(sort_order=2)),
        ('{"sortOrder":2}', rpc.RangeRequest(sort_order=2)),
        ('{"sort_order":77}', rpc.RangeRequest(sort_order=77)),
        ('{"sort_order":"SIDEWAYS"}', rpc.RangeRequest()),
        ('{"nothing":{"at":["all"]},"key":null,"keys_only":true}', rpc.RangeRequest(keys_only=True)),
        ('{"key":"YQ=="} trailing', rpc.RangeRequest(key=b"a")),
    ],
)
def test_what_the_gateway_takes(text: str, expected: Message) -> None:
    assert pbjson.loads(rpc.RangeRequest, text) == expected
    assert pbjson.loads(rpc.RangeRequest, text.encode()) == expected


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "null",
        "7",
        "{",
        '{"key":7}',
        '{"key":"a"}',
        '{"key":"YQ="}',
        '{"key":"Y!=="}',
        '{"key":"-/8="}',
        '{"limit":"x"}',
        '{"limit":" 5"}',
        '{"limit":""}',
        '{"limit":5.5}',
        '{"limit":1e400}',
        '{"limit":1e99999999999}',
        '{"limit":NaN}',
        '{"limit":true}',
        '{"limit":[5]}',
        '{"limit":"05"}',
        '{"limit":9223372036854775808}',
        '{"limit":' + "9" * 5000 + "}",
        '{"serializable":"true"}',
        '{"serializable":1}',
        '{"sort_order":2147483648}',
        '{"sort_order":true}',
        '{"key":"YQ==","key":"YQ=="}',
        '{"range_end":"YQ==","rangeEnd":"YQ=="}',
        "[" * 100_000,
    ],
)
def test_what_the_gateway_refuses(text: str) -> None:
    with pytest.raises(JsonError) as raised:
        pbjson.loads(rpc.RangeRequest, text)
    assert str(raised.value)


@pytest.mark.parametrize(
    ("cls", "text"),
    [
        (rpc.AuthenticateRequest, '{"name":"\\ud800"}'),
        (rpc.AuthenticateRequest, '{"name":7}'),
        (rpc.TxnRequest, '{"compare":{}}'),
        (rpc.TxnRequest, '{"compare":[null]}'),
        (rpc.Compare, '{"version":1,"value":"YQ=="}'),
        (rpc.TxnRequest, '{"success":[{"request_txn":' * 120 + "{}" + "}]}" * 120),
    ],
)
def test_more_that_is_refused(cls: type[Message], text: str) -> None:
    with pytest.raises(JsonError):
        pbjson.loads(cls, text)


def test_invalid_utf8_is_refused() -> None:
    with pytest.raises(JsonError):
        pbjson.loads(rpc.AuthenticateRequest, b'{"name":"\xff"}')


def test_null_does_not_set_a_oneof() -> None:
    assert pbjson.loads(rpc.Compare, '{"version":null,"value":"YQ=="}') == rpc.Compare(value=b"a")


def test_several_values_in_a_row_are_read_one_by_one() -> None:
    text = '{"create_request":{"key":"YQ=="}}\n {"progress_request":{}} '
    first, at = pbjson.loads_at(rpc.WatchRequest, text, 0)
    assert first == rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"a"))
    second, at = pbjson.loads_at(rpc.WatchRequest, text, at)
    assert second == rpc.WatchRequest(progress_request=rpc.WatchProgressRequest())
    assert pbjson.loads_at(rpc.WatchRequest, text, at) == (None, len(text))


_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["key", "success", "request_put", "compare", "lease", "value"]), inner
        )
    ),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(_json_values)
def test_any_json_is_a_message_or_a_json_error(value: Any) -> None:
    for cls in (rpc.TxnRequest, rpc.PutRequest, rpc.Compare, rpc.RequestOp):
        for parse in (
            lambda cls: pbjson.loads(cls, json.dumps(value)),
            lambda cls: pbjson.from_dict(cls, value),
        ):
            try:
                message = parse(cls)
            except JsonError:
                continue
            assert cls.decode(message.encode()) == message
