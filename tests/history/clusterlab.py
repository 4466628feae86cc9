"""Whole members in the simulated world: client port, peer port and all between them, on virtual time.

    @cluster(members=3, snapshot_count=20)
    async def test_something(lab: ClusterLab) -> None:
        leader, follower, _ = lab.ranked()
        lab.isolate(follower)
        await leader.put(b"a", b"1")
        lab.heal()
        await lab.settle()

``tests/server/lab.py`` has one member, ``tests/simulation/cluster.py`` many seeds without a client's port;
here the scenario is written by hand. At the end of each scenario every member that runs must hold the same.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from tests.server.lab import CALLS, Talk
from tests.simulation.single import memory_backend, small_segments

from petcd.embed import Etcd
from petcd.errors import EtcdError
from petcd.logs import Logger
from petcd.mvcc.hashing import KVHash
from petcd.net.grpc.client import CLIENT_LIMITS, ClientConnection
from petcd.pb import etcdserverpb as pb
from petcd.pb.message import Message
from petcd.pb.mvccpb import Event
from petcd.seams import Address, World
from petcd.server.config import Config
from petcd.server.member import Member
from petcd.server.url import parse_urls
from petcd.testing.clock import SimCrash
from petcd.testing.drive import Loss
from petcd.testing.world import Host, Simulation

CLIENT_PORT: Final = 2379
PEER_PORT: Final = 2380
HEARTBEAT_MS: Final = 50
ELECTION_MS: Final = 500

Arm = Callable[["Seat", World], object]


class Seat:
    """One member's place: its host, its disk, and the process that runs there now, if one does."""

    def __init__(self, lab: ClusterLab, number: int) -> None:
        self.lab = lab
        self.name = f"m{number}"
        self.address = f"10.0.0.{number}"
        self.host: Host = lab.sim.host(self.name, self.address)
        self.settings: dict[str, Any] = {}
        """Of this member alone, over those of the cluster."""
        self.arm: Callable[[World], object] = lambda _: None
        """Called with the world of each new process, to arm failpoints."""
        self.etcd: Etcd | None = None
        self.starting: asyncio.Task[Etcd] | None = None
        self.logged: list[tuple[str, str, dict[str, Any]]] = []
        self._connection: ClientConnection | None = None

    def __repr__(self) -> str:
        return f"<{self.name}>"

    @property
    def peer_url(self) -> str:
        return f"http://{self.address}:{PEER_PORT}"

    @property
    def client_url(self) -> str:
        return f"http://{self.address}:{CLIENT_PORT}"

    @property
    def member(self) -> Member:
        assert self.etcd is not None
        return self.etcd.member

    @property
    def id(self) -> int:
        return self.member.id

    @property
    def up(self) -> bool:
        """Its process runs, and the member in it has come up and has not ended."""
        return self.etcd is not None and self.host.running and not self.member.stopped

    # -- life ----------------------------------------------------------------------------------------

    def boot(self, **changes: Any) -> asyncio.Task[Etcd]:
        """Start the process; ``up`` when it serves."""
        self.settings.update(changes)
        self.etcd = None
        world = self.host.boot()
        process = self.host.process
        assert process is not None
        self.arm(world)
        logger = Logger(
            lambda level, message, fields: self.logged.append((level.name, message, dict(fields)))
        )
        config = Config(**{**self.lab.settings_of(self), **self.settings})
        self.starting = process.spawn(self._start(config, world, logger))
        return self.starting

    async def _start(self, config: Config, world: World, logger: Logger) -> Etcd:
        etcd = await Etcd.start(config, world, logger, make_backend=memory_backend)
        self.etcd = etcd
        return etcd

    async def start(self, **changes: Any) -> None:
        """Boot and wait until clients are served. Raises what ended the start; SimCrash when it died."""
        task = self.boot(**changes)
        await self.lab.until(lambda: task.done() or not self.host.running, what=f"{self.name} starts")
        if not task.done():
            raise SimCrash(self.name)
        task.result()

    async def stop(self) -> None:
        """As SIGTERM does."""
        process = self.host.process
        assert process is not None and self.etcd is not None
        await process.spawn(self.etcd.stop())
        self.crash(Loss.NONE)

    def crash(self, loss: Loss = Loss.ALL) -> None:
        """End the process: with ``Loss.NONE`` as SIGKILL does, else with the power of the machine."""
        self.host.drive.faults.crash_at = 0
        self.host.crash(loss)
        self.etcd = None
        self._connection = None

    async def restart(self, loss: Loss = Loss.ALL, **changes: Any) -> None:
        self.crash(loss)
        await self.start(**changes)

    async def wait_dead(self, seconds: float = 30.0) -> None:
        """Until a failpoint or a disk operation has ended the process."""
        await self.lab.until(lambda: not self.host.running, seconds, f"{self.name} dies")

    def pause(self) -> None:
        self.host.pause()

    def resume(self) -> None:
        self.host.resume()

    def wipe(self) -> None:
        """Lose the whole disk; the process must have ended."""
        root = self.host.drive.root
        root.now.clear()
        root.durable.clear()
        root.pending.clear()

    def messages(self, text: str) -> list[dict[str, Any]]:
        """The fields of every log line with this message."""
        return [fields for _, message, fields in self.logged if message == text]

    # -- what clients ask ------------------------------------------------------------------------------

    async def connect(self, window: int = 0) -> ClientConnection:
        """A connection of its own; with ``window``, its streams take so many bytes at a time."""
        fields = {name: getattr(CLIENT_LIMITS, name) for name in CLIENT_LIMITS.__slots__}
        limits = type(CLIENT_LIMITS)(**{**fields, "stream_window_bytes": window}) if window else CLIENT_LIMITS
        address = Address(self.address, CLIENT_PORT)
        return await ClientConnection.connect(address, net=self.lab.net, timeout=5.0, limits=limits)

    async def connection(self) -> ClientConnection:
        if self._connection is None or not self._connection.usable:
            self._connection = await self.connect()
        return self._connection

    async def call(self, request: Message, *, seconds: float | None = 30.0) -> Any:
        """One unary call. Raises: EtcdError."""
        path, answer = CALLS[type(request)]
        connection = await self.connection()
        raw = await connection.unary(path.encode(), request.encode(), timeout=seconds)
        return answer.decode(raw)

    async def refused(self, request: Message, **options: Any) -> str:
        """The text of a call that must fail."""
        try:
            answer = await self.call(request, **options)
        except EtcdError as error:
            return error.text
        raise AssertionError(f"not refused: {answer}")

    async def put(self, key: bytes, value: bytes = b"", lease: int = 0, **options: Any) -> int:
        response = await self.call(pb.PutRequest(key=key, value=value, lease=lease), **options)
        return int(response.header.revision)

    async def delete(self, key: bytes) -> int:
        return int((await self.call(pb.DeleteRangeRequest(key=key))).header.revision)

    async def get(self, key: bytes, *, serializable: bool = False, **options: Any) -> bytes | None:
        kvs = (await self.call(pb.RangeRequest(key=key, serializable=serializable), **options)).kvs
        return kvs[0].value if kvs else None

    async def compact(self, revision: int, *, physical: bool = False) -> None:
        await self.call(pb.CompactionRequest(revision=revision, physical=physical))

    async def revision(self) -> int:
        return int((await self.call(pb.StatusRequest())).header.revision)

    async def watch(self, *, window: int = 0) -> Talk:
        connection = await self.connect(window) if window else await self.connection()
        return Talk(connection.stream(b"/etcdserverpb.Watch/Watch"), pb.WatchResponse)

    async def keep_alive(self) -> Talk:
        connection = await self.connection()
        return Talk(connection.stream(b"/etcdserverpb.Lease/LeaseKeepAlive"), pb.LeaseKeepAliveResponse)

    async def watching(
        self, key: bytes = b"\0", range_end: bytes = b"\0", start: int = 0, **options: Any
    ) -> Watching:
        """A watcher on a stream of its own whose responses gather."""
        talk = await self.watch()
        created = await talk.ask(create(key, range_end=range_end, start_revision=start, **options))
        assert created.created and not created.canceled, created
        return Watching(self.lab, talk, start or created.header.revision + 1)


def create(key: bytes, **options: Any) -> pb.WatchRequest:
    return pb.WatchRequest(create_request=pb.WatchCreateRequest(key=key, **options))


PROGRESS: Final = pb.WatchRequest(progress_request=pb.WatchProgressRequest())


class Watching:
    """What one watcher has heard, checked as it comes: in order, nothing twice, no revision in two
    responses, nothing after a progress that covers it (contract history, part 1)."""

    def __init__(self, lab: ClusterLab, talk: Talk, next_rev: int) -> None:
        self.talk = talk
        self.start = self.next_rev = next_rev
        """The first revision that may still come."""
        self.events: list[Event] = []
        self.progress: list[int] = []
        self.ended: pb.WatchResponse | None = None
        self.wrong: list[str] = []
        self._task = lab.client.spawn(self._listen())

    async def _listen(self) -> None:
        try:
            while True:
                self.take(await self.talk.receive(1e6))
        except (EOFError, EtcdError):
            return

    def take(self, response: pb.WatchResponse) -> None:
        assert response.header is not None
        if response.canceled:
            self.ended = response
            return
        if not response.events:
            self.progress.append(response.header.revision)
            self.next_rev = max(self.next_rev, response.header.revision + 1)
            return
        first = _revision(response.events[0])
        if first < self.next_rev:
            self.wrong.append(f"revision {first} came where {self.next_rev} was the first to come")
        revisions = [_revision(event) for event in response.events]
        if revisions != sorted(revisions):
            self.wrong.append(f"out of order: {revisions}")
        self.events += response.events
        self.next_rev = revisions[-1] + 1

    @property
    def seen(self) -> list[tuple[int, bytes]]:
        """(revision, key) of every event."""
        return [(_revision(event), event.kv.key) for event in self.events if event.kv is not None]

    def check(self) -> None:
        assert not self.wrong, self.wrong
        assert len(set(self.seen)) == len(self.seen), "an event came twice"


def _revision(event: Event) -> int:
    assert event.kv is not None
    return event.kv.mod_revision


class ClusterLab:
    """Members, the network between them, and one host on which clients run."""

    def __init__(self, sim: Simulation, settings: dict[str, Any], members: int) -> None:
        self.sim = sim
        self.settings = {
            "data_dir": "data",
            "heartbeat_ms": HEARTBEAT_MS,
            "election_ms": ELECTION_MS,
            **settings,
        }
        self.seats: list[Seat] = []
        for number in range(1, members + 1):
            self.seats.append(Seat(self, number))
        self._count = members
        self.founders = list(self.seats)
        host = sim.host("client", "10.0.1.1")
        world = host.boot()
        self.net = world.net
        assert host.process is not None
        self.client = host.process

    def settings_of(self, seat: Seat) -> dict[str, Any]:
        peers, clients = parse_urls(seat.peer_url), parse_urls(seat.client_url)
        return {
            "name": seat.name,
            "listen_client_urls": clients,
            "advertise_client_urls": clients,
            "listen_peer_urls": peers,
            "advertise_peer_urls": peers,
            "initial_cluster": {one.name: parse_urls(one.peer_url) for one in self.founders},
            **self.settings,
        }

    # -- looking ---------------------------------------------------------------------------------------

    @property
    def up(self) -> list[Seat]:
        return [seat for seat in self.seats if seat.up]

    @property
    def lead(self) -> Seat | None:
        """The leader of the highest term, as it believes itself."""
        leaders = [seat for seat in self.up if seat.member.is_leader]
        return max(leaders, key=lambda seat: seat.member.node.term, default=None)

    def ranked(self) -> list[Seat]:
        """Those that run, the leader first."""
        lead = self.lead
        assert lead is not None
        return [lead, *(seat for seat in self.up if seat is not lead)]

    async def until(
        self, condition: Callable[[], bool], seconds: float = 60.0, what: str = "", step: float = 0.02
    ) -> None:
        """Let time pass until it holds. Raises: TimeoutError."""
        end = self.sim.now + seconds
        while not condition():
            if self.sim.now > end:
                raise TimeoutError(f"not within {seconds} s: {what or condition}")
            await asyncio.sleep(step)

    async def leader(self, *, other_than: Seat | None = None) -> Seat:
        """Wait until somebody leads and has committed an entry of its term."""

        def leads() -> bool:
            lead = self.lead
            return lead is not None and lead is not other_than and lead.member.lessor.primary

        await self.until(leads, what="a leader")
        lead = self.lead
        assert lead is not None
        return lead

    # -- life ------------------------------------------------------------------------------------------

    async def start(self) -> None:
        for seat in self.seats:
            seat.boot()
        await self.until(self._all_served, what="the start of the cluster")
        await self.leader()

    def _all_served(self) -> bool:
        for seat in self.seats:
            if seat.starting is not None and seat.starting.done():
                seat.starting.result()
        return all(seat.up for seat in self.seats)

    async def start_all(self) -> None:
        """Start whoever is down, at once."""
        for seat in self.seats:
            if not seat.host.running:
                seat.boot()
        await self.until(self._all_served, what="a start of all")

    async def join(self, *, learner: bool = False, start: bool = True) -> Seat:
        """Add a member to the cluster and start it."""
        self._count += 1
        seat = Seat(self, self._count)
        lead = await self.leader()
        await self.connected()
        added = await lead.call(pb.MemberAddRequest(peerURLs=[seat.peer_url], isLearner=learner))
        self.seats.append(seat)
        known = {one.name: parse_urls(one.peer_url) for one in self.seats if one.up or one is seat}
        by_url = {url: one for one in self.seats for url in [one.peer_url]}
        for one in added.members:
            for url in one.peerURLs:
                known[by_url[url].name] = parse_urls(url)
        seat.settings = {"initial_cluster": known, "initial_cluster_state": "existing"}
        if start:
            await seat.start()
        return seat

    async def connected(self, seconds: float = 5.5) -> None:
        """Let pass what the health rules of a reconfiguration ask for."""
        await asyncio.sleep(seconds)

    # -- the network -----------------------------------------------------------------------------------

    def isolate(self, *seats: Seat) -> None:
        """Cut these off from the other members; clients reach them."""
        ours = {seat.name for seat in seats}
        self.sim.network.partition(ours, {seat.name for seat in self.seats} - ours)

    def heal(self) -> None:
        self.sim.network.heal()

    # -- the end ---------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Heal, and wait until every member that runs has applied everything."""
        self.heal()
        lead = await self.leader()

        def settled() -> bool:
            members = [seat.member for seat in self.up]
            newest = lead.member.node.last_index
            return all(one.applied == one.node.last_index == newest and not one.installing for one in members)

        await self.until(settled, what=f"everybody is up to date: {self.describe()}")

    def describe(self) -> str:
        return ", ".join(
            f"{seat.name}: applied {seat.member.applied} of {seat.member.node.last_index}" for seat in self.up
        )

    async def check(self) -> None:
        """Every member that runs holds the same: keys at each revision, leases, alarms, membership."""
        await self.settle()
        shapes: dict[str, Any] = {}
        for seat in self.up:
            member = seat.member
            member.store.check()
            member.node.check()
            told: asyncio.Future[KVHash] = asyncio.get_running_loop().create_future()
            member.hash_kv(0, told.set_result)  # a learner does not answer the call for it
            hashed = await told
            first = max(1, member.store.compact_rev)
            shapes[seat.name] = {
                "hash": (hashed.hash, hashed.compact_revision, hashed.revision),
                "ranges": [
                    member.store.range(pb.RangeRequest(key=b"\0", range_end=b"\0", revision=revision))
                    for revision in range(first, member.store.rev + 1)
                ],
                "leases": sorted(
                    (lease.id, lease.ttl, tuple(sorted(lease.keys))) for lease in member.lessor.by_remaining()
                ),
                "alarms": member.alarms.get(),
                "members": [one.to_json() for one in member.membership.in_order()],
                "removed": sorted(member.membership.removed),
                "voters": sorted(member.node.conf_state.voters),
                "learners": sorted(member.node.conf_state.learners),
            }
        first_name, *others = shapes
        for name in others:
            for part, value in shapes[first_name].items():
                assert shapes[name][part] == value, f"{part} of {first_name} and {name} differ"


async def together(coroutines: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Results or EtcdErrors, in order."""

    async def caught(coroutine: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await coroutine
        except (EtcdError, OSError, TimeoutError, EOFError) as error:
            return error

    return list(await asyncio.gather(*map(caught, coroutines)))


Scenario = Callable[..., Coroutine[Any, Any, None]]


def cluster(
    *, members: int = 3, seed: int = 1, start: bool = True, segment_bytes: int = 1 << 16, **settings: Any
) -> Callable[[Scenario], Any]:
    """Run an async test with a cluster of its own, started unless told otherwise."""

    def decorate(scenario: Scenario) -> Callable[..., None]:
        def test(*args: Any, **options: Any) -> None:
            with small_segments(segment_bytes), Simulation(seed) as sim:
                lab = ClusterLab(sim, settings, members)

                async def run() -> None:
                    if start:
                        await lab.start()
                    await scenario(lab, *args, **options)
                    if lab.up:
                        await lab.check()

                async def enter() -> None:
                    await lab.client.spawn(run())

                sim.run(enter(), seconds_max=1e9)

        test.__name__ = scenario.__name__
        test.__doc__ = scenario.__doc__
        test.__module__ = scenario.__module__
        own = inspect.signature(scenario)
        parameters = list(own.parameters.values())[1:]
        test.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        return test

    return decorate
