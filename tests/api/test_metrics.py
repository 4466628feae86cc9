"""/metrics as Prometheus reads it, with the names that etcd's dashboards use (config-metrics 10)."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.server.lab import Lab, simulated
from tests.servers import free_port

from petcd import errors
from petcd.api.metrics import Exposition
from petcd.client import Client
from petcd.counters import Histogram
from petcd.embed import Etcd
from petcd.errors import GRPC_NAMES
from petcd.pb import etcdserverpb as pb
from petcd.pb.services import METHODS
from petcd.seams.real import real_world
from petcd.server.config import Config
from petcd.server.url import parse_urls

NAMES = {
    "etcd_server_has_leader": "gauge",
    "etcd_server_is_leader": "gauge",
    "etcd_server_is_learner": "gauge",
    "etcd_server_leader_changes_seen_total": "counter",
    "etcd_server_proposals_committed_total": "gauge",
    "etcd_server_proposals_applied_total": "gauge",
    "etcd_server_proposals_pending": "gauge",
    "etcd_server_proposals_failed_total": "counter",
    "etcd_server_slow_apply_total": "counter",
    "etcd_server_slow_read_indexes_total": "counter",
    "etcd_server_read_indexes_failed_total": "counter",
    "etcd_server_quota_backend_bytes": "gauge",
    "etcd_server_version": "gauge",
    "etcd_server_id": "gauge",
    "etcd_server_feature_enabled": "gauge",
    "etcd_server_health_success": "counter",
    "etcd_server_health_failures": "counter",
    "etcd_cluster_version": "gauge",
    "etcd_disk_wal_fsync_duration_seconds": "histogram",
    "etcd_disk_wal_write_bytes_total": "gauge",
    "etcd_disk_backend_commit_duration_seconds": "histogram",
    "etcd_disk_backend_defrag_duration_seconds": "histogram",
    "etcd_disk_defrag_inflight": "gauge",
    "etcd_disk_backend_snapshot_duration_seconds": "histogram",
    "etcd_snap_fsync_duration_seconds": "histogram",
    "etcd_snap_db_fsync_duration_seconds": "histogram",
    "etcd_snap_db_save_total_duration_seconds": "histogram",
    "etcd_server_heartbeat_send_failures_total": "counter",
    "etcd_server_snapshot_apply_in_progress_total": "gauge",
    "process_virtual_memory_max_bytes": "gauge",
    "etcd_mvcc_db_total_size_in_bytes": "gauge",
    "etcd_mvcc_db_total_size_in_use_in_bytes": "gauge",
    "etcd_mvcc_hash_duration_seconds": "histogram",
    "etcd_mvcc_hash_rev_duration_seconds": "histogram",
    "etcd_mvcc_range_total": "counter",
    "etcd_mvcc_put_total": "counter",
    "etcd_mvcc_delete_total": "counter",
    "etcd_mvcc_txn_total": "counter",
    "etcd_debugging_mvcc_keys_total": "gauge",
    "etcd_debugging_mvcc_current_revision": "gauge",
    "etcd_debugging_mvcc_compact_revision": "gauge",
    "etcd_debugging_mvcc_watch_stream_total": "gauge",
    "etcd_debugging_mvcc_watcher_total": "gauge",
    "etcd_debugging_mvcc_slow_watcher_total": "gauge",
    "etcd_debugging_mvcc_events_total": "counter",
    "etcd_debugging_mvcc_db_compaction_keys_total": "counter",
    "etcd_debugging_lease_granted_total": "counter",
    "etcd_debugging_lease_revoked_total": "counter",
    "etcd_debugging_lease_renewed_total": "counter",
    "etcd_debugging_server_lease_expired_total": "counter",
    "etcd_network_client_grpc_received_bytes_total": "counter",
    "etcd_network_client_grpc_sent_bytes_total": "counter",
    "grpc_server_started_total": "counter",
    "grpc_server_msg_received_total": "counter",
    "grpc_server_msg_sent_total": "counter",
    "grpc_server_handled_total": "counter",
    "process_cpu_seconds_total": "counter",
    "process_max_fds": "gauge",
    "process_open_fds": "gauge",
    "process_resident_memory_bytes": "gauge",
    "process_virtual_memory_bytes": "gauge",
    "process_start_time_seconds": "gauge",
    "os_fd_used": "gauge",
    "os_fd_limit": "gauge",
}

Labels = Mapping[str, str]


class Page:
    """A scraped page."""

    def __init__(self, text: str) -> None:
        self.types = {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                assert name not in self.types, f"{name} twice"
                self.types[name] = kind
        self.samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in self.samples, key
                self.samples[key] = sample.value

    def __call__(self, sample: str, /, **labels: str) -> float:
        found = self.samples.get((sample, frozenset(labels.items())))
        if found is None:  # the parser gives every counter a name with ``_total``
            return self.samples[sample + "_total", frozenset(labels.items())]
        return found


async def scrape(lab: Lab) -> Page:
    status, headers, body = await lab.http("GET", "/metrics")
    assert status == 200
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return Page(body.decode())


@simulated()
async def test_names_and_types(lab: Lab) -> None:
    page = await scrape(lab)
    assert {name: page.types.get(name) for name in NAMES} == NAMES


@simulated()
async def test_values(lab: Lab) -> None:
    for number in range(3):
        await lab.put(b"k%d" % number)
    await lab.call(pb.DeleteRangeRequest(key=b"k0"))
    await lab.call(pb.TxnRequest(success=[pb.RequestOp(request_put=pb.PutRequest(key=b"t"))]))
    await lab.call(pb.RangeRequest(key=b"k1"))
    with pytest.raises(errors.EmptyKey):
        await lab.call(pb.PutRequest())
    watch = lab.watch()
    await watch.ask(pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"k1")))
    await lab.put(b"k1")
    await watch.receive()
    lease = (await lab.call(pb.LeaseGrantRequest(TTL=2))).ID
    await lab.keep_alive().ask(pb.LeaseKeepAliveRequest(ID=lease))
    await lab.call(pb.CompactionRequest(revision=6, physical=True))
    await lab.call(pb.HashKVRequest())
    await lab.call(pb.HashRequest())
    await lab.call(pb.DefragmentRequest())
    await lab.http("GET", "/health")
    await lab.http("GET", "/readyz")
    await asyncio.sleep(5)
    page = await scrape(lab)
    member = lab.member
    assert page("etcd_server_has_leader") == page("etcd_server_is_leader") == 1
    assert page("etcd_server_is_learner") == 0
    assert page("etcd_server_leader_changes_seen_total") == 1
    assert page("etcd_server_id", server_id=f"{member.id:x}") == 1
    assert page("etcd_cluster_version", cluster_version="3.7") == 1
    assert page("etcd_server_proposals_applied_total") == member.applied
    assert page("etcd_server_feature_enabled", name="FastLeaseKeepAlive", stage="BETA") == 1
    assert page("etcd_server_health_success") == 1
    assert page("etcd_server_healthcheck", type="readyz", name="linearizable_read") == 1
    assert page("etcd_server_healthchecks_total", type="readyz", name="non_learner", status="success") == 1
    assert page("etcd_mvcc_put_total") == 4
    assert page("etcd_mvcc_delete_total") == page("etcd_mvcc_txn_total") == 1
    assert page("etcd_debugging_mvcc_keys_total") == 3
    assert page("etcd_debugging_mvcc_current_revision") == 7
    assert page("etcd_debugging_mvcc_compact_revision") == 6
    assert page("etcd_debugging_mvcc_watcher_total") == 1
    assert page("etcd_debugging_mvcc_events_total") == 1
    assert page("etcd_debugging_mvcc_db_compaction_keys_total") == 2
    assert page("etcd_debugging_lease_renewed_total") == 1
    assert page("etcd_debugging_server_lease_expired_total") == 1
    assert page("etcd_debugging_lease_revoked_total") == 1
    for name in ("etcd_mvcc_hash", "etcd_mvcc_hash_rev", "etcd_disk_backend_defrag"):
        assert page(f"{name}_duration_seconds_count") == 1, name
    for name in ("etcd_disk_wal_fsync", "etcd_disk_backend_commit"):
        assert page(f"{name}_duration_seconds_bucket", le="0.001") >= 1
        assert page(f"{name}_duration_seconds_bucket", le="8.192") == page(f"{name}_duration_seconds_count")
    assert page("etcd_disk_wal_write_bytes_total") > 500
    put = {"grpc_service": "etcdserverpb.KV", "grpc_method": "Put", "grpc_type": "unary"}
    assert page("grpc_server_started_total", **put) == 5
    assert page("grpc_server_handled_total", **put, grpc_code="OK") == 4
    assert page("grpc_server_handled_total", **put, grpc_code="InvalidArgument") == 1
    assert page("grpc_server_handled_total", **put, grpc_code="DataLoss") == 0
    watching = {"grpc_service": "etcdserverpb.Watch", "grpc_method": "Watch", "grpc_type": "bidi_stream"}
    assert page("grpc_server_started_total", **watching) == 1
    assert page("grpc_server_msg_sent_total", **watching) == 2
    assert page("etcd_network_client_grpc_received_bytes_total") > 300
    await lab.call(pb.AlarmRequest(action=pb.AlarmAction.ACTIVATE, memberID=255, alarm=pb.AlarmType.NOSPACE))
    await lab.http("GET", "/health")
    page = await scrape(lab)
    assert page("etcd_debugging_server_alarms", server_id="ff", alarm_type="NOSPACE") == 1
    assert page("etcd_server_health_failures") == 1


@simulated()
async def test_every_method_starts_at_zero_for_every_code(lab: Lab) -> None:
    page = await scrape(lab)
    served = set(lab.etcd._edge.service.router.methods)
    kinds = {(False, False): "unary", (False, True): "server_stream", (True, True): "bidi_stream"}
    for spec in METHODS:
        if spec.path.encode() not in served:
            continue
        labels = {
            "grpc_service": spec.service,
            "grpc_method": spec.name,
            "grpc_type": kinds[spec.client_stream, spec.server_stream],
        }
        assert page("grpc_server_started_total", **labels) == 0
        for code in GRPC_NAMES.values():
            assert page("grpc_server_handled_total", **labels, grpc_code=code) == 0


def test_the_text_is_what_prometheus_parses() -> None:
    page = Exposition()
    page.gauge("yes", True, "a bool")
    page.gauge("half", 0.5, "a float")
    page.gauge("large", 1e300, "in exponents")
    page.counter("many_total", 1 << 60, "an int")
    page.labelled("gauge", "odd", "odd labels", [({"a": 'say "\\\n"'}, 1), ({}, 2.0)])
    histogram = Histogram([0.1, 1.0])
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(value)
    page.histogram("h", histogram, "a histogram")
    read = Page(page.encode().decode())
    assert (read("yes"), read("half"), read("large"), read("many_total")) == (1, 0.5, 1e300, float(1 << 60))
    assert (read("odd", a='say "\\\n"'), read("odd")) == (1, 2)
    counts = [read("h_bucket", le=le) for le in ("0.1", "1", "+Inf")]
    assert counts == [2, 3, 4]
    assert (read("h_count"), round(read("h_sum"), 2)) == (4, 7.65)


@simulated()
async def test_members_and_learners(lab: Lab) -> None:
    own = f"{lab.member.id:x}"
    added = await lab.call(pb.MemberAddRequest(peerURLs=["http://l:1"], isLearner=True))
    with pytest.raises(errors.LearnerNotReady):
        await lab.call(pb.MemberPromoteRequest(ID=added.member.ID))
    await lab.call(pb.MemberRemoveRequest(ID=added.member.ID))
    page = await scrape(lab)
    assert page("etcd_network_known_peers", Local=own, Remote=own) == 1
    assert page("etcd_network_known_peers", Local=own, Remote=f"{added.member.ID:x}") == 0
    assert page("etcd_server_learner_promote_failures", Reason=errors.LearnerNotReady.text) == 1
    assert page("etcd_server_learner_promote_successes") == 0


def test_a_cluster(tmp_path: Path) -> None:
    """Three members; one is away for longer than the log, and comes back by a snapshot."""
    urls = [parse_urls(f"http://127.0.0.1:{free_port()}") for _ in range(6)]
    initial = {f"m{number}": urls[number] for number in range(3)}

    async def start(number: int) -> Etcd:
        config = Config(
            name=f"m{number}",
            data_dir=str(tmp_path / f"m{number}"),
            listen_peer_urls=urls[number],
            advertise_peer_urls=urls[number],
            listen_client_urls=urls[number + 3],
            advertise_client_urls=urls[number + 3],
            initial_cluster=initial,
            snapshot_count=20,
            snapshot_catchup_entries=5,
            unsafe_no_fsync=True,
        )
        return await Etcd.start(config, real_world(asyncio.get_running_loop()))

    async def pages(etcds: list[Etcd]) -> list[Page]:
        def fetch(etcd: Etcd) -> Page:
            with urllib.request.urlopen(f"{etcd.config.listen_client_urls[0]}/metrics") as answer:
                return Page(answer.read().decode())

        return [await asyncio.to_thread(fetch, etcd) for etcd in etcds]

    async def scenario() -> None:
        etcds = list(await asyncio.gather(*map(start, range(3))))
        leader = next(etcd for etcd in etcds if etcd.member.is_leader)
        away = next(etcd for etcd in etcds if etcd is not leader)
        other = next(etcd for etcd in etcds if etcd not in (leader, away))
        a, b, c = (f"{etcd.member.id:x}" for etcd in (leader, away, other))
        await away.stop()
        async with Client(leader.config.listen_client_urls[0].netloc) as client:
            for number in range(100):
                await client.put("k", str(number))
            away = await start(etcds.index(away))
            async with Client(away.config.listen_client_urls[0].netloc) as asked:
                assert (await asked.get("k")).value == b"99"
        await asyncio.sleep(0.1)  # the answer to the snapshot may still be on its way
        of_leader, of_away, of_other = await pages([leader, away, other])

        assert [page("etcd_server_is_leader") for page in (of_leader, of_away, of_other)] == [1, 0, 0]
        for page, own, others in ((of_leader, a, (b, c)), (of_away, b, (a, c)), (of_other, c, (a, b))):
            assert page.types["etcd_network_active_peers"] == "gauge"
            for peer in others:
                assert page("etcd_network_active_peers", Local=own, Remote=peer) == 1
        for peer, page in ((b, of_away), (c, of_other)):
            assert of_leader("etcd_network_peer_sent_bytes_total", To=peer) > 1000
            assert of_leader("etcd_network_peer_received_bytes_total", From=peer) > 200
            assert page("etcd_network_peer_sent_bytes_total", To=a) > 200
            assert page("etcd_network_peer_received_bytes_total", From=a) > 1000
        assert of_leader("etcd_network_disconnected_peers_total", Local=a, Remote=b) >= 1
        with pytest.raises(KeyError):
            of_leader("etcd_network_disconnected_peers_total", Local=a, Remote=c)
        assert of_leader("etcd_network_peer_sent_failures_total", To=b) >= 1
        assert of_leader("etcd_network_snapshot_send_success", To=b) == 1
        assert of_leader("etcd_network_snapshot_send_inflights_total", To=b) == 0
        assert of_leader("etcd_network_snapshot_send_total_duration_seconds_count", To=b) == 1
        assert of_leader("etcd_disk_backend_snapshot_duration_seconds_count") == 1
        assert of_leader("etcd_snap_fsync_duration_seconds_count") >= 2
        assert of_away("etcd_network_snapshot_receive_success", From=a) == 1
        assert of_away("etcd_network_snapshot_receive_inflights_total", From=a) == 0
        assert of_away("etcd_network_snapshot_receive_total_duration_seconds_bucket", From=a, le="+Inf") == 1
        assert of_away("etcd_snap_db_fsync_duration_seconds_count") == 1
        assert of_away("etcd_snap_db_save_total_duration_seconds_count") == 1
        assert of_away("etcd_server_snapshot_apply_in_progress_total") == 0

        for etcd in etcds:  # a round trip is known after the first probe
            transport = etcd.member.peers
            for counters in getattr(transport, "counters", {}).values():
                counters.round_trip_seconds.observe(0.0003)
        (page,) = await pages([leader])
        assert page("etcd_network_peer_round_trip_time_seconds_bucket", To=c, le="0.0004") >= 1
        await asyncio.gather(*(etcd.stop() for etcd in (leader, away, other)))

    asyncio.run(asyncio.wait_for(scenario(), 30))


@simulated()
async def test_late_heartbeats(lab: Lab) -> None:
    member = lab.member
    await lab.call(pb.MemberAddRequest(peerURLs=["http://l:1"], isLearner=True))
    await asyncio.sleep(1)
    assert member.leader.late_heartbeats == 0
    text = "leader failed to send out heartbeat on time; "
    text += "took too long, leader is overloaded likely from slow disk"
    assert not lab.messages(text)
    member.leader._ticked_at -= 0.15  # as if the loop had been held for so long
    await asyncio.sleep(1)
    assert (await scrape(lab))("etcd_server_heartbeat_send_failures_total") == 1
    (fields,) = lab.messages(text)
    assert (fields["heartbeat-interval"], fields["expected-duration"]) == ("100ms", "200ms")
