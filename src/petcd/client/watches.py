"""Watches: many on one stream, each resumed after a failure without loss or repeat.

A watch knows the revision after the last one it has received. When the stream breaks, every watch is created
again from there on the next connection. A watch that is not read is bounded too: past ``BUFFER_EVENTS`` or
``BUFFER_BYTES`` it is cancelled at the server and, once its consumer has caught up, created again where it
stood.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from petcd.client.events import Disconnected, Event, Notice, Progress, Resumed
from petcd.client.feed import Feed
from petcd.client.retry import expired
from petcd.pb.etcdserverpb import watch as pb

if TYPE_CHECKING:
    from petcd.client.hub import Hub


class Watch:
    """One watch: iterate it for its events; ``all()`` also tells of progress, breaks and resumes.

    Entering it waits until the server has it, for ``timeout`` seconds at most; leaving cancels it. Iterating
    without entering starts it too: then it ends when nobody holds it or an iterator of it any more.
    """

    def __init__(
        self, hub: Hub, request: pb.WatchCreateRequest, skip: int = 0, timeout: float | None = None
    ) -> None:
        self._timeout = timeout
        self._hub = hub
        self._feed = Feed(request, skip)
        self._started = False

    @property
    def revision(self) -> int:
        """The store's revision when a server first took the watch; 0 before."""
        return self._feed.revision

    @property
    def next_revision(self) -> int:
        """The first revision that has not been received: where it would resume."""
        return self._feed.next_revision

    async def __aenter__(self) -> Watch:
        self._start()
        feed = self._feed
        try:
            async with asyncio.timeout(self._timeout):
                while not feed.revision and not feed.over:
                    feed.changed.clear()
                    await feed.changed.wait()
        except TimeoutError:
            self.cancel()
            obstacle = self._hub.obstacle
            raise expired(obstacle) from obstacle
        except BaseException:
            self.cancel()
            raise
        if feed.error is not None and not feed.items:
            raise feed.error
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cancel()

    def __del__(self) -> None:
        if self._started and not self._feed.closed:
            self._hub.forget(self._feed)

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
        feed = self._feed
        while True:
            while feed.items:
                item = feed.next_item()
                if feed.held_back and not feed.items:
                    self._hub.release(feed)
                yield item
            if feed.error is not None:
                raise feed.error
            if feed.closed:
                return
            feed.changed.clear()
            await feed.changed.wait()

    def cancel(self) -> None:
        """End it, here and at the server."""
        if not self._feed.closed:
            self._feed.closed = True
            self._hub.remove(self._feed)
            self._feed.changed.set()

    def request_progress(self) -> None:
        """Ask for a Progress now. The server answers when all watches of the stream have caught up.

        While no server has the watch, the request waits until one has.
        """
        self._hub.request_progress(self._feed)

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._hub.add(self._feed)


__all__ = ["Disconnected", "Event", "Notice", "Progress", "Resumed", "Watch"]
