"""Each format of each response, byte for byte (contract cli sections 1 and 3)."""

from __future__ import annotations

import pytest

from petcd.cli.etcdctl import printers
from petcd.cli.etcdctl.commands import Exit
from petcd.cli.etcdctl.printers import EndpointHash, EndpointStatus, Health, Printer
from petcd.cli.etcdctl.printers.table import render
from petcd.pb import authpb, mvccpb
from petcd.pb import etcdserverpb as pb

HEADER = pb.ResponseHeader(
    cluster_id=7016404874313134568, member_id=11273744182722752139, revision=8, raft_term=2
)
JSON_HEADER = '{"cluster_id":7016404874313134568,"member_id":11273744182722752139,"revision":8,"raft_term":2}'
FIELDS_HEADER = (
    '"ClusterID" : 7016404874313134568\n"MemberID" : 11273744182722752139\n"Revision" : 8\n"RaftTerm" : 2\n'
)
LEASE = 0x6E8BA1FB6C4E7999
PAIR = mvccpb.KeyValue(key=b"foo", create_revision=3, mod_revision=8, version=3, value=b"bar")
JSON_PAIR = '{"key":"Zm9v","create_revision":3,"mod_revision":8,"version":3,"value":"YmFy"}'


class Shown:
    """Prints through one format and gives back what came out."""

    def __init__(self, capture: pytest.CaptureFixture[bytes]) -> None:
        self._capture = capture

    def __call__(
        self, format_: str, method: str, *args: object, hexadecimal: bool = False, **kw: object
    ) -> str:
        printer: Printer = printers.make(format_, hexadecimal=hexadecimal)
        getattr(printer, method)(*args, **kw)
        out, err = self._capture.readouterr()
        return (out + err).decode("utf-8", "surrogateescape")


@pytest.fixture
def shown(capfdbinary: pytest.CaptureFixture[bytes]) -> Shown:
    return Shown(capfdbinary)


def test_put(shown: Shown) -> None:
    plain = pb.PutResponse(header=HEADER)
    full = pb.PutResponse(header=HEADER, prev_kv=PAIR)
    assert shown("simple", "put", plain) == "OK\n"
    assert shown("simple", "put", full) == "OK\nfoo\nbar\n"
    assert shown("json", "put", full) == f'{{"header":{JSON_HEADER},"prev_kv":{JSON_PAIR}}}\n'
    assert shown("fields", "put", full) == (
        FIELDS_HEADER
        + '"PrevKey" : "foo"\n"PrevCreateRevision" : 3\n"PrevModRevision" : 8\n"PrevVersion" : 3\n'
        '"PrevValue" : "bar"\n"PrevLease" : 0\n'
    )
    assert shown("protobuf", "put", plain).encode("utf-8", "surrogateescape") == plain.encode()


def test_get(shown: Shown) -> None:
    response = pb.RangeResponse(header=HEADER, kvs=[PAIR], more=True, count=3)
    assert shown("simple", "get", response) == "foo\nbar\n"
    assert shown("simple", "get", response, hexadecimal=True) == "\\x66\\x6f\\x6f\n\\x62\\x61\\x72\n"
    assert shown("json", "get", response) == (
        f'{{"header":{JSON_HEADER},"kvs":[{JSON_PAIR}],"more":true,"count":3}}\n'
    )
    assert shown("json", "get", pb.RangeResponse(header=HEADER)) == f'{{"header":{JSON_HEADER}}}\n'
    assert shown("fields", "get", response).endswith('"Lease" : 0\n"More" : true\n"Count" : 3\n')


def test_delete(shown: Shown) -> None:
    response = pb.DeleteRangeResponse(header=HEADER, deleted=1, prev_kvs=[PAIR])
    assert shown("simple", "delete", response) == "1\nfoo\nbar\n"
    assert shown("json", "delete", response) == (
        f'{{"header":{JSON_HEADER},"deleted":1,"prev_kvs":[{JSON_PAIR}]}}\n'
    )


def test_txn(shown: Shown) -> None:
    inner = pb.ResponseHeader(revision=45)
    response = pb.TxnResponse(
        header=HEADER,
        succeeded=True,
        responses=[
            pb.ResponseOp(response_put=pb.PutResponse(header=inner)),
            pb.ResponseOp(response_range=pb.RangeResponse(header=inner, kvs=[PAIR], count=1)),
            pb.ResponseOp(response_delete_range=pb.DeleteRangeResponse(header=inner)),
        ],
    )
    assert shown("simple", "txn", response) == "SUCCESS\n\nOK\n\nfoo\nbar\n\n0\n"
    assert shown("simple", "txn", pb.TxnResponse()) == "FAILURE\n"
    assert shown("json", "txn", response) == (
        f'{{"header":{JSON_HEADER},"succeeded":true,"responses":['
        '{"Response":{"response_put":{"header":{"revision":45}}}},'
        f'{{"Response":{{"response_range":{{"header":{{"revision":45}},"kvs":[{JSON_PAIR}],"count":1}}}}}},'
        '{"Response":{"response_delete_range":{"header":{"revision":45}}}}]}\n'
    )


def test_watch(shown: Shown) -> None:
    response = pb.WatchResponse(
        header=HEADER,
        events=[
            mvccpb.Event(kv=PAIR, prev_kv=PAIR),
            mvccpb.Event(type=1, kv=mvccpb.KeyValue(key=b"foo", mod_revision=9)),
        ],
    )
    assert shown("simple", "watch", response) == "PUT\nfoo\nbar\nfoo\nbar\nDELETE\nfoo\n\n"
    assert shown("json", "watch", response) == (
        f'{{"Header":{JSON_HEADER},"Events":[{{"kv":{JSON_PAIR},"prev_kv":{JSON_PAIR}}},'
        '{"type":1,"kv":{"key":"Zm9v","mod_revision":9}}],'
        '"CompactRevision":0,"Canceled":false,"Created":false,"CancelReason":""}\n'
    )


def test_leases(shown: Shown) -> None:
    grant = pb.LeaseGrantResponse(header=HEADER, ID=LEASE, TTL=60)
    inlined = JSON_HEADER[:-1]
    assert shown("simple", "grant", grant) == "lease 6e8ba1fb6c4e7999 granted with TTL(60s)\n"
    assert shown("json", "grant", grant) == f'{inlined},"ID":{LEASE},"TTL":60,"Error":""}}\n'
    assert shown("fields", "grant", grant) == FIELDS_HEADER + f'"ID" : {LEASE}\n"TTL" : 60\n'
    assert shown("fields", "grant", grant, hexadecimal=True).endswith('"ID" : 6e8ba1fb6c4e7999\n"TTL" : 60\n')
    alive = pb.LeaseKeepAliveResponse(header=HEADER, ID=LEASE, TTL=100)
    assert shown("simple", "keep_alive", alive) == "lease 6e8ba1fb6c4e7999 keepalived with TTL(100)\n"
    left = pb.LeaseTimeToLiveResponse(header=HEADER, ID=LEASE, TTL=99, grantedTTL=100, keys=[b"a", b"b"])
    assert shown("simple", "time_to_live", left, keys=False) == (
        "lease 6e8ba1fb6c4e7999 granted with TTL(100s), remaining(99s)\n"
    )
    assert shown("simple", "time_to_live", left, keys=True).endswith(", attached keys([a b])\n")
    assert shown("json", "time_to_live", left, keys=True) == (
        f'{inlined},"id":{LEASE},"ttl":99,"granted-ttl":100,"keys":["YQ==","Yg=="]}}\n'
    )
    gone = pb.LeaseTimeToLiveResponse(header=HEADER, ID=0x1234, TTL=-1)
    assert shown("simple", "time_to_live", gone, keys=True) == "lease 0000000000001234 already expired\n"
    assert shown("json", "time_to_live", gone, keys=True) == (
        f'{inlined},"id":4660,"ttl":-1,"granted-ttl":0,"keys":null}}\n'
    )
    listed = pb.LeaseLeasesResponse(header=HEADER, leases=[pb.LeaseStatus(ID=LEASE)])
    assert shown("simple", "leases", listed) == "found 1 leases\n6e8ba1fb6c4e7999\n"
    assert shown("json", "leases", listed) == f'{inlined},"leases":[{{"id":{LEASE}}}]}}\n'


def test_protobuf_of_leases_is_their_header(shown: Shown) -> None:
    header = HEADER.encode().decode("utf-8", "surrogateescape")
    assert shown("protobuf", "revoke", 1, pb.LeaseRevokeResponse()) == ""
    assert shown("protobuf", "grant", pb.LeaseGrantResponse(header=HEADER, ID=LEASE, TTL=60)) == header


def test_members(shown: Shown) -> None:
    response = pb.MemberListResponse(
        header=pb.ResponseHeader(cluster_id=0x55DC1A3FA6B901B8, member_id=0x457748E0F61308AC, raft_term=2),
        members=[
            pb.Member(ID=0x457748E0F61308AC, name="m1", peerURLs=["http://p:1"], clientURLs=["http://c:1"]),
            pb.Member(ID=0x8E75CDBFC5718011, peerURLs=["http://p:2"], isLearner=True),
        ],
    )
    assert shown("simple", "member_list", response) == (
        "457748e0f61308ac, started, m1, http://p:1, http://c:1, false\n"
        "8e75cdbfc5718011, unstarted, , http://p:2, , true\n"
    )
    assert shown("json", "member_list", response, hexadecimal=True) == (
        '{"header":{"cluster_id":"55dc1a3fa6b901b8","member_id":"457748e0f61308ac","raft_term":2},"members":['
        '{"ID":"457748e0f61308ac","name":"m1","peerURLs":["http://p:1"],"clientURLs":["http://c:1"]},'
        '{"ID":"8e75cdbfc5718011","peerURLs":["http://p:2"],"isLearner":true}]}\n'
    )
    added = pb.MemberAddResponse(header=HEADER, member=pb.Member(ID=0x1234, isLearner=True))
    assert shown("simple", "member_add", added) == (
        "Member             1234 added as learner to cluster 615f470f05c0f1e8\n"
    )


def test_endpoints(shown: Shown) -> None:
    status = pb.StatusResponse(
        header=pb.ResponseHeader(member_id=11273744182722752139, revision=1, raft_term=2),
        version="3.7.1",
        storageVersion="3.7.0",
        dbSize=20480,
        dbSizeInUse=16384,
        dbSizeQuota=2147483648,
        leader=11273744182722752139,
        raftTerm=2,
        raftIndex=4,
        raftAppliedIndex=4,
    )
    rows = [EndpointStatus("127.0.0.1:2379", status)]
    assert shown("simple", "endpoint_status", rows) == (
        "127.0.0.1:2379, 9c74629a73d0ee8b, 3.7.1, 3.7.0, 20 kB, 16 kB, 20%, 2.1 GB, "
        "true, false, 2, 4, 4, , , false\n"
    )
    assert shown("json", "endpoint_status", []) == "null\n"
    good, bad = Health("a:1", True, "2.4ms"), Health("b:2", False, "5s", "context deadline exceeded")
    assert shown("simple", "endpoint_health", [good, bad]) == (
        "a:1 is healthy: successfully committed proposal: took = 2.4ms\n"
        "b:2 is unhealthy: failed to commit proposal: context deadline exceeded\n"
    )
    assert shown("json", "endpoint_health", [good, bad]) == (
        '[{"endpoint":"a:1","health":true,"took":"2.4ms"},'
        '{"endpoint":"b:2","health":false,"took":"5s","error":"context deadline exceeded"}]\n'
    )
    hashes = [EndpointHash("a:1", pb.HashKVResponse(hash=2064120424, hash_revision=13))]
    assert shown("simple", "endpoint_hashkv", hashes) == "a:1, 2064120424, 13\n"


def test_roles(shown: Shown) -> None:
    response = pb.AuthRoleGetResponse(
        header=HEADER,
        perm=[
            authpb.Permission(permType=2, key=b"pfx", range_end=b"pfy"),
            authpb.Permission(key=b"foo"),
            authpb.Permission(permType=1, key=b"fk", range_end=b"\0"),
        ],
    )
    assert shown("simple", "role_get", "r1", response) == (
        "Role r1\nKV Read:\n\t[pfx, pfy) (prefix pfx)\n\tfoo\n"
        "KV Write:\n\t[pfx, pfy) (prefix pfx)\n\t[fk, <open ended>\n"
    )
    assert shown("fields", "role_get", "r1", response).startswith(
        FIELDS_HEADER + '"PermType" :  READWRITE\n"Key" : "pfx"\n"RangeEnd" : "pfy"\n'
    )


def test_tables() -> None:
    header = ("ID", "is_learner")
    assert render(header, [("457748e0f61308ac", "false")], ascii_only=True) == (
        "+------------------+------------+\n"
        "|        ID        | IS LEARNER |\n"
        "+------------------+------------+\n"
        "| 457748e0f61308ac |      false |\n"
        "+------------------+------------+\n"
    )
    assert render(header, [("457748e0f61308ac", "false")], ascii_only=False) == (
        "┌──────────────────┬────────────┐\n"
        "│        ID        │ IS LEARNER │\n"
        "├──────────────────┼────────────┤\n"
        "│ 457748e0f61308ac │      false │\n"
        "└──────────────────┴────────────┘\n"
    )


@pytest.mark.parametrize(
    ("format_", "method"), [("table", "put"), ("protobuf", "endpoint_status"), ("fields", "user_list")]
)
def test_what_a_format_lacks(format_: str, method: str) -> None:
    with pytest.raises(Exit) as caught:
        getattr(printers.make(format_, hexadecimal=False), method)([])
    assert (caught.value.status, caught.value.message) == (4, f"{format_} not supported as output format")


def test_json_strings_are_escaped_the_go_way() -> None:
    from petcd.cli.etcdctl.printers.json import string

    assert string('<&>"\\\u2028\x01\né') == '"\\u003c\\u0026\\u003e\\"\\\\\\u2028\\u0001\\né"'
    assert string("\udcff") == '"\ufffd"'
