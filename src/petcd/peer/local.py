"""What all of a member's connections to others share, and the state of one other member as they see it.

Source: contract page "peer", 2.2, 3 and 5; log texts of etcd's rafthttp.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from petcd.counters import Histogram
from petcd.logs import Logger
from petcd.peer.identity import Identity
from petcd.raft import MSG_SNAP, Message, MessageType
from petcd.raft.messages import NETWORK_TYPES
from petcd.seams.world import World
from petcd.server.ids import hex_id
from petcd.server.peering import Receiver
from petcd.server.url import Url, UrlError, parse_url

if TYPE_CHECKING:
    import ssl

DIAL_SECONDS: Final = 1.0
"""A dial may take this and an election timeout."""
SILENCE_SECONDS_MAX: Final = 5.0
"""Without a byte for so long, a connection on which something is due counts as dead."""
_RTT_BOUNDS: Final = tuple(0.0001 * 2**i for i in range(16))
_SNAPSHOT_BOUNDS: Final = tuple(0.1 * 2**i for i in range(10))


class SnapshotCounters:
    """Snapshots to or from one other member."""

    __slots__ = ("failures", "in_flight", "seconds", "successes")

    def __init__(self) -> None:
        self.in_flight = 0
        self.successes = 0
        self.failures = 0
        self.seconds = Histogram(_SNAPSHOT_BOUNDS)
        """Of those that arrived."""

    def ended(self, seconds: float, *, arrived: bool) -> None:
        """One of those in flight."""
        self.in_flight -= 1
        if arrived:
            self.successes += 1
            self.seconds.observe(seconds)
        else:
            self.failures += 1


class PeerCounters:
    """What happened with one other member; plain numbers for the metrics page."""

    __slots__ = (
        "disconnects",
        "received_bytes",
        "received_failures",
        "round_trip_seconds",
        "sent_bytes",
        "sent_failures",
        "snapshots_received",
        "snapshots_sent",
    )

    def __init__(self) -> None:
        self.sent_bytes = 0
        self.received_bytes = 0
        self.sent_failures = 0
        self.received_failures = 0
        self.disconnects = 0
        self.round_trip_seconds = Histogram(_RTT_BOUNDS)
        self.snapshots_sent = SnapshotCounters()
        self.snapshots_received = SnapshotCounters()


class Local:
    """This member, its world and its raft, for every connection."""

    __slots__ = (
        "_removed",
        "_unreachable",
        "closed",
        "counters",
        "dial_seconds",
        "dirty",
        "identity",
        "logger",
        "receiver",
        "tls",
        "world",
    )

    def __init__(
        self,
        world: World,
        logger: Logger,
        identity: Identity,
        receiver: Receiver,
        *,
        election_seconds: float,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.world = world
        self.logger = logger
        self.identity = identity
        self.receiver = receiver
        self.dial_seconds = DIAL_SECONDS + election_seconds
        self.tls = tls
        self.closed = False
        self.counters: dict[int, PeerCounters] = {}
        """By member; they outlive its connections, and its removal."""
        self.dirty: list[Any] = []
        """Stream writers with something queued."""
        self._unreachable: dict[int, None] = {}
        self._removed = False

    def tls_for(self, url: Url) -> ssl.SSLContext | None:
        return self.tls if url.tls else None

    def unreachable(self, member_id: int) -> None:
        """Tell raft, once a turn and never from within its own sending."""
        if not self._unreachable:
            self.world.clock.call_soon(self._report_unreachable)
        self._unreachable[member_id] = None

    def _report_unreachable(self) -> None:
        ids, self._unreachable = self._unreachable, {}
        for member_id in ids:
            if not self.closed:
                self.receiver.report_unreachable(member_id)

    def refused(self, member_id: int) -> None:
        """Nobody listens at a member's address."""
        if not self.closed:
            self.receiver.on_refused(member_id)

    def removed(self) -> None:
        """Another member says that we were removed."""
        if not self._removed and not self.closed:
            self._removed = True
            self.receiver.on_removed()

    def deliver(self, messages: Sequence[Message], peer_id: int) -> None:
        """Hand over what came on a stream from ``peer_id``, less what is not for us."""
        mine = self.identity.member_id
        for message in messages:
            if (
                message.to != mine
                or message.from_ != peer_id
                or message.type not in NETWORK_TYPES
                or message.type == MSG_SNAP
            ):
                messages = [one for one in messages if not self.refusal(one)]
                break
        if messages and not self.closed:
            self.receiver.receive(messages)

    def refusal(self, message: Message) -> str:
        """Why a message is not given to raft, logged; "" when it is."""
        if message.to != self.identity.member_id:
            why = "mismatch member ID"
        elif self.receiver.is_removed(message.from_):
            why = "the member has been removed"
        elif message.type not in NETWORK_TYPES or message.type == MSG_SNAP:
            why = "not a message for the network"
        else:
            return ""
        self.logger.warn(
            "rejected Raft message",
            **{
                "local-member-id": self.identity.member_hex,
                "mismatch-member-id": hex_id(message.to),
                "from": hex_id(message.from_),
                "error": why,
            },
        )
        return why


def type_name(kind: int) -> str:
    """As raft's messages are called in etcd's logs."""
    try:
        name = MessageType(kind).name
    except ValueError:
        return str(kind)
    return "Msg" + "".join(part.capitalize() for part in name.split("_"))


class UrlPicker:
    """Which of a member's URLs to try: the same until it fails, then the next in turn."""

    __slots__ = ("_picked", "_urls")

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls: list[Url] = []
        self._picked = 0
        self.update(urls)

    def update(self, urls: Sequence[str]) -> None:
        self._urls = parse_usable(urls)
        self._picked = 0

    def all(self) -> list[Url]:
        return list(self._urls)

    def pick(self) -> Url | None:
        """None: this member has told no URL that we can use."""
        return self._urls[self._picked] if self._urls else None

    def failed(self, url: Url) -> None:
        """Somebody could not use ``url``; several may say so of the same one."""
        if self._urls and self._urls[self._picked] == url:
            self._picked = (self._picked + 1) % len(self._urls)


def parse_usable(urls: Sequence[str]) -> list[Url]:
    out = []
    for text in urls:
        try:
            out.append(parse_url(text))
        except UrlError:
            continue
    return out


class PeerStatus:
    """Whether another member is reachable, from what its channels say of themselves."""

    __slots__ = ("_local", "counters", "member_id", "since")

    def __init__(self, local: Local, member_id: int) -> None:
        self._local = local
        self.member_id = member_id
        self.since: float | None = None
        """Monotonic seconds of the last change to active; None while inactive."""
        counters = local.counters.get(member_id)
        if counters is None:
            counters = local.counters[member_id] = PeerCounters()
        self.counters = counters

    def activate(self) -> None:
        """A sign of life: an answer, a dial, bytes on a stream."""
        if self.since is None:
            self.since = self._local.world.clock.monotonic()
            self._local.logger.info("peer became active", **{"peer-id": hex_id(self.member_id)})

    def deactivate(self, action: str, source: str, reason: str) -> None:
        """A channel failed."""
        failure = f"failed to {action} {hex_id(self.member_id)} on {source} ({reason})"
        fields = {"peer-id": hex_id(self.member_id), "error": failure}
        if self.since is None:
            self._local.logger.debug("peer deactivated again", **fields)
            return
        self.since = None
        self.counters.disconnects += 1
        self._local.logger.warn("peer became inactive (message send to peer failed)", **fields)
