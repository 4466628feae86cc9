"""Requests in the log: sizes, never values."""

from __future__ import annotations

import pytest

from petcd.pb import etcdserverpb as pb
from petcd.pb import splice
from petcd.raft import Entry
from petcd.server.applier import PUT
from petcd.server.describe import describe, describe_batch, describe_entry, go_duration


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (pb.PutRequest(key=b"a", value=b"secret"), 'key:"a" value_size:6'),
        (pb.RangeRequest(key=b'a"\n\xff', range_end=b"b"), 'key:"a\\"\\n\\xff" range_end:"b"'),
        (pb.DeleteRangeRequest(key=b"a"), 'key:"a"'),
        (pb.TxnRequest(success=[pb.RequestOp()]), "compare:0 success:1 failure:0"),
        (pb.CompactionRequest(revision=7), "revision:7"),
        (pb.LeaseGrantRequest(TTL=5), "LeaseGrantRequest size:2"),
        (None, "NoneType"),
    ],
)
def test_requests(request_: object, words: str) -> None:
    assert describe(request_) == words


def test_long_keys_are_cut() -> None:
    assert len(describe(pb.PutRequest(key=b"k" * 10_000))) < 100


def test_entries_and_batches() -> None:
    put = pb.PutRequest(key=b"a", value=b"secret")
    entry = Entry(1, 5, 0, splice.internal_request(PUT, put.encode(), 77))
    words = 'header:<ID:77 > put:<key:"a" value_size:6 >'
    assert describe_entry(entry) == words
    assert describe_batch([entry]) == words
    assert describe_batch([entry, entry, entry]) == f"{words} and 2 more"
    assert describe_batch([put]) == 'key:"a" value_size:6'
    assert describe_batch([]) == ""
    assert describe_entry(Entry(1, 5, 0, b"\xff")) == "entry:<index:5 size:1 >"
    assert describe_entry(Entry(1, 5, 0, b"")) == "entry:<index:5 size:0 >"


def test_durations() -> None:
    assert [go_duration(s) for s in (0.1, 1.0, 2.5, 0.0012345, 0.00002, 0.123456789)] == [
        "100ms",
        "1s",
        "2.5s",
        "1.2345ms",
        "20µs",
        "123.456789ms",
    ]
