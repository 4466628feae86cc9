"""Everything one member is told before it starts; the defaults are those of etcd 3.7.1.

Build one with keywords: ``Config(name="a", data_dir="a.etcd")``. What is not given keeps its default, and
the initial cluster, when not given, is the member alone. The fields mirror the flags (the table is in
docs/configuration.md); durations are seconds unless the name says otherwise, and a flag's "0 means the
default" is already resolved here. Source: contract/config-metrics.md sections 1.4, 3, 8.1, 9.

A plain class with class attributes as defaults: a dataclass of this width costs 14 ms of imports and code
generation, a twentieth of the time a member has to become ready.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from petcd.server import gotext
from petcd.server.features import FEATURES
from petcd.server.url import Url, join_urls

if TYPE_CHECKING:
    from typing import dataclass_transform
else:  # ``dataclass_transform`` only speaks to type checkers, and importing it is not free

    def dataclass_transform(**_options):
        return lambda cls: cls


DEFAULT_NAME: Final = "default"
DEFAULT_LISTEN_PEER: Final = (Url("http", "localhost:2380"),)
DEFAULT_LISTEN_CLIENT: Final = (Url("http", "localhost:2379"),)
DEFAULT_QUOTA_BYTES: Final = 2 * 1024 * 1024 * 1024
GRPC_OVERHEAD_BYTES: Final = 512 * 1024


class ConfigError(ValueError):
    """A setting that cannot be used; ``str()`` is etcd's text for it."""


@dataclass_transform(kw_only_default=True)
class _Record:
    """Class attributes are the defaults; keywords override them; an unknown keyword is a TypeError."""

    def __init__(self, **values: Any) -> None:
        known = type(self).__annotations__
        for name, value in values.items():
            if name not in known:
                raise TypeError(f"{type(self).__name__} has no field {name!r}")
            setattr(self, name, value)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.values() == other.values()

    __hash__ = None  # type: ignore[assignment] # fields may change until the member starts

    def __repr__(self) -> str:
        changed = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({changed})"

    def values(self) -> dict[str, Any]:
        """Every field, defaults included, in the order of declaration."""
        return {name: getattr(self, name) for name in type(self).__annotations__}


class Tls(_Record):
    """Certificates of one side, clients or peers (contract section 8.2)."""

    cert_file: str = ""
    key_file: str = ""
    client_cert_file: str = ""
    client_key_file: str = ""
    """Used instead of the former pair for this member's own outgoing connections."""
    client_cert_auth: bool = False
    trusted_ca_file: str = ""
    crl_file: str = ""
    auto: bool = False
    allowed_cns: tuple[str, ...] = ()
    allowed_hostnames: tuple[str, ...] = ()
    skip_client_san_verification: bool = False

    @property
    def empty(self) -> bool:
        """No certificate configured; ``auto`` does not count."""
        return not (self.cert_file or self.key_file)

    @property
    def asked_for(self) -> bool:
        return self != _NO_TLS


_NO_TLS: Final = Tls()


class Discovery(_Record):
    """The v3 discovery service, DNS discovery, and what is left of v2 discovery."""

    url: str = ""
    proxy: str = ""
    fallback: str = "exit"
    srv: str = ""
    srv_name: str = ""
    token: str = ""
    endpoints: tuple[str, ...] = ()
    dial_timeout_seconds: float = 2.0
    request_timeout_seconds: float = 5.0
    keepalive_time_seconds: float = 2.0
    keepalive_timeout_seconds: float = 6.0
    insecure_transport: bool = True
    insecure_skip_tls_verify: bool = False
    cert: str = ""
    key: str = ""
    cacert: str = ""
    user: str = ""
    password: str = ""

    @property
    def asked_for(self) -> bool:
        return bool(self.url or self.srv or self.srv_name or self.endpoints)


class Config(_Record):
    """One member's configuration; see the module's docstring."""

    # The member.
    name: str = DEFAULT_NAME
    data_dir: str = ""
    """Empty means ``<name>.etcd``, which the command line fills in."""
    wal_dir: str = ""
    listen_peer_urls: tuple[Url, ...] = DEFAULT_LISTEN_PEER
    listen_client_urls: tuple[Url, ...] = DEFAULT_LISTEN_CLIENT
    listen_client_http_urls: tuple[Url, ...] = ()
    """When given, ``listen_client_urls`` speak gRPC only."""
    listen_metrics_urls: tuple[Url, ...] = ()
    advertise_peer_urls: tuple[Url, ...] = DEFAULT_LISTEN_PEER
    advertise_client_urls: tuple[Url, ...] = DEFAULT_LISTEN_CLIENT
    heartbeat_ms: int = 100
    election_ms: int = 1000
    initial_election_tick_advance: bool = True
    snapshot_count: int = 10_000
    snapshot_catchup_entries: int = 5_000
    max_snapshots: int = 5
    max_wals: int = 5
    memory_mlock: bool = False
    unsafe_no_fsync: bool = False

    # The cluster.
    initial_cluster: Mapping[str, tuple[Url, ...]] = {}
    """Peer URLs by member name; empty when discovery is to find them."""
    initial_cluster_token: str = "etcd-cluster"
    initial_cluster_state: str = "new"
    force_new_cluster: bool = False
    strict_reconfig_check: bool = True
    pre_vote: bool = True
    max_learners: int = 1
    downgrade_check_seconds: float = 5.0
    raft_read_timeout_seconds: float = 5.0
    raft_write_timeout_seconds: float = 5.0
    discovery: Discovery = Discovery()

    # Storage.
    quota_backend_bytes: int = 0
    """As given; ``quota_bytes`` is what it means."""
    backend_batch_limit: int = 10_000
    backend_batch_interval_seconds: float = 0.1
    backend_freelist_type: str = ""
    """``array`` or anything else; the backend has no freelist to choose, so it changes nothing."""
    bootstrap_defrag_threshold_megabytes: int = 0
    auto_compaction_mode: str = "periodic"
    auto_compaction_retention: str = "0"
    compaction_batch_limit: int = 1_000
    compaction_sleep_seconds: float = 0.01
    corrupt_check_seconds: float = 0.0
    """0: no periodic check."""
    compact_hash_check_seconds: float = 60.0

    # Requests and connections.
    max_txn_ops: int = 128
    max_request_bytes: int = 1_572_864
    max_concurrent_streams: int = 4_294_967_295
    grpc_keepalive_min_seconds: float = 5.0
    grpc_keepalive_interval_seconds: float = 7200.0
    grpc_keepalive_timeout_seconds: float = 20.0
    watch_progress_notify_seconds: float = 600.0
    warning_apply_seconds: float = 0.1
    warning_unary_request_seconds: float = 0.3
    socket_reuse_port: bool = False
    socket_reuse_address: bool = False
    enable_grpc_gateway: bool = True
    cors: tuple[str, ...] = ("*",)
    host_whitelist: tuple[str, ...] = ("*",)
    enable_pprof: bool = False
    metrics: str = "basic"
    """``extensive`` adds the gRPC latency histograms."""

    # The v2 protocol.
    enable_v2: bool = False
    enable_v2v3: str = ""
    proxy: str = "off"

    # Security.
    client_tls: Tls = _NO_TLS
    peer_tls: Tls = _NO_TLS
    self_signed_cert_validity_years: int = 1
    cipher_suites: tuple[str, ...] = ()
    tls_min_version: str = "TLS1.2"
    tls_max_version: str = ""
    auth_token: str = "simple"
    auth_token_ttl_seconds: int = 300
    bcrypt_cost: int = 10

    # Logging and tracing.
    logger: str = "zap"
    log_level: str = "info"
    log_format: str = "json"
    log_outputs: tuple[str, ...] = ("default",)
    enable_log_rotation: bool = False
    log_rotation_config_json: str = (
        '{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}'
    )
    enable_distributed_tracing: bool = False
    distributed_tracing_address: str = "localhost:4317"
    distributed_tracing_service_name: str = "etcd"
    distributed_tracing_instance_id: str = ""
    distributed_tracing_sampling_rate: int = 0

    features: Mapping[str, bool] = {}
    """Gates set by name, group names included; ask ``feature(name)``."""

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        if "initial_cluster" not in values:
            self.initial_cluster = {self.name: self.advertise_peer_urls}

    if TYPE_CHECKING:  # the checker reads the fields above instead of the line that accepts anything
        del __init__

    def replace(self, **changes: Any) -> Config:
        """A copy with these fields changed."""
        return Config(**{**vars(self), **changes})

    # What the settings mean together.

    @property
    def election_ticks(self) -> int:
        return self.election_ms // self.heartbeat_ms

    @property
    def request_timeout_seconds(self) -> float:
        """How long a proposal may take: 5 s of disk, and two elections."""
        return 5 + 2 * self.election_ms / 1000

    @property
    def request_timeout_ticks(self) -> int:
        """The same in heartbeats, rounded up."""
        return -(-(5_000 + 2 * self.election_ms) // self.heartbeat_ms)

    @property
    def peer_dial_timeout_seconds(self) -> float:
        return 1 + self.election_ms / 1000

    @property
    def min_lease_ttl_seconds(self) -> int:
        """No lease lives shorter: an election must not outlast it. ceil(1.5 elections), counted in ticks."""
        return -(-(3 * self.election_ticks // 2) * self.heartbeat_ms // 1000)

    @property
    def receive_bytes_max(self) -> int:
        """The largest gRPC message taken in."""
        return self.max_request_bytes + GRPC_OVERHEAD_BYTES

    @property
    def quota_bytes(self) -> int:
        """The backend's quota in force; 0 where there is none."""
        return self.quota_backend_bytes or DEFAULT_QUOTA_BYTES if self.quota_backend_bytes >= 0 else 0

    @property
    def compaction_retention(self) -> float:
        """Seconds (periodic) or revisions (revision) to keep; 0 is off. Raises ConfigError.

        A plain number is hours or revisions; a duration in revision mode counts its nanoseconds, as in Go.
        """
        text = self.auto_compaction_retention
        revisions = self.auto_compaction_mode == "revision"
        if text.isascii() and text.removeprefix("+").isdecimal():
            return int(text) if revisions else int(text) * 3600.0
        try:
            nanoseconds = gotext.parse_duration(text)
        except gotext.SyntaxFault as error:
            raise ConfigError(f"error parsing CompactionRetention: {error}") from None
        return nanoseconds if revisions else nanoseconds / gotext.SECOND

    @property
    def member_dir(self) -> str:
        return f"{self.data_dir}/member"

    @property
    def snap_dir(self) -> str:
        return f"{self.data_dir}/member/snap"

    @property
    def wal_path(self) -> str:
        """Where the WAL is: the dedicated directory, or the member's own."""
        return self.wal_dir or f"{self.data_dir}/member/wal"

    def feature(self, gate: str) -> bool:
        """Whether a feature gate is on; an explicit gate wins over its group."""
        stage, default = FEATURES[gate]
        return self.features.get(
            gate, self.features.get("AllAlpha" if stage == "ALPHA" else "AllBeta", default)
        )

    @property
    def initial_cluster_text(self) -> str:
        """``name=url,name=url``, sorted, as the logs print it."""
        pairs = [f"{name}={url}" for name, urls in self.initial_cluster.items() for url in urls]
        return ",".join(sorted(pairs))

    def local_peer_urls_problem(self, resolve: Callable[[Url], str] = str) -> str:
        """Why the initial cluster and the advertised peer URLs do not fit; empty when they do.

        ``resolve`` gives the text to compare URLs by, where they are not the same as they are written.
        Source: contract section 2.2, rows 1 to 5.
        """
        mine = self.initial_cluster.get(self.name)
        if mine is None:
            return f"couldn't find local name {gotext.quote(self.name)} in the initial cluster configuration"
        advertised = self.advertise_peer_urls
        if sorted(advertised) == sorted(mine):
            resolve = str  # nothing to find out; the names may mean nothing here yet
        mine_resolved = {resolve(url): url for url in mine}
        advertised_resolved = {resolve(url): url for url in advertised}
        missing = [url for text, url in sorted(mine_resolved.items()) if text not in advertised_resolved]
        if missing:
            return (
                f"--initial-cluster has {_pairs(self.name, missing)} but missing from "
                f"--initial-advertise-peer-urls={join_urls(advertised)} ({_difference(advertised, mine)})"
            )
        extra = [str(url) for text, url in sorted(advertised_resolved.items()) if text not in mine_resolved]
        if extra:
            return (
                f"--initial-advertise-peer-urls has {','.join(extra)} but missing from "
                f"--initial-cluster={_pairs(self.name, advertised)}"
            )
        every = [url for urls in self.initial_cluster.values() for url in urls]
        if len(set(every)) != len(every):
            return f"initial cluster {self.initial_cluster_text} has duplicate url"
        return ""


def _pairs(name: str, urls: Sequence[Url]) -> str:
    return ",".join(f"{name}={url}" for url in sorted(urls))


def _difference(advertised: Sequence[Url], mine: Sequence[Url]) -> str:
    if len(advertised) != len(mine):
        return f"len({_list(advertised)}) != len({_list(mine)})"
    for one, other in zip(sorted(advertised), sorted(mine), strict=True):
        if one != other:
            return f"resolved urls: {gotext.quote(str(one))} != {gotext.quote(str(other))}"
    return ""


def _list(urls: Sequence[Url]) -> str:
    return f"[{' '.join(gotext.quote(str(url)) for url in sorted(urls))}]"
