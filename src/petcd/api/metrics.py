"""/metrics: what the member counted in plain integers, in Prometheus' text format (config-metrics 10).

Nothing here runs on the request path. A metric whose feature is not there yet is left out rather than
shown as zero.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol, runtime_checkable

from petcd import ETCD_VERSION
from petcd.counters import Histogram
from petcd.errors import GRPC_NAMES
from petcd.net.grpc import GrpcStats
from petcd.pb.services import METHODS
from petcd.server.features import FEATURES
from petcd.server.member import Member

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Exposition:
    """Builds the text; one call per metric family."""

    __slots__ = ("_lines",)

    def __init__(self) -> None:
        self._lines: list[str] = []

    def gauge(self, name: str, value: float, text: str) -> None:
        self._head(name, "gauge", text)
        self._lines.append(f"{name} {_number(value)}")

    def counter(self, name: str, value: float, text: str) -> None:
        self._head(name, "counter", text)
        self._lines.append(f"{name} {_number(value)}")

    def labelled(
        self, kind: str, name: str, text: str, rows: Iterable[tuple[Mapping[str, str], float]]
    ) -> None:
        self._head(name, kind, text)
        for labels, value in rows:
            self._lines.append(f"{name}{_labels(labels)} {_number(value)}")

    def histogram(self, name: str, histogram: Histogram, text: str) -> None:
        self.histograms(name, [({}, histogram)], text)

    def histograms(self, name: str, rows: Sequence[tuple[Mapping[str, str], Histogram]], text: str) -> None:
        """One family of several labels."""
        self._head(name, "histogram", text)
        for labels, histogram in rows:
            suffix = _labels(labels)
            total = 0
            for bound, count in zip(histogram.bounds, histogram.counts, strict=False):
                total += count
                self._lines.append(f"{name}_bucket{_labels({**labels, 'le': _number(bound)})} {total}")
            total += histogram.counts[-1]
            self._lines.append(f"{name}_bucket{_labels({**labels, 'le': '+Inf'})} {total}")
            self._lines.append(f"{name}_sum{suffix} {_number(histogram.total)}")
            self._lines.append(f"{name}_count{suffix} {total}")

    def encode(self) -> bytes:
        return ("\n".join(self._lines) + "\n").encode()

    def _head(self, name: str, kind: str, text: str) -> None:
        self._lines.append(f"# HELP {name} {text}")
        self._lines.append(f"# TYPE {name} {kind}")


def _number(value: float) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(value) if isinstance(value, float) else str(value)


def _labels(labels: Mapping[str, str]) -> str:
    inner = ",".join(
        '{}="{}"'.format(name, value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"))
        for name, value in labels.items()
    )
    return "{" + inner + "}" if inner else ""


class SnapshotCounts(Protocol):
    """Snapshots to or from one other member."""

    in_flight: int
    successes: int
    failures: int
    seconds: Histogram


class PeerCounts(Protocol):
    """What happened with one other member."""

    sent_bytes: int
    received_bytes: int
    sent_failures: int
    received_failures: int
    disconnects: int
    round_trip_seconds: Histogram
    snapshots_sent: SnapshotCounts
    snapshots_received: SnapshotCounts


@runtime_checkable
class CountingPeers(Protocol):
    """A transport that counts: the real one does, a simulated one need not."""

    @property
    def counters(self) -> Mapping[int, PeerCounts]: ...


class HealthCounts(Protocol):
    """How often ``/health`` said yes and no."""

    @property
    def health_success(self) -> int: ...

    @property
    def health_failures(self) -> int: ...

    @property
    def checked(self) -> Mapping[tuple[str, str], Sequence[int]]:
        """(probe, check) to failures, successes, and whether the last one was a success."""
        ...


def render(member: Member, grpc: GrpcStats, start_time_seconds: float, health: HealthCounts) -> bytes:
    """The whole page."""
    page = Exposition()
    _server(page, member)
    if isinstance(member.peers, CountingPeers):
        _peers(page, member, member.peers.counters)
    page.counter("etcd_server_health_success", health.health_success, "Successful health checks.")
    page.counter("etcd_server_health_failures", health.health_failures, "Failed health checks.")
    if health.checked:
        _healthchecks(page, health.checked)
    _disk(page, member)
    _mvcc(page, member)
    _lease(page, member)
    _grpc(page, grpc)
    _process(page, start_time_seconds)
    return page.encode()


def _server(page: Exposition, member: Member) -> None:
    own = member.membership.members.get(member.id)
    page.gauge("etcd_server_has_leader", member.lead != 0, "Whether or not a leader exists.")
    page.gauge("etcd_server_is_leader", member.is_leader, "Whether or not this member is a leader.")
    page.gauge(
        "etcd_server_is_learner",
        own is not None and own.is_learner,
        "Whether or not this member is a learner.",
    )
    membership = member.membership
    page.counter(
        "etcd_server_learner_promote_successes",
        membership.promotions,
        "The number of learners promoted while this member is leader.",
    )
    if membership.failed_promotions:
        page.labelled(
            "counter",
            "etcd_server_learner_promote_failures",
            "The number of refused promotions while this member is leader.",
            [({"Reason": reason}, count) for reason, count in sorted(membership.failed_promotions.items())],
        )
    local = f"{member.id:x}"
    known = [(one, 1.0) for one in membership.members] + [(one, 0.0) for one in membership.removed]
    page.labelled(
        "gauge",
        "etcd_network_known_peers",
        "The members of the cluster; 0 for those that were removed.",
        [({"Local": local, "Remote": f"{one:x}"}, value) for one, value in sorted(known)],
    )
    page.counter(
        "etcd_server_leader_changes_seen_total", member.leader.changes, "The number of leader changes seen."
    )
    page.gauge("etcd_server_proposals_committed_total", member.node.commit_index, "The committed index.")
    page.gauge("etcd_server_proposals_applied_total", member.applied, "The applied index.")
    page.gauge(
        "etcd_server_proposals_pending", len(member.proposals.by_id), "The number of pending proposals."
    )
    page.counter("etcd_server_proposals_failed_total", member.proposals.failed, "The failed proposals seen.")
    page.counter(
        "etcd_server_heartbeat_send_failures_total",
        member.leader.late_heartbeats,
        "Heartbeats that this member, leading, sent too late.",
    )
    page.gauge(
        "etcd_server_snapshot_apply_in_progress_total",
        member.installing,
        "1 while a received snapshot is being taken over.",
    )
    page.counter("etcd_server_slow_apply_total", member.slow_applies, "The number of slow apply requests.")
    page.counter(
        "etcd_server_slow_read_indexes_total",
        member.reads.slow_rounds,
        "Read index rounds without an answer in time.",
    )
    page.counter(
        "etcd_server_read_indexes_failed_total", member.reads.failed_rounds, "The failed read indexes seen."
    )
    page.labelled(
        "gauge",
        "etcd_server_feature_enabled",
        "Whether or not a feature is enabled.",
        [
            ({"name": name, "stage": stage}, member.config.feature(name))
            for name, (stage, _) in sorted(FEATURES.items())
        ],
    )
    page.gauge("etcd_server_quota_backend_bytes", member.quota.limit_bytes, "The backend's quota in bytes.")
    page.labelled(
        "gauge", "etcd_server_version", "The release served.", [({"server_version": ETCD_VERSION}, 1)]
    )
    page.labelled(
        "gauge", "etcd_server_id", "This member's id in hexadecimal.", [({"server_id": f"{member.id:x}"}, 1)]
    )
    if member.membership.version:
        short = member.membership.version.rpartition(".")[0]
        page.labelled(
            "gauge",
            "etcd_cluster_version",
            "Which version is running; 1 for the current one.",
            [({"cluster_version": short}, 1)],
        )
    rows = [
        ({"server_id": f"{who:x}", "alarm_type": {1: "NOSPACE", 2: "CORRUPT"}.get(which, str(which))}, 1.0)
        for who, which in member.alarms.get()
    ]
    if rows:
        page.labelled("gauge", "etcd_debugging_server_alarms", "Active alarms.", rows)


def _peers(page: Exposition, member: Member, counters: Mapping[int, PeerCounts]) -> None:
    """The other members. A row begins with the first thing it counts, as in etcd."""
    local = f"{member.id:x}"
    known = [(f"{one:x}", counts) for one, counts in sorted(counters.items())]
    _labelled(
        page,
        "gauge",
        "etcd_network_active_peers",
        "The peers that are reachable now.",
        [
            ({"Local": local, "Remote": f"{one:x}"}, member.peers.active_since(one) is not None)
            for one in sorted(counters.keys() & member.membership.members.keys())
        ],
    )
    _labelled(
        page,
        "counter",
        "etcd_network_disconnected_peers_total",
        "How often a peer became unreachable.",
        [({"Local": local, "Remote": one}, c.disconnects) for one, c in known if c.disconnects],
    )
    for name, label, field, text in _PEER_COUNTERS:
        rows = [({label: one}, getattr(counts, field)) for one, counts in known]
        _labelled(page, "counter", name, text, [row for row in rows if row[1]])
    _histograms(
        page,
        "etcd_network_peer_round_trip_time_seconds",
        [({"To": one}, counts.round_trip_seconds) for one, counts in known],
        "Round trips of probes between peers.",
    )
    for way, label, field in (
        ("send", "To", "snapshots_sent"),
        ("receive", "From", "snapshots_received"),
    ):
        counted: list[tuple[str, SnapshotCounts]] = [(one, getattr(counts, field)) for one, counts in known]
        name = f"etcd_network_snapshot_{way}"
        begun = [row for row in counted if row[1].in_flight or row[1].successes or row[1].failures]
        _labelled(
            page,
            "gauge",
            f"{name}_inflights_total",
            "Snapshots under way.",
            [({label: one}, counts.in_flight) for one, counts in begun],
        )
        _labelled(
            page,
            "counter",
            f"{name}_success",
            "Snapshots that arrived.",
            [({label: one}, counts.successes) for one, counts in begun if counts.successes],
        )
        _labelled(
            page,
            "counter",
            f"{name}_failures",
            "Snapshots that did not arrive.",
            [({label: one}, counts.failures) for one, counts in begun if counts.failures],
        )
        _histograms(
            page,
            f"{name}_total_duration_seconds",
            [({label: one}, counts.seconds) for one, counts in begun],
            "How long snapshots took to arrive.",
        )


_PEER_COUNTERS: Final = (
    ("etcd_network_peer_sent_bytes_total", "To", "sent_bytes", "Bytes sent to peers."),
    ("etcd_network_peer_sent_failures_total", "To", "sent_failures", "Messages that could not be sent."),
    ("etcd_network_peer_received_bytes_total", "From", "received_bytes", "Bytes received from peers."),
    (
        "etcd_network_peer_received_failures_total",
        "From",
        "received_failures",
        "Streams of peers that could not be understood.",
    ),
)


def _labelled(
    page: Exposition, kind: str, name: str, text: str, rows: Sequence[tuple[Mapping[str, str], float]]
) -> None:
    """A family, once it has something to say."""
    if rows:
        page.labelled(kind, name, text, rows)


def _histograms(
    page: Exposition, name: str, rows: Sequence[tuple[Mapping[str, str], Histogram]], text: str
) -> None:
    """The same for histograms."""
    rows = [row for row in rows if any(row[1].counts)]
    if rows:
        page.histograms(name, rows, text)


def _healthchecks(page: Exposition, checked: Mapping[tuple[str, str], Sequence[int]]) -> None:
    page.labelled(
        "gauge",
        "etcd_server_healthcheck",
        "The result of each kind of healthcheck.",
        [({"name": name, "type": kind}, counts[2]) for (kind, name), counts in sorted(checked.items())],
    )
    page.labelled(
        "counter",
        "etcd_server_healthchecks_total",
        "The total number of each kind of healthcheck.",
        [
            ({"name": name, "status": status, "type": kind}, counts[place])
            for (kind, name), counts in sorted(checked.items())
            for place, status in enumerate(("error", "success"))
            if counts[place]
        ],
    )


def _disk(page: Exposition, member: Member) -> None:
    page.histogram(
        "etcd_disk_wal_fsync_duration_seconds",
        member.wal.fsync_seconds,
        "The latency distributions of fsync called by WAL.",
    )
    page.histogram(
        "etcd_disk_backend_commit_duration_seconds",
        member.backend.commit_seconds,
        "The latency distributions of commit called by backend.",
    )
    page.gauge("etcd_disk_wal_write_bytes_total", member.log.bytes_written, "Bytes written to the WAL.")
    page.histogram(
        "etcd_disk_backend_defrag_duration_seconds",
        member.jobs.defrag_seconds,
        "The latency distribution of backend defragmentation.",
    )
    page.histogram(
        "etcd_disk_backend_snapshot_duration_seconds",
        member.jobs.snapshot_seconds,
        "The latency distribution of database snapshots, for members and for backups.",
    )
    page.histogram(
        "etcd_snap_fsync_duration_seconds",
        member.snapshotter.fsync_seconds,
        "The latency distributions of fsync called by snap.",
    )
    page.histogram(
        "etcd_snap_db_fsync_duration_seconds",
        member.snapshotter.database_fsync_seconds,
        "The latency distributions of fsyncing .snap.db files.",
    )
    page.histogram(
        "etcd_snap_db_save_total_duration_seconds",
        member.snapshotter.database_save_seconds,
        "The total latency distributions of saving received databases.",
    )
    page.gauge(
        "etcd_disk_defrag_inflight",
        member.jobs.defragmenting,
        "Whether or not defrag is active on the member.",
    )


def _mvcc(page: Exposition, member: Member) -> None:
    store, hub = member.store, member.hub
    page.gauge("etcd_mvcc_db_total_size_in_bytes", member.backend.size(), "Bytes allocated by the database.")
    page.gauge(
        "etcd_mvcc_db_total_size_in_use_in_bytes", member.backend.size_in_use(), "Bytes the database uses."
    )
    page.histogram(
        "etcd_mvcc_hash_duration_seconds",
        member.jobs.hash_seconds,
        "The latency distribution of storage hash operation.",
    )
    page.histogram(
        "etcd_mvcc_hash_rev_duration_seconds",
        member.jobs.hash_kv_seconds,
        "The latency distribution of storage hash by revision operation.",
    )
    page.counter("etcd_mvcc_range_total", member.range_count, "Ranges seen by this member.")
    page.counter("etcd_mvcc_put_total", member.applier.put_count, "Puts seen by this member.")
    page.counter("etcd_mvcc_delete_total", member.applier.delete_count, "Deletes seen by this member.")
    page.counter("etcd_mvcc_txn_total", member.applier.txn_count, "Txns seen by this member.")
    page.gauge("etcd_debugging_mvcc_keys_total", len(store.index.live), "Keys in the store.")
    page.gauge("etcd_debugging_mvcc_current_revision", store.rev, "The current revision of the store.")
    page.gauge(
        "etcd_debugging_mvcc_compact_revision", store.compact_rev, "The revision of the last compaction."
    )
    page.counter(
        "etcd_debugging_mvcc_db_compaction_keys_total",
        member.compaction.compactor.pruned,
        "Revisions compacted away.",
    )
    page.gauge("etcd_debugging_mvcc_watch_stream_total", hub.stream_count, "Watch streams.")
    page.gauge("etcd_debugging_mvcc_watcher_total", hub.watcher_count, "Watchers.")
    page.gauge("etcd_debugging_mvcc_slow_watcher_total", hub.slow_watcher_count, "Unsynced slow watchers.")
    page.counter("etcd_debugging_mvcc_events_total", hub.event_count, "Events sent by this member.")


def _lease(page: Exposition, member: Member) -> None:
    lessor = member.lessor
    page.counter("etcd_debugging_lease_granted_total", lessor.granted, "Leases granted.")
    page.counter("etcd_debugging_lease_revoked_total", lessor.revoked, "Leases revoked.")
    page.counter("etcd_debugging_lease_renewed_total", lessor.renewed, "Leases renewed.")
    page.counter("etcd_debugging_server_lease_expired_total", lessor.expired, "Leases expired.")


def _grpc(page: Exposition, grpc: GrpcStats) -> None:
    page.counter(
        "etcd_network_client_grpc_received_bytes_total", grpc.bytes_received, "Bytes received from clients."
    )
    page.counter("etcd_network_client_grpc_sent_bytes_total", grpc.bytes_sent, "Bytes sent to clients.")
    methods = [
        (_METHOD_LABELS.get(m.path) or _method_labels(m.path, "unary"), m.stats) for m in grpc.methods()
    ]
    page.labelled(
        "counter",
        "grpc_server_started_total",
        "RPCs started on the server.",
        [(labels, stats.started) for labels, stats in methods],
    )
    page.labelled(
        "counter",
        "grpc_server_msg_received_total",
        "Messages received on the server.",
        [(labels, stats.received) for labels, stats in methods],
    )
    page.labelled(
        "counter",
        "grpc_server_msg_sent_total",
        "Messages sent by the server.",
        [(labels, stats.sent) for labels, stats in methods],
    )
    page.labelled(
        "counter",
        "grpc_server_handled_total",
        "RPCs completed on the server, whatever the outcome.",
        [
            ({"grpc_code": code, **labels}, count)
            for labels, stats in methods
            for code, count in ({**_NO_CALLS, **dict(stats.handled_by_name())}).items()
        ],
    )


def _method_labels(path: bytes, kind: str) -> dict[str, str]:
    _, service, method = path.decode().split("/")
    return {"grpc_method": method, "grpc_service": service, "grpc_type": kind}


_KINDS: Final = {
    (False, False): "unary",
    (True, False): "client_stream",
    (False, True): "server_stream",
    (True, True): "bidi_stream",
}
_METHOD_LABELS: Final = {
    spec.path.encode(): _method_labels(spec.path.encode(), _KINDS[spec.client_stream, spec.server_stream])
    for spec in METHODS
}
_NO_CALLS: Final = dict.fromkeys(GRPC_NAMES.values(), 0)
"""Every method starts at zero for every code, as in etcd, so that a rate can be taken from the first on."""


def _process(page: Exposition, start_time_seconds: float) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    page.counter(
        "process_cpu_seconds_total", usage.ru_utime + usage.ru_stime, "CPU time spent, user and system."
    )
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    page.gauge("process_max_fds", float(soft), "Most open file descriptors.")
    page.gauge("process_start_time_seconds", start_time_seconds, "Start of the process, in Unix time.")
    if sys.platform == "linux":
        with open("/proc/self/statm", "rb") as statm:
            virtual, resident = (int(pages) * _PAGE_BYTES for pages in statm.read().split()[:2])
        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        page.gauge("process_virtual_memory_max_bytes", float(most % (1 << 64)), "Most virtual memory.")
        page.gauge("process_virtual_memory_bytes", virtual, "Virtual memory size.")
        page.gauge("process_resident_memory_bytes", resident, "Resident memory size.")
        open_fds = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count, no paths
        page.gauge("process_open_fds", open_fds, "Open file descriptors.")
        page.gauge("os_fd_used", open_fds, "The number of used file descriptors.")
        page.gauge("os_fd_limit", float(soft), "The file descriptor limit.")
