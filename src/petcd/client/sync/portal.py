"""The thread in which streams live: an event loop with an asyncio client of its own.

Watches and leases need somebody who listens while the program does something else. That is this thread; it is
started by the first of them, so a program that only reads and writes has none.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any, Final, Protocol, TypeVar
from weakref import WeakSet

from petcd.client.client import Client
from petcd.errors import Code
from petcd.net.grpc.client import TransportFailure

T = TypeVar("T")

_LEFT_BEHIND: Final[list[object]] = []
"""In a forked child, the parent's loops. They share their selector with the parent, so nothing of them may be
closed here, not even by the garbage collector."""

_LAST_SECONDS: Final = 2.0
"""For what a call that is cancelled has to undo at the servers; the rest their clocks undo."""


class OfOneProcess(Protocol):
    """What a forked child must not take for its own."""

    def _forked(self) -> None:
        """Called in the child."""


class Portal:
    """Runs coroutines in the background thread, for any other thread."""

    def __init__(self, make: Callable[[], Client]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Client | None = None
        self._closed = False
        self._calls: set[asyncio.Task[Any]] = set()
        """Those under way; only the background thread touches it."""
        self.generation = 0
        """Grows with each fork: what was opened before is the parent's."""
        self.left_to_parent: WeakSet[OfOneProcess] = WeakSet()
        """To be told of a fork."""

    @property
    def started(self) -> bool:
        """There is such a thread."""
        return self._thread is not None

    @property
    def closed(self) -> bool:
        return self._closed

    def forked(self) -> None:
        """In the child: the thread is not there, and what it had is the parent's."""
        self.generation += 1
        self._lock = threading.Lock()
        if self._loop is not None:
            _LEFT_BEHIND.append((self._loop, self._client, self._thread))
        self._thread = self._loop = self._client = None
        self._calls = set()
        for one in list(self.left_to_parent):
            one._forked()

    def close(self) -> None:
        """End all streams and the thread."""
        with self._lock:
            self._refuse_own_thread()
            self._closed = True
            thread, loop, client = self._thread, self._loop, self._client
            self._thread = self._loop = self._client = None
        if thread is None or loop is None or client is None:
            return
        asyncio.run_coroutine_threadsafe(self._shut(client), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def run(self, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        """The result of a coroutine of the asyncio client.

        An exception in the caller (Ctrl-C) cancels it, and waits a moment for what it does then.
        """
        tasks: list[asyncio.Task[Any]] = []

        async def call() -> T:
            task = asyncio.current_task()
            assert task is not None
            tasks.append(task)
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
            return await work(client)

        loop: asyncio.AbstractEventLoop | None = None
        future: Future[T] | None = None
        try:
            with self._lock:
                if self._closed:
                    raise TransportFailure(Code.CANCELLED, "the client is closed", sent=False)
                self._refuse_own_thread()
                loop, client = self._started()
                future = asyncio.run_coroutine_threadsafe(call(), loop)
            return future.result()
        except CancelledError:
            raise TransportFailure(Code.CANCELLED, "the client is closed", sent=True) from None
        except BaseException:
            if loop is not None and (future is None or not future.done()):
                self._end(tasks, loop)
            raise

    def _end(self, tasks: list[asyncio.Task[Any]], loop: asyncio.AbstractEventLoop) -> None:
        """Cancel a call, and wait until it has ended."""
        with self._lock:
            if self._loop is not loop:
                return  # who closes the client ends it
            # It was handed over after the call, so the call is among the tasks when it runs.
            ending = asyncio.run_coroutine_threadsafe(_cancel(tasks), loop)
        with contextlib.suppress(TimeoutError, CancelledError):
            ending.result(2 * _LAST_SECONDS)

    def iterate(self, work: Callable[[Client], AsyncGenerator[T, None]]) -> Iterator[T]:
        """An asynchronous generator of the asyncio client, as a plain one."""
        generators: list[AsyncGenerator[T, None]] = []

        async def following(client: Client) -> tuple[T, ...]:
            if not generators:
                generators.append(work(client))
            try:
                return (await anext(generators[0]),)
            except StopAsyncIteration:
                return ()

        async def ended(_client: Client) -> None:
            for generator in generators:
                await generator.aclose()

        generation = self.generation
        try:
            while item := self.run(following):
                yield item[0]
                if self.generation != generation:
                    raise RuntimeError("this was begun before a fork; it belongs to the parent process")
        finally:
            if generators and not self._closed and self.generation == generation:
                self.run(ended)

    def post(self, call: Callable[[], object]) -> None:
        """Have something done in the background thread, if it is still there."""
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(call)

    def _refuse_own_thread(self) -> None:
        if self._thread is not None and threading.current_thread() is self._thread:
            raise RuntimeError("called from the client's own background thread, which would wait for itself")

    def _started(self) -> tuple[asyncio.AbstractEventLoop, Client]:
        if self._loop is None or self._client is None:
            self._client = self._make()
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._loop.run_forever, name="petcd client streams", daemon=True
            )
            self._thread.start()
        return self._loop, self._client

    async def _shut(self, client: Client) -> None:
        await _cancel(self._calls)  # while there is a connection by which they can give back what they have
        await client.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel them, and wait a moment until they have ended."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    if ending:
        await asyncio.wait(ending, timeout=_LAST_SECONDS)
