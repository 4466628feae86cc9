"""A simulated world: hosts with disks and links on virtual time, everything drawn from one seed.

``Simulation`` owns the loop, the network and the hosts. A host is switched on with ``boot``, which hands out
the ``World`` of a new process; ``crash`` ends that process and decides what its disk remembers. The same seed
gives the same trace, and a failing run prints its seed and the last lines of it.
"""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Final, TypeVar

from petcd.seams.failpoints import Failpoints
from petcd.seams.world import World
from petcd.testing.clock import Process, SimClock, SimCrash, SimLoop
from petcd.testing.disk import SimDisk
from petcd.testing.drive import Loss, SimDrive
from petcd.testing.net import Network, SimNet

T = TypeVar("T")

TRACE_LINES: Final = 4000


class Host:
    """A machine: a name, a drive that outlives its processes, and at most one process at a time."""

    def __init__(self, simulation: Simulation, name: str) -> None:
        self.simulation = simulation
        self.name = name
        seed = simulation.rng.getrandbits(64)
        self._rng = random.Random(seed)
        self.drive = SimDrive(self._rng, note=lambda what: simulation.note(name, what))
        self.process: Process | None = None
        self.world: World | None = None
        self.clock_rate = 1.0
        self.wall_offset_ns = 0

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.alive

    def boot(self) -> World:
        """Start a process: a world that shares nothing with the last one but the drive."""
        assert not self.running, f"{self.name} runs already"
        simulation = self.simulation
        simulation.note(self.name, "boot")
        simulation.network.lighten(self.name)
        process = Process(simulation.loop, self.name)
        self.process = process
        seed = self._rng.getrandbits(64)
        self.world = World(
            clock=SimClock(process, rate=self.clock_rate, wall_offset_ns=self.wall_offset_ns),
            random=random.Random(seed),
            net=SimNet(process, simulation.network),
            disk=SimDisk(process, self.drive),
            failpoints=Failpoints(),
        )
        return self.world

    def crash(self, loss: Loss = Loss.SOME) -> None:
        """End the process, if one runs, and let the drive lose what this kind of end loses."""
        process = self.process
        self.simulation.note(self.name, f"crash, loss {loss.value}")
        if loss is not Loss.NONE:
            self.simulation.network.darken(self.name)
        if process is not None:
            process.kill()
            process.bury()
        self.process = None
        self.world = None
        self.drive.crash(loss)

    def stop_here(self) -> None:
        """Die at this very call, as a failpoint's action does. Raises: SimCrash."""
        process = self.process
        assert process is not None
        self.simulation.note(self.name, "stop here")
        process.kill()
        raise SimCrash(self.name)

    def pause(self) -> None:
        assert self.process is not None
        self.simulation.note(self.name, "pause")
        self.process.pause()

    def resume(self) -> None:
        assert self.process is not None
        self.simulation.note(self.name, "resume")
        self.process.resume()


class Simulation:
    """A world of hosts, from one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.loop = SimLoop()
        self.trace: deque[str] = deque(maxlen=TRACE_LINES)
        self._digest = hashlib.sha256()
        self.network = Network(self.loop, random.Random(self.rng.getrandbits(64)), note=self.note)
        self.hosts: dict[str, Host] = {}

    def __enter__(self) -> Simulation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            error.add_note(f"seed {self.seed}; the last of the trace:\n" + "\n".join(list(self.trace)[-40:]))
        self.close()

    def host(self, name: str, *addresses: str) -> Host:
        """The host of this name, made when it is new."""
        host = self.hosts.get(name)
        if host is None:
            host = self.hosts[name] = Host(self, name)
            self.network.add(name, *addresses)
        return host

    @property
    def now(self) -> float:
        return self.loop.now

    def note(self, host: str, what: str) -> None:
        """Add a line to the trace."""
        line = f"{self.loop.now:.6f} {host}: {what}"
        self.trace.append(line)
        self._digest.update(line.encode())

    def digest(self) -> str:
        """Stands for the whole trace, however long: equal digests are equal runs."""
        return self._digest.hexdigest()

    def run(self, coroutine: Coroutine[Any, Any, T], *, seconds_max: float = 3600.0) -> T:
        """Run a coroutine of the test, outside every host, until it is done."""
        loop = self.loop
        task = loop.create_task(coroutine)
        deadline = loop.call_later(seconds_max, task.cancel)
        try:
            result = loop.run_until_complete(task)
        finally:
            deadline.cancel()
        loop.check()
        return result

    def run_for(self, seconds: float) -> None:
        """Let this much time pass."""
        loop = self.loop
        loop.call_later(seconds, loop.stop)
        loop.run_forever()
        loop.check()

    def run_until(
        self, condition: Callable[[], bool], *, seconds_max: float = 60.0, step_seconds: float = 0.001
    ) -> None:
        """Let time pass until ``condition`` holds. Raises: TimeoutError, by the simulation's clock."""
        end = self.loop.now + seconds_max
        while not condition():
            if self.loop.now >= end:
                raise TimeoutError(f"not within {seconds_max} s: {condition}")
            self.run_for(step_seconds)

    def close(self) -> None:
        """Kill what still runs and close the loop."""
        for host in self.hosts.values():
            if host.process is not None:
                host.process.kill()
                host.process.bury()
        self.loop.drain()
        self.loop.close()
