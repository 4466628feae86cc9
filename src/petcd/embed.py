"""A member in this process: the place where all rooms are wired together.

    etcd = await Etcd.start(config, real_world(loop), logger)
    ...
    await etcd.stop()

The ``etcd`` command does just this; so do tests that want a real member, and the simulation with seams and a
backend of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from petcd import ETCD_VERSION
from petcd.api.auth import Auth
from petcd.api.cluster import Cluster
from petcd.api.gateway import Gateway
from petcd.api.grpc_health import GrpcHealth
from petcd.api.http import StatusPages, front_door
from petcd.api.kv import KV
from petcd.api.lease import LeaseService
from petcd.api.maintenance import Maintenance
from petcd.api.peer_pages import PeerPages
from petcd.api.watch import Watch
from petcd.errors import Code, EtcdError
from petcd.logs import NULL, Logger
from petcd.net.edge import STOPPED_TEXT, Edge
from petcd.net.grpc import GrpcStats, Method, Router
from petcd.net.http import HttpRouter
from petcd.net.http2.limits import Limits
from petcd.pb.etcdserverpb import LeaseGrantRequest, PutRequest, RangeRequest, TxnRequest
from petcd.pb.membershippb import Attributes, ClusterMemberAttrSetRequest
from petcd.peer.joining import join, refuse_foreign, refuse_founded
from petcd.peer.transport import PeerTransport
from petcd.seams import Address, File, Listener, World
from petcd.server.applier import CLUSTER_MEMBER_ATTR_SET
from petcd.server.autocompact import auto_compactor
from petcd.server.bootstrap import BackendFactory, open_backend, open_member
from petcd.server.clusterversion import ClusterVersionMonitor
from petcd.server.config import Config
from petcd.server.corruption import CorruptionMonitor, initial_check
from petcd.server.ids import hex_id
from petcd.server.leadcheck import LeadCheck
from petcd.server.leasing import LeaseRounds
from petcd.server.member import Member, MemberStopped
from petcd.server.membership import ClusterMember
from petcd.server.parts import Parts
from petcd.server.snapshotting import purge_files
from petcd.server.takeover import Takeover
from petcd.server.url import Url
from petcd.storage.datadir import DataDir

_DRAIN_SECONDS_MAX = 5.0
_PURGE_SECONDS = 30.0
_PUBLISH_RETRY_SECONDS = 0.5
_SNAPSHOTS_PER_QUOTA = 4
"""A database from another member may be so many times our quota; without a quota there is no bound."""


class Etcd:
    """One running member and its listeners. ``failed`` ends with the reason if the member stops by itself."""

    def __init__(self, config: Config, world: World, logger: Logger) -> None:
        self.config = config
        self.world = world
        self.logger = logger
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.listeners: list[Listener] = []
        """Of clients; their addresses are real where a port was given as 0."""
        self.peer_listeners: list[Listener] = []
        self.member: Member
        self._data: DataDir
        self._edge: Edge
        self._edges: list[Edge] = []
        self._peer_edge: Edge | None = None
        self._monitors: list[Monitor] = []
        self._gateway: Gateway | None = None
        self._ended: asyncio.Future[None] | None = None
        """Set by the first ``stop``; done when the last file is closed."""
        self._start_time_seconds = world.clock.wall_ns() / 1e9

    @classmethod
    async def start(
        cls,
        config: Config,
        world: World,
        logger: Logger = NULL,
        *,
        make_backend: BackendFactory = open_backend,
    ) -> Etcd:
        """Open the data directory, take part in the cluster, and serve; returns when clients are served,
        which takes a leader.

        Raises:
            StorageError: the data directory cannot be used.
            ConfigError: the configuration does not fit the data directory, or the running cluster.
            JoinError: the running cluster is not the one to join.
            OSError: an address cannot be listened on.
            MemberRemoved: this member was removed from its cluster.
        """
        etcd = cls(config, world, logger)
        await etcd._start(make_backend)
        return etcd

    async def _start(self, make_backend: BackendFactory) -> None:
        config, world, logger = self.config, self.world, self.logger
        self._data = DataDir(world.disk, config.data_dir, config.wal_dir, logger)
        others: list[ClusterMember] = []
        try:
            joined = None
            if not self._data.has_wal():
                if config.initial_cluster_state == "existing":
                    joined, others = await join(world, config, logger)
                else:
                    await refuse_founded(world, config, logger)
            else:
                await self._take_over()
            parts = open_member(world, config, logger, make_backend, self._data, joined)
        except BaseException:
            self._data.close()
            raise
        router = Router()
        http = HttpRouter()
        http.before = front_door(config.cors, config.host_whitelist)
        self._edge = Edge(world, router, limits=_limits(config), http=http, logger=logger)
        self._edges = [self._edge]
        self.member = member = Member(
            world, config, parts, logger, flush_edges=self._edge.flush, failed=self._on_failed
        )
        lead_check = LeadCheck(member)
        self._leases = LeaseRounds(
            member, checkpoints=config.feature("LeaseCheckpoint"), lead_check=lead_check
        )
        self._monitors = [self._leases, ClusterVersionMonitor(member), CorruptionMonitor(member)]
        try:
            compactor = auto_compactor(member)
            if compactor is not None:
                self._monitors.append(compactor)
            stats = GrpcStats(router, self._edges)
            pages = StatusPages(member, stats, self._start_time_seconds)
            pages.add_to(http)
            methods = _methods(member, lead_check)
            for method in methods:
                router.add(method)
            if config.enable_grpc_gateway:
                self._gateway = Gateway(methods, member)
                self._gateway.add_to(http)
            self._log_start(restarted=parts.restarted)
            _compile_codecs()
            await self._listen_to_peers(parts, lead_check, others)
            member.start()
            for monitor in self._monitors:
                monitor.start()
            if config.feature("InitialCorruptCheck"):
                await self._compare_with_others()
            await self._publish()
            await self._listen(pages)
            self._schedule_purge()
        except BaseException:
            await self.stop()
            raise

    async def _take_over(self) -> None:
        """If the data directory was written by Go etcd, it is ours afterwards."""
        config, world, logger = self.config, self.world, self.logger
        takeover = Takeover(world, self._data, config.max_learners, logger)
        if not takeover.is_due:
            return
        try:
            found = takeover.begin()
            if found is not None:
                await refuse_foreign(world, found.others)
                takeover.convert()
        finally:
            takeover.close()

    def _log_start(self, *, restarted: bool) -> None:
        member, logger = self.member, self.logger
        ids = {"local-member-id": hex_id(member.id), "cluster-id": hex_id(member.cluster_id)}
        if restarted:
            logger.info("restarting local member", **ids, **{"commit-index": member.node.commit_index})
        else:
            logger.info("starting local member", **ids)
        version = member.membership.version
        logger.info(
            "starting etcd server",
            **ids,
            **{"local-server-version": ETCD_VERSION, "cluster-version": version or "to_be_decided"},
        )
        if version:
            logger.info("enabled capabilities for version", **{"cluster-version": version[:-2]})

    # -- joining ---------------------------------------------------------------------------------------

    async def _listen_to_peers(
        self, parts: Parts, lead_check: LeadCheck, others: Sequence[ClusterMember]
    ) -> None:
        """Make the transport and its listener; ``others`` are those that a joining member knows already."""
        config, member = self.config, self.member
        transport = PeerTransport(
            self.world,
            self.logger,
            member_id=member.id,
            cluster_id=member.cluster_id,
            own_urls=[str(url) for url in config.advertise_peer_urls],
            election_seconds=config.election_ms / 1000,
            receiver=member,
            snapshotter=parts.snapshotter,
            check_database=_check_database,
            snapshot_bytes_max=_SNAPSHOTS_PER_QUOTA * config.quota_bytes,
        )
        member.peers = transport
        for one in others:
            transport.add_remote(one.id, one.peer_urls)
        http = HttpRouter()
        transport.add_to(http)
        PeerPages(member, lead_check=lead_check).add_to(http)
        edge = Edge(self.world, Router(), http=http, logger=self.logger)
        self._peer_edge = edge
        for url in config.listen_peer_urls:
            self.peer_listeners.append(await edge.listen(_address(url), grpc=False))

    async def _compare_with_others(self) -> None:
        """Raises: MemberStopped, when this member's data differs from that of the others."""
        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        initial_check(self.member, told.set_result)
        await asyncio.wait((told, self.failed), return_when=asyncio.FIRST_COMPLETED)
        if self.failed.done():
            self.failed.result()
        problem = told.result()
        if problem:
            raise MemberStopped(problem)

    async def _publish(self) -> None:
        """Tell the cluster our name and client URLs, through the log, until it has been applied."""
        member, config = self.member, self.config
        urls = [str(url) for url in config.advertise_client_urls]
        led: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        member.when_led(_resolver(led))
        await asyncio.wait((led, self.failed), return_when=asyncio.FIRST_COMPLETED)
        if self.failed.done():
            self.failed.result()
        await refuse_foreign(self.world, [one for one in member.membership.in_order() if one.id != member.id])
        attributes = Attributes(name=config.name, client_urls=urls)
        await self._propose(
            CLUSTER_MEMBER_ATTR_SET,
            ClusterMemberAttrSetRequest(member_ID=member.id, member_attributes=attributes),
        )
        self.logger.info(
            "published local member to cluster through raft",
            **{
                "local-member-id": hex_id(member.id),
                "local-member-attributes": f"{{Name:{config.name} ClientURLs:[{' '.join(urls)}]}}",
                "cluster-id": hex_id(member.cluster_id),
                "publish-timeout": f"{config.request_timeout_seconds:g}s",
            },
        )

    async def _propose(self, kind: int, request: Any) -> None:
        """Propose until it is applied. Raises what ended the member."""
        while True:
            waiter = _Published(asyncio.get_running_loop())
            self.member.propose_message(kind, request, waiter)
            await asyncio.wait((waiter.answer, self.failed), return_when=asyncio.FIRST_COMPLETED)
            if self.failed.done():
                self.failed.result()
            if self._ended is not None:
                raise MemberStopped("the member was stopped while it was starting")
            problem = waiter.answer.result()
            if not problem:
                return
            self.logger.warn("failed to publish local member to cluster through raft", error=problem)
            await self._pause(_PUBLISH_RETRY_SECONDS)

    async def _pause(self, seconds: float) -> None:
        over = asyncio.get_running_loop().create_future()
        self.world.clock.call_later(seconds, over.set_result, None)
        await over

    # -- listening -------------------------------------------------------------------------------------

    async def _listen(self, pages: StatusPages) -> None:
        config, logger = self.config, self.logger
        split = bool(config.listen_client_http_urls)
        for url in config.listen_client_urls:
            self.listeners.append(await self._edge.listen(_address(url), http=not split))
        for url in config.listen_client_http_urls:
            self.listeners.append(await self._edge.listen(_address(url), grpc=False))
        if config.listen_metrics_urls:
            http = HttpRouter()
            pages.add_to(http, metrics_only=True)
            edge = Edge(self.world, Router(), http=http, logger=logger)
            self._edges.append(edge)
            for url in config.listen_metrics_urls:
                self.listeners.append(await edge.listen(_address(url), grpc=False))
        logger.info("ready to serve client requests")
        spoken = [(url, "grpc" if split else "grpc+http") for url in config.listen_client_urls]
        spoken += [(url, "http") for url in config.listen_client_http_urls]
        for url, traffic in spoken:
            logger.info(
                "serving client traffic insecurely; this is strongly discouraged!",
                traffic=traffic,
                address=url.netloc or url.path,
            )
        for url in config.listen_metrics_urls:
            logger.info("serving metrics", address=url.netloc or url.path)
        logger.info(
            "now serving peer/client/metrics",
            **{
                "local-member-id": hex_id(self.member.id),
                "initial-advertise-peer-urls": [str(url) for url in config.advertise_peer_urls],
                "listen-peer-urls": [str(url) for url in config.listen_peer_urls],
                "advertise-client-urls": [str(url) for url in config.advertise_client_urls],
                "listen-client-urls": [str(url) for url in config.listen_client_urls],
                "listen-metrics-urls": [str(url) for url in config.listen_metrics_urls],
            },
        )

    def _schedule_purge(self) -> None:
        def purge() -> None:
            if self._ended is None and not self.member.stopped:
                self.member.on_files_lane(
                    lambda: purge_files(self.member, self._data.wal, self._data.snap), lambda _: None
                )
                self._schedule_purge()

        self.world.clock.call_later(_PURGE_SECONDS, purge)

    # -- the end ---------------------------------------------------------------------------------------

    def _on_failed(self, reason: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_exception(reason)

    async def stop(self) -> None:
        """Drain the connections, make everything durable, give up files and locks."""
        if self._ended is not None:
            await asyncio.wait((self._ended,))
            return
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        try:
            await self._stop(loop)
        finally:
            self._ended.set_result(None)

    async def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let somebody else lead first: an election by time-out would stop all writes for a second."""
        if self.member.stopped:
            return
        over: asyncio.Future[EtcdError | None] = loop.create_future()
        self.member.hand_over(lambda problem: None if over.done() else over.set_result(problem))
        await asyncio.wait((over, self.failed), return_when=asyncio.FIRST_COMPLETED)
        if over.done() and (problem := over.result()) is not None:
            self.logger.warn(
                "leadership transfer failed",
                **{"local-member-id": hex_id(self.member.id), "error": problem.text},
            )

    async def _stop(self, loop: asyncio.AbstractEventLoop) -> None:
        ends = {
            "name": self.config.name,
            "data-dir": self.config.data_dir,
            "advertise-peer-urls": [str(url) for url in self.config.advertise_peer_urls],
            "advertise-client-urls": [str(url) for url in self.config.advertise_client_urls],
        }
        self.logger.info("closing etcd server", **ends)
        await self._hand_over(loop)
        if self._gateway is not None:
            self._gateway.end_streams(Code.UNAVAILABLE, STOPPED_TEXT)
        for edge in self._edges:
            await edge.drain(_DRAIN_SECONDS_MAX)
        for monitor in self._monitors:
            monitor.stop()
        done: asyncio.Future[None] = loop.create_future()
        self.member.stop(_resolver(done))
        await asyncio.wait((done, self.failed), return_when=asyncio.FIRST_COMPLETED)
        if self._peer_edge is not None:
            for listener in self.peer_listeners:
                listener.close()
            self._peer_edge.abort()
        self.member.close()
        self._data.close()
        if not self.failed.done():
            self.failed.cancel()
        elif not self.failed.cancelled():
            self.failed.exception()  # it has been logged; whoever waits for it hears it all the same
        self.logger.info("closed etcd server", **ends)


class Monitor(Protocol):
    """Something that runs beside a member."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


class _Published:
    """Waits for a proposal of the start; ``answer`` is what went wrong, empty when nothing did."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.answer: asyncio.Future[str] = loop.create_future()

    def reply(self, _message: bytes, /) -> None:
        if not self.answer.done():
            self.answer.set_result("")

    def fail(self, _code: int, text: str, /) -> None:
        if not self.answer.done():
            self.answer.set_result(text)


def _resolver(future: asyncio.Future[None]) -> Callable[[], None]:
    def resolve() -> None:
        if not future.done():
            future.set_result(None)

    return resolve


def _methods(member: Member, lead_check: LeadCheck) -> list[Method]:
    services = (
        KV(member),
        Watch(member),
        LeaseService(member, lead_check),
        Cluster(member),
        Maintenance(member),
        Auth(member),
    )
    return [method for service in services for method in service.methods()] + GrpcHealth().methods()


def _check_database(file: File) -> None:
    """Imported when the first one comes: most members never see one."""
    from petcd.storage.bbolt import check_database

    check_database(file)


def _compile_codecs() -> None:
    """The codecs of the hot messages are made now and not by the first client's call."""
    make: tuple[Callable[[], object], ...] = (PutRequest, RangeRequest, TxnRequest, LeaseGrantRequest)
    for message in make:
        message()


def _limits(config: Config) -> Limits:
    return Limits(
        message_bytes_max=config.receive_bytes_max,
        streams_max=config.max_concurrent_streams,
        keepalive_min_seconds=config.grpc_keepalive_min_seconds,
        keepalive_interval_seconds=config.grpc_keepalive_interval_seconds,
        keepalive_timeout_seconds=config.grpc_keepalive_timeout_seconds,
    )


def _address(url: Url) -> Address:
    return url.address()
