"""Watches: many on one stream, each resumed after a failure without loss or repeat.

A watch knows the revision after the last one it has received. When the stream breaks, every watch is created
again from there on the next connection. A watch that is not read is bounded too: past ``BUFFER_EVENTS`` it is
cancelled at the server and, once its consumer has caught up, created again where it stood.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from petcd.client.events import Disconnected, Event, Notice, Progress, Resumed
from petcd.client.results import KeyValue
from petcd.errors import EtcdError
from petcd.pb.etcdserverpb import watch as pb

if TYPE_CHECKING:
    from petcd.client.hub import Hub

BUFFER_EVENTS: Final = 10_000
"""Unread events of one watch before it is held back."""


class Watch:
    """One watch: iterate it for its events; ``all()`` also tells of progress, breaks and resumes.

    Entering it waits until the server has it; leaving cancels it. Iterating without entering starts it too.
    """

    def __init__(self, hub: Hub, request: pb.WatchCreateRequest, skip: int = 0) -> None:
        self._hub = hub
        self._request = request
        self._skip = skip
        """Length of the namespace that keys are told without."""
        self._down = False
        self._items: deque[Notice] = deque()
        self._changed = asyncio.Event()
        self._error: EtcdError | None = None
        self._closed = False
        self._started = False
        self.revision = 0
        """The store's revision when the server first took the watch; 0 before."""
        self.next_revision = request.start_revision
        """Where it would resume."""
        self._seen = 0
        """The revision of the last event received."""
        self.held_back = False
        self.watch_id: int | None = None
        """On the present stream; None while it is not there."""
        self.refusals = 0
        """How often in a row a server did not know who we are."""

    async def __aenter__(self) -> Watch:
        self._start()
        while not self.revision and self._error is None and not self._closed:
            self._changed.clear()
            await self._changed.wait()
        if self._error is not None and not self._items:
            raise self._error
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cancel()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events()

    async def _events(self) -> AsyncIterator[Event]:
        async for item in self.all():
            if isinstance(item, Event):
                yield item

    async def all(self) -> AsyncIterator[Notice]:
        """Events and Progress, Disconnected and Resumed, in their order.

        Ends when the watch is cancelled; raises what ended it otherwise.
        """
        self._start()
        while True:
            while self._items:
                item = self._items.popleft()
                if self.held_back and not self._items:
                    self._hub.release(self)
                yield item
            if self._error is not None:
                raise self._error
            if self._closed:
                return
            self._changed.clear()
            await self._changed.wait()

    def cancel(self) -> None:
        """End it, here and at the server."""
        if not self._closed:
            self._closed = True
            self._hub.remove(self)
            self._changed.set()

    def request_progress(self) -> None:
        """Ask for a Progress now. The server answers when all watches of the stream have caught up."""
        self._hub.request_progress()

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._hub.add(self)

    # --- from the hub ---------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        return self._closed or self._error is not None

    def create_request(self) -> pb.WatchRequest:
        self._request.start_revision = self.next_revision
        return pb.WatchRequest(create_request=self._request)

    def created(self, watch_id: int, revision: int) -> None:
        self.watch_id = watch_id
        self.refusals = 0
        if not self.revision:
            self.revision = revision
        if not self.next_revision:
            self.next_revision = revision + 1
        if self._down:
            self._down = False
            self._items.append(Resumed(self.next_revision))
        self._changed.set()

    def broken(self, error: EtcdError | None) -> None:
        """Its stream is gone. Before the server first had it, there is nothing to tell."""
        self.watch_id = None
        if self.revision and not self._down:
            self._down = True
            self._items.append(Disconnected(self.next_revision, error))
            self._changed.set()

    def take(self, response: pb.WatchResponse) -> None:
        """Events or progress, in order."""
        revision = response.header.revision if response.header is not None else 0
        if response.events:
            for event in response.events:
                if event.kv is None or event.kv.mod_revision <= self._seen:
                    continue
                previous = KeyValue.of(event.prev_kv, self._skip) if event.prev_kv is not None else None
                self._items.append(Event(KeyValue.of(event.kv, self._skip), event.type == 1, previous))
            last = response.events[-1].kv
            if last is not None:
                self._seen = max(self._seen, last.mod_revision)
                self.next_revision = max(self.next_revision, self._seen + 1)
        else:
            self._items.append(Progress(revision))
            if response.watch_id != -1:
                # An answer to a request for progress is not believed: up to 3.4.24 and 3.5.7 servers gave
                # it before the events it promises.
                self.next_revision = max(self.next_revision, revision + 1)
        self._changed.set()

    @property
    def full(self) -> bool:
        return len(self._items) > BUFFER_EVENTS

    def abandon(self, error: EtcdError) -> None:
        """``fail`` without waking anybody: the loop that would is gone."""
        self._error = error

    def fail(self, error: EtcdError) -> None:
        self._error = error
        self._changed.set()


__all__ = ["BUFFER_EVENTS", "Disconnected", "Event", "Notice", "Progress", "Resumed", "Watch"]
