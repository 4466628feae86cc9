"""What curl, probes and Prometheus see on the client port."""

from __future__ import annotations

import json
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.rpc import Rpc
from tests.servers import Kind, Server

DASHBOARD = {
    "etcd_server_has_leader",
    "etcd_server_is_leader",
    "etcd_server_id",
    "etcd_server_version",
    "etcd_server_leader_changes_seen",
    "etcd_server_proposals_committed_total",
    "etcd_server_proposals_applied_total",
    "etcd_server_proposals_pending",
    "etcd_server_proposals_failed",
    "etcd_server_quota_backend_bytes",
    "etcd_disk_wal_fsync_duration_seconds",
    "etcd_disk_backend_commit_duration_seconds",
    "etcd_mvcc_db_total_size_in_bytes",
    "etcd_mvcc_db_total_size_in_use_in_bytes",
    "etcd_debugging_mvcc_keys_total",
    "etcd_debugging_mvcc_watcher_total",
    "etcd_network_client_grpc_received_bytes",
    "etcd_network_client_grpc_sent_bytes",
    "grpc_server_started",
    "grpc_server_handled",
    "process_cpu_seconds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
}
"""The names that etcd's dashboard and alerts use (contract/config-metrics.md section 10), as the parser
names families: a counter without its ``_total``, which it adds to the sample."""


def test_health(server: Server, kind: Kind) -> None:
    status, body = server.http("GET", "/health")
    assert status == 200
    if kind == "petcd":
        assert body == b'{"health":"true","reason":""}'
    status, _ = server.http("POST", "/health", b"")
    assert status == 405


def test_probes(server: Server, kind: Kind) -> None:
    if kind == "go":
        pytest.skip("3.4.23 has no livez and readyz")
    for path in ("/livez", "/readyz"):
        assert server.http("GET", path) == (200, b"ok\n")
    status, body = server.http("GET", "/readyz?verbose")
    assert status == 200
    assert b"[+]data_corruption ok\n" in body
    assert b"[+]linearizable_read ok\n" in body


def test_version(server: Server) -> None:
    status, body = server.http("GET", "/version")
    assert status == 200
    version = json.loads(body)
    assert re.fullmatch(r"3\.\d+\.\d+", version["etcdserver"])
    assert re.fullmatch(r"3\.\d+\.0", version["etcdcluster"])


def test_unknown_path(server: Server) -> None:
    status, body = server.http("GET", "/nothing/here")
    assert status == 404
    assert body == b"404 page not found\n"


def test_metrics(server: Server, rpc: Rpc) -> None:
    rpc.put(b"metric", b"x")
    rpc.get(b"metric")
    status, body = server.http("GET", "/metrics")
    assert status == 200
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    base = {name.removesuffix("_total") for name in families}
    missing = {name for name in DASHBOARD if name.removesuffix("_total") not in base}
    assert not missing
    samples = {
        (s.name, tuple(sorted(s.labels.items()))): s.value for f in families.values() for s in f.samples
    }
    assert samples["etcd_server_has_leader", ()] == 1
    assert samples["etcd_server_is_leader", ()] == 1
    handled = [
        value
        for (name, labels), value in samples.items()
        if name == "grpc_server_handled_total"
        and {("grpc_method", "Put"), ("grpc_code", "OK")} <= set(labels)
    ]
    assert sum(handled) >= 1
    assert samples["etcd_disk_wal_fsync_duration_seconds_count", ()] >= 1
    for family in families.values():
        if family.type == "histogram":
            _check_histogram(family.name, samples)


def _check_histogram(name: str, samples: dict[tuple[str, tuple[tuple[str, str], ...]], float]) -> None:
    """Buckets grow, and the last holds the count."""
    series: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    for (sample, labels), value in samples.items():
        if sample == f"{name}_bucket":
            rest = tuple(label for label in labels if label[0] != "le")
            series.setdefault(rest, []).append((float(dict(labels)["le"]), value))
    for labels, buckets in series.items():
        counts = [count for _, count in sorted(buckets)]
        assert counts == sorted(counts), name
        assert counts[-1] == samples[f"{name}_count", labels], name
