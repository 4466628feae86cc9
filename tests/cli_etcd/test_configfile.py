"""The configuration file, beside Go's own decoding of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli_etcd.support import Log, go_complaint, needs_go, settle

from petcd.cli.etcd.configfile import decode, load
from petcd.cli.etcd.grammar import SetupError
from petcd.server.config import ConfigError

FULL = """
Name: m1
data-dir: /d
snapshot-count: 5
heartbeat-interval: 50
pre-vote: false
grpc-keepalive-min-time: 1000000000
listen-client-urls: http://127.0.0.1:1,http://127.0.0.1:2
advertise-client-urls: http://127.0.0.1:1
log-outputs: [stdout]
cors: "*"
host-whitelist: b,a
unknown-key: {x: 1}
feature-gates: LeaseCheckpoint=true
socket-options: {reuse-address: true}
discovery-config: {client: {dial-timeout: 1000000000}}
auto-compaction-retention: "1"
max-concurrent-streams: 7
initial-cluster: null
experimental-snapshot-catch-up-entries: 9
"""

# Content, and Go etcd 3.4.23's complaint after PREFIX.
REFUSED = {
    "snapshot-count: abc": "string into Go struct field configYAML.snapshot-count of type uint64",
    "heartbeat-interval: -1": "number -1 into Go struct field configYAML.heartbeat-interval of type uint",
    "heartbeat-interval: 1.5": ("number 1.5 into Go struct field configYAML.heartbeat-interval of type uint"),
    "name: [a]": "array into Go struct field configYAML.name of type string",
    "name: 5": "number into Go struct field configYAML.name of type string",
    "name: {a: b}": "object into Go struct field configYAML.name of type string",
    "pre-vote: 3": "number into Go struct field configYAML.pre-vote of type bool",
    "snapshot-count: true": "bool into Go struct field configYAML.snapshot-count of type uint64",
    "log-outputs: stdout": "string into Go struct field configYAML.log-outputs of type []string",
    "log-outputs: [1]": "number into Go struct field configYAML.log-outputs of type string",
    "grpc-keepalive-min-time: 5s": (
        "string into Go struct field configYAML.grpc-keepalive-min-time of type time.Duration"
    ),
    "max-snapshots: 9999999999999999999999": (
        "number 1e+22 into Go struct field configYAML.max-snapshots of type uint"
    ),
    "- a": "array into Go value of type embed.configYAML",
    "just text": "string into Go value of type embed.configYAML",
    "client-transport-security: 5": (
        "number into Go struct field configYAML.client-transport-security of type embed.securityConfig"
    ),
    "client-transport-security: {cert-file: [5]}": (
        "array into Go struct field securityConfig.client-transport-security.cert-file of type string"
    ),
}
PREFIX = "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal "


def test_reads_every_kind_of_value() -> None:
    given = decode(FULL.encode())
    assert given.values == {
        "name": "m1",
        "data-dir": "/d",
        "snapshot-count": 5,
        "heartbeat-interval": 50,
        "pre-vote": False,
        "grpc-keepalive-min-time": 1.0,
        "listen-client-urls": given.values["listen-client-urls"],
        "advertise-client-urls": given.values["advertise-client-urls"],
        "log-outputs": ("stdout",),
        "cors": ("*",),
        "host-whitelist": ("a", "b"),
        "feature-gates": {"LeaseCheckpoint": True},
        "socket-reuse-address": True,
        "discovery-dial-timeout": 1.0,
        "auto-compaction-retention": "1",
        "max-concurrent-streams": 7,
        "experimental-snapshot-catchup-entries": 9,
    }
    assert [str(url) for url in given.values["listen-client-urls"]] == [
        "http://127.0.0.1:1",
        "http://127.0.0.1:2",
    ]


def test_json_is_read_as_well() -> None:
    assert decode(b'{"name": "m1", "pre-vote": true}').values == {"name": "m1", "pre-vote": True}


def test_security_sections() -> None:
    given = decode(
        b"client-transport-security: {cert-file: c, client-cert-auth: true, allowed-cn: [x]}\n"
        b"peer-transport-security: {cert-file: p, allowed-hostname: [h]}\n"
    )
    assert given.values == {
        "cert-file": "c",
        "client-cert-auth": True,
        "client-cert-allowed-cn": ("x",),
        "peer-cert-file": "p",
        "peer-cert-allowed-hostname": ("h",),
    }


@pytest.mark.parametrize("text", ["", "# nothing\n", "null"])
def test_an_empty_file_changes_nothing(text: str) -> None:
    assert decode(text.encode()).values == {}


@pytest.mark.parametrize(("content", "text"), REFUSED.items())
def test_refuses_values_of_another_type(content: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        decode(content.encode())
    assert str(caught.value) == PREFIX + text


def test_refuses_what_is_not_yaml() -> None:
    with pytest.raises(
        ConfigError, match="error converting YAML to JSON: yaml: line 1: did not find expected"
    ):
        decode(b"a: [b")
    with pytest.raises(ConfigError, match="error converting YAML to JSON: yaml: line 2: "):
        decode(b"a: b\n\tb: c\n")
    with pytest.raises(ConfigError, match="error converting YAML to JSON: yaml"):
        decode(b"a: \xff")


@pytest.mark.parametrize(
    ("key", "reported"),
    [
        ("listen-peer-urls", "listen-peer-urls"),
        ("listen-client-urls", "listen-client-urls"),
        ("initial-advertise-peer-urls", "initial-advertise-peer-urls"),
        ("advertise-client-urls", "advertise-peer-urls"),
        ("listen-metrics-urls", "listen-metrics-urls"),
    ],
)
def test_bad_urls_are_printed_with_etcd_s_name_for_the_key(key: str, reported: str) -> None:
    with pytest.raises(SetupError) as caught:
        decode(f"{key}: foo".encode())
    text = f"unexpected error setting up {reported}: URL scheme must be http, https, unix, or unixs: foo"
    assert str(caught.value) == text


def test_a_peer_section_that_is_no_map() -> None:
    with pytest.raises(ConfigError, match=r"^invalid peer-transport-security$"):
        decode(b"peer-transport-security: 5")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^open nope.yml: no such file or directory$"):
        load("nope.yml")
    with pytest.raises(ConfigError, match=r": is a directory$"):
        load(str(tmp_path))


def test_the_file_wins_over_flags_and_environment(tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text("name: from-file\nlisten-client-urls: http://127.0.0.1:9\n")
    log = Log()
    variables = {"ETCD_CONFIG_FILE": "c.yml", "ETCD_NAME": "from-env", "ETCD_NONSENSE": "1"}
    settings = settle(["--snapshot-count", "7"], variables, log)
    assert settings.config.name == "from-file"
    assert settings.config.snapshot_count == 10_000
    # Only the command line drops the default advertise URL.
    assert [str(url) for url in settings.config.advertise_client_urls] == ["http://localhost:2379"]
    assert log.messages == [
        (
            "loaded server configuration, other configuration command line flags and environment variables "
            "will be ignored if provided"
        )
    ]


class TestBesideGo:
    pytestmark = needs_go

    @pytest.mark.parametrize("content", [*REFUSED, "a: [b"])
    def test_refuses_in_the_same_words(self, content: str, tmp_path: Path) -> None:
        (tmp_path / "c.yml").write_text(content)
        with pytest.raises(ConfigError) as caught:
            load("c.yml")
        assert (str(caught.value), 1) == go_complaint(["--config-file", "c.yml"])

    @pytest.mark.parametrize(
        "key",
        [
            "listen-peer-urls",
            "listen-client-urls",
            "initial-advertise-peer-urls",
            "advertise-client-urls",
            "listen-metrics-urls",
        ],
    )
    def test_refuses_urls_in_the_same_words(self, key: str, tmp_path: Path) -> None:
        (tmp_path / "c.yml").write_text(f"{key}: http://a/b")
        with pytest.raises(SetupError) as caught:
            load("c.yml")
        assert (str(caught.value), 1) == go_complaint(["--config-file", "c.yml"])
