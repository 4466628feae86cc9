"""kill -9 under load, over and over: what was acknowledged must be there after every restart."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.check import check_history, check_promises
from tests.crash.load import Acknowledged, Load
from tests.rpc import Rpc
from tests.servers import Kind, Server

ROUNDS_PER_DIRECTORY = 10


@dataclass
class Report:
    rounds: int = 0
    puts: int = 0
    acknowledged: int = 0
    load_seconds: float = 0.0
    restart_seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def describe(self) -> str:
        restarts = sorted(self.restart_seconds) or [0.0]
        text = (
            f"{self.rounds} kills, {self.puts} puts sent, {self.acknowledged} acknowledged "
            f"({self.acknowledged / max(self.load_seconds, 1e-9):.0f}/s), restart median "
            f"{restarts[len(restarts) // 2]:.2f} s, max {restarts[-1]:.2f} s, wrong: {len(self.wrong)}"
        )
        return "\n".join([text, *self.wrong[:20]])


async def _load_then_kill(server: Server, load: Load, seconds: float) -> None:
    stop = asyncio.Event()
    running = asyncio.ensure_future(load.run(stop))
    await asyncio.sleep(seconds)
    server.kill()
    stop.set()
    await running


def run(
    kind: Kind,
    rounds: int,
    seed: int,
    *,
    rate: int = 5000,
    connections: int = 8,
    args: tuple[str, ...] = (),
    say: Callable[[str], object] = lambda _: None,
) -> Report:
    """Each ten rounds share a directory, so a restart also replays what earlier crashes left."""
    rng = random.Random(seed)
    report = Report()
    done = 0
    while done < rounds and not report.wrong:
        directory = Path(tempfile.mkdtemp(prefix=f"crash-{kind}-"))
        server = Server(kind, directory, args)
        acknowledged = Acknowledged()
        try:
            server.start()
            for _ in range(min(ROUNDS_PER_DIRECTORY, rounds - done)):
                done += 1
                report.rounds = done
                name = f"{done:04d}"
                load = Load(server.endpoint, acknowledged, name, rate=rate, connections=connections)
                before, started = len(acknowledged), time.monotonic()
                asyncio.run(_load_then_kill(server, load, 0.15 + rng.random() * 0.8))
                report.load_seconds += time.monotonic() - started
                report.puts += load.sent
                report.acknowledged += len(acknowledged) - before
                report.wrong += load.failed
                server.start()
                report.restart_seconds.append(server.ready_seconds)
                with Rpc(server.endpoint) as rpc:
                    report.wrong += check_promises(rpc, acknowledged, b"o/%s/" % name.encode())
                say(f"round {done}: {load.sent} sent, {len(acknowledged) - before} acknowledged")
                if report.wrong:
                    break
            with Rpc(server.endpoint) as rpc:
                report.wrong += check_promises(rpc, acknowledged, b"o/")
                report.wrong += check_history(rpc, acknowledged)
            if report.wrong:
                say(f"the directory is kept: {directory}")
        finally:
            server.kill()
            if not report.wrong:
                shutil.rmtree(directory, ignore_errors=True)
    return report
