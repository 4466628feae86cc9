"""Identity, URL choice, status, probes; and the transport once over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop
from tests.peer.cluster import Cluster, Station
from tests.peer.test_snapshots import INDEX, snap
from tests.peer.test_transport import app, heartbeat
from tests.servers import free_port

from petcd.logs import Level, Logger
from petcd.peer.identity import Identity, minor_version, parse_hex_id, serves_streams
from petcd.peer.local import Local, PeerStatus, UrlPicker, type_name
from petcd.raft import MSG_APP
from petcd.seams.real import real_world
from petcd.testing.world import Simulation


def test_hex_ids() -> None:
    assert parse_hex_id("bfd246b94926ea20") == 0xBFD246B94926EA20
    assert parse_hex_id("A") == 10
    for bad in ("", "0x1", "+1", "1_0", " 1", "1" + "0" * 16, "g", "\u0661"):
        assert parse_hex_id(bad) is None


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("3.4.23", (3, 4)),
        ("3.7.1-rc.0", (3, 7)),
        (None, (2, 0)),
        ("", (2, 0)),
        ("3.4", (2, 0)),
        ("x", (2, 0)),
    ],
)
def test_versions(text: str | None, version: tuple[int, int]) -> None:
    assert minor_version(text) == version


def test_who_writes_streams() -> None:
    assert not serves_streams(None)
    assert not serves_streams("2.0.0")
    assert serves_streams("2.1.0")
    assert serves_streams("3.4.23")
    assert serves_streams("4.0.0")


def test_headers_of_requests() -> None:
    identity = Identity(0xAB, 0xC1, ["http://a:1", "http://b:2"])
    assert dict(identity.common) == {
        "X-Etcd-Cluster-Id": "c1",
        "X-Min-Cluster-Version": "3.0.0",
        "X-Peerurls": "http://a:1,http://b:2",
        "X-Server-From": "ab",
        "X-Server-Version": "3.7.1",
    }


def test_urls_are_taken_in_turn_and_one_failure_counts_once() -> None:
    picker = UrlPicker(["http://a:1", "soup", "http://b:2"])
    first = picker.pick()
    assert first is not None and str(first) == "http://a:1"
    picker.failed(first)
    picker.failed(first)
    second = picker.pick()
    assert second is not None and str(second) == "http://b:2"
    picker.failed(second)
    assert picker.pick() == first
    picker.update(["soup"])
    assert picker.pick() is None
    picker.failed(first)


def test_status_logs_changes_only() -> None:
    with Simulation(1) as sim:
        logged: list[tuple[Level, str]] = []
        logger = Logger(lambda level, text, _: logged.append((level, text)), Level.DEBUG)
        station = Cluster(sim, 1)[1]
        identity = Identity(1, 2, [])
        local = Local(station.world, logger, identity, station.receiver, election_seconds=1.0, tls=None)
        status = PeerStatus(local, 7)
        status.deactivate("dial", "stream Message", "refused")
        status.activate()
        status.activate()
        status.deactivate("read", "stream Message", "EOF")
        status.deactivate("read", "stream Message", "EOF")
        assert logged == [
            (Level.DEBUG, "peer deactivated again"),
            (Level.INFO, "peer became active"),
            (Level.WARN, "peer became inactive (message send to peer failed)"),
            (Level.DEBUG, "peer deactivated again"),
        ]
        assert status.counters.disconnects == 1


def test_names_of_messages() -> None:
    assert type_name(MSG_APP) == "MsgApp"
    assert type_name(9) == "MsgHeartbeatResp"
    assert type_name(99) == "99"


def test_probes_measure_and_complain_each_half_minute() -> None:
    with Simulation(2) as sim:
        cluster = Cluster(sim, 2)
        sim.run_for(70)
        assert cluster[1].transport.counters[2].round_trip_seconds.count >= 10
        assert not [text for text in cluster[1].texts() if "prober" in text]
        host = sim.hosts["m2"]
        host.crash()
        sim.run_for(70)
        complaints = [text for text in cluster[1].texts() if "prober" in text]
        assert complaints == ["prober detected unhealthy status"] * len(complaints)
        assert 2 <= len(complaints) <= 3
        host.wall_offset_ns = 5 * 10**9
        cluster.boot(2)
        sim.run_for(70)
        assert "prober found high clock drift" in cluster[1].texts()


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_over_real_sockets(make_loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path) -> None:
    """Streams, a large message, and a snapshot of some megabytes."""

    async def run() -> None:
        world = real_world(asyncio.get_running_loop())
        ports = [free_port(), free_port()]
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        one, two = (
            Station(world, number + 1, urls[number], directory=str(tmp_path / str(number)))
            for number in (0, 1)
        )
        for station, port in ((one, ports[0]), (two, ports[1])):
            await station.listen(port)
        one.transport.add(2, [two.url])
        two.transport.add(1, [one.url])
        await until(lambda: one.all_up(2) and two.all_up(1))
        large = app(1, 2, 3, 1)
        large.entries[0].data = bytes(3 << 20)
        batch = [app(1, 2, 0, 3), large, app(1, 2, 4, 50)]
        one.send(*batch, heartbeat(1, 2))
        await until(lambda: len(two.receiver.messages) == 4)
        assert [m for m in two.receiver.messages if m.type == MSG_APP] == batch
        content = b"DB" + bytes(range(256)) * 40_000
        database = tmp_path / "db"
        database.write_bytes(content)
        told: list[bool] = []
        one.transport.send_snapshot(snap(to=2, sender=1), str(database), told.append)
        await until(lambda: told == [True])
        assert (tmp_path / "1" / f"{INDEX:016x}.snap.db").read_bytes() == content
        assert two.receiver.snapshots == [snap(to=2, sender=1)]
        for station in (one, two):
            station.transport.close()
            station.edge.abort()
        await asyncio.sleep(0.05)

    async def until(condition: Callable[[], bool]) -> None:
        for _ in range(2000):
            if condition():
                return
            await asyncio.sleep(0.005)
        raise AssertionError("not within 10 s")

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(run())
