"""Faults at random, one after another, each undone before the next: what, to whom, from when to when."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.cluster.members import HAS_STRACE, Cluster

KINDS = (
    "kill",
    "kill leader",
    "kill two",
    "kill all",
    "pause",
    "pause leader",
    "isolate",
    "isolate leader",
    "isolate leader from all",
    "mute leader",
    "deaf leader",
    "restart",
    "restart leader",
    "move from leader",
    "slow syncs",
    "slow syncs of leader",
)
_RARE = {"kill all": 0.3, "kill two": 0.6}


@dataclass
class Fault:
    what: str
    hosts: list[int]
    start: float
    end: float = 0.0

    def __str__(self) -> str:
        names = ", ".join(f"m{host}" for host in self.hosts)
        return f"{self.what}: {names} for {self.end - self.start:.1f} s"


class Nemesis:
    """Torments a cluster until it is stopped; then everything works again."""

    def __init__(self, c: Cluster, seed: int, *, say: Callable[[str], object] = lambda _: None) -> None:
        self.faults: list[Fault] = []
        self._c = c
        self._rng = random.Random(seed)
        self._say = say

    async def run(self, seconds: float) -> None:
        rng = self._rng
        end = time.monotonic() + seconds
        await asyncio.sleep(rng.uniform(0.5, 1.5))
        while time.monotonic() < end:
            kind = rng.choices(KINDS, [_RARE.get(kind, 1.0) for kind in KINDS])[0]
            if kind.startswith("slow") and not HAS_STRACE:
                continue
            await self._fault(kind, rng.uniform(0.3, 4.0))
            await asyncio.sleep(rng.uniform(0.3, 3.0))

    async def _fault(self, kind: str, seconds: float) -> None:
        c, rng = self._c, self._rng
        hosts = sorted(c.members)
        chosen = [rng.choice(hosts)]
        if "leader" in kind:
            leader = await asyncio.to_thread(self._leader)
            chosen = [leader] if leader else chosen
        elif kind == "kill two":
            chosen = rng.sample(hosts, 2)
        elif kind == "kill all":
            chosen = hosts
        fault = Fault(kind, chosen, time.monotonic())
        self.faults.append(fault)
        others = [host for host in hosts if host not in chosen]
        undo = contextlib.ExitStack()
        try:
            if kind.startswith("slow"):
                undo.enter_context(c[chosen[0]].slow_syncs(rng.uniform(0.2, 1.0)))
            elif kind.startswith("restart"):
                await asyncio.to_thread(c[chosen[0]].stop)
            elif kind.startswith("move"):
                await asyncio.to_thread(self._move, chosen[0], rng.choice(others))
            elif kind.startswith("kill"):
                for host in chosen:
                    c[host].kill()
            elif kind.startswith("pause"):
                c[chosen[0]].pause()
            elif kind.startswith("isolate"):
                c.network.isolate(chosen[0], from_clients=kind.endswith("from all"))
            elif kind.startswith("mute"):
                c.network.cut_one_way(chosen, others)
            else:
                c.network.cut_one_way(others, chosen)
            await asyncio.sleep(seconds)
        finally:
            undo.close()
            c.network.heal()
            for host in chosen:
                member = c[host]
                if member.paused:
                    member.resume()
                if not member.running:
                    member.start()
            fault.end = time.monotonic()
            self._say(str(fault))

    def _leader(self) -> int:
        try:
            return self._c.leader(seconds_max=2.0)
        except TimeoutError:
            return 0

    def _move(self, leader: int, to: int) -> None:
        status = self._c.status(to)
        if status:
            target = f"{int(status['header']['member_id']):x}"
            self._c.etcdctl("move-leader", target, via=leader, check=False)

    def dead(self) -> list[str]:
        """Members that have ended though nobody killed them."""
        return [
            f"{member.name} has ended with {member.process.returncode if member.process else None}:\n"
            + member.log_tail()
            for member in self._c.members.values()
            if not member.running
        ]
