"""Three members, of which one is killed every two seconds: what the client's writes and watches come to.

    python -m tests.client.endurance --kind petcd --seconds 60
    python -m tests.client.endurance --kind go --how pause

Four writers put numbers, five watches follow them, one lease is held. At the end the watches' events are
compared with the store's own history, and the acknowledged writes with it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers import Kind, Server

from petcd.client import Client, Disconnected, Event, Resumed
from petcd.errors import EtcdError

PREFIX = "endurance/"
ROUND_SECONDS = 2.0
"""At least: the member must be well again before the next."""
DOWN_SECONDS = 0.8
WRITERS, WATCHES = 4, 5

Change = tuple[int, bytes, bytes]


@dataclass
class Report:
    kills: int = 0
    acknowledged: list[Change] = field(default_factory=list)
    failed: int = 0
    """Writes that raised; some of them were done."""
    pause_max: float = 0.0
    """The longest a writer waited for its answer, in seconds."""
    breaks: int = 0
    resumes: int = 0
    leases_lost: int = 0
    history: list[Change] = field(default_factory=list)
    watched: list[list[Change]] = field(default_factory=list)

    @property
    def lost_writes(self) -> list[Change]:
        return sorted(set(self.acknowledged) - set(self.history))

    @property
    def wrong_watches(self) -> int:
        """Watches that missed, repeated or reordered anything."""
        return sum(events != self.history for events in self.watched)

    def __str__(self) -> str:
        return (
            f"{self.kills} times a member was away; {len(self.history)} changes, "
            f"{len(self.acknowledged)} acknowledged, {self.failed} failed, {len(self.lost_writes)} lost; "
            f"longest wait {self.pause_max:.2f} s; {WATCHES} watches, {self.wrong_watches} wrong, "
            f"{self.breaks} breaks, {self.resumes} resumes; {self.leases_lost} leases lost"
        )


@contextlib.contextmanager
def three(kind: Kind) -> Iterator[list[Server]]:
    """Three members on loopback."""
    directory = Path(tempfile.mkdtemp(prefix=f"endurance-{kind}-"))
    members = [Server(kind, directory / name, name=name) for name in ("m1", "m2", "m3")]
    initial = ",".join(f"{member.name}=http://127.0.0.1:{member.peer_port}" for member in members)
    try:
        for member in members:
            member.args = [f"--initial-cluster={initial}"]
            member.spawn()
        for member in members:
            member.wait_ready()
        yield members
    finally:
        for member in members:
            member.kill()
        shutil.rmtree(directory, ignore_errors=True)


class Run:
    def __init__(self, members: list[Server], how: str) -> None:
        self._members = members
        self._how = how
        self._endpoints = [member.endpoint for member in members]
        self._over = asyncio.Event()
        self.report = Report()

    async def go(self, rounds: int) -> Report:
        report = self.report
        async with (
            Client(self._endpoints, shuffle=True) as client,
            client.lease(15) as lease,
            asyncio.TaskGroup() as group,
        ):
            start = (await client.put(PREFIX + "start")).revision
            report.watched = [[] for _ in range(WATCHES)]
            watches = [group.create_task(self._follow(client, start, seen)) for seen in report.watched]
            work = [group.create_task(self._write(client, n)) for n in range(WRITERS)]
            await self._torment(rounds)
            self._over.set()
            await asyncio.wait(work)
            report.leases_lost += lease.lost.is_set()
            end = await self._end(client)
            report.history = await self._history(client, start, end)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(20):
                    while not all(seen and seen[-1][0] >= end for seen in report.watched):  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
            for watch in watches:
                watch.cancel()
        # A write of the end that was given up may have come after the one that was not.
        report.watched = [[change for change in seen if change[0] <= end] for seen in report.watched]
        return report

    async def _torment(self, rounds: int) -> None:
        await asyncio.sleep(0.5)  # the first member to go may be the leader: then what is under way hangs
        for _ in range(rounds):
            member = random.choice(self._members)
            if self._how == "kill":
                await asyncio.to_thread(member.kill)
            else:
                member.pause()
            self.report.kills += 1
            await asyncio.sleep(DOWN_SECONDS)
            if self._how == "kill":
                member.spawn()
            else:
                member.resume()
            await asyncio.to_thread(member.wait_ready)
            await asyncio.sleep(ROUND_SECONDS - DOWN_SECONDS)

    async def _follow(self, client: Client, start: int, seen: list[Change]) -> None:
        async for notice in client.watch(PREFIX, prefix=True, start_revision=start).all():
            if isinstance(notice, Event):
                seen.append((notice.revision, notice.key, notice.value))
            self.report.breaks += isinstance(notice, Disconnected)
            self.report.resumes += isinstance(notice, Resumed)

    async def _write(self, client: Client, number: int) -> None:
        key, count = f"{PREFIX}{number}", 0
        while not self._over.is_set():
            count += 1
            began = time.monotonic()
            try:
                done = await client.put(key, str(count))
            except EtcdError:
                self.report.failed += 1
            else:
                self.report.acknowledged.append((done.revision, key.encode(), str(count).encode()))
            self.report.pause_max = max(self.report.pause_max, time.monotonic() - began)
            await asyncio.sleep(0.005)

    async def _end(self, client: Client) -> int:
        """The revision of the last change, made when the members are well again."""
        async with asyncio.timeout(60):
            while True:
                try:
                    return (await client.put(PREFIX + "end")).revision
                except EtcdError:
                    await asyncio.sleep(0.1)

    async def _history(self, client: Client, start: int, end: int) -> list[Change]:
        """The changes as the store tells them to a watch that comes when all is quiet."""
        history: list[Change] = []
        async with asyncio.timeout(60), client.watch(PREFIX, prefix=True, start_revision=start) as watch:
            async for event in watch:
                history.append((event.revision, event.key, event.value))
                if event.revision == end:
                    break
        return history


def endure(kind: Kind, rounds: int, how: str = "kill") -> Report:
    with three(kind) as members:
        return asyncio.run(Run(members, how).go(rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kind", choices=("petcd", "go"), default="petcd")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--how", choices=("kill", "pause"), default="kill")
    args = parser.parse_args()
    report = endure(args.kind, round(args.seconds / ROUND_SECONDS), args.how)
    print(report)
    if report.lost_writes or report.wrong_watches or report.leases_lost:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
