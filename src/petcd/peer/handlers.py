"""What other members ask of our peer listener about raft: streams, posts, snapshots, probes.

Each check stands where etcd has it, because a Go member acts on the status: 410 on a stream and 403 on a
post mean to it that it was removed for good, so nothing else may be answered with these.
Source: contract page "peer", 1.2, 2.1, 3, 4 and 5.
"""

from __future__ import annotations

from typing import Final, Protocol

from petcd import ETCD_VERSION
from petcd.net.http import TEXT, HttpExchange, HttpRouter
from petcd.pb.wire import DecodeError
from petcd.peer.codec import decode_message
from petcd.peer.identity import CLUSTER_MISMATCH, INCOMPATIBLE, parse_hex_id
from petcd.peer.local import Local
from petcd.peer.probing import now_text
from petcd.peer.receiving import SnapshotReception
from petcd.peer.streams import MESSAGE, MSGAPP, StreamKind
from petcd.raft import MSG_SNAP
from petcd.raft.messages import NETWORK_TYPES

_POST_BYTES_MAX: Final = 64 << 20
_NOSNIFF: Final = (b"X-Content-Type-Options", b"nosniff")
_KINDS: Final = {kind.path: kind for kind in (MSGAPP, MESSAGE)}
_IGNORED: Final = {
    INCOMPATIBLE: "failed to check version compatibility",
    CLUSTER_MISMATCH: "request cluster ID mismatch",
}


class Door(Protocol):
    """What the handlers need of the transport."""

    def knows(self, member_id: int) -> bool: ...

    def attach(self, member_id: int, kind: StreamKind, exchange: HttpExchange) -> None: ...

    def learn_remote(self, member_id: int, urls: list[str]) -> None: ...

    def receive_snapshot(self, exchange: HttpExchange) -> SnapshotReception: ...


class RaftPages:
    """The handlers of one member."""

    def __init__(self, local: Local, door: Door) -> None:
        self._local = local
        self._door = door
        self._cluster = (b"X-Etcd-Cluster-Id", local.identity.cluster_hex.encode())
        self._stream_headers = [self._cluster, (b"X-Server-Version", ETCD_VERSION.encode())]

    def add_to(self, router: HttpRouter) -> None:
        router.add("/raft/stream/", self.stream, prefix=True)
        router.add("/raft", self.post, body_bytes_max=_POST_BYTES_MAX, admit=self.admit_post)
        router.add("/raft/snapshot", self.snapshot, streaming=True)
        router.add("/raft/probing", self.probing)

    # ---- common

    def answer(self, exchange: HttpExchange, status: int, text: str) -> None:
        """204, or an error in Go's shape."""
        if status == 204:
            exchange.respond(204, [self._cluster])
        else:
            exchange.respond(status, [TEXT, _NOSNIFF, self._cluster], text.encode() + b"\n")

    def _refuse_method(self, exchange: HttpExchange, allowed: bytes) -> bool:
        if exchange.request.method.encode("latin-1") == allowed:
            return False
        exchange.respond(405, [TEXT, _NOSNIFF, (b"Allow", allowed)], b"Method Not Allowed\n")
        return True

    def _incompatibility(self, exchange: HttpExchange) -> str:
        """Why the sender's raft is not ours; "" when it is."""
        refusal = self._local.identity.refusal(exchange.request.header)
        if refusal:
            self._local.logger.warn(
                _IGNORED[refusal],
                **{
                    "local-member-id": self._local.identity.member_hex,
                    "local-member-cluster-id": self._local.identity.cluster_hex,
                    "remote-peer-id": _text(exchange, b"x-server-from"),
                    "remote-peer-cluster-id": _text(exchange, b"x-etcd-cluster-id"),
                    "remote-peer-server-version": _text(exchange, b"x-server-version"),
                    "remote-addr": exchange.peer,
                },
            )
        return refusal

    def _learn_remote(self, exchange: HttpExchange) -> None:
        """Whoever we do not know yet must still get our answers."""
        member_id = parse_hex_id(_text(exchange, b"x-server-from"))
        urls = [url for url in _text(exchange, b"x-peerurls").split(",") if url]
        if member_id and urls:
            self._door.learn_remote(member_id, urls)

    # ---- GET /raft/stream/<kind>/<id>

    def stream(self, exchange: HttpExchange) -> None:
        if self._refuse_method(exchange, b"GET"):
            return
        refusal = self._incompatibility(exchange)
        if refusal:
            self._refuse_stream(exchange, 412, refusal)
            return
        folder, _, name = exchange.request.path.rpartition("/")
        kind = _KINDS.get(folder)
        if kind is None:
            self._refuse_stream(exchange, 404, "invalid path")
            return
        member_id = parse_hex_id(name)
        if member_id is None:
            self._refuse_stream(exchange, 404, "invalid from")
            return
        local = self._local
        if local.receiver.is_removed(member_id):
            local.logger.warn(
                "rejected stream from remote peer because it was removed",
                **{"local-member-id": local.identity.member_hex, "remote-peer-id-from": name},
            )
            self._refuse_stream(exchange, 410, "removed member")
            return
        if not self._door.knows(member_id):
            self._learn_remote(exchange)
            local.logger.warn(
                "failed to find remote peer in cluster",
                **{
                    "local-member-id": local.identity.member_hex,
                    "remote-peer-id-from": name,
                    "cluster-id": local.identity.cluster_hex,
                },
            )
            self._refuse_stream(exchange, 404, "error sender not found")
            return
        to = _text(exchange, b"x-raft-to")
        if to != local.identity.member_hex:
            local.logger.warn(
                "ignored streaming request; ID mismatch",
                **{
                    "local-member-id": local.identity.member_hex,
                    "remote-peer-id-stream-handler": local.identity.member_hex,
                    "remote-peer-id-from": name,
                    "remote-peer-id-to": to,
                },
            )
            self._refuse_stream(exchange, 412, "to field mismatch")
            return
        exchange.start(200, self._stream_headers)
        exchange.flush()
        if not exchange.disconnected:
            self._door.attach(member_id, kind, exchange)

    def _refuse_stream(self, exchange: HttpExchange, status: int, text: str) -> None:
        exchange.respond(status, [TEXT, _NOSNIFF, *self._stream_headers], text.encode() + b"\n")

    # ---- POST /raft

    def admit_post(self, exchange: HttpExchange) -> None:
        """Only members of this cluster may make us keep what they send."""
        if self._refuse_method(exchange, b"POST"):
            return
        refusal = self._incompatibility(exchange)
        if refusal:
            self.answer(exchange, 412, refusal)

    def post(self, exchange: HttpExchange) -> None:
        self._learn_remote(exchange)
        body = exchange.request.body
        try:
            message = decode_message(body, 0, len(body))
        except DecodeError as error:
            self._local.logger.warn(
                "failed to unmarshal Raft message",
                **{"local-member-id": self._local.identity.member_hex, "error": str(error)},
            )
            self.answer(exchange, 400, "error unmarshalling raft message")
            return
        counters = self._local.counters.get(message.from_)
        if counters is not None:
            counters.received_bytes += len(body)
        if message.type not in NETWORK_TYPES or message.type == MSG_SNAP:
            self.answer(exchange, 204, "")  # some member's private matter, not ours
            return
        if self._local.refusal(message):
            # As etcd does it: an answer without an end, whose status counts all the same.
            exchange.start(500, [TEXT, _NOSNIFF, self._cluster])
            exchange.send(b"error processing raft message\n")
            exchange.abort()
            return
        self._local.receiver.receive((message,))
        self.answer(exchange, 204, "")

    # ---- POST /raft/snapshot

    def snapshot(self, exchange: HttpExchange) -> None:
        if exchange.request.method != "POST":
            self._refuse_method(exchange, b"POST")
            return
        reception = self._door.receive_snapshot(exchange)
        refusal = self._incompatibility(exchange)
        if refusal:
            reception.refuse(412, refusal)
        else:
            self._learn_remote(exchange)

    # ---- GET /raft/probing

    def probing(self, exchange: HttpExchange) -> None:
        text = f'{{"OK":true,"Now":"{now_text(self._local.world.clock.wall_ns())}"}}\n'
        exchange.respond(200, [TEXT], text.encode())


def _text(exchange: HttpExchange, name: bytes) -> str:
    value = exchange.request.header(name)
    return value.decode("latin-1") if value else ""
