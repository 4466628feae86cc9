"""Bytes seen on a running Go etcd (contract/wire-v3.md section 1, disk.md 5): each way, to the byte."""

from __future__ import annotations

import pytest

from petcd.pb import authpb, etcdserverpb, leasepb, membershippb, mvccpb, raftpb, snappb, walpb
from petcd.pb.message import Message


def _hex(text: str) -> bytes:
    return bytes.fromhex(text)


_EMPTY_METADATA = raftpb.SnapshotMetadata(conf_state=raftpb.ConfState())

VECTORS: list[tuple[Message, bytes]] = [
    (raftpb.Entry(Term=2, Index=2), _hex("08 00 10 02 18 02")),
    (raftpb.Entry(Type=1, Term=1, Index=1, Data=b"x"), _hex("08 01 10 01 18 01 22 01 78")),
    (walpb.Snapshot(), _hex("08 00 10 00")),
    (raftpb.HardState(term=1, commit=1), _hex("08 01 10 00 18 01")),
    (walpb.Record(type=4), _hex("08 04 10 00")),
    (
        raftpb.ConfChange(node_id=0x8000000000000001, context=b"{}"),
        _hex("08 00 10 00 18 81808080 808080808001 22 02 7b7d"),
    ),
    (raftpb.Snapshot(metadata=_EMPTY_METADATA), _hex("12 08 0a 02 28 00 10 00 18 00")),
    (
        raftpb.Message(type=8, to=1, from_=2, term=3, snapshot=raftpb.Snapshot(metadata=_EMPTY_METADATA)),
        _hex(
            "08 08 10 01 18 02 20 03 28 00 30 00 40 00 4a 0a 12 08 0a 02 28 00 10 00 18 00 50 00 58 00 68 00"
        ),
    ),
    (raftpb.ConfState(voters=[1, 300], learners=[2]), _hex("08 01 08 ac 02 10 02 28 00")),
    (etcdserverpb.Metadata(), _hex("08 00 10 00")),
    (snappb.Snapshot(), _hex("08 00")),
    (
        mvccpb.KeyValue(key=b"foo", create_revision=2, mod_revision=2, version=1, value=b"bar"),
        _hex("0a03666f6f 1002 1802 2001 2a03626172"),
    ),
    (
        mvccpb.KeyValue(key=b"foo", create_revision=2, mod_revision=3, version=2, value=b"bar2"),
        _hex("0a03666f6f 1002 1803 2002 2a0462617232"),
    ),
    (
        mvccpb.KeyValue(
            key=b"le",
            create_revision=11,
            mod_revision=11,
            version=1,
            value=b"v",
            lease=4111120136377229836,
        ),
        _hex("0a026c65 100b 180b 2001 2a0176 308cc4e1edb7bfe88639"),
    ),
    (mvccpb.KeyValue(key=b"foo"), _hex("0a03666f6f")),
    (authpb.User(name=b"u", options=authpb.UserAddOptions()), _hex("0a 01 75 22 00")),
    (etcdserverpb.WatchCreateRequest(filters=[1, 0]), _hex("2a 02 01 00")),
    (
        etcdserverpb.InternalRaftRequest(
            put=etcdserverpb.PutRequest(key=b"k", value=b"v"), header=etcdserverpb.RequestHeader(ID=5)
        ),
        _hex("22 06 0a016b 120176 a206 02 0805"),
    ),
    (
        etcdserverpb.InternalRaftRequest(
            header=etcdserverpb.RequestHeader(ID=5), auth_enable=etcdserverpb.AuthEnableRequest()
        ),
        _hex("a206 02 0805 c23e 00"),
    ),
    (
        etcdserverpb.Request(ID=1, Method="PUT", Path="/0/version", Val="3.4.0"),
        _hex(
            "0801 1203505554 1a0a2f302f76657273696f6e 2205332e342e30 2800 3200 3800 4800 5000 5800 6000 6800"
            " 7000 7800 800100"
        ),
    ),
    (leasepb.Lease(ID=4111120136377229836, TTL=600), _hex("088cc4e1edb7bfe88639 10d804")),
    (
        authpb.User(name=b"u1", password=b"p", roles=["r1"], options=authpb.UserAddOptions()),
        _hex("0a027531 120170 1a027231 2200"),
    ),
    (authpb.User(name=b"u", options=authpb.UserAddOptions(no_password=True)), _hex("0a0175 2202 0801")),
    (
        authpb.Role(name=b"r1", keyPermission=[authpb.Permission(permType=2, key=b"k", range_end=b"k2")]),
        _hex("0a027231 1209 0802 12016b 1a026b32"),
    ),
    (etcdserverpb.AlarmMember(memberID=12345, alarm=1), _hex("08b960 1001")),
    (membershippb.ClusterVersionSetRequest(ver="3.5.0"), _hex("0a05332e352e30")),
]


@pytest.mark.parametrize(("message", "data"), VECTORS, ids=[type(m).FULL_NAME for m, _ in VECTORS])
def test_known_bytes(message: Message, data: bytes) -> None:
    assert message.encode() == data
    assert type(message).decode(data) == message
