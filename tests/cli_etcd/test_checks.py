"""What is refused before a member starts, and in which order."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli_etcd.support import Log, go_complaint, needs_go, settle

from petcd.cli.etcd.checks import UNSUPPORTED, AdvertiseError, is_ip
from petcd.cli.etcd.flags import FLAGS
from petcd.cli.etcd.logging import LevelError
from petcd.server.config import Config, ConfigError

# Refused by 3.4.23 with the same text ([L] in the contract).
SAME_AS_GO = [
    (["--logger=nope"], 'unknown logger option "nope"'),
    (["--logger=zap", "--log-outputs=default,stdout"], 'multi logoutput for "default" is not supported yet'),
    (["--listen-peer-urls=http://example.com:1"], "expected IP in URL for binding (http://example.com:1)"),
    (
        ["--listen-client-urls=http://example.com:1", "--advertise-client-urls=http://a:1"],
        "expected IP in URL for binding (http://example.com:1)",
    ),
    (["--listen-metrics-urls=http://example.com:1"], "expected IP in URL for binding (http://example.com:1)"),
    (["--listen-peer-urls=http://:1"], "expected IP in URL for binding (http://:1)"),
    (
        ["--initial-advertise-peer-urls=http://:1"],
        '--initial-advertise-peer-urls "http://:1" must be "host:port" (unexpected empty host (http://:1))',
    ),
    (["--heartbeat-interval=0"], "--heartbeat-interval must be >0 (set to 0ms)"),
    (["--election-timeout=0"], "--election-timeout must be >0 (set to 0ms)"),
    (
        ["--election-timeout=499"],
        "--election-timeout[499ms] should be at least as 5 times as --heartbeat-interval[100ms]",
    ),
    (
        ["--election-timeout=50001"],
        "--election-timeout[50001ms] is too long, and should be set less than 50000ms",
    ),
    (["--auto-compaction-mode=x"], 'unknown auto-compaction-mode "x"'),
]

# Of 3.5 and later, or worded differently by 3.4.
OURS = [
    (["--logger=capnslog"], "--logger=capnslog is removed in v3.5"),
    (["--log-format=x"], "unknown log format: x, supported values json, console"),
    (
        ["--enable-log-rotation"],
        "--log-outputs requires a single file path when --log-rotate-config-json is defined",
    ),
    (
        ["--advertise-client-urls=http://:1"],
        (
            '--advertise-client-urls "http://:1" must be in the format "host:port", "unix:/path/to/socket" '
            'or "unixs:/path/to/socket" (unexpected empty host (http://:1))'
        ),
    ),
    (
        ["--initial-cluster=a=http://a:1", "--discovery-srv=x"],
        (
            "multiple discovery or bootstrap flags are set. Choose one of "
            '"initial-cluster", "discovery-endpoints" or "discovery-srv"'
        ),
    ),
    (["--discovery-token=x"], "both --discovery-token and --discovery-endpoints must be set"),
    (
        ["--discovery-token=x", "--discovery-endpoints=a,"],
        "--discovery-endpoints must not contain empty endpoints",
    ),
    (["--auto-compaction-mode="], "undefined auto-compaction-mode"),
    (
        ["--enable-distributed-tracing", "--distributed-tracing-sampling-rate=-1"],
        "distributed tracing configurition is not valid: (tracing sampling rate must be positive)",
    ),
    (
        ["--enable-distributed-tracing", "--distributed-tracing-sampling-rate=1000001"],
        "distributed tracing configurition is not valid: (tracing sampling rate must be less than 1000000)",
    ),
    (
        ["--feature-gates=LeaseCheckpointPersist=true"],
        "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
    ),
    (["--compact-hash-check-time=0"], "--compact-hash-check-time must be >0 (set to 0s)"),
    (["--tls-min-version=x"], 'unexpected TLS version "x" (must be one of: TLS1.2, TLS1.3)'),
    (
        ["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
        "min version (TLS1.3) is greater than max version (TLS1.2)",
    ),
    (
        ["--tls-min-version=TLS1.3", "--cipher-suites=x"],
        "cipher suites cannot be configured when only TLS1.3 is enabled",
    ),
    (
        ["--discovery-fallback=proxy", "--logger=nope"],
        'v2 proxy is deprecated, and --discovery-fallback can\'t be configured as "proxy"',
    ),
    (["extra"], '"extra" is not a valid flag'),
    (
        ["--experimental-max-learners=2", "--max-learners=1"],
        (
            "cannot set --experimental-max-learners and --max-learners at the same time, "
            "please use --max-learners only"
        ),
    ),
    (
        ["--experimental-initial-corrupt-check", "--feature-gates=InitialCorruptCheck=true"],
        (
            "cannot specify both flags: --experimental-initial-corrupt-check=true and "
            "--feature-gates=InitialCorruptCheck=true at the same time, please just use "
            "--feature-gates=InitialCorruptCheck=true"
        ),
    ),
]

# The earlier of two faults is the one that is told.
IN_ORDER = [
    (["--logger=nope", "--listen-peer-urls=http://a:1"], "unknown logger option"),
    (["--listen-peer-urls=http://a:1", "--heartbeat-interval=0"], "expected IP"),
    (["--initial-advertise-peer-urls=http://:1", "--heartbeat-interval=0"], "--initial-advertise-peer-urls"),
    (["--heartbeat-interval=0", "--auto-compaction-mode=x"], "--heartbeat-interval"),
    (["--auto-compaction-mode=x", "--tls-min-version=y"], "unknown auto-compaction-mode"),
    (["--heartbeat-interval=0", "--enable-pprof"], "--heartbeat-interval"),
]


def complaint(arguments: list[str]) -> str:
    with pytest.raises(ConfigError) as caught:
        settle(arguments)
    return str(caught.value)


@pytest.mark.parametrize(("arguments", "text"), [*SAME_AS_GO, *OURS])
def test_refuses(arguments: list[str], text: str) -> None:
    assert complaint(arguments) == text


@pytest.mark.parametrize(("arguments", "start"), IN_ORDER)
def test_the_first_fault_is_told(arguments: list[str], start: str) -> None:
    assert complaint(arguments).startswith(start)


class TestBesideGo:
    pytestmark = needs_go

    @pytest.mark.parametrize(("arguments", "text"), SAME_AS_GO)
    def test_go_says_the_same(self, arguments: list[str], text: str) -> None:
        said, code = go_complaint(arguments)
        assert (said, code) == (text, 1)


def test_fifty_seconds_of_election_are_allowed() -> None:
    assert settle(["--election-timeout=50000"]).config.election_ticks == 500


def test_a_bad_state_comes_from_a_file_only(tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text("initial-cluster-state: foo\n")
    assert complaint(["--config-file=c.yml"]) == 'unexpected clusterState "foo"'


def test_listening_without_advertising_is_refused() -> None:
    with pytest.raises(AdvertiseError) as caught:
        settle(["--listen-client-urls=http://127.0.0.1:1"])
    text = "--advertise-client-urls is required when --listen-client-urls is set explicitly"
    assert str(caught.value) == text


def test_a_bad_level_is_a_panic() -> None:
    with pytest.raises(LevelError) as caught:
        settle(["--log-level=loud"])
    assert str(caught.value) == 'unrecognized level: "loud"'


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("127.0.0.1", True),
        ("0.0.0.0", True),
        ("::", True),
        ("fe80::1", True),
        ("256.1.1.1", False),
        ("01.2.3.4", False),
        ("1.2.3", False),
        ("a.b.c.d", False),
        ("localhost", False),
        ("", False),
        ("::g", False),
    ],
)
def test_addresses_as_go_takes_them(host: str, answer: bool) -> None:
    assert is_ip(host) is answer


UNSUPPORTED_ASKED = [
    ["--discovery=http://a"],
    ["--discovery-proxy=x"],
    ["--discovery-token=x", "--discovery-endpoints=a"],
    ["--discovery-srv=x"],
    ["--discovery-srv-name=x"],
    ["--cert-file=a", "--key-file=b"],
    ["--auto-tls"],
    ["--client-cert-auth"],
    ["--trusted-ca-file=x"],
    ["--listen-client-urls=https://127.0.0.1:1", "--advertise-client-urls=https://127.0.0.1:1"],
    ["--listen-metrics-urls=https://127.0.0.1:1"],
    ["--peer-auto-tls"],
    ["--peer-cert-allowed-cn=x"],
    ["--listen-peer-urls=https://127.0.0.1:1"],
    ["--auth-token=jwt,sign-method=RS256"],
    ["--enable-v2"],
    ["--enable-v2=true"],
    ["--experimental-enable-v2v3=/x"],
    ["--proxy=on"],
    ["--enable-pprof"],
    ["--enable-distributed-tracing"],
    ["--memory-mlock"],
    ["--experimental-memory-mlock"],
    ["--socket-reuse-port"],
]


@pytest.mark.parametrize("arguments", UNSUPPORTED_ASKED, ids=" ".join)
def test_what_is_not_there_is_refused_and_not_ignored(arguments: list[str]) -> None:
    assert complaint(arguments).startswith("not supported by this release of petcd: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--enable-v2=false"],
        ["--proxy=off"],
        ["--auto-tls=false"],
        ["--auth-token=simple"],
        ["--initial-cluster-state=existing"],
        ["--snapshot-count=5", "--max-wals=0"],
    ],
    ids=" ".join,
)
def test_what_is_not_asked_for_is_not_refused(arguments: list[str]) -> None:
    assert settle(arguments)


def test_a_plain_member_asks_for_nothing_that_is_missing() -> None:
    assert all(not asked(Config()) for asked in UNSUPPORTED.values())


def test_warnings_of_a_plain_start() -> None:
    log = Log()
    settings = settle([], log=log)
    assert [message for _level, message, _fields in settings.notes] == [
        "Running http and grpc server on single port. This is not recommended for production.",
        (
            "it isn't recommended to use default name, please set a value for --name. Note that etcd might "
            "run into issue when multiple members have the same default name"
        ),
    ]


@pytest.mark.parametrize("name", [name for name, flag in FLAGS.items() if flag.group == "older"])
def test_an_older_name_is_warned_of(name: str) -> None:
    flag = FLAGS[name]
    value = {"string": "1", "list": "stderr", "off|readonly|on": "off", "duration": "1s"}.get(
        flag.kind.label, "1"
    )
    if flag.kind.boolean:
        value = "false"
    from petcd.cli.etcd.grammar import parse_arguments
    from petcd.cli.etcd.settings import assemble

    settings = assemble(parse_arguments([f"--{name}={value}"]))
    assert any(message.startswith(f"--{name} ") for _level, message, _fields in settings.notes)
