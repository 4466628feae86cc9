"""The line ``starting an etcd server``: the whole configuration in one record, which support asks for first.

Source: contract/config-metrics.md section 7.4.
"""

from __future__ import annotations

import os
from typing import Any

from petcd import ETCD_VERSION
from petcd.cli.etcd import build
from petcd.logs import Logger
from petcd.server.config import Config
from petcd.server.features import format_features
from petcd.server.gotext import format_duration


def announce(config: Config, logger: Logger, *, initialised: bool) -> None:
    logger.info("starting an etcd server", **fields(config, initialised=initialised))


def fields(config: Config, *, initialised: bool) -> dict[str, Any]:
    goos, goarch = build.system()
    discovery = config.discovery
    retention = config.compaction_retention
    periodic = config.auto_compaction_mode == "periodic"
    return {
        "etcd-version": ETCD_VERSION,
        "git-sha": build.GIT_SHA,
        "go-version": build.runtime(),
        "go-os": goos,
        "go-arch": goarch,
        "max-cpu-set": 1,
        "max-cpu-available": os.cpu_count() or 1,
        "member-initialized": initialised,
        "name": config.name,
        "data-dir": config.data_dir,
        "wal-dir": config.wal_dir,
        "wal-dir-dedicated": config.wal_dir,
        "member-dir": config.member_dir,
        "force-new-cluster": config.force_new_cluster,
        "heartbeat-interval": format_duration(config.heartbeat_ms / 1000),
        "election-timeout": format_duration(config.election_ms / 1000),
        "initial-election-tick-advance": config.initial_election_tick_advance,
        "snapshot-count": config.snapshot_count,
        "max-wals": config.max_wals,
        "max-snapshots": config.max_snapshots,
        "snapshot-catchup-entries": config.snapshot_catchup_entries,
        "initial-advertise-peer-urls": [str(url) for url in config.advertise_peer_urls],
        "listen-peer-urls": [str(url) for url in config.listen_peer_urls],
        "advertise-client-urls": [str(url) for url in config.advertise_client_urls],
        "listen-client-urls": [str(url) for url in config.listen_client_urls],
        "listen-metrics-urls": [str(url) for url in config.listen_metrics_urls],
        "local-address": "",
        "cors": list(config.cors),
        "host-whitelist": list(config.host_whitelist),
        "initial-cluster": "" if initialised else config.initial_cluster_text,
        "initial-cluster-state": config.initial_cluster_state,
        "initial-cluster-token": "" if initialised else config.initial_cluster_token,
        "quota-backend-bytes": config.quota_backend_bytes,
        "max-request-bytes": config.max_request_bytes,
        "max-concurrent-streams": config.max_concurrent_streams,
        "pre-vote": config.pre_vote,
        "feature-gates": format_features(dict(config.features)),
        "initial-corrupt-check": config.feature("InitialCorruptCheck"),
        "corrupt-check-time-interval": format_duration(config.corrupt_check_seconds),
        "compact-check-time-interval": format_duration(config.compact_hash_check_seconds),
        "auto-compaction-mode": config.auto_compaction_mode,
        "auto-compaction-retention": format_duration(retention) if periodic else f"{retention:.0f}",
        "auto-compaction-interval": format_duration(min(retention, 3600)) if periodic else "5m0s",
        "discovery-token": discovery.token,
        "discovery-endpoints": ",".join(discovery.endpoints),
        "discovery-dial-timeout": format_duration(discovery.dial_timeout_seconds),
        "discovery-request-timeout": format_duration(discovery.request_timeout_seconds),
        "downgrade-check-interval": format_duration(config.downgrade_check_seconds),
        "max-learners": config.max_learners,
        "v2-deprecation": "write-only",
    }
