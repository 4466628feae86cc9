"""One other member: its channels, and which of them a message takes.

Source: contract page "peer", 2.5 and section 5; log texts of etcd's rafthttp.
"""

from __future__ import annotations

from collections.abc import Sequence

from petcd.net.http import HttpExchange
from petcd.peer.local import Local, PeerStatus, UrlPicker, type_name
from petcd.peer.pipeline import Pipeline
from petcd.peer.pool import HttpPool
from petcd.peer.probing import Prober
from petcd.peer.streams import MESSAGE, MSGAPP, StreamKind, StreamReader, StreamWriter
from petcd.raft import MSG_APP, Message
from petcd.server.ids import hex_id


class Remote:
    """Somebody known by URL only: it gets single posts."""

    __slots__ = ("_dropping", "_local", "picker", "pipeline", "status")

    def __init__(self, local: Local, pool: HttpPool, member_id: int, urls: Sequence[str]) -> None:
        self._local = local
        self.picker = UrlPicker(urls)
        self.status = PeerStatus(local, member_id)
        self.pipeline = Pipeline(local, pool, self.picker, self.status)
        self._dropping = False

    def send(self, message: Message) -> None:
        if self.pipeline.post(message):
            self._dropping = False
        else:
            self.drop(message)

    def drop(self, message: Message) -> None:
        """There is no room; raft will send it, or a newer one, again."""
        self.status.counters.sent_failures += 1
        self._local.unreachable(self.status.member_id)
        if self._dropping:
            return
        self._dropping = True
        self._local.logger.warn(
            "dropped internal Raft message since sending buffer is full",
            **{
                "message-type": type_name(message.type),
                "local-member-id": self._local.identity.member_hex,
                "from": hex_id(message.from_),
                "remote-peer-id": hex_id(self.status.member_id),
                "remote-peer-active": self.status.since is not None,
            },
        )

    def stop(self) -> None:
        self.pipeline.close()


class Peer(Remote):
    """A member of the cluster: both streams each way."""

    __slots__ = ("_message", "_msgapp", "_prober", "_readers")

    def __init__(self, local: Local, pool: HttpPool, member_id: int, urls: Sequence[str]) -> None:
        super().__init__(local, pool, member_id, urls)
        self._msgapp: StreamWriter | None = None
        self._message: StreamWriter | None = None
        self._readers = [StreamReader(local, kind, self.picker, self.status) for kind in (MSGAPP, MESSAGE)]
        self._prober = Prober(local, pool, self.picker, self.status)

    def start(self) -> None:
        logger = self._local.logger
        name = hex_id(self.status.member_id)
        logger.info("starting remote peer", **{"remote-peer-id": name})
        for reader in self._readers:
            reader.start()
        self._prober.start()
        logger.info("started remote peer", **{"remote-peer-id": name})

    def stop(self) -> None:
        logger = self._local.logger
        name = hex_id(self.status.member_id)
        logger.info("stopping remote peer", **{"remote-peer-id": name})
        self._prober.stop()
        for reader in self._readers:
            reader.stop()
        for writer in (self._msgapp, self._message):
            if writer is not None:
                writer.close()
        self._msgapp = self._message = None
        super().stop()
        logger.info("stopped remote peer", **{"remote-peer-id": name})

    def send(self, message: Message) -> None:
        """Queue a message, other than a MsgSnap, on the best channel that is there."""
        writer = self._message
        if message.type == MSG_APP and self._msgapp is not None:
            writer = self._msgapp
        if writer is None:
            super().send(message)
        elif writer.queue(message):
            self._dropping = False
        else:
            self.drop(message)

    def attach(self, kind: StreamKind, exchange: HttpExchange) -> bool:
        """The other side has dialled a stream, whose head is written; an earlier one of the kind ends.
        Whether there was one."""
        writer = StreamWriter(self._local, kind, self.status, exchange, self._lost)
        earlier = self._msgapp if kind is MSGAPP else self._message
        if earlier is not None:
            earlier.close()
            self._local.logger.warn("closed TCP streaming connection with remote peer", **earlier.fields())
        if kind is MSGAPP:
            self._msgapp = writer
        else:
            self._message = writer
        self._local.logger.info("established TCP streaming connection with remote peer", **writer.fields())
        self.status.activate()
        return earlier is not None

    @property
    def streams(self) -> tuple[bool, bool, bool, bool]:
        """Which are up: msgapp and message that we read, msgapp and message that we write."""
        msgapp, message = self._readers
        return msgapp.established, message.established, self._msgapp is not None, self._message is not None

    def tick(self) -> None:
        for reader in self._readers:
            reader.tick()
        for writer in (self._msgapp, self._message):
            if writer is not None:
                writer.tick()

    def _lost(self, writer: StreamWriter) -> None:
        if writer is self._msgapp:
            self._msgapp = None
        elif writer is self._message:
            self._message = None
