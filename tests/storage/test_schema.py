"""Keys and values of the buckets, against the examples of Go's files."""

from __future__ import annotations

import pytest

from petcd.pb.raftpb import ConfState
from petcd.storage import schema
from petcd.storage.errors import CorruptError, FutureVersionError


def test_buckets_are_in_the_order_of_their_names() -> None:
    assert list(schema.BUCKETS) == sorted(schema.BUCKETS)
    assert len(set(schema.BUCKETS)) == 10


def test_compaction_marks() -> None:
    assert schema.encode_compact_rev(10).hex() == "000000000000000a5f0000000000000000"
    assert schema.decode_compact_rev(schema.encode_compact_rev(1 << 40)) == 1 << 40
    assert schema.decode_compact_rev(None) == 0
    for damaged in (b"", b"\0" * 8, b"\0" * 17):
        with pytest.raises(CorruptError):
            schema.decode_compact_rev(damaged)


def test_numbers() -> None:
    assert schema.decode_u64(schema.encode_u64(2**64 - 1)) == 2**64 - 1
    with pytest.raises(CorruptError):
        schema.decode_u64(b"1234567")


def test_lease_keys_are_unsigned_and_ids_are_not() -> None:
    assert schema.lease_key(0x390DA1FB7DB8620C).hex() == "390da1fb7db8620c"
    assert schema.decode_lease_key(schema.lease_key(-2)) == -2


def test_conf_state_is_go_s_json() -> None:
    conf = ConfState(voters=[15853904299786938601])
    text = b'{"voters":[15853904299786938601],"auto_leave":false}'
    assert schema.encode_conf_state(conf) == text
    assert ConfState(**schema.decode_conf_state(text)) == conf
    joint = ConfState(voters=[1, 2], learners=[3], voters_outgoing=[1], learners_next=[2], auto_leave=True)
    assert ConfState(**schema.decode_conf_state(schema.encode_conf_state(joint))) == joint
    for damaged in (b"", b"[]", b"{"):
        with pytest.raises(CorruptError):
            schema.decode_conf_state(damaged)


def test_members_are_go_s_json() -> None:
    assert schema.member_key(0x6AE6CB3A790E8E1) == b"6ae6cb3a790e8e1"
    text = b'{"id":481441729041459425,"peerURLs":["http://127.0.0.1:23824"],"name":"r2"}'
    assert schema.encode_member(481441729041459425, ["http://127.0.0.1:23824"], name="r2") == text
    assert schema.decode_member(text) == {
        "id": 481441729041459425,
        "peerURLs": ["http://127.0.0.1:23824"],
        "isLearner": False,
        "name": "r2",
        "clientURLs": [],
    }
    full = schema.encode_member(1, ["a"], is_learner=True, name="<n>&", client_urls=["b"])
    assert full == (
        b'{"id":1,"peerURLs":["a"],"isLearner":true,"name":"\\u003cn\\u003e\\u0026","clientURLs":["b"]}'
    )
    assert schema.decode_member(full)["name"] == "<n>&"
    with pytest.raises(CorruptError):
        schema.decode_member(b'{"name":"x"}')


@pytest.mark.parametrize(
    ("value", "version"), [(None, None), (b"3.6.0", (3, 6)), (b"3.7.0", (3, 7)), (b"3.7.9", (3, 7))]
)
def test_known_storage_versions(value: bytes | None, version: tuple[int, int] | None) -> None:
    assert schema.check_storage_version("x", value) == version


def test_unknown_storage_versions() -> None:
    for future in (b"3.8.0", b"4.0.0"):
        with pytest.raises(FutureVersionError):
            schema.check_storage_version("x", future)
    for damaged in (b"", b"3", b"x.y.z"):
        with pytest.raises(CorruptError):
            schema.check_storage_version("x", damaged)
