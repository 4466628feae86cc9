"""A prefix of the store as a mapping that follows it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from petcd.client import KeyValue
from petcd.client.recipes._session import client_closed, persist, read_again
from petcd.errors import EtcdError

if TYPE_CHECKING:
    from petcd.client import Keyspace


class View:
    """The pairs below ``prefix``. Entering waits for the first reading, leaving ends the watch.

    Between two awaits of a reader it shows the store at one revision: the events of one answer are applied
    without a pause, and an answer never splits a revision.
    """

    def __init__(self, client: Keyspace, prefix: bytes) -> None:
        self._client = client
        self._prefix = prefix
        self.pairs: dict[bytes, KeyValue] = {}
        self.changes = 0
        """How often it has changed, the first reading included."""
        self._revision = 0
        self._changed = asyncio.Event()
        self._error: EtcdError | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._read()
        self._error = None
        self._task = asyncio.ensure_future(self._follow())
        self._task.add_done_callback(lambda _: self._wake())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def check(self) -> None:
        """Raises: what ended the watch; RuntimeError when it is not entered, or was left."""
        if self._error is not None:
            raise self._error.with_traceback(None)  # it is raised again and again, and would grow
        if self._task is None or self._task.done():
            raise RuntimeError("it is not entered, and so does not follow the store")

    async def wait_changes(self, more_than: int) -> None:
        """Wait until it has changed more often than that. Raises what ``check`` does."""
        while self.changes <= more_than:
            self.check()
            await self._changed.wait()

    async def _read(self) -> None:
        seen = await persist(lambda: self._client.get(self._prefix, prefix=True))
        self.pairs = {kv.key: kv for kv in seen}
        self._revision = seen.revision
        self._tell()

    def _tell(self) -> None:
        self.changes += 1
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _follow(self) -> None:
        try:
            while True:
                try:
                    await self._watch()
                except EtcdError as error:
                    if not read_again(error):
                        raise
                    await self._read()
        except EtcdError as error:
            self._error = error

    async def _watch(self) -> None:
        watch = self._client.options(timeout=None).watch(
            self._prefix, prefix=True, start_revision=self._revision + 1
        )
        async with watch:
            async for event in watch:
                self._revision = event.revision
                if event.deleted:
                    self.pairs.pop(event.key, None)
                else:
                    self.pairs[event.key] = event.kv
                self._tell()
        raise client_closed()
