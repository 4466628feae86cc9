"""Virtual time: an asyncio loop whose clock jumps to the next timer, and processes that can die or pause.

Everything happens on one thread and nothing sleeps. A callback takes no time; time passes only when nothing
is due, and then at once. So a run is a function of its seed.

Each callback, timer and task belongs to the ``Process`` in whose context it was made (a context variable
carries it through tasks and futures). When that process dies none of them ever runs again; while it is
paused they gather and run in order after it is resumed. That is how a member can be killed at any
instruction that reaches a seam without the member's help.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from asyncio import events
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

T = TypeVar("T")

IDLE_TURNS_MAX: Final = 1_000_000
"""Turns of the loop without time passing before it is called a livelock."""


class SimCrash(BaseException):
    """The process died here. Not an ``Exception``: nothing in a member may catch it and go on."""


class SimDeadlock(RuntimeError):
    """Nothing is due and nothing ever will be, yet somebody waits."""


class SimLivelock(RuntimeError):
    """Callbacks follow each other for ever and time stands still."""


_current: contextvars.ContextVar[Process | None] = contextvars.ContextVar("petcd_sim_process", default=None)


class Process:
    """One run of a simulated host, from its start to its death.

    Invariant: once ``alive`` is False no callback, timer or task of this process runs again.
    """

    def __init__(self, loop: SimLoop, name: str) -> None:
        self.loop = loop
        self.name = name
        self.alive = True
        self.paused = False
        self.tasks: list[asyncio.Task[Any]] = []
        self._held: list[tuple[Callable[..., object], tuple[Any, ...], contextvars.Context]] = []
        self._at_death: list[Callable[[], object]] = []
        self._buried = False
        self._running = 0
        context = contextvars.copy_context()
        context.run(_current.set, self)
        self._context = context

    @property
    def context(self) -> contextvars.Context:
        """A fresh copy, since one context cannot be entered twice."""
        return self._context.copy()

    def at_death(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` once the process is dead, outside of it; in the order given."""
        self._at_death.append(callback)

    def run(self, callback: Callable[..., T], *args: Any) -> T:
        """Call a function of this process from outside it."""
        self.check()
        with self._entered():
            return self.context.run(callback, *args)

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task that lives and dies with this process."""
        return self.run(self.loop.create_task, coroutine)

    def check(self) -> None:
        """Raises: SimCrash when the process is dead."""
        if not self.alive:
            raise SimCrash(self.name)

    def kill(self) -> None:
        """Die now: as SIGKILL does, with no code of the process running afterwards."""
        if self.alive:
            self.alive = False
        if not self._running:
            self.bury()

    def pause(self) -> None:
        """As SIGSTOP: callbacks gather."""
        self.paused = True

    def resume(self) -> None:
        """As SIGCONT: what gathered runs in its order."""
        self.paused = False
        held, self._held = self._held, []
        for callback, args, context in held:
            self.loop.call_soon(callback, *args, context=context)

    def hold(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        """Keep a callback that came due while paused."""
        self._held.append((callback, args, contextvars.copy_context()))

    @contextmanager
    def _entered(self) -> Iterator[None]:
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            if not self.alive and not self._running:
                self.bury()

    def bury(self) -> None:
        """Close what is left of a dead process, in a fixed order."""
        if self._buried:
            return
        self._buried = True
        for task in self.tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine = task.get_coro()
            if not task.done() and coroutine is not None:
                try:
                    coroutine.close()
                except (Exception, SimCrash):  # noqa: BLE001 - a dead process's last words
                    continue
        self.tasks.clear()
        self._held.clear()
        for callback in self._at_death:
            callback()
        self._at_death.clear()


class _Selector:
    """Stands where a selector stands; waiting means to let time jump."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self._idle = 0

    def select(self, timeout: float | None) -> list[Any]:
        loop = self._loop
        if timeout is None:
            raise SimDeadlock(f"nothing is left to happen at {loop.now:.6f}")
        if timeout > 0:
            self._idle = 0
            loop.now += timeout
        else:
            self._idle += 1
            if self._idle > IDLE_TURNS_MAX:
                self._idle = 0
                raise SimLivelock(f"time stands still at {loop.now:.6f}")
        return []

    def close(self) -> None:
        return None


class SimLoop(asyncio.BaseEventLoop):
    """An asyncio loop on virtual time, without files, sockets, signals or threads."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.failures: list[dict[str, Any]] = []
        """Contexts of exceptions that no task or callback handled."""
        self._clock_resolution = 1e-9
        self._selector = _Selector(self)
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        """A heap; timers of one moment run in the order in which they were set."""
        self._timer_count = 0
        self.set_task_factory(_make_task)
        self.set_exception_handler(_note_failure)

    def time(self) -> float:
        return self.now

    def _set_timer(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context,
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        return None  # it is dropped when its time comes

    def _run_once(self) -> None:
        """One turn, as asyncio's: let time pass when nothing is due, then run what is due by now."""
        ready = self._ready  # type: ignore[attr-defined]
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if ready or self._stopping:  # type: ignore[attr-defined]
            self._selector.select(0.0)
        else:
            self._selector.select(max(0.0, timers[0][0] - self.now) if timers else None)
        end = self.now + self._clock_resolution
        while timers and timers[0][0] < end:
            timer = heapq.heappop(timers)[2]
            if not timer._cancelled:
                ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def call_soon(  # type: ignore[override]
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        if context is None:
            context = contextvars.copy_context()
        process = context.get(_current)
        if process is None:
            return super().call_soon(callback, *args, context=context)
        return super().call_soon(_run_in, process, callback, args, context=context)

    def call_soon_threadsafe(  # type: ignore[override]
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        if context is None:
            context = contextvars.copy_context()
        process = context.get(_current)
        if process is None:
            return self._set_timer(when, callback, args, context)
        return self._set_timer(when, _run_in, (process, callback, args), context)

    def call_outside(self, when: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        """``call_at`` for the world itself: what runs belongs to no process, whoever asked for it."""
        return self._set_timer(when, callback, args, contextvars.Context())

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        raise RuntimeError("the simulation has no threads: blocking work goes through a lane")

    def drain(self) -> None:
        """Run what is due now without letting time pass."""
        while self._ready:  # type: ignore[attr-defined]
            self.call_soon(self.stop)
            self.run_forever()

    def _process_events(self, event_list: Any) -> None:
        return None

    def _write_to_self(self) -> None:
        return None

    def check(self) -> None:
        """Raise the first exception that nobody handled."""
        if self.failures:
            context = self.failures[0]
            self.failures = []
            error = context.get("exception")
            if error is not None:
                raise error
            raise RuntimeError(str(context.get("message")))


def _run_in(process: Process, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
    if not process.alive:
        return
    if process.paused:
        process.hold(callback, args)
        return
    process._running += 1
    try:
        callback(*args)
    except SimCrash:
        process.alive = False
    finally:
        process._running -= 1
        if not process.alive and not process._running:
            process.bury()


def _make_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
    context = options.get("context")
    process = context.get(_current) if context is not None else _current.get()
    if process is not None:
        tasks = process.tasks
        tasks.append(task)
        if len(tasks) > 64 and len(tasks) % 64 == 0:
            process.tasks = [one for one in tasks if not one.done()]
    return task


def _note_failure(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if isinstance(error, SimCrash):
        return
    process = _current.get()
    if process is not None and not process.alive:
        return
    assert isinstance(loop, SimLoop)
    loop.failures.append(context)


class _SimTimer:
    """A timer of a clock that may run fast or slow."""

    __slots__ = ("_handle",)

    def __init__(self, handle: events.TimerHandle) -> None:
        self._handle = handle

    def cancel(self) -> None:
        self._handle.cancel()


WALL_START_NS: Final = 1_800_000_000 * 10**9
"""Unix time at which every simulation starts."""


class SimClock:
    """The clock of one process.

    ``rate`` is how many of its seconds pass in one of the simulation's (a crystal that is off);
    ``wall_offset_ns`` makes the wall clock jump without moving the monotonic one.
    """

    def __init__(self, process: Process, *, rate: float = 1.0, wall_offset_ns: int = 0) -> None:
        assert rate > 0.0
        self._process = process
        self._loop = process.loop
        self.rate = rate
        self.wall_offset_ns = wall_offset_ns

    def monotonic(self) -> float:
        return self._loop.now * self.rate

    def wall_ns(self) -> int:
        return WALL_START_NS + int(self._loop.now * self.rate * 1e9) + self.wall_offset_ns

    def call_soon(self, callback: Callable[..., object], *args: object) -> None:
        self._loop.call_soon(callback, *args, context=self._process.context)

    def call_later(self, delay_seconds: float, callback: Callable[..., object], *args: object) -> _SimTimer:
        when = self._loop.now + max(0.0, delay_seconds) / self.rate
        return _SimTimer(self._loop.call_at(when, callback, *args, context=self._process.context))
