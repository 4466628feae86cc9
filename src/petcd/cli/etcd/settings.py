"""From what was given to one Config: older names, zeros that mean a default, and what follows from what.

The adjustments are those of contract/config-metrics.md section 1.4, in etcd's order. What is worth telling
the operator is noted, and logged when there is a logger.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from petcd.cli.etcd.flags import FLAGS
from petcd.cli.etcd.grammar import Given
from petcd.logs import Level
from petcd.server.config import (
    DEFAULT_LISTEN_CLIENT,
    DEFAULT_LISTEN_PEER,
    DEFAULT_NAME,
    Config,
    ConfigError,
    Tls,
)
from petcd.server.config import Discovery as DiscoveryConfig
from petcd.server.gotext import format_duration
from petcd.server.url import Url, UrlError, join_urls, parse_url

DEFAULT_CLUSTER: Final = f"{DEFAULT_NAME}={join_urls(DEFAULT_LISTEN_PEER)}"
_NESTED: Final[dict[str, Callable[..., Any]]] = {
    "client_tls": Tls,
    "peer_tls": Tls,
    "discovery": DiscoveryConfig,
}
_RAFT_TIMEOUT_SECONDS_MIN: Final = 5.0
_PROGRESS_SECONDS_MIN: Final = 0.1
_BCRYPT_COST_MIN: Final = 4
_BCRYPT_COST_MAX: Final = 31
ANY_ADDRESS: Final = "0.0.0.0"
_REQUEST_BYTES_RECOMMENDED: Final = 10 * 1024 * 1024

Note = tuple[Level, str, dict[str, Any]]


class Settings:
    """A Config in the making, with what does not fit into it."""

    __slots__ = ("cluster_text", "config", "from_file", "names", "notes")

    def __init__(self, config: Config, cluster_text: str, names: set[str], *, from_file: bool) -> None:
        self.config = config
        self.cluster_text = cluster_text
        """--initial-cluster as given; read only when a data directory is founded, as etcd does."""
        self.names = names
        self.from_file = from_file
        self.notes: list[Note] = []

    def note(self, level: Level, message: str, **fields: Any) -> None:
        self.notes.append((level, message, fields))


def assemble(given: Given, *, from_file: bool = False) -> Settings:
    """Raises ConfigError for names that exclude each other."""
    values = given.values
    fields: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    gates: dict[str, bool] = dict(values.get("feature-gates", {}))
    notes: list[Note] = []
    for name in sorted(given.names):
        flag = FLAGS.get(name)
        if flag is not None and flag.group == "older":
            notes.append(_older(given, name))
    for name, value in values.items():
        flag = FLAGS.get(name)
        if flag is None:  # known to config files only
            nested.setdefault("client_tls", {})["allowed_cns"] = value
            continue
        if flag.gate:
            gates[flag.gate] = value
            continue
        if not flag.field or flag.name == "feature-gates":
            continue
        if flag.zero is not None and not value:
            value = flag.zero
        outer, _, inner = flag.field.partition(".")
        if inner:
            nested.setdefault(outer, {})[inner] = value
        else:
            fields[outer] = value
    for outer, inside in nested.items():
        fields[outer] = _NESTED[outer](**inside)
    if gates:
        fields["features"] = gates
    if values.get("debug") and "log-level" not in values:
        fields["log_level"] = "debug"
    fields["initial_cluster"] = {}
    config = Config(**fields)
    cluster_text = values.get("initial-cluster", DEFAULT_CLUSTER)
    if not from_file and "listen-client-urls" in given.names and "advertise-client-urls" not in given.names:
        config.advertise_client_urls = ()
    if config.discovery.asked_for and "initial-cluster" not in given.names:
        cluster_text = ""
    settings = Settings(config, cluster_text, given.names, from_file=from_file)
    settings.notes.extend(notes)
    _raise_to_minimum(settings, values)
    return settings


def _older(given: Given, name: str) -> Note:
    flag = FLAGS[name]
    if flag.gate:
        if flag.gate in given.values.get("feature-gates", {}):
            value = "true" if given.values[name] else "false"
            raise ConfigError(
                f"cannot specify both flags: --{name}={value} and --feature-gates={flag.gate}={value} at the "
                f"same time, please just use --feature-gates={flag.gate}={value}"
            )
        use = f"--feature-gates={flag.gate}=true"
    elif not flag.replaced_by:
        return Level.WARN, f"--{name} belongs to an older release of etcd. {flag.help}", {}
    else:
        new = flag.replaced_by
        if new in given.names:
            if new == "warning-unary-request-duration":
                raise ConfigError(
                    f"both --{name} and --{new} flags are set. Use only --{new}",
                )
            raise ConfigError(f"cannot set --{name} and --{new} at the same time, please use --{new} only")
        use = f"--{new}"
    return (
        Level.WARN,
        f"--{name} is deprecated in 3.6 and will be decommissioned in 3.7. Use {use} instead.",
        {},
    )


def _raise_to_minimum(settings: Settings, values: dict[str, Any]) -> None:
    config = settings.config
    for name in ("raft_read_timeout_seconds", "raft_write_timeout_seconds"):
        if getattr(config, name) < _RAFT_TIMEOUT_SECONDS_MIN:
            setattr(config, name, _RAFT_TIMEOUT_SECONDS_MIN)
            flag = name.removesuffix("_seconds").replace("_", "-")
            settings.note(Level.WARN, f"{flag} increased to minimum value: 5s")
    if values.get("snapshot-count") == 0:
        fields = {"given-snapshot-count": 0, "updated-snapshot-count": config.snapshot_count}
        settings.note(Level.INFO, "updating snapshot-count to default", **fields)
    if values.get("snapshot-catchup-entries") == 0:
        fields = {
            "given-snapshot-catchup-entries": 0,
            "updated-snapshot-catchup-entries": config.snapshot_catchup_entries,
        }
        settings.note(Level.INFO, "updating snapshot catch-up entries to default", **fields)
    if config.watch_progress_notify_seconds < _PROGRESS_SECONDS_MIN:
        config.watch_progress_notify_seconds = _PROGRESS_SECONDS_MIN
        settings.note(
            Level.WARN,
            "adjusting watch progress notify interval to minimum period",
            **{"min-watch-progress-notify-interval": format_duration(_PROGRESS_SECONDS_MIN)},
        )
    if not _BCRYPT_COST_MIN <= config.bcrypt_cost <= _BCRYPT_COST_MAX:
        fields = {
            "min-cost": _BCRYPT_COST_MIN,
            "max-cost": _BCRYPT_COST_MAX,
            "default-cost": Config.bcrypt_cost,
            "given-cost": config.bcrypt_cost,
        }
        config.bcrypt_cost = Config.bcrypt_cost
        settings.note(Level.WARN, "use default bcrypt cost instead of the invalid given cost", **fields)
    if config.max_request_bytes > _REQUEST_BYTES_RECOMMENDED:
        fields = {
            "max-request-bytes": config.max_request_bytes,
            "recommended-request-bytes": _REQUEST_BYTES_RECOMMENDED,
        }
        settings.note(Level.WARN, "exceeded recommended request limit", **fields)
    if "v2-deprecation" in values:
        settings.note(Level.WARN, "v2-deprecation is set to write-only by default and can no longer be set")
    if values.get("backend-bbolt-freelist-type") or values.get("experimental-backend-bbolt-freelist-type"):
        settings.note(Level.WARN, "backend-bbolt-freelist-type has no effect: the backend has no freelist")
    if config.bootstrap_defrag_threshold_megabytes:
        settings.note(
            Level.WARN,
            "bootstrap-defrag-threshold-megabytes has no effect: the backend reuses its free pages",
        )


def use_default_host(settings: Settings, host: str) -> bool:
    """Name the initial cluster after the member, and advertise ``host`` where any address is listened on.

    ``host`` is the machine's own address, empty when unknown. Says whether it was used.
    """
    config = settings.config
    used = False
    if host:
        for listen, advertise, default in (
            ("listen_peer_urls", "advertise_peer_urls", DEFAULT_LISTEN_PEER),
            ("listen_client_urls", "advertise_client_urls", DEFAULT_LISTEN_CLIENT),
        ):
            listened = getattr(config, listen)
            if getattr(config, advertise) == default and listened and listened[0].host == ANY_ADDRESS:
                url = Url(default[0].scheme, f"{host}:{listened[0].port}")
                setattr(config, advertise, (url,))
                used = True
    # As in etcd, the name alone moves the cluster; another advertised URL without a name does not.
    if config.name != DEFAULT_NAME and settings.cluster_text == DEFAULT_CLUSTER:
        settings.cluster_text = ",".join(f"{config.name}={url}" for url in config.advertise_peer_urls)
    return used


def wants_default_host(config: Config) -> bool:
    """Whether ``use_default_host`` has a use for the machine's address."""
    return (
        config.advertise_peer_urls == DEFAULT_LISTEN_PEER and config.listen_peer_urls[0].host == ANY_ADDRESS
    ) or (
        config.advertise_client_urls == DEFAULT_LISTEN_CLIENT
        and bool(config.listen_client_urls)
        and config.listen_client_urls[0].host == ANY_ADDRESS
    )


def parse_cluster(text: str) -> dict[str, tuple[Url, ...]]:
    """``name=url,name=url`` into URLs by name. Raises ConfigError."""
    members: dict[str, list[Url]] = {}
    for part in text.split(","):
        if not part:
            continue
        name, _, url = part.partition("=")
        try:
            members.setdefault(name, []).append(parse_url(url))
        except UrlError as error:
            raise ConfigError(f"error setting up initial cluster: {error}") from None
    return {name: tuple(sorted(urls)) for name, urls in members.items()}
