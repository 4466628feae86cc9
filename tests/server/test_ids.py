"""Ids of members, clusters and requests, beside Go's (contract disk section 10, wire-v3 section 1.2)."""

from __future__ import annotations

from petcd.server.ids import RequestIds, cluster_id, hex_id, member_id


def test_ids_of_go() -> None:
    """The ids that every etcd with default URLs and name has."""
    default = member_id(["http://localhost:2380"], "etcd-cluster")
    assert hex_id(default) == "8e9e05c52164694d"
    assert hex_id(cluster_id([default])) == "cdf818194e3a8c32"


def test_order_of_urls_and_members_means_nothing() -> None:
    assert member_id(["b", "a"], "t") == member_id(["a", "b"], "t") != member_id(["a", "b"], "u")
    assert cluster_id([3, 1, 2]) == cluster_id([1, 2, 3])
    assert member_id(["a"], "", 1) != member_id(["a"], "", 2)


def test_requests() -> None:
    ids = RequestIds(0xABCD_1234, 5_000_000_000)
    first = ids.next()
    assert first >> 48 == 0x1234
    assert first >> 8 & (1 << 40) - 1 == 5000
    assert [ids.next() for _ in range(1000)] == [first + i for i in range(1, 1001)]
    later = RequestIds(0xABCD_1234, 5_010_000_000)
    assert later.next() > ids.next(), "the ids of a later life are new"


def test_the_counter_never_reaches_the_prefix() -> None:
    ids = RequestIds(7, 0)
    ids._low = (1 << 48) - 2
    assert [ids.next() >> 48 for _ in range(4)] == [7] * 4
