"""Watches for threads: the asyncio client's, read in the background and iterated here."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from petcd.client.sync.portal import Portal
from petcd.client.watches import Event, Notice
from petcd.client.watches import Watch as AsyncWatch
from petcd.errors import EtcdError

if TYPE_CHECKING:
    from petcd.client.client import Client

HELD_MAX: Final = 1000
"""Notices fetched ahead of the reader; the asyncio watch holds more, and then makes the server wait."""


class Watch:
    """One watch: iterate it for its events; ``all()`` also tells of progress and of resumes.

    Entering it waits until the server has it; leaving cancels it. Iterating without entering starts it too.
    Several threads may iterate one watch: each event goes to one of them.
    """

    def __init__(self, portal: Portal, make: Callable[[Client], AsyncWatch]) -> None:
        self._portal = portal
        self._generation = portal.generation
        self._make = make
        self._inner: AsyncWatch | None = None
        self._starting = threading.Lock()
        self._items: deque[Notice] = deque()
        self._changed = threading.Condition()
        self._room: asyncio.Event | None = None
        """Set when a reader has made room; the reading task waits for it while ``_full``."""
        self._full = False
        self._error: EtcdError | None = None
        self._over = False
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()

    def __iter__(self) -> Iterator[Event]:
        return self.events()

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        """The events. Raises TimeoutError when none comes for ``timeout`` seconds; the iterator can go on
        after that."""
        return _Events(self, timeout)

    def all(self, timeout: float | None = None) -> Iterator[Notice]:
        """Events, progress and resumes. Ends when the watch is cancelled; raises what ended it otherwise."""
        return _Notices(self, timeout)

    def next(self, timeout: float | None = None) -> Event:
        """The next event. Raises TimeoutError after ``timeout`` seconds, StopIteration when cancelled."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            notice = self._take(deadline)
            if isinstance(notice, Event):
                return notice

    def cancel(self) -> None:
        """End it, here and at the server. Events that have come can still be read."""
        if self._portal.generation != self._generation:
            return  # in a forked child: it is the parent's
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._portal.post(self._stop)

    def close(self) -> None:
        """``cancel`` by the name of files."""
        self.cancel()

    def request_progress(self) -> None:
        """Ask for a Progress now. The server answers when all watches of the stream have caught up."""
        self._start()
        inner = self._inner
        if inner is not None:
            self._portal.post(inner.request_progress)

    @property
    def revision(self) -> int:
        """The store's revision when the server first took the watch; 0 before."""
        return self._inner.revision if self._inner is not None else 0

    @property
    def next_revision(self) -> int:
        """Where it would resume; 0 before it is started."""
        return self._inner.next_revision if self._inner is not None else 0

    # --- in the reader's thread -------------------------------------------------------------------------

    def _start(self) -> None:
        if self._portal.generation != self._generation:
            raise RuntimeError("this watch was made before a fork; it belongs to the parent process")
        if self._inner is None:
            with self._starting:
                if self._inner is None and not self._over:
                    self._portal.run(self._open)

    def _take(self, deadline: float | None) -> Notice:
        """The next notice, now or by ``deadline``."""
        self._start()
        with self._changed:
            while not self._items:
                if self._error is not None:
                    raise self._error
                if self._over:
                    raise StopIteration
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError("no event came in time")
                self._changed.wait(left)
            item = self._items.popleft()
            if not self._full or len(self._items) > HELD_MAX // 2:
                return item
            self._full = False
        if self._room is not None:
            self._portal.post(self._room.set)
        return item

    # --- in the background thread -----------------------------------------------------------------------

    async def _open(self, client: Client) -> None:
        """Wait until the server has the watch, then leave a task to read it."""
        inner = self._make(client)
        self._room = asyncio.Event()
        await inner.__aenter__()
        self._inner = inner
        if self._over:  # cancelled by another thread meanwhile
            inner.cancel()
        self._task = asyncio.get_running_loop().create_task(self._read(inner), name="etcd watch reader")

    def _stop(self) -> None:
        if self._inner is not None:
            self._inner.cancel()
        if self._room is not None:
            self._room.set()

    async def _read(self, inner: AsyncWatch) -> None:
        assert self._room is not None
        error: EtcdError | None = None
        try:
            async for notice in inner.all():
                with self._changed:
                    self._items.append(notice)
                    self._full = full = len(self._items) >= HELD_MAX
                    self._changed.notify()
                if full and not self._over:
                    # A reader that makes room posts to this thread: it is heard after this.
                    self._room.clear()
                    await self._room.wait()
        except EtcdError as ended:
            error = ended
        finally:
            with self._changed:
                self._error = error
                self._over = True
                self._changed.notify_all()


class _Notices:
    def __init__(self, watch: Watch, timeout: float | None) -> None:
        self._watch = watch
        self._timeout = timeout

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Notice:
        timeout = self._timeout
        return self._watch._take(None if timeout is None else time.monotonic() + timeout)


class _Events:
    def __init__(self, watch: Watch, timeout: float | None) -> None:
        self._watch = watch
        self._timeout = timeout

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        return self._watch.next(self._timeout)
