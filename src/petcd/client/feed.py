"""What one watch has received and where it stands: a state machine between the hub and the watch's reader."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from petcd.client.events import Disconnected, Event, Notice, Progress, Resumed
from petcd.client.results import KeyValue
from petcd.errors import EtcdError
from petcd.pb.etcdserverpb import watch as pb

BUFFER_EVENTS: Final = 10_000
"""Unread events of one watch before it is held back."""
BUFFER_BYTES: Final = 64 << 20
"""Unread bytes of keys and values before it is."""


class Feed:
    """The hub's side of a watch. ``skip``: the length of the namespace that keys are told without."""

    def __init__(self, request: pb.WatchCreateRequest, skip: int) -> None:
        self._request = request
        self._skip = skip
        self._down = False
        self._seen = 0
        """The revision of the last event received."""
        self.reached = 0
        """The highest revision that a server told."""
        self.items: deque[Notice] = deque()
        """What came and was not read yet."""
        self._bytes = 0
        """Of the keys and values in it."""
        self.wants_progress = False
        """Its reader has asked, and no answer has come yet."""
        self.changed = asyncio.Event()
        self.error: EtcdError | None = None
        """What ended it, when the reader did not."""
        self.closed = False
        """By the reader."""
        self.revision = 0
        """The store's when a server first took the watch; 0 before."""
        self.next_revision = request.start_revision
        """Where it would resume."""
        self.held_back = False
        """Off the stream until the reader has caught up."""
        self.doubtful = False
        """A server took it again, but what came meanwhile may be compacted, or the store may be another."""
        self.watch_id: int | None = None
        """On the present stream; None while it is not there."""
        self.refusals = 0
        """How often in a row a server did not know who we are."""

    @property
    def key(self) -> bytes:
        return self._request.key

    @property
    def over(self) -> bool:
        return self.closed or self.error is not None

    @property
    def full(self) -> bool:
        return len(self.items) > BUFFER_EVENTS or self._bytes > BUFFER_BYTES

    def next_item(self) -> Notice:
        """The oldest that was not read."""
        item = self.items.popleft()
        if isinstance(item, Event):
            self._bytes -= _bytes_of(item)
        return item

    def create_request(self) -> pb.WatchRequest:
        self._request.start_revision = self.next_revision
        return pb.WatchRequest(create_request=self._request)

    def created(self, watch_id: int, revision: int) -> None:
        """A server has the watch."""
        self.watch_id = watch_id
        self.refusals = 0
        if not self.revision:
            self.revision = revision
        if not self.next_revision:
            self.next_revision = revision + 1
        if self.reached <= revision < self.next_revision:  # nothing happened while it was away
            self.resumed()
        else:
            self.doubtful = self._down or revision < self.reached
        self.reached = max(self.reached, revision)
        self.changed.set()

    def resumed(self) -> None:
        """Nothing was lost meanwhile."""
        self.doubtful = False
        if self._down:
            self._down = False
            self.items.append(Resumed(self.next_revision))
            self.changed.set()

    def broken(self, error: EtcdError | None) -> None:
        """Its stream is gone. Before a server first had it, there is nothing to tell."""
        self.watch_id = None
        if self.revision and not self._down:
            self._down = True
            self.items.append(Disconnected(self.next_revision, error))
            self.changed.set()

    def take(self, response: pb.WatchResponse) -> None:
        """Events or progress, in order."""
        revision = response.header.revision if response.header is not None else 0
        self.resumed()
        self.reached = max(self.reached, revision)
        if response.events:
            for event in response.events:
                if event.kv is None or event.kv.mod_revision <= self._seen:
                    continue
                previous = KeyValue.of(event.prev_kv, self._skip) if event.prev_kv is not None else None
                item = Event(KeyValue.of(event.kv, self._skip), event.type == 1, previous)
                self.items.append(item)
                self._bytes += _bytes_of(item)
            last = response.events[-1].kv
            if last is not None:
                self._seen = max(self._seen, last.mod_revision)
                self.next_revision = max(self.next_revision, self._seen + 1)
        else:
            self.items.append(Progress(revision))
            self.wants_progress = False
            if response.watch_id != -1:
                # An answer to a request for progress is not believed: up to 3.4.24 and 3.5.7 servers gave
                # it before the events it promises.
                self.next_revision = max(self.next_revision, revision + 1)
        self.changed.set()

    def fail(self, error: EtcdError) -> None:
        self.error = error
        self.changed.set()

    def abandon(self, error: EtcdError) -> None:
        """``fail`` without waking anybody: the loop that would is gone."""
        self.error = error


def _bytes_of(event: Event) -> int:
    kv, previous = event.kv, event.previous
    size = len(kv.key) + len(kv.value)
    return size if previous is None else size + len(previous.key) + len(previous.value)
