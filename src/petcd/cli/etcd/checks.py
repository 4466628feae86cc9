"""What is checked before a member starts, in etcd's order and with its texts; then what petcd lacks.

Source: contract/config-metrics.md section 2.1. The second part is honest about features that exist in etcd
and not here: asking for one is refused, never ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from petcd.cli.etcd.settings import Settings
from petcd.logs import Level
from petcd.server.config import DEFAULT_NAME, Config, ConfigError
from petcd.server.gotext import format_duration, quote
from petcd.server.url import Url, join_urls

_ELECTION_MS_MAX: Final = 50_000
_SAMPLING_MAX: Final = 1_000_000
_TLS_VERSIONS: Final = {"TLS1.2": 12, "TLS1.3": 13}
_HOST_FORMS: Final = 'must be in the format "host:port", "unix:/path/to/socket" or "unixs:/path/to/socket"'


class AdvertiseError(ConfigError):
    """Listening is explicit and advertising is not; a second log line says so."""


def check(settings: Settings) -> None:
    """Raises ConfigError with the text of the first thing that is wrong; the logger's checks come before."""
    config = settings.config
    _check_urls(settings)
    if config.initial_cluster_state not in ("new", "existing"):
        raise ConfigError(f"unexpected clusterState {quote(config.initial_cluster_state)}")
    _check_bootstrap(settings)
    _check_timing(config)
    if config.listen_client_urls and not config.advertise_client_urls:
        raise AdvertiseError(
            "--advertise-client-urls is required when --listen-client-urls is set explicitly"
        )
    _check_features(config)
    if config.name == DEFAULT_NAME:
        settings.note(
            Level.WARN,
            "it isn't recommended to use default name, please set a value for --name. Note that etcd might "
            "run into issue when multiple members have the same default name",
            name=config.name,
        )
    _check_tls_versions(config)


def check_fallback(config: Config) -> None:
    """The one check that comes before the logger's own."""
    if config.discovery.fallback == "proxy":
        raise ConfigError('v2 proxy is deprecated, and --discovery-fallback can\'t be configured as "proxy"')


def _check_urls(settings: Settings) -> None:
    config = settings.config
    _check_bind(config.listen_peer_urls)
    _check_bind(config.listen_client_urls)
    _check_bind(config.listen_client_http_urls)
    if not config.listen_client_http_urls:
        settings.note(
            Level.WARN,
            "Running http and grpc server on single port. This is not recommended for production.",
        )
    _check_bind(config.listen_metrics_urls)
    for flag, urls, form in (
        ("initial-advertise-peer-urls", config.advertise_peer_urls, 'must be "host:port"'),
        ("advertise-client-urls", config.advertise_client_urls, _HOST_FORMS),
    ):
        for url in urls:
            if not url.unix and not url.host:
                raise ConfigError(f"--{flag} {quote(join_urls(urls))} {form} (unexpected empty host ({url}))")


def _check_bind(urls: Iterable[Url]) -> None:
    for url in urls:
        if not url.unix and url.host != "localhost" and not is_ip(url.host):
            raise ConfigError(f"expected IP in URL for binding ({url})")


def is_ip(host: str) -> bool:
    """Whether Go's net.ParseIP takes it."""
    parts = host.split(".")
    if len(parts) == 4 and all(
        part.isdecimal() and part.isascii() and len(part) <= 3 and (part == "0" or part[0] != "0")
        for part in parts
    ):
        return all(int(part) <= 255 for part in parts)
    if ":" not in host:
        return False
    import socket

    try:
        socket.inet_pton(socket.AF_INET6, host)
    except (OSError, ValueError):
        return False
    return True


def _check_bootstrap(settings: Settings) -> None:
    discovery = settings.config.discovery
    ways = (settings.cluster_text, discovery.srv, discovery.endpoints, discovery.url)
    if sum(map(bool, ways)) > 1:
        raise ConfigError(
            "multiple discovery or bootstrap flags are set. "
            'Choose one of "initial-cluster", "discovery-endpoints" or "discovery-srv"'
        )
    if bool(discovery.token) != bool(discovery.endpoints):
        raise ConfigError("both --discovery-token and --discovery-endpoints must be set")
    if "" in discovery.endpoints:
        raise ConfigError("--discovery-endpoints must not contain empty endpoints")


def _check_timing(config: Config) -> None:
    heartbeat, election = config.heartbeat_ms, config.election_ms
    if heartbeat == 0:
        raise ConfigError(f"--heartbeat-interval must be >0 (set to {heartbeat}ms)")
    if election == 0:
        raise ConfigError(f"--election-timeout must be >0 (set to {election}ms)")
    if 5 * heartbeat > election:
        raise ConfigError(
            f"--election-timeout[{election}ms] should be at least as 5 times as "
            f"--heartbeat-interval[{heartbeat}ms]"
        )
    if election > _ELECTION_MS_MAX:
        raise ConfigError(
            f"--election-timeout[{election}ms] is too long, and should be set less than {_ELECTION_MS_MAX}ms"
        )


def _check_features(config: Config) -> None:
    mode = config.auto_compaction_mode
    if not mode:
        raise ConfigError("undefined auto-compaction-mode")
    if mode not in ("periodic", "revision"):
        raise ConfigError(f"unknown auto-compaction-mode {quote(mode)}")
    if config.enable_distributed_tracing:
        rate = config.distributed_tracing_sampling_rate
        if rate < 0:
            reason = "tracing sampling rate must be positive"
            raise ConfigError(f"distributed tracing configurition is not valid: ({reason})")
        if rate > _SAMPLING_MAX:
            reason = f"tracing sampling rate must be less than {_SAMPLING_MAX}"
            raise ConfigError(f"distributed tracing configurition is not valid: ({reason})")
    if config.feature("LeaseCheckpointPersist") and not config.feature("LeaseCheckpoint"):
        raise ConfigError(
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint"
        )
    if config.compact_hash_check_seconds <= 0:
        given = format_duration(config.compact_hash_check_seconds)
        raise ConfigError(f"--compact-hash-check-time must be >0 (set to {given})")


def _check_tls_versions(config: Config) -> None:
    low, high = config.tls_min_version, config.tls_max_version
    for version in (low, high):
        if version and version not in _TLS_VERSIONS:
            raise ConfigError(f"unexpected TLS version {quote(version)} (must be one of: TLS1.2, TLS1.3)")
    if low and high and _TLS_VERSIONS[low] > _TLS_VERSIONS[high]:
        raise ConfigError(f"min version ({low}) is greater than max version ({high})")
    if low == "TLS1.3" and config.cipher_suites:
        raise ConfigError("cipher suites cannot be configured when only TLS1.3 is enabled")


# What etcd does and this release does not.


def _client_tls(config: Config) -> bool:
    urls = (*config.listen_client_urls, *config.listen_client_http_urls, *config.listen_metrics_urls)
    return config.client_tls.asked_for or any(url.tls for url in urls)


def _peer_tls(config: Config) -> bool:
    return config.peer_tls.asked_for or any(url.tls for url in config.listen_peer_urls)


UNSUPPORTED: Final[dict[str, Callable[[Config], object]]] = {
    "`--discovery`": lambda config: config.discovery.url,
    "`--discovery-proxy`": lambda config: config.discovery.proxy,
    "`--discovery-token`, `--discovery-endpoints`": lambda config: config.discovery.endpoints,
    "`--discovery-srv`, `--discovery-srv-name`": lambda config: (
        config.discovery.srv or config.discovery.srv_name
    ),
    "TLS for clients (certificate flags, `--auto-tls`, https URLs)": _client_tls,
    "TLS between members (`--peer-...` certificate flags, `--peer-auto-tls`, https URLs)": _peer_tls,
    "`--auth-token` other than `simple`": lambda config: config.auth_token != "simple",
    "`--enable-v2`": lambda config: config.enable_v2,
    "`--experimental-enable-v2v3`": lambda config: config.enable_v2v3,
    "`--proxy` other than `off`": lambda config: config.proxy != "off",
    "`--enable-pprof`": lambda config: config.enable_pprof,
    "`--enable-distributed-tracing`": lambda config: config.enable_distributed_tracing,
    "`--memory-mlock`": lambda config: config.memory_mlock,
    "`--socket-reuse-port`": lambda config: config.socket_reuse_port,
}
"""Each thing that can be asked for and is not there, and whether a configuration asks for it."""


def refuse_unsupported(config: Config) -> None:
    """Raises ConfigError naming everything asked for that this release lacks."""
    lacking = [what.replace("`", "") for what, asked in UNSUPPORTED.items() if asked(config)]
    if lacking:
        raise ConfigError(f"not supported by this release of petcd: {'; '.join(lacking)}")
