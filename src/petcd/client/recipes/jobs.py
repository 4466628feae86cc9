"""A job that runs in one of many programs: in the one that leads.

    async def report(leadership: Election) -> None: ...

    async with LeaderJob(client, "jobs/report", report) as job:
        await job.result()

Every program that enters stands for election; the elected one runs the job. If it loses the lead, its job is
cancelled and it stands again; if it dies, the next one runs the job from the start, once ``ttl`` has passed.

Not promised: that the job runs in one program only at every moment. A job learns by being cancelled that it
was replaced, which may be later than its successor's start: put ``leadership.held`` into its transactions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from petcd.client import LeaseLost
from petcd.client.recipes._session import TTL, Name, unless
from petcd.client.recipes.election import Election

if TYPE_CHECKING:
    from petcd.client import Keyspace

T = TypeVar("T")


class LeaderJob(Generic[T]):
    """Runs ``job`` while this program leads; leaving cancels it and resigns.

    A job that returns or raises ends this program's part: it resigns, and the next candidate runs its own.
    """

    def __init__(
        self,
        client: Keyspace,
        name: Name,
        job: Callable[[Election], Coroutine[Any, Any, T]],
        value: bytes | str = b"",
        *,
        ttl: int = TTL,
    ) -> None:
        """``value``: what observers of the election ``name`` see of this program."""
        self._election = Election(client, name, value, ttl=ttl)
        self._job = job
        self._task: asyncio.Task[T] | None = None

    @property
    def leads(self) -> bool:
        """Whether the job runs here now."""
        return self._election.is_held

    async def __aenter__(self) -> Self:
        self._task = asyncio.ensure_future(self._run())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Raises: what the job has raised, unless the block raises itself."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        if kind is None:
            with contextlib.suppress(asyncio.CancelledError):
                task.result()

    async def result(self) -> T:
        """Wait until the job has ended here; what it returned. Raises: what it raised."""
        if self._task is None:
            raise RuntimeError("the job is not entered")
        return await asyncio.shield(self._task)

    async def _run(self) -> T:
        while True:
            async with self._election as leadership:
                try:
                    return await unless(leadership.lost, leadership.lease, self._job(leadership))
                except LeaseLost:
                    if not leadership.lost.is_set():
                        raise  # of another lease, and the job's own affair
