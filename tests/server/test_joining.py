"""What a joining member makes of the others' answers (contract peer section 9.1)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from petcd.logs import Logger
from petcd.server.joining import (
    JoinError,
    RunningCluster,
    Versions,
    foreign_release,
    is_compatible,
    match_members,
    own_member,
    parse_members,
    parse_version,
    parse_versions,
    urls_differ,
)
from petcd.server.membership import ClusterMember

A = ClusterMember(0xA, ("http://a:1",), "a", ("http://a:2",))
B = ClusterMember(0xB, ("http://b:1", "http://b:9"))
RUNNING = RunningCluster(0xC1, [A, B])
CLUSTER = (
    "{ClusterID:c1 Members:["
    "&{ID:a RaftAttributes:{PeerURLs:[http://a:1] IsLearner:false} "
    "Attributes:{Name:a ClientURLs:[http://a:2]}} "
    "&{ID:b RaftAttributes:{PeerURLs:[http://b:1 http://b:9] IsLearner:false} "
    "Attributes:{Name: ClientURLs:[]}}] "
    "RemovedMemberIDs:[]}"
)


def test_members_are_read() -> None:
    body = json.dumps([B.to_shape(), A.to_shape()]).encode() + b"\n"
    assert parse_members({"x-etcd-cluster-id": "c1"}, body) == RUNNING
    for headers in ({}, {"x-etcd-cluster-id": "zz"}, {"x-etcd-cluster-id": "1" + "0" * 16}):
        with pytest.raises(ValueError):
            parse_members(headers, body)
    for bad in (b"", b"{}", b"[5]", b"nope"):
        with pytest.raises(ValueError):
            parse_members({"x-etcd-cluster-id": "c1"}, bad)
    for empty in (b"[]", b"null"):
        with pytest.raises(JoinError, match=r"^failed to get raft cluster member"):
            parse_members({"x-etcd-cluster-id": "c1"}, empty)


def test_ids_come_from_the_running_members_and_names_from_the_configuration() -> None:
    initial = {"new": ["http://b:9", "http://b:1"], "first": ["http://a:1"]}
    members = match_members(initial, RUNNING)
    assert members == [
        ClusterMember(0xA, ("http://a:1",), "first"),
        ClusterMember(0xB, ("http://b:9", "http://b:1"), "new"),
    ]
    assert own_member("new", members).id == 0xB
    with pytest.raises(JoinError, match="local name"):
        own_member("other", members)


def test_learners_stay_learners() -> None:
    running = RunningCluster(1, [A, ClusterMember(0xB, ("http://b:1",), is_learner=True)])
    members = match_members({"a": ["http://a:1"], "b": ["http://b:1"]}, running)
    assert [member.is_learner for member in members] == [False, True]


def test_the_initial_cluster_must_fit() -> None:
    def problem(initial: dict[str, list[str]], **options: Any) -> str:
        with pytest.raises(JoinError) as caught:
            match_members(initial, RUNNING, **options)
        return str(caught.value)

    assert problem({"a": ["http://a:1"]}) == f"error validating peerURLs {CLUSTER}: member count is unequal"
    assert problem({"a": ["http://a:1"], "b": ["http://b:1", "http://b:8"]}) == (
        f"error validating peerURLs {CLUSTER}: PeerURLs: no match found for existing member "
        '(b, [http://b:1 http://b:9]), last resolver error (resolved urls: "http://b:9" != "http://b:8")'
    )
    assert problem({"b": ["http://b:1", "http://b:9"], "a": ["http://x:1"]}).endswith(
        '(a, [http://a:1]), last resolver error (resolved urls: "http://a:1" != "http://x:1")'
    )
    assert "resolver is down" in problem(
        {"a": ["http://a:1"], "b": ["http://b:1"]}, differ=lambda _one, _other: "resolver is down"
    )


def test_two_running_members_with_the_same_urls_are_not_one() -> None:
    twice = RunningCluster(1, [A, ClusterMember(0xB, A.peer_urls)])
    with pytest.raises(JoinError, match=r"member count is unequal$"):
        match_members({"a": ["http://a:1"], "b": ["http://b:1"]}, twice)


def test_urls_are_compared_in_any_order() -> None:
    assert urls_differ(["http://a:1", "http://b:1"], ["http://b:1", "http://a:1"]) == ""
    assert urls_differ(["http://a:1"], []) == 'len(["http://a:1"]) != len([])'


def test_versions() -> None:
    assert parse_versions(b'{"etcdserver":"3.6.1","etcdcluster":"3.6.0","storage":"3.6.0"}') == Versions(
        "3.6.1", "3.6.0"
    )
    for bad in (b"", b"[]", b'{"etcdserver":3}'):
        with pytest.raises(ValueError):
            parse_versions(bad)
    assert parse_version("3.4.23") == (3, 4)
    assert parse_version("v3.7.0-rc.0+git") == (3, 7)
    for text in ("not_decided", "3.4", "3.4.x", "3.4.5.6", ""):
        with pytest.raises(ValueError):
            parse_version(text)


@pytest.mark.parametrize(
    ("answers", "downgrading", "fits", "warning"),
    [
        ({1: "3.7.0"}, False, True, ""),
        ({1: "3.4.0", 2: None}, False, True, ""),
        ({1: None}, False, False, ""),
        ({}, False, False, ""),
        ({1: "not_decided"}, False, False, "failed to parse cluster version of remote member"),
        (
            {1: "3.7.0", 2: "3.8.0"},
            False,
            False,
            "cluster version of remote member is not compatible; too high",
        ),
        ({1: "2.3.0"}, False, False, "cluster version of remote member is not compatible; too low"),
        ({1: "3.8.0"}, True, True, ""),
        ({1: "3.7.0"}, True, False, "cluster version of remote member is not compatible; too low"),
    ],
)
def test_which_clusters_may_be_joined(
    answers: dict[int, str | None], downgrading: bool, fits: bool, warning: str
) -> None:
    lines: list[str] = []
    logger = Logger(lambda _level, message, _fields: lines.append(message))
    versions = {one: None if text is None else Versions("3.7.1", text) for one, text in answers.items()}
    assert is_compatible(versions, logger, downgrading=downgrading, local_version="3.7.1") is fits
    assert lines == ([warning] if warning else [])


@pytest.mark.parametrize(
    ("servers", "foreign"),
    [
        (["3.7.1", "3.7.0"], None),
        (["3.7.1", None], None),
        (["3.8.0"], None),
        (["3.7.1", "3.4.23"], "3.4.23"),
        (["3.6.9"], "3.6.9"),
        (["soup"], "soup"),
    ],
)
def test_members_of_older_releases(servers: list[str | None], foreign: str | None) -> None:
    versions = {
        number: None if server is None else Versions(server, "3.7.0") for number, server in enumerate(servers)
    }
    assert foreign_release(versions, local_version="3.7.1") == foreign
