"""One member's configuration and what follows from it."""

import pytest

from petcd.server.config import Config, ConfigError
from petcd.server.features import FeatureError, parse_features
from petcd.server.url import parse_urls

ONE = parse_urls("http://127.0.0.1:1")
TWO = parse_urls("http://127.0.0.1:1,http://127.0.0.1:2")


def test_keywords_override_defaults_and_nothing_else_is_taken() -> None:
    config = Config(name="a", data_dir="/d", election_ms=500)
    assert (config.name, config.election_ms, config.heartbeat_ms) == ("a", 500, 100)
    with pytest.raises(TypeError, match="no field 'nme'"):
        Config(nme="a")  # type: ignore[call-arg]


def test_a_cluster_that_is_not_given_is_the_member_alone() -> None:
    config = Config(name="a", advertise_peer_urls=ONE)
    assert config.initial_cluster == {"a": ONE}
    assert config.initial_cluster_text == "a=http://127.0.0.1:1"
    assert config.local_peer_urls_problem() == ""


def test_a_copy_changes_only_what_it_is_told() -> None:
    config = Config(name="a", data_dir="/d")
    copy = config.replace(snapshot_count=5)
    assert (copy.name, copy.snapshot_count, config.snapshot_count) == ("a", 5, 10_000)
    assert copy != config
    assert copy == Config(name="a", data_dir="/d", snapshot_count=5)


@pytest.mark.parametrize(
    ("heartbeat", "election", "ticks", "ttl"), [(100, 1000, 10, 2), (100, 500, 5, 1), (10, 50_000, 5000, 75)]
)
def test_timing(heartbeat: int, election: int, ticks: int, ttl: int) -> None:
    config = Config(heartbeat_ms=heartbeat, election_ms=election)
    assert config.election_ticks == ticks
    assert config.min_lease_ttl_seconds == ttl
    assert config.request_timeout_seconds == 5 + 2 * election / 1000
    assert config.request_timeout_ticks * heartbeat >= config.request_timeout_seconds * 1000


@pytest.mark.parametrize(("given", "quota"), [(0, 2 << 30), (-1, 0), (7, 7), (16 << 30, 16 << 30)])
def test_quota(given: int, quota: int) -> None:
    assert Config(quota_backend_bytes=given).quota_bytes == quota


@pytest.mark.parametrize(
    ("mode", "text", "retention"),
    [
        ("periodic", "0", 0),
        ("periodic", "2", 7200),
        ("periodic", "10m", 600),
        ("revision", "1000", 1000),
        ("revision", "1us", 1000),
    ],
)
def test_compaction_retention(mode: str, text: str, retention: float) -> None:
    config = Config(auto_compaction_mode=mode, auto_compaction_retention=text)
    assert config.compaction_retention == retention


@pytest.mark.parametrize(
    ("text", "reason"),
    [("x", 'time: invalid duration "x"'), ("-1", 'time: missing unit in duration "-1"')],
)
def test_compaction_retention_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _ = Config(auto_compaction_retention=text).compaction_retention
    assert str(caught.value) == f"error parsing CompactionRetention: {reason}"


def test_gates_win_over_their_group() -> None:
    config = Config(features=parse_features("AllAlpha=true,LeaseCheckpoint=false,AllBeta=false"))
    assert config.feature("InitialCorruptCheck")
    assert not config.feature("LeaseCheckpoint")
    assert not config.feature("FastLeaseKeepAlive")
    assert Config().feature("FastLeaseKeepAlive")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("A", "missing bool value for A"),
        (
            "LeaseCheckpoint=x",
            'invalid value of LeaseCheckpoint=x, err: strconv.ParseBool: parsing "x": invalid syntax',
        ),
        ("Nope=true", "unrecognized feature gate: Nope"),
    ],
)
def test_gates_refused(text: str, reason: str) -> None:
    with pytest.raises(FeatureError) as caught:
        parse_features(text)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("cluster", "advertised", "problem"),
    [
        ({"b": ONE}, ONE, 'couldn\'t find local name "a" in the initial cluster configuration'),
        (
            {"a": TWO},
            ONE,
            (
                "--initial-cluster has a=http://127.0.0.1:2 but missing from "
                '--initial-advertise-peer-urls=http://127.0.0.1:1 (len(["http://127.0.0.1:1"]) != '
                'len(["http://127.0.0.1:1" "http://127.0.0.1:2"]))'
            ),
        ),
        (
            {"a": parse_urls("http://127.0.0.1:2")},
            ONE,
            (
                "--initial-cluster has a=http://127.0.0.1:2 but missing from "
                '--initial-advertise-peer-urls=http://127.0.0.1:1 (resolved urls: "http://127.0.0.1:1" != '
                '"http://127.0.0.1:2")'
            ),
        ),
        (
            {"a": ONE},
            TWO,
            (
                "--initial-advertise-peer-urls has http://127.0.0.1:2 but missing from "
                "--initial-cluster=a=http://127.0.0.1:1,a=http://127.0.0.1:2"
            ),
        ),
        (
            {"a": ONE, "b": ONE},
            ONE,
            "initial cluster a=http://127.0.0.1:1,b=http://127.0.0.1:1 has duplicate url",
        ),
    ],
)
def test_the_cluster_must_name_what_is_advertised(cluster, advertised, problem) -> None:  # type: ignore[no-untyped-def]
    config = Config(name="a", initial_cluster=cluster, advertise_peer_urls=advertised)
    assert config.local_peer_urls_problem() == problem


def test_resolved_names_count_as_equal() -> None:
    config = Config(
        name="a",
        initial_cluster={"a": parse_urls("http://one.example:1")},
        advertise_peer_urls=parse_urls("http://10.0.0.1:1"),
    )
    assert config.local_peer_urls_problem(lambda _url: "http://10.0.0.1:1") == ""
