"""What older releases wrote to the v2 store, as a member of today understands it."""

from __future__ import annotations

import pytest

from petcd.pb import etcdserverpb as pb
from petcd.pb.etcdserverpb import InternalRaftRequest, Request
from petcd.pb.membershippb import Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest
from petcd.server.applier import PUT, V2, decode_request
from petcd.server.v2requests import UnknownV2Request, meaning_of

PUBLISH = bytes.fromhex(
    "08ef84c7d0e3bf83bf04 1203505554"  # ID, PUT
    "1a26 2f302f6d656d626572732f363664353533323631623532633431312f61747472696275746573"
    "2234 7b226e616d65223a2262222c22636c69656e7455524c73223a5b22687474703a2f2f3132372e302e302e313a3233383032"
    "225d7d"
    "2800 3200 3800 4800 5000 5800 6000 6800 7000 7800 800100"
)
"""As Go logs it (contract peer section 7.2)."""


def test_a_member_publishes_itself() -> None:
    request_id, kind, request = decode_request(PUBLISH)
    assert (request_id, kind) == (0x47E0DFE3A11C26F, V2)
    assert meaning_of(request) == ClusterMemberAttrSetRequest(
        member_ID=0x66D553261B52C411,
        member_attributes=Attributes(name="b", client_urls=["http://127.0.0.1:23802"]),
    )


def test_the_version_of_the_cluster() -> None:
    request = Request(ID=7, Method="PUT", Path="/0/version", Val="3.4.0")
    wrapped = InternalRaftRequest(ID=9, v2=request).encode()
    for data, request_id in ((request.encode(), 7), (wrapped, 9)):
        assert decode_request(data) == (request_id, V2, request)
    assert meaning_of(request) == ClusterVersionSetRequest(ver="3.4.0")


def test_every_method_of_v2_is_told_from_the_requests_of_today() -> None:
    for method in ("GET", "HEAD", "QGET", "PUT", "POST", "DELETE", "SYNC"):
        for path in ("", "/1/a"):
            request = Request(ID=5, Method=method, Path=path, Val="x")
            assert decode_request(request.encode()) == (5, V2, request)
    data = InternalRaftRequest(ID=5, put=pb.PutRequest(key=b"PUT")).encode()
    assert decode_request(data)[:2] == (5, PUT)


def test_reads_and_expiry_change_nothing() -> None:
    assert meaning_of(Request(Method="SYNC", Time=1)) is None
    assert meaning_of(Request(Method="QGET", Path="/1/a")) is None


@pytest.mark.parametrize(
    ("method", "path", "value"),
    [
        ("PUT", "/1/a", "x"),
        ("POST", "/1/queue", "x"),
        ("DELETE", "/1/a", ""),
        ("PUT", "/0/version", "soon"),
        ("PUT", "/0/members/xyz/attributes", "{}"),
        ("PUT", "/0/members/1/attributes", "[]"),
        ("PUT", "/0/members/1/attributes", "{"),
        ("PUT", "/0/members/1/attributes", '{"name":1}'),
        ("PUT", "/0/members/1/attributes", '{"clientURLs":["a",1]}'),
        ("PUT", "/0/members/1/raftAttributes", "{}"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(method: str, path: str, value: str) -> None:
    with pytest.raises(UnknownV2Request):
        meaning_of(Request(Method=method, Path=path, Val=value))
