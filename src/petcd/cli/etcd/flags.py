"""Every flag of ``etcd``, declared once: grammar, environment, config file, help and docs read this table.

Defaults are not repeated here: they are those of ``petcd.server.config.Config``. Source:
contract/config-metrics.md sections 3 (flags of 3.7.1), 4 (older names) and 1.3 (names in config files).
"""

from __future__ import annotations

from typing import Any, Final

from petcd.cli.etcd.kinds import (
    BOOL,
    DURATION,
    GATES,
    IGNORED,
    INT,
    INT64,
    LIST,
    NAMES,
    ORIGINS,
    SET,
    STRING,
    UINT,
    UINT32,
    UINT64,
    URLS,
    Kind,
    choice,
    choices,
)
from petcd.server.config import Config


class Flag:
    """One flag.

    ``field`` is where its value goes in Config (dotted into ``client_tls``, ``peer_tls`` and ``discovery``;
    empty for flags that are handled by name). ``key`` is its path in a config file, empty where it has none.
    ``zero`` is the default that a given 0 stands for.
    """

    __slots__ = ("field", "gate", "group", "help", "key", "kind", "name", "replaced_by", "shown", "zero")

    def __init__(
        self,
        name: str,
        kind: Kind,
        field: str,
        text: str,
        *,
        group: str = "",
        key: str | None = None,
        shown: str | None = None,
        zero: Any = None,
        replaced_by: str = "",
        gate: str = "",
    ) -> None:
        self.name = name
        self.kind = kind
        self.field = field
        self.help = text
        self.group = group
        self.key = name if key is None else key
        self.shown = shown
        """The default as help prints it, where that is not the field's own."""
        self.zero = zero
        self.replaced_by = replaced_by
        """For an older name: the flag that has its place now."""
        self.gate = gate
        """For an older name: the feature gate that has its place now."""

    @property
    def environment(self) -> str:
        return "ETCD_" + self.name.upper().replace("-", "_")

    def default(self) -> Any:
        """The field's value when nobody sets it."""
        value: Any = Config
        for part in self.field.split("."):
            value = getattr(value, part)
        return value


GROUPS: Final[dict[str, tuple[Flag, ...]]] = {
    "Member": (
        Flag("name", STRING, "name", "Name of this member; it must match its entry in the initial cluster."),
        Flag("data-dir", STRING, "data_dir", "Directory that holds all data.", shown="${name}.etcd"),
        Flag("wal-dir", STRING, "wal_dir", "Directory of its own for the write-ahead log."),
        Flag(
            "snapshot-count",
            UINT64,
            "snapshot_count",
            "Entries applied between two raft snapshots.",
            zero=10_000,
        ),
        Flag(
            "heartbeat-interval", UINT, "heartbeat_ms", "Milliseconds between two heartbeats of the leader."
        ),
        Flag("election-timeout", UINT, "election_ms", "Milliseconds without a leader before an election."),
        Flag(
            "initial-election-tick-advance",
            BOOL,
            "initial_election_tick_advance",
            "Shorten the wait for the first election after the start.",
        ),
        Flag("listen-peer-urls", URLS, "listen_peer_urls", "URLs to listen on for other members."),
        Flag(
            "listen-client-urls", URLS, "listen_client_urls", "URLs to listen on for clients, gRPC and HTTP."
        ),
        Flag(
            "listen-client-http-urls",
            URLS,
            "listen_client_http_urls",
            "URLs to listen on for HTTP clients only; --listen-client-urls then speak gRPC only.",
        ),
        Flag(
            "listen-metrics-urls",
            URLS,
            "listen_metrics_urls",
            "More URLs for /metrics and the health checks.",
        ),
        Flag(
            "max-snapshots", UINT, "max_snapshots", "Snapshot files to keep, 0 for all (deprecated in 3.6)."
        ),
        Flag("max-wals", UINT, "max_wals", "Write-ahead log files to keep, 0 for all."),
        Flag("memory-mlock", BOOL, "memory_mlock", "Lock the backend's pages in memory."),
        Flag(
            "quota-backend-bytes",
            INT64,
            "quota_backend_bytes",
            "Backend size that raises the NOSPACE alarm: 0 for 2 GiB, negative for no quota.",
        ),
        Flag(
            "backend-bbolt-freelist-type",
            STRING,
            "backend_freelist_type",
            "Accepted for scripts; the backend has no freelist to choose.",
        ),
        Flag(
            "backend-batch-interval",
            DURATION,
            "backend_batch_interval_seconds",
            "Longest time before a backend commit.",
            zero=0.1,
        ),
        Flag(
            "backend-batch-limit",
            INT,
            "backend_batch_limit",
            "Most operations before a backend commit.",
            zero=10_000,
        ),
        Flag("max-txn-ops", UINT, "max_txn_ops", "Most operations in one transaction."),
        Flag("max-request-bytes", UINT, "max_request_bytes", "Largest request in bytes."),
        Flag(
            "max-concurrent-streams",
            UINT32,
            "max_concurrent_streams",
            "Most HTTP/2 streams of one connection.",
        ),
        Flag(
            "grpc-keepalive-min-time",
            DURATION,
            "grpc_keepalive_min_seconds",
            "Shortest time a client may leave between two pings.",
        ),
        Flag(
            "grpc-keepalive-interval",
            DURATION,
            "grpc_keepalive_interval_seconds",
            "Time between the server's pings, 0 for none.",
        ),
        Flag(
            "grpc-keepalive-timeout",
            DURATION,
            "grpc_keepalive_timeout_seconds",
            "Time to wait for the answer to a ping before closing the connection.",
        ),
        Flag(
            "socket-reuse-port",
            BOOL,
            "socket_reuse_port",
            "Set SO_REUSEPORT on listeners.",
            key="socket-options.reuse-port",
        ),
        Flag(
            "socket-reuse-address",
            BOOL,
            "socket_reuse_address",
            "Set SO_REUSEADDR on listeners.",
            key="socket-options.reuse-address",
        ),
        Flag(
            "raft-read-timeout",
            DURATION,
            "raft_read_timeout_seconds",
            "Read timeout of connections between members, at least 5s.",
            key="",
        ),
        Flag(
            "raft-write-timeout",
            DURATION,
            "raft_write_timeout_seconds",
            "Write timeout of connections between members, at least 5s.",
            key="",
        ),
        Flag("enable-grpc-gateway", BOOL, "enable_grpc_gateway", "Serve JSON over HTTP under /v3/."),
    ),
    "Clustering": (
        Flag(
            "initial-advertise-peer-urls",
            URLS,
            "advertise_peer_urls",
            "This member's peer URLs, as the other members reach them.",
        ),
        Flag(
            "initial-cluster",
            STRING,
            "",
            "Members of a new cluster: name=url,name=url; a name may repeat.",
            shown="default=http://localhost:2380",
        ),
        Flag(
            "initial-cluster-state",
            choice("new", "existing"),
            "initial_cluster_state",
            "Found a new cluster, or join an existing one.",
        ),
        Flag(
            "initial-cluster-token",
            STRING,
            "initial_cluster_token",
            "Part of every id, so that clusters with equal URLs never mix.",
        ),
        Flag(
            "advertise-client-urls",
            URLS,
            "advertise_client_urls",
            "This member's client URLs, as clients reach them.",
        ),
        Flag(
            "discovery-token",
            STRING,
            "discovery.token",
            "Token of the v3 discovery.",
            key="discovery-config.token",
        ),
        Flag(
            "discovery-endpoints",
            LIST,
            "discovery.endpoints",
            "Servers of the v3 discovery.",
            key="discovery-config.client.endpoints",
        ),
        Flag(
            "discovery-dial-timeout",
            DURATION,
            "discovery.dial_timeout_seconds",
            "Dial timeout of the v3 discovery.",
            key="discovery-config.client.dial-timeout",
        ),
        Flag(
            "discovery-request-timeout",
            DURATION,
            "discovery.request_timeout_seconds",
            "Request timeout of the v3 discovery.",
            key="discovery-config.client.request-timeout",
        ),
        Flag(
            "discovery-keepalive-time",
            DURATION,
            "discovery.keepalive_time_seconds",
            "Time between pings to the v3 discovery.",
            key="discovery-config.client.keepalive-time",
        ),
        Flag(
            "discovery-keepalive-timeout",
            DURATION,
            "discovery.keepalive_timeout_seconds",
            "Time to wait for the answer to a ping.",
            key="discovery-config.client.keepalive-timeout",
        ),
        Flag(
            "discovery-insecure-transport",
            BOOL,
            "discovery.insecure_transport",
            "Speak plain text to the v3 discovery.",
            key="discovery-config.client.secure.insecure-transport",
        ),
        Flag(
            "discovery-insecure-skip-tls-verify",
            BOOL,
            "discovery.insecure_skip_tls_verify",
            "Do not verify the v3 discovery's certificate.",
            key="discovery-config.client.secure.insecure-skip-tls-verify",
        ),
        Flag(
            "discovery-cert",
            STRING,
            "discovery.cert",
            "Certificate towards the v3 discovery.",
            key="discovery-config.client.secure.cert",
        ),
        Flag(
            "discovery-key",
            STRING,
            "discovery.key",
            "Key towards the v3 discovery.",
            key="discovery-config.client.secure.key",
        ),
        Flag(
            "discovery-cacert",
            STRING,
            "discovery.cacert",
            "CA of the v3 discovery.",
            key="discovery-config.client.secure.cacert",
        ),
        Flag(
            "discovery-user",
            STRING,
            "discovery.user",
            "User at the v3 discovery, or user:password.",
            key="discovery-config.client.auth.username",
        ),
        Flag(
            "discovery-password",
            STRING,
            "discovery.password",
            "Password at the v3 discovery.",
            key="discovery-config.client.auth.password",
        ),
        Flag(
            "discovery-fallback",
            choice("exit", "proxy"),
            "discovery.fallback",
            "What to do when the discovery fails; proxy is gone.",
            key="",
        ),
        Flag("discovery-srv", STRING, "discovery.srv", "DNS domain whose SRV records name the members."),
        Flag("discovery-srv-name", STRING, "discovery.srv_name", "Suffix of the SRV names to ask for."),
        Flag(
            "strict-reconfig-check",
            BOOL,
            "strict_reconfig_check",
            "Refuse membership changes that would lose the quorum.",
        ),
        Flag("pre-vote", BOOL, "pre_vote", "Ask for votes without disturbing the leader first."),
        Flag(
            "auto-compaction-retention",
            STRING,
            "auto_compaction_retention",
            "History to keep: hours or a duration (periodic), or revisions; 0 for no auto compaction.",
        ),
        Flag("auto-compaction-mode", STRING, "auto_compaction_mode", "periodic or revision."),
        Flag(
            "v2-deprecation",
            choices("not-yet", "write-only", "write-only-skip-check", "write-only-drop-data", "gone"),
            "",
            "Accepted for scripts; always write-only.",
            shown="write-only",
        ),
        Flag(
            "config-file",
            STRING,
            "",
            "File with the configuration, in YAML or JSON; other flags and the environment are then ignored.",
            key="",
            shown="",
        ),
    ),
    "Security": (
        Flag(
            "cert-file",
            STRING,
            "client_tls.cert_file",
            "Server certificate for clients.",
            key="client-transport-security.cert-file",
        ),
        Flag("key-file", STRING, "client_tls.key_file", "Its key.", key="client-transport-security.key-file"),
        Flag(
            "client-cert-file",
            STRING,
            "client_tls.client_cert_file",
            "Certificate of this member's own client connections, if not the server's.",
            key="client-transport-security.client-cert-file",
        ),
        Flag(
            "client-key-file",
            STRING,
            "client_tls.client_key_file",
            "Its key.",
            key="client-transport-security.client-key-file",
        ),
        Flag(
            "client-cert-auth",
            BOOL,
            "client_tls.client_cert_auth",
            "Demand certificates from clients.",
            key="client-transport-security.client-cert-auth",
        ),
        Flag("client-crl-file", STRING, "client_tls.crl_file", "Revocation list for clients.", key=""),
        Flag(
            "client-cert-allowed-hostname",
            NAMES,
            "client_tls.allowed_hostnames",
            "Names of which a client's certificate must bear one.",
            key="client-transport-security.allowed-hostname",
        ),
        Flag(
            "trusted-ca-file",
            STRING,
            "client_tls.trusted_ca_file",
            "CA that signs clients' certificates.",
            key="client-transport-security.trusted-ca-file",
        ),
        Flag(
            "auto-tls",
            BOOL,
            "client_tls.auto",
            "Make a certificate for clients' connections.",
            key="client-transport-security.auto-tls",
        ),
        Flag(
            "peer-cert-file",
            STRING,
            "peer_tls.cert_file",
            "Certificate for other members.",
            key="peer-transport-security.cert-file",
        ),
        Flag(
            "peer-key-file", STRING, "peer_tls.key_file", "Its key.", key="peer-transport-security.key-file"
        ),
        Flag(
            "peer-client-cert-file",
            STRING,
            "peer_tls.client_cert_file",
            "Certificate of this member's own connections to others, if not the former.",
            key="peer-transport-security.client-cert-file",
        ),
        Flag(
            "peer-client-key-file",
            STRING,
            "peer_tls.client_key_file",
            "Its key.",
            key="peer-transport-security.client-key-file",
        ),
        Flag(
            "peer-client-cert-auth",
            BOOL,
            "peer_tls.client_cert_auth",
            "Demand certificates from other members.",
            key="peer-transport-security.client-cert-auth",
        ),
        Flag(
            "peer-trusted-ca-file",
            STRING,
            "peer_tls.trusted_ca_file",
            "CA that signs other members' certificates.",
            key="peer-transport-security.trusted-ca-file",
        ),
        Flag(
            "peer-cert-allowed-cn",
            NAMES,
            "peer_tls.allowed_cns",
            "Common names of which a member's certificate must bear one.",
            key="peer-transport-security.allowed-cn",
        ),
        Flag(
            "peer-cert-allowed-hostname",
            NAMES,
            "peer_tls.allowed_hostnames",
            "Names of which a member's certificate must bear one.",
            key="peer-transport-security.allowed-hostname",
        ),
        Flag(
            "peer-auto-tls",
            BOOL,
            "peer_tls.auto",
            "Make a certificate for the connections between members.",
            key="peer-transport-security.auto-tls",
        ),
        Flag(
            "self-signed-cert-validity",
            UINT,
            "self_signed_cert_validity_years",
            "Years that certificates made here are valid.",
        ),
        Flag("peer-crl-file", STRING, "peer_tls.crl_file", "Revocation list for other members.", key=""),
        Flag(
            "peer-skip-client-san-verification",
            BOOL,
            "peer_tls.skip_client_san_verification",
            "Do not compare a connecting member's names with its address.",
            key="peer-transport-security.skip-client-san-verification",
        ),
        Flag("cipher-suites", LIST, "cipher_suites", "Cipher suites, by their Go or IANA names."),
        Flag("cors", ORIGINS, "cors", "Origins that browsers may call from, * for all."),
        Flag(
            "host-whitelist",
            SET,
            "host_whitelist",
            "Host names HTTP clients may ask for without TLS, * for all.",
        ),
        Flag("tls-min-version", STRING, "tls_min_version", "Lowest TLS version: TLS1.2 or TLS1.3."),
        Flag("tls-max-version", STRING, "tls_max_version", "Highest TLS version, empty for the newest."),
    ),
    "Auth": (
        Flag("auth-token", STRING, "auth_token", "Kind of tokens: simple, or jwt with its options."),
        Flag("bcrypt-cost", UINT, "bcrypt_cost", "Cost of password hashes, 4 to 31."),
        Flag("auth-token-ttl", UINT, "auth_token_ttl_seconds", "Seconds that a simple token lives."),
    ),
    "Profiling and Monitoring": (
        Flag("enable-pprof", BOOL, "enable_pprof", "Serve Go's runtime profiles under /debug/pprof/."),
        Flag("metrics", STRING, "metrics", "basic, or extensive for the latency histograms of gRPC."),
        Flag(
            "warning-unary-request-duration",
            DURATION,
            "warning_unary_request_seconds",
            "Warn of requests that take longer.",
        ),
        Flag(
            "warning-apply-duration", DURATION, "warning_apply_seconds", "Warn of applies that take longer."
        ),
    ),
    "Logging": (
        Flag("logger", STRING, "logger", "Only zap is left."),
        Flag(
            "log-outputs",
            LIST,
            "log_outputs",
            "default (stderr), stderr, stdout, systemd/journal, or paths of files.",
        ),
        Flag("log-level", STRING, "log_level", "debug, info, warn, error, panic or fatal."),
        Flag("log-format", STRING, "log_format", "json or console."),
        Flag("enable-log-rotation", BOOL, "enable_log_rotation", "Rotate the one log file."),
        Flag(
            "log-rotation-config-json",
            STRING,
            "log_rotation_config_json",
            "When to rotate: megabytes, days, files.",
        ),
    ),
    "Distributed tracing": (
        Flag("enable-distributed-tracing", BOOL, "enable_distributed_tracing", "Send OpenTelemetry traces."),
        Flag(
            "distributed-tracing-address",
            STRING,
            "distributed_tracing_address",
            "Where the collector listens.",
        ),
        Flag(
            "distributed-tracing-service-name",
            STRING,
            "distributed_tracing_service_name",
            "Service name in traces; the same in the whole cluster.",
        ),
        Flag(
            "distributed-tracing-instance-id",
            STRING,
            "distributed_tracing_instance_id",
            "Instance id in traces; each member has its own.",
        ),
        Flag(
            "distributed-tracing-sampling-rate",
            INT,
            "distributed_tracing_sampling_rate",
            "Traced requests in a million.",
        ),
    ),
    "Features": (
        Flag("feature-gates", GATES, "features", "Gates as Gate=true,Gate=false.", shown=""),
        Flag(
            "corrupt-check-time",
            DURATION,
            "corrupt_check_seconds",
            "Time between corruption checks, 0 for none.",
        ),
        Flag(
            "compact-hash-check-time",
            DURATION,
            "compact_hash_check_seconds",
            "Time between comparisons of the hashes taken at compactions.",
        ),
        Flag(
            "compaction-batch-limit",
            INT,
            "compaction_batch_limit",
            "Most revisions in one slice of a compaction.",
            zero=1_000,
        ),
        Flag(
            "compaction-sleep-interval",
            DURATION,
            "compaction_sleep_seconds",
            "Pause between two slices of a compaction.",
            zero=0.01,
        ),
        Flag(
            "watch-progress-notify-interval",
            DURATION,
            "watch_progress_notify_seconds",
            "Time between progress notifications of a watch.",
            zero=600.0,
        ),
        Flag(
            "downgrade-check-time",
            DURATION,
            "downgrade_check_seconds",
            "Time between two looks at the state of a downgrade.",
        ),
        Flag(
            "bootstrap-defrag-threshold-megabytes",
            UINT,
            "bootstrap_defrag_threshold_megabytes",
            "Defragment at the start when this much can be freed, 0 for never.",
        ),
        Flag("max-learners", INT, "max_learners", "Most learners in the cluster."),
        Flag(
            "snapshot-catchup-entries",
            UINT64,
            "snapshot_catchup_entries",
            "Raft entries kept behind a snapshot for slow followers.",
            zero=5_000,
        ),
    ),
    "Unsafe": (
        Flag("force-new-cluster", BOOL, "force_new_cluster", "Restart as the only member of a new cluster."),
        Flag(
            "unsafe-no-fsync",
            BOOL,
            "unsafe_no_fsync",
            "Never sync; a power cut then loses acknowledged data.",
        ),
    ),
}

VERSION: Final = Flag("version", BOOL, "", "Print the version and exit.", key="", shown="false")

_OLD_NAMES: Final = {
    "experimental-backend-bbolt-freelist-type": "backend-bbolt-freelist-type",
    "experimental-bootstrap-defrag-threshold-megabytes": "bootstrap-defrag-threshold-megabytes",
    "experimental-compact-hash-check-time": "compact-hash-check-time",
    "experimental-compaction-batch-limit": "compaction-batch-limit",
    "experimental-compaction-sleep-interval": "compaction-sleep-interval",
    "experimental-corrupt-check-time": "corrupt-check-time",
    "experimental-distributed-tracing-address": "distributed-tracing-address",
    "experimental-distributed-tracing-instance-id": "distributed-tracing-instance-id",
    "experimental-distributed-tracing-sampling-rate": "distributed-tracing-sampling-rate",
    "experimental-distributed-tracing-service-name": "distributed-tracing-service-name",
    "experimental-downgrade-check-time": "downgrade-check-time",
    "experimental-enable-distributed-tracing": "enable-distributed-tracing",
    "experimental-max-learners": "max-learners",
    "experimental-memory-mlock": "memory-mlock",
    "experimental-peer-skip-client-san-verification": "peer-skip-client-san-verification",
    "experimental-snapshot-catchup-entries": "snapshot-catchup-entries",
    "experimental-warning-apply-duration": "warning-apply-duration",
    "experimental-warning-unary-request-duration": "warning-unary-request-duration",
    "experimental-watch-progress-notify-interval": "watch-progress-notify-interval",
    "log-output": "log-outputs",
}
_OLD_GATES: Final = {
    "experimental-compact-hash-check-enabled": "CompactHashCheck",
    "experimental-enable-lease-checkpoint": "LeaseCheckpoint",
    "experimental-enable-lease-checkpoint-persist": "LeaseCheckpointPersist",
    "experimental-initial-corrupt-check": "InitialCorruptCheck",
    "experimental-stop-grpc-service-on-defrag": "StopGRPCServiceOnDefrag",
    "experimental-txn-mode-write-with-shared-buffer": "TxnModeWriteWithSharedBuffer",
}
_OLD_KEYS: Final = {"experimental-snapshot-catchup-entries": "experimental-snapshot-catch-up-entries"}
_IGNORED_NAMES: Final = (
    "cluster-active-size",
    "cluster-remove-delay",
    "cluster-sync-interval",
    "config",
    "force",
    "max-result-buffer",
    "max-retry-attempts",
    "peer-heartbeat-interval",
    "peer-election-timeout",
    "retry-interval",
    "snapshot",
    "v",
    "vv",
    "test.coverprofile",
    "test.outputdir",
)


def _tabulate() -> dict[str, Flag]:
    table: dict[str, Flag] = {}
    for group, flags in GROUPS.items():
        for flag in flags:
            flag.group = group
            table[flag.name] = flag
    table["version"] = VERSION
    older = [
        Flag("debug", BOOL, "", "Use --log-level=debug.", shown="false"),
        Flag("log-package-levels", STRING, "", "Without effect: one level for all.", shown=""),
        Flag("enable-v2", BOOL, "enable_v2", "Serve the v2 protocol."),
        Flag("experimental-enable-v2v3", STRING, "enable_v2v3", "Serve v2 from v3 keys under this prefix."),
        Flag("proxy", choice("off", "readonly", "on"), "proxy", "Be a v2 proxy."),
        Flag("proxy-failure-wait", UINT, "", "Without effect: it is of the v2 proxy.", shown="5000"),
        Flag("proxy-refresh-interval", UINT, "", "Without effect: it is of the v2 proxy.", shown="30000"),
        Flag("proxy-dial-timeout", UINT, "", "Without effect: it is of the v2 proxy.", shown="1000"),
        Flag("proxy-write-timeout", UINT, "", "Without effect: it is of the v2 proxy.", shown="5000"),
        Flag("proxy-read-timeout", UINT, "", "Without effect: it is of the v2 proxy.", shown="0"),
        Flag("discovery", STRING, "discovery.url", "URL of the v2 discovery."),
        Flag("discovery-proxy", STRING, "discovery.proxy", "HTTP proxy towards the v2 discovery."),
        Flag(
            "next-cluster-version-compatible",
            BOOL,
            "",
            "Without effect: it is of 3.4 beside 3.5.",
            shown="false",
        ),
    ]
    for name, new in _OLD_NAMES.items():
        now = table[new]
        key = _OLD_KEYS.get(name, name)
        older.append(Flag(name, now.kind, now.field, now.help, key=key, zero=now.zero, replaced_by=new))
    older.extend(Flag(name, BOOL, "", "", shown="", gate=gate) for name, gate in _OLD_GATES.items())
    older.extend(
        Flag(name, IGNORED, "", "Accepted and ignored.", key="", shown="") for name in _IGNORED_NAMES
    )
    for flag in older:
        flag.group = "ignored" if flag.kind is IGNORED else "older"
        table[flag.name] = flag
    return table


FLAGS: Final = _tabulate()
"""Every flag by name, older names included; those are accepted with a warning (3.7 refuses them)."""
