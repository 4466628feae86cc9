"""A cluster of members in the simulated world: the real server code above sockets and files.

``Seat`` is one member's place: its host, its disk, and whatever process runs there now. ``Cluster`` has the
seats, the wire between them and the taps that watch (``observer``).
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.simulation.network import SimPeers, Wire, run_in
from tests.simulation.observer import Durable, Observer
from tests.simulation.single import memory_backend, small_segments

from petcd.api.lease import LeaseService
from petcd.api.peer_pages import PeerPages
from petcd.errors import EtcdError, from_wire
from petcd.logs import NULL, Logger
from petcd.net.http import HttpRouter
from petcd.pb.membershippb import Attributes, ClusterMemberAttrSetRequest
from petcd.raft import ConfChange
from petcd.seams import World
from petcd.server import reconfiguration
from petcd.server.applier import CLUSTER_MEMBER_ATTR_SET
from petcd.server.bootstrap import Joined, open_member
from petcd.server.config import Config
from petcd.server.leadcheck import LeadCheck
from petcd.server.leasing import LeaseRounds
from petcd.server.member import Member, MemberRemoved
from petcd.server.membership import Membership
from petcd.server.reconfiguration import Reconfiguration
from petcd.server.snapshotting import purge_files
from petcd.server.url import parse_urls
from petcd.storage.datadir import DataDir
from petcd.testing.clock import Process, SimCrash
from petcd.testing.drive import Loss
from petcd.testing.world import Simulation

HEARTBEAT_MS = 10
ELECTION_MS = 100
ELECTION_SECONDS = ELECTION_MS / 1000
CONNECTED_SECONDS = 0.1
"""``reconfiguration.HEALTH_SECONDS`` on this scale of time."""
TOKEN = "sim"


def peer_url(name: str) -> str:
    return f"http://{name}:2380"


class Seat:
    """One member's place in the cluster."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.host = cluster.sim.host(name)
        self.id = 0
        self.joined: Joined | None = None
        self.life = 0
        self.booted = 0.0
        self.member: Member | None = None
        self.process: Process | None = None
        self.pages: HttpRouter | None = None
        self.leases: LeaseService | None = None
        self.rounds: LeaseRounds | None = None
        self.reconfiguration: Reconfiguration | None = None
        self.failure: BaseException | None = None
        self.start_failure: BaseException | None = None
        self.removed = False
        """Told that it is no member any more: it does not start again."""
        self.retired = False
        """Removed and switched off for good."""
        # What the observer knows.
        self.durable = Durable()
        self.handed = 0
        self.commit = 0
        self.term = 0
        self.voters: tuple[frozenset[int], ...] = (frozenset(),)
        """Its last configurations, the newest last."""
        self.published = False

    @property
    def up(self) -> bool:
        """A process runs whose member has not ended."""
        return (
            self.process is not None
            and self.process.alive
            and self.member is not None
            and not self.member.stopped
        )

    @property
    def paused(self) -> bool:
        return self.process is not None and self.process.paused

    # -- life ------------------------------------------------------------------------------------------

    def boot(self) -> bool:
        """Start a process; False when it died or failed while it started."""
        cluster = self.cluster
        self.member = self.pages = self.leases = self.rounds = None
        self.failure = self.start_failure = None
        world = self.host.boot()
        process = self.process = self.host.process
        assert process is not None
        self.life += 1
        self.booted = cluster.sim.loop.now
        cluster.prepare(self, world)
        try:
            process.run(self._start, world, process)
        except SimCrash:
            return False
        except Exception as error:  # noqa: BLE001 - a start that is refused is an outcome of a faulty disk
            self.start_failure = error
            cluster.note(self.name, f"start refused: {error!r}")
            return False
        return True

    def _start(self, world: World, process: Process) -> None:
        cluster = self.cluster
        config = cluster.configuration(self.name)
        logger = cluster.logger(self.name)
        data = DataDir(world.disk, config.data_dir, logger=logger)
        try:
            parts = open_member(world, config, logger, memory_backend, data, self.joined)
        except Exception:
            data.close()
            raise
        if not self.id:
            self.id = parts.member_id
            cluster.wire.seats[self.id] = self
        assert parts.member_id == self.id
        cluster.observer.started(self, parts.node, parts.wal)
        member = Member(world, config, parts, logger, flush_edges=_nothing, failed=self._failed)
        member.peers = SimPeers(cluster.wire, self, process, self.id)
        for seat in cluster.seats.values():
            if seat.id and seat is not self:
                member.peers.add_remote(seat.id, (peer_url(seat.name),))
        self.member = member
        check = LeadCheck(member)
        self.reconfiguration = Reconfiguration(member)
        router = HttpRouter()
        PeerPages(member, self.reconfiguration, check).add_to(router)
        self.pages = router
        self.leases = LeaseService(member, check)
        self.rounds = LeaseRounds(member, checkpoints=False, lead_check=check)
        member.start()
        self.rounds.start()
        self._publish_when_led()
        world.clock.call_later(cluster.settings.purge_seconds, self._purge, member, data)

    def _purge(self, member: Member, data: DataDir) -> None:
        if not member.stopped:
            member.on_files_lane(lambda: purge_files(member, data.wal, data.snap), lambda _: None)
            member.clock.call_later(self.cluster.settings.purge_seconds, self._purge, member, data)

    def _publish_when_led(self) -> None:
        """Tell the cluster a name, as a member that was added must."""
        member = self.member
        assert member is not None
        known = member.membership.members.get(self.id)
        if known is not None and known.name:
            return

        def publish() -> None:
            if member.stopped:
                return
            known = member.membership.members.get(self.id)
            if known is not None and known.name:
                return
            if known is not None and member.lead:
                attributes = Attributes(name=self.name, client_urls=[f"http://{self.name}:2379"])
                request = ClusterMemberAttrSetRequest(member_ID=self.id, member_attributes=attributes)
                member.propose_message(CLUSTER_MEMBER_ATTR_SET, request)
            member.clock.call_later(0.1, publish)

        member.clock.call_later(0.02, publish)

    def _failed(self, reason: BaseException) -> None:
        self.failure = reason
        self.cluster.note(self.name, f"ended: {reason!r}")
        if isinstance(reason, MemberRemoved):
            self.removed = True
        self.cluster.on_end(self, reason)

    def crash(self, loss: Loss) -> None:
        faults = self.host.drive.faults
        faults.crash_at = 0
        faults.fail_at.clear()
        self.host.crash(loss)
        self.process = None
        self.member = self.pages = self.leases = self.rounds = None

    def run(self, callback: Callable[..., object], *args: Any) -> None:
        """Call into the process, now or when it is resumed; not at all when it is dead."""
        process = self.process
        if process is not None and process.alive:
            run_in(process, callback, *args)


def _nothing() -> None:
    return


@dataclass
class Settings:
    """How the members of one run are set up."""

    size: int = 5
    snapshot_count: int = 20
    catchup_entries: int = 5
    batch_limit: int = 20
    batch_seconds: float = 0.04
    compaction_batch: int = 3
    pre_vote: bool = True
    purge_seconds: float = 0.3
    segment_bytes: int = 4096


class Cluster:
    """One simulated cluster."""

    def __init__(
        self, sim: Simulation, settings: Settings, observer: Observer, *, traced: bool = False
    ) -> None:
        self.sim = sim
        self.settings = settings
        self.observer = observer
        observer.now = lambda: sim.loop.now
        self.traced = traced
        self.rng = random.Random(sim.rng.getrandbits(64))
        self.wire = Wire(sim.loop, random.Random(sim.rng.getrandbits(64)), self.note if traced else None)
        self.seats: dict[str, Seat] = {}
        self.founders = [f"m{number}" for number in range(settings.size)]
        self.cluster_id = 0
        self.arm: Callable[[Seat, World], object] = lambda seat, world: None
        """Called with the world of each new process, to arm failpoints."""
        self.ended: list[tuple[Seat, BaseException]] = []
        for name in self.founders:
            self.add_seat(name)
        observer.founding_count = settings.size

    # -- seats -----------------------------------------------------------------------------------------

    def add_seat(self, name: str) -> Seat:
        seat = self.seats[name] = Seat(self, name)
        self.wire.by_url[peer_url(name)] = seat
        drive = seat.host.drive
        if not self.traced:
            drive._note = None
        rng = random.Random(self.rng.getrandbits(64))
        drive.faults.sync_seconds = lambda: rng.random() * 0.001
        drive.faults.lane_at_once = lambda: rng.random() < 0.3
        return seat

    def configuration(self, name: str) -> Config:
        """Everything that happens rarely happens often."""
        settings = self.settings
        return Config(
            name=name,
            data_dir="data",
            advertise_peer_urls=parse_urls(peer_url(name)),
            listen_peer_urls=parse_urls(peer_url(name)),
            initial_cluster={one: parse_urls(peer_url(one)) for one in self.founders},
            initial_cluster_token=TOKEN,
            heartbeat_ms=HEARTBEAT_MS,
            election_ms=ELECTION_MS,
            pre_vote=settings.pre_vote,
            snapshot_count=settings.snapshot_count,
            snapshot_catchup_entries=settings.catchup_entries,
            max_snapshots=2,
            max_wals=2,
            backend_batch_limit=settings.batch_limit,
            backend_batch_interval_seconds=settings.batch_seconds,
            compaction_batch_limit=settings.compaction_batch,
            compaction_sleep_seconds=0.001,
            max_learners=2,
            quota_backend_bytes=-1,
        )

    def logger(self, name: str) -> Logger:
        if not self.traced:
            return NULL
        return Logger(
            lambda level, message, fields: self.note(name, f"{level.name} {message} {dict(fields)}")
        )

    def note(self, host: str, what: str) -> None:
        if self.traced:
            self.sim.note(host, what)

    def prepare(self, seat: Seat, world: World) -> None:
        self.arm(seat, world)

    def on_end(self, seat: Seat, reason: BaseException) -> None:
        self.ended.append((seat, reason))

    # -- looking ---------------------------------------------------------------------------------------

    @property
    def up(self) -> list[Seat]:
        return [seat for seat in self.seats.values() if seat.up]

    @property
    def leader(self) -> Seat | None:
        """The leader of the highest term among those that run."""
        leaders = [seat for seat in self.up if seat.member is not None and seat.member.is_leader]
        return max(leaders, key=lambda seat: seat.member.node.term, default=None)  # type: ignore[union-attr]

    def newest_membership(self) -> Membership | None:
        """As the member sees it that has applied most."""
        up = self.up
        if not up:
            return None
        best = max(up, key=lambda seat: seat.member.applied)  # type: ignore[union-attr]
        assert best.member is not None
        return best.member.membership

    def boot_all(self) -> None:
        for seat in self.seats.values():
            if not seat.up and not seat.removed and not seat.retired:
                if seat.process is not None:
                    seat.crash(Loss.NONE)
                seat.boot()

    def check(self) -> None:
        """The invariants of everything inside, at a moment."""
        for seat in self.up:
            member = seat.member
            assert member is not None
            member.node.check()
            if member.applied > member.node.commit_index:
                self.observer.fail(f"{seat.name} has applied {member.applied} of {member.node.commit_index}")

    # -- membership ------------------------------------------------------------------------------------

    def change(self, seat: Seat, change: ConfChange, done: Callable[[EtcdError | None], object]) -> None:
        """Propose a change, past the rules of health."""
        member = seat.member
        assert member is not None
        seat.run(member.propose_conf_change, change, _ConfWaiter(done))


class _ConfWaiter:
    def __init__(self, done: Callable[[EtcdError | None], object]) -> None:
        self._done = done

    def reply(self, _message: bytes, /) -> None:
        self._done(None)

    def fail(self, code: int, text: str, /) -> None:
        self._done(from_wire(code, text))


@contextlib.contextmanager
def scaled(segment_bytes: int = 4096) -> Iterator[None]:
    """Constants of the server on the simulation's scale."""
    before = reconfiguration.HEALTH_SECONDS
    reconfiguration.HEALTH_SECONDS = CONNECTED_SECONDS  # type: ignore[misc]
    try:
        with small_segments(segment_bytes):
            yield
    finally:
        reconfiguration.HEALTH_SECONDS = before  # type: ignore[misc]
