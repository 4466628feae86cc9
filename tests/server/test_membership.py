"""Who is in the cluster, in memory and in the backend (contract disk section 5.6, peer 7.4)."""

from __future__ import annotations

import json

import pytest

from petcd import errors
from petcd.server.membership import ClusterMember, Membership, MembershipError
from petcd.storage import schema
from petcd.storage.memory_backend import MemoryBackend

ONE = ClusterMember(1, ("http://a:1",), "one", ("http://a:2",))
TWO = ClusterMember(0xABC, ("http://b:1", "http://b:2"))
LEARNER = ClusterMember(3, ("http://c:1",), is_learner=True)


def test_json_is_gos() -> None:
    assert ONE.to_json() == '{"id":1,"peerURLs":["http://a:1"],"name":"one","clientURLs":["http://a:2"]}'
    assert LEARNER.to_json() == '{"id":3,"peerURLs":["http://c:1"],"isLearner":true}'
    for member in (ONE, TWO, LEARNER):
        assert ClusterMember.from_json(member.to_json()) == member
    assert ClusterMember.from_json(b'{"id":18446744073709551615,"peerURLs":null}').id == (1 << 64) - 1
    for text in ("[]", "{}", '{"id":"1"}', "nothing"):
        with pytest.raises(ValueError):
            ClusterMember.from_json(text)


def test_changes_are_stored_with_what_changed_them() -> None:
    backend = MemoryBackend()
    membership = Membership(7, backend)
    for member in (TWO, ONE, LEARNER):
        membership.check_add(member)
        membership.add(member)
    membership.set_attributes(3, "three", ["http://c:2"])
    membership.set_attributes(99, "nobody", [])
    membership.update_urls(1, ["http://a:9"])
    membership.promote(3)
    membership.remove(0xABC)
    membership.set_version("3.7.0")
    membership.set_downgrade(enabled=True, target="3.6.0")
    again = Membership(7, backend)
    again.restore()
    for one in (membership, again):
        assert [member.id for member in one.in_order()] == [1, 3]
        assert [member.id for member in one.voters()] == [1, 3]
        assert one.members[3] == ClusterMember(3, ("http://c:1",), "three", ("http://c:2",))
        assert one.members[1].peer_urls == ("http://a:9",)
        assert (one.removed, one.version, one.downgrade_target) == ({0xABC}, "3.7.0", "3.6.0")
    assert [key for key, _ in backend.range(schema.MEMBERS, b"", None)] == [b"1", b"3"]
    assert backend.range(schema.MEMBERS_REMOVED, b"", None) == [(b"abc", b"removed")]
    assert backend.get(schema.CLUSTER, b"clusterVersion") == b"3.7.0"
    assert json.loads(backend.get(schema.CLUSTER, b"downgrade") or b"") == {
        "target-version": "3.6.0",
        "enabled": True,
    }
    membership.set_downgrade(enabled=False, target="3.6.0")
    again.restore()
    assert again.downgrade_target == ""


def test_refusals() -> None:
    membership = Membership(7, MemoryBackend())
    for member in (ONE, TWO, LEARNER):
        membership.add(member)
    membership.remove(TWO.id)

    def answer(member: ClusterMember) -> type[errors.EtcdError]:
        with pytest.raises(MembershipError) as caught:
            membership.check_add(member)
        return type(caught.value.answer)

    assert answer(TWO) is errors.MemberNotFound
    assert answer(ONE) is errors.MemberExist
    assert answer(ClusterMember(9, ("http://x:1", "http://a:1"))) is errors.PeerURLExist
    assert answer(ClusterMember(9, ("http://x:1",), is_learner=True)) is errors.TooManyLearners
    membership.check_add(ClusterMember(9, ("http://x:1",)))
    assert membership.check_known(1) == ONE
    for unknown in (TWO.id, 99):
        with pytest.raises(MembershipError):
            membership.check_known(unknown)
    assert membership.has_peer_url(["http://a:1"])
    assert not membership.has_peer_url(["http://a:1"], but=1)
