"""The two streams between members: we read those we dialled and write into those that were dialled to us.

A reader keeps its stream up for ever: whatever ends it, it dials again, with at least ``REDIAL_SECONDS_MIN``
from dial to dial, and with the next of the member's URLs after a failure. A writer lives as long as one
connection; what is queued in a turn leaves in one write.

Bounds: of a writer's messages at most ``MESSAGES_MAX`` or ``UNSENT_BYTES_MAX`` may lie unread by the other
side, the next are refused; one that takes nothing for ``SILENCE_SECONDS_MAX`` loses the stream. A reader that
hears nothing for as long, not even a link heartbeat, dials again.
Source: contract page "peer", 2.1, 2.2 and 2.5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from petcd.net.http import HttpExchange
from petcd.net.http1_client import (
    BodyReader,
    Dialling,
    HttpClientConnection,
    HttpFault,
    ResponseHandler,
    dial,
)
from petcd.peer.framing import MessageReader, MessageWriter, MsgAppReader, MsgAppWriter, StreamFault
from petcd.peer.identity import CLUSTER_MISMATCH, INCOMPATIBLE, serves_streams
from petcd.peer.local import SILENCE_SECONDS_MAX, Local, PeerStatus, UrlPicker
from petcd.raft import Message
from petcd.seams.clock import Timer
from petcd.server.ids import hex_id
from petcd.server.url import Url

REDIAL_SECONDS_MIN: Final = 0.1
MESSAGES_MAX: Final = 4096
UNSENT_BYTES_MAX: Final = 64 << 20
TICK_SECONDS: Final = 5 / 6
"""Two ticks between link heartbeats."""
_SILENT_TICKS_MAX: Final = int(SILENCE_SECONDS_MAX / TICK_SECONDS)
_HEAD_SECONDS_MAX: Final = 5.0
_REFUSAL_BYTES_MAX: Final = 1024


class StreamKind:
    """One of the two kinds."""

    __slots__ = ("name", "path")

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self.path = path


MSGAPP: Final = StreamKind("stream MsgApp v2", "/raft/stream/msgapp")
MESSAGE: Final = StreamKind("stream Message", "/raft/stream/message")


class StreamReader(ResponseHandler):
    """Dials one stream of one member and reads it."""

    __slots__ = (
        "_body",
        "_connection",
        "_dialled_at",
        "_dialling",
        "_kind",
        "_local",
        "_picker",
        "_reader",
        "_redial",
        "_refusal",
        "_silent_ticks",
        "_status",
        "_status_code",
        "_stopped",
        "_url",
    )

    def __init__(self, local: Local, kind: StreamKind, picker: UrlPicker, status: PeerStatus) -> None:
        self._local = local
        self._kind = kind
        self._picker = picker
        self._status = status
        self._dialling: Dialling | None = None
        self._connection: HttpClientConnection | None = None
        self._body: BodyReader | None = None
        self._reader: MessageReader | MsgAppReader = self._new_reader()
        self._redial: Timer | None = None
        self._dialled_at = 0.0
        self._silent_ticks = 0
        self._status_code = 0
        self._refusal = b""
        self._stopped = False
        self._url: Url | None = None

    def _new_reader(self) -> MessageReader | MsgAppReader:
        reader = MsgAppReader if self._kind is MSGAPP else MessageReader
        return reader(self._status.member_id, self._local.identity.member_id)

    def start(self) -> None:
        self._local.logger.info("started stream reader with remote peer", **self._fields())
        self._dial()

    def stop(self) -> None:
        self._stopped = True
        self._drop()
        if self._redial is not None:
            self._redial.cancel()
        self._local.logger.info("stopped stream reader with remote peer", **self._fields())

    @property
    def established(self) -> bool:
        return self._body is not None

    def tick(self) -> None:
        """Each ``TICK_SECONDS``."""
        if self._body is not None:
            self._silent_ticks += 1
            if self._silent_ticks > _SILENT_TICKS_MAX:
                self.lost("i/o timeout")

    def _fields(self) -> dict[str, str]:
        return {
            "stream-reader-type": self._kind.name,
            "local-member-id": self._local.identity.member_hex,
            "remote-peer-id": hex_id(self._status.member_id),
        }

    # ---- dialling

    def _dial(self) -> None:
        self._redial = None
        local = self._local
        self._dialled_at = local.world.clock.monotonic()
        self._status_code = 0
        self._refusal = b""
        url = self._url = self._picker.pick()
        if url is None:
            self._failed("dial", "no usable peer URL")
            return
        self._dialling = dial(
            local.world,
            url.address(),
            self._opened,
            self._not_opened,
            seconds_max=local.dial_seconds,
            tls=local.tls_for(url),
        )

    def _not_opened(self, reason: str) -> None:
        self._dialling = None
        self._failed("dial", reason)
        if "refused" in reason:
            self._local.refused(self._status.member_id)

    def _opened(self, connection: HttpClientConnection) -> None:
        self._dialling = None
        self._connection = connection
        identity = self._local.identity
        connection.request(
            "GET",
            f"{self._kind.path}/{identity.member_hex}",
            [*identity.common, ("X-Raft-To", hex_id(self._status.member_id))],
            self,
            seconds_max=_HEAD_SECONDS_MAX,
        )

    def on_head(self, status: int, headers: dict[str, str]) -> None:
        self._status_code = status
        if status != 200:
            return  # the text says why
        if not serves_streams(headers.get("x-server-version")):
            self._failed("dial", "the remote peer does not support the stream")
            return
        try:
            body = BodyReader(headers)
        except HttpFault as error:
            self._failed("dial", str(error))
            return
        self._reader = self._new_reader()
        self._body = body
        self._silent_ticks = 0
        self._local.logger.info(
            "established TCP streaming connection with remote peer",
            **self._fields(),
        )
        self._status.activate()
        connection = self._connection
        assert connection is not None
        connection.take_over(self)

    def on_body(self, data: bytes) -> None:
        self._refusal = (self._refusal + data)[:_REFUSAL_BYTES_MAX]

    def on_end(self) -> None:
        self._refused()

    def on_failure(self, reason: str) -> None:
        if self._status_code:
            self._refused()
        else:
            self._failed("dial", reason)

    def _refused(self) -> None:
        """The other side answered, but not with a stream."""
        code = self._status_code
        text = self._refusal.decode("utf-8", "replace").strip()
        fields = self._fields()
        logger = self._local.logger
        if code == 410:
            self._failed("dial", "the member has been permanently removed from the cluster")
            self._local.removed()
        elif code == 404:
            self._failed("dial", "failed to find local node " + fields["local-member-id"])
        elif code == 412 and text == INCOMPATIBLE:
            logger.warn(
                "request sent was ignored by remote peer due to server version incompatibility", **fields
            )
            self._failed("dial", text)
        elif code == 412 and text == CLUSTER_MISMATCH:
            logger.warn("request sent was ignored by remote peer due to cluster ID mismatch", **fields)
            self._failed("dial", text)
        else:
            self._failed(
                "dial", f"unhandled error {text!r}" if code == 412 else f"unhandled http status {code}"
            )

    def _failed(self, action: str, reason: str) -> None:
        """Whatever it was, try again."""
        self._drop()
        if self._stopped:
            return
        self._status.deactivate(action, self._kind.name, reason)
        if self._url is not None:
            self._picker.failed(self._url)
        clock = self._local.world.clock
        wait = self._dialled_at + REDIAL_SECONDS_MIN - clock.monotonic()
        if self._redial is None:
            self._redial = clock.call_later(max(wait, 0.0), self._dial)

    def _drop(self) -> None:
        self._body = None
        dialling, self._dialling = self._dialling, None
        if dialling is not None:
            dialling.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    # ---- reading

    def receive(self, data: bytes) -> None:
        """Bytes of the established stream."""
        body = self._body
        if body is None:
            return
        self._silent_ticks = 0
        status = self._status
        status.counters.received_bytes += len(data)
        if status.since is None:
            status.activate()
        try:
            messages = self._reader.feed(body.feed(data))
        except (StreamFault, HttpFault) as error:
            status.counters.received_failures += 1
            self.lost(str(error))
            return
        if messages:
            self._local.deliver(messages, status.member_id)
        if body.ended:
            self.lost("EOF")

    def lost(self, reason: str) -> None:
        """The established stream is no more."""
        if self._body is None or self._stopped:
            return
        if not reason:
            reason = "unexpected EOF" if self._reader.midway else "EOF"
        self._local.logger.warn(
            "lost TCP streaming connection with remote peer", **self._fields(), error=reason
        )
        self._failed("read", reason)


class StreamWriter:
    """Writes into one stream that another member dialled."""

    __slots__ = (
        "_beats",
        "_count",
        "_exchange",
        "_local",
        "_on_lost",
        "_out",
        "_sent",
        "_status",
        "_stuck_ticks",
        "_taken",
        "_unsent",
        "_writer",
        "closed",
        "kind",
    )

    def __init__(
        self,
        local: Local,
        kind: StreamKind,
        status: PeerStatus,
        exchange: HttpExchange,
        on_lost: Callable[[StreamWriter], object],
    ) -> None:
        """The head of the answer has been written to ``exchange``."""
        self._local = local
        self.kind = kind
        self._status = status
        self._exchange = exchange
        self._on_lost = on_lost
        self._writer: Any = MsgAppWriter() if kind is MSGAPP else MessageWriter()
        self._out: list[bytes] = []
        self._count = 0
        """Messages since the other side had taken all."""
        self._unsent = 0
        self._sent = 0
        self._taken = 0
        self._stuck_ticks = 0
        self._beats = False
        self.closed = False
        exchange.on_disconnect = self._disconnected

    @property
    def member_id(self) -> int:
        """Who reads it."""
        return self._status.member_id

    def fields(self) -> dict[str, str]:
        return {
            "stream-writer-type": self.kind.name,
            "local-member-id": self._local.identity.member_hex,
            "remote-peer-id": hex_id(self._status.member_id),
        }

    def queue(self, message: Message) -> bool:
        """Take a message for the next ``flush``. False: the other side does not take what was written."""
        if self._count >= MESSAGES_MAX or self._unsent > UNSENT_BYTES_MAX:
            return False
        self._count += 1
        out = self._out
        if not out:
            self._local.dirty.append(self)
        self._writer.write(message, out)
        return True

    def flush(self) -> None:
        """Write what was queued, now."""
        if self.closed:
            return
        data = b"".join(self._out)
        self._out.clear()
        self._sent += len(data)
        self._status.counters.sent_bytes += len(data)
        self._unsent = self._exchange.send_now(data)
        if not self._unsent:
            self._count = 0

    def tick(self) -> None:
        """Each ``TICK_SECONDS``: the link heartbeat, and whether the other side still reads."""
        self._beats = not self._beats
        if self._beats:
            self._out.append(self._writer.link_heartbeat)
            self.flush()
        else:
            self._unsent = self._exchange.pending_bytes
            if not self._unsent and not self._out:
                self._count = 0
        taken = self._sent - self._unsent
        self._stuck_ticks = self._stuck_ticks + 1 if self._unsent and taken == self._taken else 0
        self._taken = taken
        if self._stuck_ticks >= _SILENT_TICKS_MAX:
            self._exchange.abort()
            self._disconnected("i/o timeout")

    def close(self) -> None:
        """End the stream; nobody is told."""
        if not self.closed:
            self.closed = True
            self._out.clear()
            self._exchange.on_disconnect = None
            self._exchange.abort()

    def _disconnected(self, reason: str = "EOF") -> None:
        if self.closed:
            return
        self.closed = True
        self._out.clear()
        self._exchange.on_disconnect = None
        self._status.deactivate("write", self.kind.name, reason)
        self._local.unreachable(self._status.member_id)  # what was on its way may be lost
        self._local.logger.warn("lost TCP streaming connection with remote peer", **self.fields())
        self._on_lost(self)
