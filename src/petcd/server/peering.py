"""What a member needs of the others, and what they need of it: the border between server and transport.

The member hands over messages and hears about those that came; it knows neither sockets nor HTTP. The real
transport is the ``peer`` room (contract page "peer"); the simulation has one that passes the same messages
with the faults of a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from petcd.raft import Message


class PeerAnswer(NamedTuple):
    """The answer of another member's listener. ``status`` 0: nobody answered, ``body`` says why."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


class Peers(Protocol):
    """The other members. Nothing here blocks, everything is called on the member's thread."""

    def add(self, member_id: int, urls: Sequence[str]) -> None:
        """A member of the cluster: dial its streams, keep them up, and accept its own. Without effect for
        one that is known."""
        ...

    def add_remote(self, member_id: int, urls: Sequence[str]) -> None:
        """Somebody who must be answered though the log that makes it a member is not applied here yet: it
        gets single posts. Without effect for a member."""
        ...

    def update(self, member_id: int, urls: Sequence[str]) -> None: ...

    def remove(self, member_id: int) -> None:
        """Close every connection to and from it."""
        ...

    def send(self, messages: Sequence[Message]) -> None:
        """Queue messages, none of them a MsgSnap; dropped, and reported, where there is no way."""
        ...

    def send_snapshot(self, message: Message, path: str, done: Callable[[bool], object]) -> None:
        """Post a MsgSnap and the database file at ``path``; ``done(delivered)`` exactly once."""
        ...

    def flush(self) -> None:
        """Write what ``send`` queued, one write per connection."""
        ...

    def flush_to(self, member_id: int) -> None:
        """Write what is queued for one member, if anything is; the rest waits for ``flush``."""
        ...

    def active_since(self, member_id: int) -> float | None:
        """Since when (monotonic seconds) this member has been reachable without a break; None: it is not."""
        ...

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
        """One request to another member's peer listener, trying its URLs in turn; ``done`` exactly once."""
        ...

    def close(self) -> None: ...


class Receiver(Protocol):
    """The member, as the transport sees it. Called on the member's thread."""

    def receive(self, messages: Sequence[Message]) -> None:
        """Messages from the network, to be stepped in the next turn. Those for somebody else or from a
        removed member have been refused before."""
        ...

    def receive_snapshot(self, message: Message, done: Callable[[str], object]) -> None:
        """A MsgSnap whose database is durable at ``Snapshotter.database_path(index)``; ``done("")`` when raft
        has taken it, ``done(why)`` when it was refused."""
        ...

    def is_removed(self, member_id: int) -> bool: ...

    def report_unreachable(self, member_id: int) -> None: ...

    def on_refused(self, member_id: int) -> None:
        """Nothing listens any more where this member did: its process is gone, or starting again."""
        ...

    def on_removed(self) -> None:
        """Another member says that this one was removed from the cluster for good: end without failure."""
        ...


class Solo:
    """The others of a member that has none."""

    def add(self, member_id: int, urls: Sequence[str]) -> None: ...

    def add_remote(self, member_id: int, urls: Sequence[str]) -> None: ...

    def update(self, member_id: int, urls: Sequence[str]) -> None: ...

    def remove(self, member_id: int) -> None: ...

    def send(self, messages: Sequence[Message]) -> None: ...

    def send_snapshot(self, message: Message, path: str, done: Callable[[bool], object]) -> None:
        done(False)

    def flush(self) -> None: ...

    def flush_to(self, member_id: int) -> None: ...

    def active_since(self, member_id: int) -> float | None:
        return None

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
        done(PeerAnswer(0, {}, b"no transport"))

    def close(self) -> None: ...
