"""The other members of a cluster, over HTTP/1.1: what ``petcd.server.peering.Peers`` asks for.

    transport = PeerTransport(world, logger, member_id=.., cluster_id=.., own_urls=.., election_seconds=1.0,
                              receiver=member, snapshotter=.., check_database=..)
    transport.add_to(router)          # of an Edge without gRPC on the peer URLs
    transport.add(other_id, other_urls)

``send`` queues, ``flush`` writes each connection once. There is one timer for link heartbeats and silence,
no task outlives a dial, and everything runs on the member's thread.
Source: contract page "peer", sections 1-5 and 9.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from petcd.logs import NULL, Logger
from petcd.net.http import HttpExchange, HttpRouter
from petcd.peer.handlers import RaftPages
from petcd.peer.identity import Identity
from petcd.peer.local import Local, PeerCounters, parse_usable
from petcd.peer.peer import Peer, Remote
from petcd.peer.pool import HttpPool
from petcd.peer.receiving import CheckDatabase, SnapshotReception
from petcd.peer.sending import SnapshotPost
from petcd.peer.streams import TICK_SECONDS, StreamKind
from petcd.raft import Message
from petcd.seams.disk import Lane
from petcd.seams.world import World
from petcd.server.ids import hex_id
from petcd.server.peering import PeerAnswer, Receiver
from petcd.server.url import Url
from petcd.storage.snapshots import Snapshotter

if TYPE_CHECKING:
    import ssl

REMOTES_MAX: Final = 64
"""Anybody who knows the cluster's id can make itself a remote."""


class PeerTransport:
    """All other members. Implements ``petcd.server.peering.Peers``."""

    def __init__(
        self,
        world: World,
        logger: Logger = NULL,
        *,
        member_id: int,
        cluster_id: int,
        own_urls: Sequence[str],
        election_seconds: float,
        receiver: Receiver,
        snapshotter: Snapshotter,
        check_database: CheckDatabase,
        tls: ssl.SSLContext | None = None,
        snapshot_bytes_max: int = 0,
    ) -> None:
        """``check_database`` gets each received database as an open file and raises where it is broken.
        ``snapshot_bytes_max`` bounds them; 0: no bound."""
        self._local = Local(
            world,
            logger,
            Identity(member_id, cluster_id, own_urls),
            receiver,
            election_seconds=election_seconds,
            tls=tls,
        )
        self._snapshotter = snapshotter
        self._check_database = check_database
        self._snapshot_bytes_max = snapshot_bytes_max
        self._pool = HttpPool(self._local)
        self._peers: dict[int, Peer] = {}
        self._remotes: dict[int, Remote] = {}
        self._posts: dict[SnapshotPost, tuple[int, float, Callable[[bool], object]]] = {}
        """To whom, since when, who waits."""
        self._receptions: dict[SnapshotReception, None] = {}
        self._reception_count = 0
        self._lanes: dict[str, Lane] = {}
        self._pages = RaftPages(self._local, self)
        world.clock.call_later(TICK_SECONDS, self._tick)

    def add_to(self, router: HttpRouter) -> None:
        """Serve ``/raft`` and what is below it."""
        self._pages.add_to(router)

    # ---- Peers: the members

    def add(self, member_id: int, urls: Sequence[str]) -> None:
        local = self._local
        if member_id in self._peers or member_id == local.identity.member_id or local.closed:
            return
        remote = self._remotes.pop(member_id, None)
        if remote is not None:
            remote.stop()
        peer = self._peers[member_id] = Peer(local, self._pool, member_id, urls)
        peer.start()
        local.logger.info("added remote peer", **self._fields(member_id), **{"remote-peer-urls": list(urls)})

    def add_remote(self, member_id: int, urls: Sequence[str]) -> None:
        local = self._local
        if (
            member_id in self._peers
            or member_id in self._remotes
            or member_id == local.identity.member_id
            or local.closed
        ):
            return
        self._remotes[member_id] = Remote(local, self._pool, member_id, urls)
        local.logger.info(
            "added new remote peer", **self._fields(member_id), **{"remote-peer-urls": list(urls)}
        )

    def update(self, member_id: int, urls: Sequence[str]) -> None:
        peer = self._peers.get(member_id)
        if peer is not None:
            peer.picker.update(urls)
            self._local.logger.info(
                "updated remote peer", **self._fields(member_id), **{"updated-remote-peer-urls": list(urls)}
            )

    def remove(self, member_id: int) -> None:
        self._stop_posts(member_id)
        peer = self._peers.pop(member_id, None)
        if peer is not None:
            peer.stop()
            self._local.logger.info(
                "removed remote peer",
                **self._fields(member_id),
                **{"removed-remote-peer-id": hex_id(member_id)},
            )
        remote = self._remotes.pop(member_id, None)
        if remote is not None:
            remote.stop()

    def reset(self) -> None:
        for member_id in [*self._peers, *self._remotes]:
            self.remove(member_id)

    def active_since(self, member_id: int) -> float | None:
        peer = self._peers.get(member_id)
        return peer.status.since if peer is not None else None

    @property
    def counters(self) -> dict[int, PeerCounters]:
        """By member, for the metrics page."""
        return self._local.counters

    def peer(self, member_id: int) -> Peer | None:
        return self._peers.get(member_id)

    # ---- Peers: messages

    def send(self, messages: Sequence[Message]) -> None:
        peers = self._peers
        for message in messages:
            target: Peer | Remote | None = peers.get(message.to)
            if target is None:
                target = self._remotes.get(message.to)
                if target is None:
                    continue  # raft learns of removals a little later than we do
            target.send(message)

    def flush_to(self, member_id: int) -> None:
        for writer in self._local.dirty:
            if writer.member_id == member_id:
                self._local.dirty.remove(writer)
                writer.flush()
                break

    def flush(self) -> None:
        dirty = self._local.dirty
        if dirty:
            self._local.dirty = []
            for writer in dirty:
                writer.flush()

    def send_snapshot(self, message: Message, path: str, done: Callable[[bool], object]) -> None:
        target: Peer | Remote | None = self._peers.get(message.to) or self._remotes.get(message.to)
        local = self._local
        if target is None or local.closed:
            local.world.clock.call_soon(done, False)
            return
        lane = self._lane("snapshot-send")
        post = SnapshotPost(local, lane, target.picker, target.status, message, path, self._post_ended)
        target.status.counters.snapshots_sent.in_flight += 1
        self._posts[post] = (message.to, local.world.clock.monotonic(), done)
        post.start()

    def _post_ended(self, post: SnapshotPost, delivered: bool) -> None:
        entry = self._posts.pop(post, None)
        if entry is not None:
            to, began, done = entry
            took = self._local.world.clock.monotonic() - began
            self._local.counters[to].snapshots_sent.ended(took, arrived=delivered)
            done(delivered)

    def _stop_posts(self, member_id: int) -> None:
        for post, (to, _, done) in list(self._posts.items()):
            if to == member_id:
                del self._posts[post]
                post.cancel()
                self._local.counters[to].snapshots_sent.ended(0.0, arrived=False)
                self._local.world.clock.call_soon(done, False)

    # ---- Peers: requests

    def request(
        self,
        urls: Sequence[str],
        method: str,
        path: str,
        done: Callable[[PeerAnswer], object],
        *,
        body: bytes = b"",
        headers: Sequence[tuple[str, str]] = (),
        timeout_seconds: float = 5.0,
    ) -> None:
        clock = self._local.world.clock
        usable = parse_usable(urls)
        if not usable or self._local.closed:
            why = b"closed" if self._local.closed else b"no usable peer URL"
            clock.call_soon(done, PeerAnswer(0, {}, why))
            return
        deadline = clock.monotonic() + timeout_seconds
        ask = _Request(self._pool, usable, method, path, done, body, headers, deadline)
        ask.next(PeerAnswer(0, {}, b""))

    # ---- for the handlers

    def knows(self, member_id: int) -> bool:
        return member_id in self._peers

    def attach(self, member_id: int, kind: StreamKind, exchange: HttpExchange) -> None:
        if self._peers[member_id].attach(kind, exchange):
            for post, (to, _, _) in list(self._posts.items()):
                if to == member_id:
                    post.doubt()

    def learn_remote(self, member_id: int, urls: list[str]) -> None:
        if len(self._remotes) < REMOTES_MAX and not self._local.receiver.is_removed(member_id):
            self.add_remote(member_id, urls)

    def receive_snapshot(self, exchange: HttpExchange) -> SnapshotReception:
        self._reception_count += 1
        reception = SnapshotReception(
            self._local,
            self._lane("snapshot-receive"),
            self._snapshotter,
            self._check_database,
            exchange,
            number=self._reception_count,
            bytes_max=self._snapshot_bytes_max,
            answer=self._pages.answer,
            on_end=self._reception_ended,
        )
        self._receptions[reception] = None
        return reception

    def _reception_ended(self, reception: SnapshotReception) -> None:
        self._receptions.pop(reception, None)

    # ---- inside

    def close(self) -> None:
        """End everything; lanes finish what they do."""
        local = self._local
        if local.closed:
            return
        self.reset()
        local.closed = True
        for reception in list(self._receptions):
            reception.cancel()
        self._receptions.clear()
        local.counters.clear()
        self._pool.close()
        for lane in self._lanes.values():
            lane.close()
        self._lanes.clear()

    def _lane(self, name: str) -> Lane:
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = self._local.world.disk.lane(name)
        return lane

    def _tick(self) -> None:
        if self._local.closed:
            return
        self._local.world.clock.call_later(TICK_SECONDS, self._tick)
        for peer in list(self._peers.values()):
            peer.tick()
        for post in list(self._posts):
            post.tick()
        self._pool.tick()

    def _fields(self, member_id: int) -> dict[str, str]:
        return {"local-member-id": self._local.identity.member_hex, "remote-peer-id": hex_id(member_id)}


class _Request:
    """One request, at one URL after the other until somebody answers."""

    __slots__ = ("_body", "_deadline", "_done", "_headers", "_method", "_path", "_pool", "_urls")

    def __init__(
        self,
        pool: HttpPool,
        urls: list[Url],
        method: str,
        path: str,
        done: Callable[[PeerAnswer], object],
        body: bytes,
        headers: Sequence[tuple[str, str]],
        deadline: float,
    ) -> None:
        self._pool = pool
        self._urls = urls
        self._method = method
        self._path = path
        self._done = done
        self._body = body
        self._headers = headers
        self._deadline = deadline

    def next(self, answer: PeerAnswer) -> None:
        """``answer`` is the last one's."""
        left = self._deadline - self._pool.local.world.clock.monotonic()
        if answer.status or not self._urls or left <= 0:
            self._done(answer)
            return
        url = self._urls.pop(0)
        self._pool.request(
            url,
            self._method,
            self._path,
            self._headers,
            self.next,
            body=self._body,
            seconds_max=left,
            # To ask twice does no harm here, and lease keep-alives come by the thousand.
            reuse=self._method == "GET" or self._path.startswith("/leases"),
        )
