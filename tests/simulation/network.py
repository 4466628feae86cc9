"""Links between simulated members: raft's own messages, with the faults of a seed.

``Wire`` knows every member and what is wrong with each link; ``SimPeers`` is one process's end of it, the
``Peers`` that a member wants. Whatever crosses is copied, since the receiver owns what it gets. As over TCP,
what a member proposes is never delivered twice; everything else may be, and in any order, as over the three
channels that real members open to each other. A connection ends with the processes at its ends.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from petcd.net.http import HttpExchange, HttpRequest, HttpRouter
from petcd.raft import MSG_PROP, Entry, Message
from petcd.server.peering import PeerAnswer
from petcd.testing import clock
from petcd.testing.clock import Process, SimLoop

if TYPE_CHECKING:
    from tests.simulation.cluster import Seat


def copy_message(message: Message) -> Message:
    """What arrives: entries without the sender's own requests."""
    if not message.entries:
        return message
    return Message(
        message.type,
        message.to,
        message.from_,
        message.term,
        message.log_term,
        message.index,
        [Entry(e.term, e.index, e.type, e.data) for e in message.entries],
        message.commit,
        message.snapshot,
        message.reject,
        message.reject_hint,
        message.context,
    )


def run_in(process: Process, callback: Callable[..., object], *args: Any) -> None:
    """Call into a process now, or when it goes on if it is paused; a dead one hears nothing."""
    process.context.run(clock._run_in, process, callback, args)


class Wire:
    """All links."""

    def __init__(self, loop: SimLoop, rng: random.Random, note: Callable[[str, str], None] | None) -> None:
        self.loop = loop
        self.random = rng
        self.note = note
        self.seats: dict[int, Seat] = {}
        """Members by id."""
        self.by_url: dict[str, Seat] = {}
        self.cut: set[tuple[int, int]] = set()
        """Links that lose everything, (from, to)."""
        self.since: dict[tuple[int, int], float] = {}
        """When a link was mended last."""
        self.delay = (0.0002, 0.001)
        self.loss = 0.0
        self.repeat = 0.0
        self.reorder = 0.0
        self.snapshot_seconds = (0.002, 0.02)
        self.snapshot_loss = 0.0
        self.held: dict[int, list[tuple[Process, Seat, SimPeers, list[Message]]]] = {}
        """What came for paused processes."""
        self.delivered = 0
        self.snapshots = 0

    def is_open(self, one: int, other: int) -> bool:
        return (one, other) not in self.cut

    def later(self, seconds: float, callback: Callable[..., object], *args: Any) -> None:
        self.loop.call_outside(self.loop.now + seconds, callback, *args)

    def later_in(self, process: Process, seconds: float, callback: Callable[..., object], *args: Any) -> None:
        self.loop.call_outside(self.loop.now + seconds, run_in, process, callback, *args)

    def release(self, member_id: int) -> None:
        """A paused process goes on: what other members said waits in other sockets than what clients did, and
        is read somewhat later, each sender's in its order."""
        delays: dict[int, float] = {}
        for process, seat, sender, messages in self.held.pop(member_id, []):
            seconds = delays.setdefault(sender.id, self.random.random() * 0.02)
            self.later(seconds, self._arrive, process, seat, sender, messages)

    def mend(self) -> None:
        now = self.loop.now
        for link in self.cut:
            self.since[link] = now
        self.cut.clear()

    # -- messages --------------------------------------------------------------------------------------

    def carry(self, sender: SimPeers, to: int, messages: list[Message]) -> None:
        """A batch on its way; one random number decides for all of it, unless faults are on."""
        seat = self.seats.get(to)
        draw = self.random
        link = (sender.id, to)
        process = None if seat is None else seat.process
        if seat is None or process is None or not process.alive or seat.member is None:
            self._unreachable(sender, to)
            return
        if link in self.cut:
            if draw.random() < 0.3:
                self._unreachable(sender, to)
            return
        if self.loss and draw.random() < self.loss:
            return
        now = self.loop.now
        low, high = self.delay
        copies = [copy_message(message) for message in messages]
        if self.reorder and draw.random() < self.reorder:
            for copy in copies:
                at = now + low + (high - low) * 4 * draw.random()
                self.loop.call_outside(at, self._arrive, process, seat, sender, [copy])
        else:
            at = max(now + low + (high - low) * draw.random(), sender.last.get(to, 0.0))
            sender.last[to] = at
            self.loop.call_outside(at, self._arrive, process, seat, sender, copies)
        if self.repeat and draw.random() < self.repeat:
            again = [copy_message(copy) for copy in copies if copy.type != MSG_PROP]
            if again:
                at = now + (high - low) * 10 * draw.random()
                self.loop.call_outside(at, self._arrive, process, seat, sender, again)

    def _arrive(self, process: Process, seat: Seat, sender: SimPeers, messages: list[Message]) -> None:
        if process is not seat.process or not process.alive or seat.member is None:
            return
        if (sender.id, seat.id) in self.cut:
            return
        if process.paused:
            self.held.setdefault(seat.id, []).append((process, seat, sender, messages))
            return
        if self.refuses(seat, sender):
            return
        peers = seat.member.peers
        if isinstance(peers, SimPeers) and sender.id not in peers.known:
            peers.remotes.add(
                sender.id
            )  # as from X-PeerURLs: it must be answered before its addition is applied
        self.delivered += len(messages)
        if self.note is not None:
            for message in messages:
                self.note(seat.name, f"from {sender.seat.name}: {_text(message)}")
        run_in(process, seat.member.receive, messages)

    def refuses(self, seat: Seat, sender: SimPeers) -> bool:
        """A member that was removed is told so, and not listened to."""
        member = seat.member
        assert member is not None
        if not member.is_removed(sender.id):
            return False
        if sender.process.alive and sender.seat.member is not None and self.is_open(seat.id, sender.id):
            self.later_in(sender.process, self.delay[1], sender.seat.member.on_removed)
        return True

    def _unreachable(self, sender: SimPeers, to: int) -> None:
        if to in sender.unreachable or sender.seat.member is None:
            return  # one report is on its way
        sender.unreachable.add(to)
        self.later_in(sender.process, self.random.uniform(0.001, 0.01), sender.report, to)

    # -- snapshots -------------------------------------------------------------------------------------

    def carry_snapshot(
        self, sender: SimPeers, message: Message, data: bytes, done: Callable[[bool], object]
    ) -> None:
        answered = False

        def answer(delivered: bool) -> None:
            nonlocal answered
            if not answered:
                answered = True
                done(delivered)

        draw = self.random
        seat = self.seats.get(message.to)
        process = None if seat is None else seat.process
        seconds = draw.uniform(*self.snapshot_seconds)
        if (
            seat is None
            or process is None
            or not process.alive
            or (sender.id, message.to) in self.cut
            or draw.random() < self.snapshot_loss
        ):
            self.later_in(sender.process, seconds, answer, False)
            return
        self.later_in(sender.process, seconds + 0.5, answer, False)
        self.later(seconds, self._snapshot_arrives, process, seat, sender, message, data, answer)

    def _snapshot_arrives(
        self,
        process: Process,
        seat: Seat,
        sender: SimPeers,
        message: Message,
        data: bytes,
        answer: Callable[[bool], object],
    ) -> None:
        back = self.random.uniform(*self.delay)
        if (
            process is not seat.process
            or not process.alive
            or seat.member is None
            or (sender.id, seat.id) in self.cut
            or self.refuses(seat, sender)
        ):
            self.later_in(sender.process, back, answer, False)
            return
        member = seat.member
        self.snapshots += 1

        def take() -> None:
            snapshot = message.snapshot
            assert snapshot is not None
            target = member.snapshotter.database_path(snapshot.metadata.index)
            disk = member.world.disk
            name = f"receive-{snapshot.metadata.index:016x}-{self.snapshots}"
            temporary = member.snapshotter.temporary_path(name)
            try:
                file = disk.open(temporary, create=True)
                try:
                    file.pwrite(data, 0)
                    file.sync()
                finally:
                    file.close()
                disk.rename(temporary, target)
                disk.sync_dir(target.rpartition("/")[0])
            except OSError:
                self.later_in(sender.process, back, answer, False)
                return
            member.receive_snapshot(message, taken)

        def taken(why: str) -> None:
            self.later_in(sender.process, back, answer, not why)

        if self.note is not None:
            self.note(seat.name, f"from {sender.seat.name}: {_text(message)}, {len(data)} bytes")
        run_in(process, take)


def _text(message: Message) -> str:
    kind = message.type
    parts = [f"message {kind} term {message.term} index {message.index}/{message.log_term}"]
    if message.entries:
        parts.append(f"{len(message.entries)} entries")
    if message.commit:
        parts.append(f"commit {message.commit}")
    if message.reject:
        parts.append(f"reject {message.reject_hint}")
    if message.snapshot is not None:
        parts.append(f"snapshot {message.snapshot.metadata.index}")
    return " ".join(parts)


class SimPeers:
    """``Peers`` of one process."""

    def __init__(self, wire: Wire, seat: Seat, process: Process, member_id: int) -> None:
        self.wire = wire
        self.seat = seat
        self.process = process
        self.id = member_id
        self.known: dict[int, tuple[str, ...]] = {}
        self.remotes: set[int] = set()
        self.last: dict[int, float] = {}
        self.unreachable: set[int] = set()
        self._queue: dict[int, list[Message]] = {}

    def add(self, member_id: int, urls: Sequence[str]) -> None:
        self.known[member_id] = tuple(urls)

    def add_remote(self, member_id: int, urls: Sequence[str]) -> None:
        self.remotes.add(member_id)

    def update(self, member_id: int, urls: Sequence[str]) -> None:
        self.known[member_id] = tuple(urls)

    def remove(self, member_id: int) -> None:
        self.known.pop(member_id, None)
        self.remotes.discard(member_id)

    def send(self, messages: Sequence[Message]) -> None:
        queue = self._queue
        for message in messages:
            assert message.snapshot is None
            if message.to in queue:
                queue[message.to].append(message)
            else:
                queue[message.to] = [message]

    def flush_to(self, member_id: int) -> None:
        if member_id in self._queue:
            self._carry({member_id: self._queue.pop(member_id)})

    def flush(self) -> None:
        if self._queue:
            queue, self._queue = self._queue, {}
            self._carry(queue)

    def _carry(self, queue: dict[int, list[Message]]) -> None:
        observer = self.seat.cluster.observer
        for to, messages in queue.items():
            observer.on_send(self.seat, messages)
            if to in self.known or to in self.remotes:
                self.wire.carry(self, to, messages)

    def report(self, member_id: int) -> None:
        self.unreachable.discard(member_id)
        if self.seat.member is not None:
            self.seat.member.report_unreachable(member_id)

    def send_snapshot(self, message: Message, path: str, done: Callable[[bool], object]) -> None:
        member = self.seat.member
        assert member is not None
        data = member.world.disk.read(path)
        self.wire.carry_snapshot(self, copy_message(message), data, done)

    def active_since(self, member_id: int) -> float | None:
        wire = self.wire
        seat = wire.seats.get(member_id)
        if seat is None or member_id not in self.known or seat.process is None or not seat.process.alive:
            return None
        if (self.id, member_id) in wire.cut or (member_id, self.id) in wire.cut:
            return None
        since = max(
            seat.booted,
            self.seat.booted,
            wire.since.get((self.id, member_id), 0.0),
            wire.since.get((member_id, self.id), 0.0),
        )
        return since * self.seat.host.clock_rate

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
        wire = self.wire
        seat = next((wire.by_url[url] for url in urls if url in wire.by_url), None)
        answered = False

        def answer(result: PeerAnswer) -> None:
            nonlocal answered
            if not answered:
                answered = True
                done(result)

        seconds = wire.random.uniform(*wire.delay)
        process = None if seat is None else seat.process
        if seat is None or process is None or not process.alive:
            wire.later_in(self.process, seconds, answer, PeerAnswer(0, {}, b"connection refused"))
            return
        lost = (self.id, seat.id) in wire.cut or (wire.loss and wire.random.random() < wire.loss)
        wire.later_in(
            self.process, min(timeout_seconds, 0.2), answer, PeerAnswer(0, {}, b"no answer in time")
        )
        if not lost:
            pairs = [(name.lower().encode(), value.encode()) for name, value in headers]
            asked = HttpRequest(method, path, pairs, "1.1", False)
            asked.body = body
            wire.later_in(process, seconds, self._serve, seat, process, asked, answer)

    def _serve(
        self, seat: Seat, process: Process, asked: HttpRequest, answer: Callable[[PeerAnswer], object]
    ) -> None:
        """In the other process."""
        if process is seat.process and seat.pages is not None:
            exchange = HttpExchange(asked, _Answer(self, seat, answer))
            route(seat.pages, asked.path)(exchange)

    def close(self) -> None:
        self._queue.clear()


def route(router: HttpRouter, path: str) -> Callable[[HttpExchange], object]:
    handler: Callable[[HttpExchange], object] = router.route(path).handler
    return handler


class _Answer:
    """Where a page's answer goes: back over the wire."""

    def __init__(self, asker: SimPeers, seat: Seat, answer: Callable[[PeerAnswer], object]) -> None:
        self._asker = asker
        self._seat = seat
        self._answer = answer
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body = b""
        self.peer = asker.seat.name
        self.pending_bytes = 0

    def start(self, status: int, headers: Any, length: int | None) -> None:
        self._status = status
        self._headers = {name.decode().lower(): value.decode() for name, value in headers}

    def data(self, chunk: bytes) -> None:
        self._body += chunk

    def end(self) -> None:
        wire = self._asker.wire
        if (self._seat.id, self._asker.id) not in wire.cut:
            result = PeerAnswer(self._status, self._headers, self._body)
            wire.later_in(self._asker.process, wire.random.uniform(*wire.delay), self._answer, result)

    def abort(self) -> None:
        return

    def extra_info(self, name: str) -> Any:
        return None

    def flush(self) -> None:
        return

    def set_reading(self, reading: bool) -> None:
        return
