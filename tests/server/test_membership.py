"""Who is in the cluster, in memory and in the backend (contract disk section 5.6, peer 7.4)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from petcd import errors
from petcd.logs import Logger
from petcd.raft import ConfChange
from petcd.server.membership import (
    ADDED,
    PROMOTED,
    REMOVED,
    UPDATED,
    BadConfChange,
    Changed,
    ClusterMember,
    Membership,
    MembershipError,
    add_change,
    promote_change,
    remove_change,
    update_change,
)
from petcd.storage import schema
from petcd.storage.memory_backend import MemoryBackend

ONE = ClusterMember(1, ("http://a:1",), "one", ("http://a:2",))
TWO = ClusterMember(0xABC, ("http://b:1", "http://b:2"))
LEARNER = ClusterMember(3, ("http://c:1",), is_learner=True)


def run(membership: Membership, change: ConfChange) -> Changed:
    membership.check(change)
    return membership.apply(change)


def test_json_is_gos() -> None:
    assert ONE.to_json() == '{"id":1,"peerURLs":["http://a:1"],"name":"one","clientURLs":["http://a:2"]}'
    assert LEARNER.to_json() == '{"id":3,"peerURLs":["http://c:1"],"isLearner":true}'
    for member in (ONE, TWO, LEARNER):
        assert ClusterMember.from_json(member.to_json()) == member
    assert ClusterMember.from_json(b'{"id":18446744073709551615,"peerURLs":null}').id == (1 << 64) - 1
    for text in ("[]", "{}", '{"id":"1"}', "nothing"):
        with pytest.raises(ValueError):
            ClusterMember.from_json(text)


def test_json_is_safe_inside_html_as_gos_is() -> None:
    member = ClusterMember(5, ("http://a:1",), "a<b>&\u2028ü")
    text = member.to_json()
    assert text == '{"id":5,"peerURLs":["http://a:1"],"name":"a\\u003cb\\u003e\\u0026\\u2028ü"}'
    assert ClusterMember.from_json(text) == member


@pytest.mark.parametrize(
    "shape",
    [
        {"id": True},
        {"id": -1},
        {"id": 1 << 64},
        {"id": 1.0},
        {"id": 1, "peerURLs": "http://a:1"},
        {"id": 1, "peerURLs": [1]},
        {"id": 1, "name": 5},
        {"id": 1, "clientURLs": {}},
    ],
)
def test_what_is_not_a_member(shape: object) -> None:
    with pytest.raises(ValueError):
        ClusterMember.from_shape(shape)


def test_contexts() -> None:
    """Contract peer section 7.4."""
    urls = ["http://b:1", "http://a:1"]
    changes = {
        "add": add_change(ClusterMember(7, ("http://a:1",))),
        "learner": add_change(ClusterMember(7, ("http://a:1",), is_learner=True)),
        "promote": promote_change(7),
        "update": update_change(7, urls),
        "update of a learner": update_change(7, urls, is_learner=True),
        "remove": remove_change(7),
    }
    assert {what: (change.type, change.node_id, change.context) for what, change in changes.items()} == {
        "add": (0, 7, b'{"id":7,"peerURLs":["http://a:1"]}'),
        "learner": (3, 7, b'{"id":7,"peerURLs":["http://a:1"],"isLearner":true}'),
        "promote": (0, 7, b'{"id":7,"peerURLs":null,"isPromote":true}'),
        "update": (2, 7, b'{"id":7,"peerURLs":["http://b:1","http://a:1"]}'),
        "update of a learner": (2, 7, b'{"id":7,"peerURLs":["http://b:1","http://a:1"],"isLearner":true}'),
        "remove": (1, 7, b""),
    }


def test_changes_are_stored_with_what_changed_them() -> None:
    backend = MemoryBackend()
    membership = Membership(7, backend)
    for member in (TWO, ONE, LEARNER):
        assert run(membership, add_change(member)) == Changed(ADDED, member)
    assert (membership.learner_count, membership.is_learner(3), membership.is_learner(1)) == (1, True, False)
    membership.set_attributes(3, "three", ["http://c:2"])
    membership.set_attributes(99, "nobody", [])
    assert run(membership, update_change(1, ["http://a:9"])).what == UPDATED
    assert run(membership, promote_change(3)).what == PROMOTED
    assert run(membership, remove_change(0xABC)) == Changed(REMOVED, TWO)
    membership.set_version("3.7.0")
    membership.set_downgrade(enabled=True, target="3.6.0")
    again = Membership(8, MemoryBackend())
    again.replace_from(backend)
    for one in (membership, again):
        assert [member.id for member in one.in_order()] == [1, 3]
        assert [member.id for member in one.voters()] == [1, 3]
        assert one.members[3] == ClusterMember(3, ("http://c:1",), "three", ("http://c:2",))
        assert one.members[1] == ClusterMember(1, ("http://a:9",), "one", ("http://a:2",))
        assert (one.removed, one.version, one.downgrade_target) == ({0xABC}, "3.7.0", "3.6.0")
        assert one.learner_count == 0
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
    assert membership.to_json() == (
        '[{"id":1,"peerURLs":["http://a:9"],"name":"one","clientURLs":["http://a:2"]},'
        '{"id":3,"peerURLs":["http://c:1"],"name":"three","clientURLs":["http://c:2"]}]'
    )


def test_an_update_leaves_a_learner_a_learner() -> None:
    """Whatever its context says: releases up to 3.7 made it a voter in the list (commit 7c528e856)."""
    for says in (False, True):
        membership = Membership(7, MemoryBackend())
        run(membership, add_change(ONE))
        run(membership, add_change(LEARNER))
        run(membership, update_change(3, ["http://c:9"], is_learner=says))
        assert membership.members[3] == ClusterMember(3, ("http://c:9",), is_learner=True)
    run(membership, update_change(1, ["http://a:9"], is_learner=True))
    assert not membership.is_learner(1)


def test_refusals() -> None:
    membership = Membership(7, MemoryBackend())
    for member in (ONE, TWO, LEARNER, ClusterMember(4, ("http://d:1",))):
        membership.add(member)
    membership.remove(TWO.id)
    new = ClusterMember(9, ("http://x:1",))
    cases = {
        "removed": add_change(TWO),
        "removed, removed again": remove_change(TWO.id),
        "exists": add_change(ONE),
        "url": add_change(ClusterMember(9, ("http://x:1", "http://a:1"))),
        "learners": add_change(ClusterMember(9, ("http://x:1",), is_learner=True)),
        "unknown removed": remove_change(99),
        "unknown updated": update_change(99, ["http://x:1"]),
        "unknown promoted": promote_change(99),
        "voter promoted": promote_change(1),
        "updated to another's": update_change(3, ["http://a:1"]),
    }
    found = {}
    for name, change in cases.items():
        with pytest.raises(MembershipError) as caught:
            membership.check(change)
        found[name] = (str(caught.value), type(caught.value.answer))
    assert found == {
        "removed": ("membership: ID removed", errors.MemberNotFound),
        "removed, removed again": ("membership: ID removed", errors.MemberNotFound),
        "exists": ("membership: ID exists", errors.MemberExist),
        "url": ("membership: peerURL exists", errors.PeerURLExist),
        "learners": ("membership: too many learner members in cluster", errors.TooManyLearners),
        "unknown removed": ("membership: ID not found", errors.MemberNotFound),
        "unknown updated": ("membership: ID not found", errors.MemberNotFound),
        "unknown promoted": ("membership: ID not found", errors.MemberNotFound),
        "voter promoted": ("membership: can only promote a learner member", errors.MemberNotLearner),
        "updated to another's": ("membership: peerURL exists", errors.PeerURLExist),
    }
    for fits in (add_change(new), update_change(1, ["http://a:1"]), promote_change(3), remove_change(3)):
        membership.check(fits)
    assert membership.has_peer_url(["http://a:1"])
    assert not membership.has_peer_url(["http://a:1"], but=1)


def test_the_last_voter_stays() -> None:
    membership = Membership(7, MemoryBackend())
    membership.add(ONE)
    membership.add(LEARNER)
    with pytest.raises(MembershipError) as caught:
        membership.check(remove_change(1))
    assert type(caught.value.answer) is errors.MemberNotEnoughStarted
    membership.check(remove_change(3))


@pytest.mark.parametrize(
    "change",
    [
        ConfChange(type=0, node_id=9, context=b""),
        ConfChange(type=0, node_id=9, context=b"\xff"),
        ConfChange(type=3, node_id=9, context=b"[]"),
        ConfChange(type=0, node_id=9, context=b'{"id":8,"peerURLs":["http://x:1"]}'),
        ConfChange(type=2, node_id=1, context=b'{"id":9,"peerURLs":["http://x:1"]}'),
        ConfChange(type=7, node_id=9, context=b'{"id":9}'),
    ],
)
def test_a_change_nobody_proposes_stops_the_member(change: ConfChange) -> None:
    membership = Membership(7, MemoryBackend())
    membership.add(ONE)
    with pytest.raises(BadConfChange):
        membership.check(change)


def test_log_lines() -> None:
    lines: list[tuple[str, dict[str, Any]]] = []
    logger = Logger(lambda _level, message, fields: lines.append((message, dict(fields))))
    for what in (ADDED, PROMOTED, UPDATED, REMOVED):
        Changed(what, LEARNER).log(logger, 0xC, 0xA)
    ids = {"cluster-id": "c", "local-member-id": "a"}
    assert lines == [
        (
            "added member",
            {
                **ids,
                "added-peer-id": "3",
                "added-peer-peer-urls": ["http://c:1"],
                "added-peer-is-learner": True,
            },
        ),
        ("promote member", ids),
        *(
            (
                f"{what} member",
                {
                    **ids,
                    f"{what}-remote-peer-id": "3",
                    f"{what}-remote-peer-urls": ["http://c:1"],
                    f"{what}-remote-peer-is-learner": True,
                },
            )
            for what in ("updated", "removed")
        ),
    ]
