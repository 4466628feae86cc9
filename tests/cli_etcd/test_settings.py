"""What follows from what was given."""

from __future__ import annotations

import pytest

from petcd.cli.etcd.grammar import parse_arguments
from petcd.cli.etcd.settings import Settings, assemble, parse_cluster, use_default_host, wants_default_host
from petcd.server.config import Config, ConfigError


def settings_of(line: str) -> Settings:
    return assemble(parse_arguments(line.split()))


def test_nothing_given_is_the_default_configuration() -> None:
    settings = settings_of("")
    settings.config.initial_cluster = parse_cluster(settings.cluster_text)
    assert settings.config == Config(initial_cluster=settings.config.initial_cluster)
    assert settings.config.values() == Config().values()


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("--snapshot-count=0", "snapshot_count", 10_000),
        ("--snapshot-catchup-entries=0", "snapshot_catchup_entries", 5_000),
        ("--backend-batch-limit=0", "backend_batch_limit", 10_000),
        ("--backend-batch-interval=0", "backend_batch_interval_seconds", 0.1),
        ("--backend-batch-interval=5ms", "backend_batch_interval_seconds", 0.005),
        ("--compaction-batch-limit=0", "compaction_batch_limit", 1_000),
        ("--experimental-compaction-batch-limit=7", "compaction_batch_limit", 7),
        ("--compaction-sleep-interval=0", "compaction_sleep_seconds", 0.01),
        ("--watch-progress-notify-interval=1ms", "watch_progress_notify_seconds", 0.1),
        ("--watch-progress-notify-interval=0", "watch_progress_notify_seconds", 600.0),
        ("--experimental-watch-progress-notify-interval=5s", "watch_progress_notify_seconds", 5.0),
        ("--raft-read-timeout=1s", "raft_read_timeout_seconds", 5.0),
        ("--raft-write-timeout=10s", "raft_write_timeout_seconds", 10.0),
        ("--bcrypt-cost=3", "bcrypt_cost", 10),
        ("--bcrypt-cost=32", "bcrypt_cost", 10),
        ("--bcrypt-cost=31", "bcrypt_cost", 31),
        ("--debug", "log_level", "debug"),
        ("--debug --log-level=warn", "log_level", "warn"),
        ("--log-output=stdout", "log_outputs", ("stdout",)),
        ("--quota-backend-bytes=-5", "quota_backend_bytes", -5),
    ],
)
def test_zeros_minimums_and_older_names(line: str, field: str, value: object) -> None:
    assert getattr(settings_of(line).config, field) == value


def test_dotted_fields() -> None:
    config = settings_of("--peer-cert-file=a --peer-cert-allowed-cn=y,x --discovery-dial-timeout=3s").config
    assert (config.peer_tls.cert_file, config.peer_tls.allowed_cns) == ("a", ("x", "y"))
    assert config.discovery.dial_timeout_seconds == 3.0
    assert not config.client_tls.asked_for
    assert config.peer_tls.asked_for


@pytest.mark.parametrize(
    ("line", "on"),
    [
        ("--experimental-enable-lease-checkpoint", {"LeaseCheckpoint": True}),
        ("--experimental-txn-mode-write-with-shared-buffer=false", {"TxnModeWriteWithSharedBuffer": False}),
        ("--feature-gates=AllAlpha=true", {"AllAlpha": True}),
        (
            "--feature-gates=AllAlpha=true --experimental-initial-corrupt-check=false",
            {"AllAlpha": True, "InitialCorruptCheck": False},
        ),
    ],
)
def test_gates(line: str, on: dict[str, bool]) -> None:
    assert settings_of(line).config.features == on


def test_listening_explicitly_drops_the_default_advertise_url() -> None:
    assert settings_of("--listen-client-urls=http://127.0.0.1:1").config.advertise_client_urls == ()
    line = "--listen-client-urls=http://127.0.0.1:1 --advertise-client-urls=http://a:1"
    assert [str(url) for url in settings_of(line).config.advertise_client_urls] == ["http://a:1"]


@pytest.mark.parametrize(
    ("line", "host", "cluster", "peers", "clients"),
    [
        ("", "", "default=http://localhost:2380", "http://localhost:2380", "http://localhost:2379"),
        ("--name=a", "", "a=http://localhost:2380", "http://localhost:2380", "http://localhost:2379"),
        (
            "--name=a --initial-advertise-peer-urls=http://127.0.0.1:2,http://127.0.0.1:1",
            "",
            "a=http://127.0.0.1:1,a=http://127.0.0.1:2",
            "http://127.0.0.1:1,http://127.0.0.1:2",
            "http://localhost:2379",
        ),
        # As in etcd: without a name the default cluster stays, and will not fit.
        (
            "--initial-advertise-peer-urls=http://127.0.0.1:1",
            "",
            "default=http://localhost:2380",
            "http://127.0.0.1:1",
            "http://localhost:2379",
        ),
        (
            "--name=a --initial-cluster=a=http://x:1",
            "",
            "a=http://x:1",
            "http://localhost:2380",
            "http://localhost:2379",
        ),
        (
            "--name=a --listen-peer-urls=http://0.0.0.0:7",
            "10.0.0.9",
            "a=http://10.0.0.9:7",
            "http://10.0.0.9:7",
            "http://localhost:2379",
        ),
        (
            "--name=a --listen-peer-urls=http://0.0.0.0:7",
            "",
            "a=http://localhost:2380",
            "http://localhost:2380",
            "http://localhost:2379",
        ),
        ("--discovery-srv=x", "", "", "http://localhost:2380", "http://localhost:2379"),
    ],
)
def test_the_cluster_follows_the_name(line: str, host: str, cluster: str, peers: str, clients: str) -> None:
    settings = settings_of(line)
    use_default_host(settings, host)
    assert settings.cluster_text == cluster
    assert ",".join(map(str, settings.config.advertise_peer_urls)) == peers
    assert ",".join(map(str, settings.config.advertise_client_urls)) == clients


def test_the_machine_is_asked_only_when_its_address_is_wanted() -> None:
    assert not wants_default_host(settings_of("").config)
    assert wants_default_host(settings_of("--listen-peer-urls=http://0.0.0.0:7").config)
    line = "--listen-peer-urls=http://0.0.0.0:7 --initial-advertise-peer-urls=http://a:7"
    assert not wants_default_host(settings_of(line).config)


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("", {}),
        ("a=http://x:1", {"a": ["http://x:1"]}),
        ("a=http://x:2,b=http://y:1,,a=http://x:1", {"a": ["http://x:1", "http://x:2"], "b": ["http://y:1"]}),
    ],
)
def test_reads_a_cluster(text: str, members: dict[str, list[str]]) -> None:
    found = {name: [str(url) for url in urls] for name, urls in parse_cluster(text).items()}
    assert found == members


@pytest.mark.parametrize("text", ["m1", "m1=foo", "=", "m1=http://a"])
def test_refuses_a_cluster(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^error setting up initial cluster: URL "):
        parse_cluster(text)


def test_notes_tell_what_was_changed() -> None:
    line = "--snapshot-count=0 --raft-read-timeout=1s --bcrypt-cost=1 --max-request-bytes=20000000"
    assert [message for _level, message, _fields in settings_of(line).notes] == [
        "raft-read-timeout increased to minimum value: 5s",
        "updating snapshot-count to default",
        "use default bcrypt cost instead of the invalid given cost",
        "exceeded recommended request limit",
    ]
