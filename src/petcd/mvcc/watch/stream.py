"""One watch stream: its watchers, their ids, and the answers to its requests (contract/wire-v3.md 4.1 to
4.10).

The transport is a ``Sink``. Answers to requests and events go through it in the order in which they were
made, so what progress promises (every event up to that revision was sent before) needs no further care.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from petcd import errors
from petcd.mvcc.index import OPEN_END
from petcd.mvcc.watch.responses import DUPLICATE_ID, EMPTY_RANGE, INVALID_ID, watch_id_field
from petcd.mvcc.watch.watcher import ENDED, PARKED, SYNCED, Watcher
from petcd.pb import splice

if TYPE_CHECKING:
    from petcd.mvcc.watch.hub import WatchHub
    from petcd.pb.etcdserverpb import WatchCreateRequest, WatchRequest

_NO_PUT: Final = 0
_NO_DELETE: Final = 1

Authorize = Callable[[bytes, bytes], str]
"""Whether the caller may read the range ``(key, range_end)``: the cancel reason, or an empty text."""


class Sink(Protocol):
    """Where a stream's responses go."""

    def send(self, message: bytes, /) -> bool:
        """Take one encoded WatchResponse, always. False: no more events until ``WatchStream.on_writable``.

        It must not call back into the stream or the hub before it returns.
        """
        ...


class WatchStream:
    """The watchers of one client stream. Made by ``WatchHub.open``."""

    __slots__ = ("_hub", "_next_id", "closed", "full", "parked", "send", "watchers")

    def __init__(self, hub: WatchHub, sink: Sink) -> None:
        self._hub = hub
        self._next_id = 0
        self.closed = False
        self.send = sink.send
        self.full = False
        """The sink asked for a pause: an event that comes now parks its watcher."""
        self.parked: dict[Watcher, None] = {}
        """Watchers that missed events meanwhile, in that order."""
        self.watchers: dict[int, Watcher] = {}

    def handle(self, request: WatchRequest, authorize: Authorize | None = None) -> None:
        """One message from the client; one with no member set is ignored."""
        if self.closed:
            return
        if request.create_request is not None:
            self.create(request.create_request, authorize)
        elif request.cancel_request is not None:
            self.cancel(request.cancel_request.watch_id)
        elif request.progress_request is not None:
            self.progress()

    def create(self, request: WatchCreateRequest, authorize: Authorize | None = None) -> None:
        """Start a watcher, or refuse it: either way with one response (contract 4.2)."""
        key = request.key or b"\0"
        range_end = request.range_end
        start = request.start_revision
        if start < 0:
            self._refuse(errors.Compacted.text)
            return
        if authorize is not None:
            reason = authorize(key, range_end)
            if reason:
                self._refuse(reason)
                return
        if range_end and range_end != OPEN_END and range_end <= key:
            self._refuse(EMPTY_RANGE)
            return
        watch_id = request.watch_id
        if watch_id == 0:
            while self._next_id in self.watchers:
                self._next_id += 1
            watch_id = self._next_id
            self._next_id += 1
        elif watch_id in self.watchers:
            self._refuse(DUPLICATE_ID)
            return
        rev = self._hub.store.rev
        watcher = Watcher(
            self,
            watch_id,
            watch_id_field(watch_id),
            key,
            None if range_end == OPEN_END else range_end,
            start or rev + 1,
            start,
        )
        for kind in request.filters:
            if kind == _NO_PUT:
                watcher.no_put = True
            elif kind == _NO_DELETE:
                watcher.no_delete = True
        watcher.prev_kv = bool(request.prev_kv)
        watcher.fragment = request.fragment
        watcher.progress_notify = request.progress_notify
        self.watchers[watch_id] = watcher
        self._respond(self._hub.header(rev) + watcher.head + b"\x18\x01")
        self._hub.add(watcher)

    def _refuse(self, reason: str) -> None:
        hub = self._hub
        self._respond(
            splice.watch_response(
                hub.header(hub.store.rev), INVALID_ID, created=True, canceled=True, cancel_reason=reason
            )
        )

    def _respond(self, message: bytes) -> None:
        if not self.send(message):
            self.full = True

    def cancel(self, watch_id: int) -> None:
        """End a watcher and say so; an unknown id has no answer (contract 4.8)."""
        watcher = self.watchers.pop(watch_id, None)
        if watcher is None:
            return
        hub = self._hub
        hub.drop(watcher)
        self._respond(splice.watch_response(hub.header(hub.store.rev), watch_id, canceled=True))

    def progress(self) -> None:
        """Answer a progress request, if every watcher is synced and started, and there is one."""
        hub = self._hub
        rev = hub.store.rev
        if hub.failpoints.armed:
            hub.failpoints.hit("beforeProgressIfSync")
        if self.watchers and all(w.state == SYNCED and w.start_rev <= rev for w in self.watchers.values()):
            self._respond(splice.watch_response(hub.header(rev), INVALID_ID))

    def tick(self) -> None:
        """The progress interval of this stream has passed: tell the watchers that saw no event in it."""
        hub = self._hub
        rev = hub.store.rev
        for watcher in self.watchers.values():
            if not watcher.progress_notify:
                continue
            if watcher.progress_due and watcher.state == SYNCED and watcher.start_rev <= rev:
                self._respond(hub.header(rev) + watcher.head)
            watcher.progress_due = True

    def on_writable(self) -> None:
        """The sink has room again: what was missed will be read from the store."""
        self.full = False
        self._hub.unpark(self)

    def ended(self, watcher: Watcher, compact_rev: int) -> None:
        """What the watcher needs is compacted. Its id stays taken until the client cancels it."""
        watcher.state = ENDED
        self._respond(
            splice.watch_response(
                self._hub.header(0), watcher.id, canceled=True, compact_revision=compact_rev
            )
        )

    def park(self, watcher: Watcher) -> None:
        watcher.state = PARKED
        self.parked[watcher] = None

    def close(self) -> None:
        """The transport is gone: forget all of it. What comes after is ignored."""
        if self.closed:
            return
        self.closed = True
        hub = self._hub
        for watcher in self.watchers.values():
            hub.drop(watcher)
        self.watchers.clear()
        self.parked.clear()
        hub.closed(self)
