"""The thread in which streams live: an event loop with an asyncio client of its own.

Watches and leases need somebody who listens while the program does something else. That is this thread; it is
started by the first of them, so a program that only reads and writes has none.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError
from typing import Any, Final, TypeVar

from petcd.client.client import Client
from petcd.errors import Code
from petcd.net.grpc.client import TransportFailure

T = TypeVar("T")

_LEFT_BEHIND: Final[list[object]] = []
"""In a forked child, the parent's loops. They share their selector with the parent, so nothing of them may be
closed here, not even by the garbage collector."""


class Portal:
    """Runs coroutines in the background thread, for any other thread."""

    def __init__(self, make: Callable[[], Client]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Client | None = None
        self._closed = False
        self.generation = 0
        """Grows with each fork: what was opened before is the parent's."""

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

    def close(self) -> None:
        """End all streams and the thread."""
        with self._lock:
            self._refuse_own_thread()
            self._closed = True
            thread, loop, client = self._thread, self._loop, self._client
            self._thread = self._loop = self._client = None
        if thread is None or loop is None or client is None:
            return
        asyncio.run_coroutine_threadsafe(_shut(client), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def run(self, work: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        """The result of a coroutine of the asyncio client. An exception in the caller cancels it."""
        with self._lock:
            if self._closed:
                raise TransportFailure(Code.CANCELLED, "the client is closed", sent=False)
            loop, client = self._started()
            self._refuse_own_thread()
            future = asyncio.run_coroutine_threadsafe(work(client), loop)
        try:
            return future.result()
        except CancelledError:
            raise TransportFailure(Code.CANCELLED, "the client is closed", sent=True) from None
        except BaseException:
            future.cancel()
            raise

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

        try:
            while item := self.run(following):
                yield item[0]
        finally:
            if generators and not self._closed:
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


async def _shut(client: Client) -> None:
    await client.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
