"""Watches: many on one stream, each resumed after a failure without loss or repeat.

A watch knows the revision after the last one it has received. When the stream breaks, every watch is created
again from there on the next connection. A watch that is not read is bounded too: past ``BUFFER_EVENTS`` it is
cancelled at the server and, once its consumer has caught up, created again where it stood.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from petcd import errors
from petcd.client.errors import CompactedWatch, WatchCanceled
from petcd.client.pool import REQUIRE_LEADER, Backoff, Pool, resumable
from petcd.client.results import KeyValue
from petcd.errors import EtcdError
from petcd.pb.etcdserverpb import watch as pb

if TYPE_CHECKING:
    from petcd.net.grpc.client import ClientStream

PATH: Final = b"/etcdserverpb.Watch/Watch"
BUFFER_EVENTS: Final = 10_000
"""Unread events of one watch before it is held back."""


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one key."""

    kv: KeyValue
    """The pair after a put; of a deletion only the key and the revision."""
    deleted: bool
    previous: KeyValue | None = None

    @property
    def key(self) -> bytes:
        return self.kv.key

    @property
    def value(self) -> bytes:
        return self.kv.value

    @property
    def revision(self) -> int:
        return self.kv.mod_revision

    @property
    def created(self) -> bool:
        """The key did not exist before."""
        return not self.deleted and self.kv.version == 1


@dataclass(frozen=True, slots=True)
class Progress:
    """Every event up to this revision has been given."""

    revision: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """The stream had broken; the watch goes on from this revision."""

    revision: int


Notice = Event | Progress | Resumed


class Watch:
    """One watch: iterate it for its events; ``all()`` also tells of progress and of resumes.

    Entering it waits until the server has it; leaving cancels it. Iterating without entering starts it too.
    """

    def __init__(self, hub: Hub, request: pb.WatchCreateRequest) -> None:
        self._hub = hub
        self._request = request
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
        """Events, progress and resumes. Ends when the watch is cancelled; raises what ended it otherwise."""
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
        if not self.revision:
            self.revision = revision
        else:
            self._items.append(Resumed(self.next_revision))
        if not self.next_revision:
            self.next_revision = revision + 1
        self._changed.set()

    def take(self, response: pb.WatchResponse) -> None:
        """Events or progress, in order."""
        revision = response.header.revision if response.header is not None else 0
        if response.events:
            for event in response.events:
                if event.kv is None or event.kv.mod_revision <= self._seen:
                    continue
                previous = KeyValue.of(event.prev_kv) if event.prev_kv is not None else None
                self._items.append(Event(KeyValue.of(event.kv), event.type == 1, previous))
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

    def fail(self, error: EtcdError) -> None:
        self._error = error
        self._changed.set()


class Hub:
    """The stream that a client's watches share, and the task that reads it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._watches: list[Watch] = []
        self._creating: deque[Watch] = deque()
        self._by_id: dict[int, Watch] = {}
        self._stream: ClientStream | None = None
        self._task: asyncio.Task[None] | None = None

    async def close(self) -> None:
        for watch in list(self._watches):
            watch.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def add(self, watch: Watch) -> None:
        self._watches.append(watch)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="etcd watches")
        else:
            self._create(watch)

    def remove(self, watch: Watch) -> None:
        if watch in self._watches:
            self._watches.remove(watch)
        self._withdraw(watch)
        if not self._watches and self._stream is not None:
            self._stream.cancel()

    def _withdraw(self, watch: Watch) -> None:
        """Take it off the stream. One that is only being created is cancelled when its answer comes."""
        if watch.watch_id is not None:
            self._by_id.pop(watch.watch_id, None)
            self._send(pb.WatchRequest(cancel_request=pb.WatchCancelRequest(watch_id=watch.watch_id)))
            watch.watch_id = None

    def release(self, watch: Watch) -> None:
        """A watch that was held back is empty again."""
        watch.held_back = False
        if not watch.over:
            self._create(watch)

    def request_progress(self) -> None:
        self._send(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))

    def _create(self, watch: Watch) -> None:
        if self._stream is not None and not self._stream.ended:
            self._creating.append(watch)
            self._send(watch.create_request())

    def _send(self, request: pb.WatchRequest) -> None:
        stream = self._stream
        if stream is not None and not stream.ended:
            stream.send(request.encode())

    async def _run(self) -> None:
        backoff = Backoff()
        while self._watches:
            connection = None
            try:
                connection, self._stream = await self._pool.stream(PATH, REQUIRE_LEADER)
                self._by_id.clear()
                self._creating.clear()
                for watch in self._watches:
                    watch.watch_id = None
                    if not watch.held_back:
                        self._create(watch)
                async for message in self._stream:
                    self._take(pb.WatchResponse.decode(message))
                    backoff = Backoff()
            except EtcdError as error:
                if not self._watches:
                    return
                if not resumable(error):
                    self._fail(error)
                    return
                if isinstance(error, errors.InvalidAuthToken | errors.AuthOldRevision):
                    self._pool.forget_token()
                elif connection is not None and error.code == errors.Code.UNAVAILABLE:
                    self._pool.turn_away(connection)
            finally:
                if self._stream is not None:
                    self._stream.cancel()
                self._stream = None
            if self._watches:
                await backoff.pause()

    def _fail(self, error: EtcdError) -> None:
        watches, self._watches = self._watches, []
        for watch in watches:
            watch.fail(error)

    def _take(self, response: pb.WatchResponse) -> None:
        revision = response.header.revision if response.header is not None else 0
        if response.created and self._creating:
            watch = self._creating.popleft()
            if response.canceled or response.watch_id == -1:
                self._end(watch, _reason(response))
            elif watch.over or watch.held_back:
                request = pb.WatchCancelRequest(watch_id=response.watch_id)
                self._send(pb.WatchRequest(cancel_request=request))
            else:
                self._by_id[response.watch_id] = watch
                watch.created(response.watch_id, revision)
            return
        if response.watch_id == -1:
            for watch in self._by_id.values():
                watch.take(response)
            return
        known = self._by_id.get(response.watch_id)
        if known is None:
            return
        if response.canceled:
            del self._by_id[response.watch_id]
            self._end(known, _reason(response))
            return
        known.take(response)
        if known.full:
            known.held_back = True
            self._withdraw(known)

    def _end(self, watch: Watch, error: EtcdError) -> None:
        if watch in self._watches:
            self._watches.remove(watch)
        watch.fail(error)


def _reason(response: pb.WatchResponse) -> EtcdError:
    """Why the server cancelled a watch."""
    if response.compact_revision:
        return CompactedWatch(response.compact_revision)
    text = response.cancel_reason
    known = EtcdError.by_text.get(text.rpartition(" desc = ")[2])
    if known is errors.Compacted:
        return CompactedWatch(0)
    return known() if known is not None else WatchCanceled(text or errors.WatchCanceled.text)
