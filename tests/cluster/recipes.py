"""``python -m tests.cluster.recipes --kind petcd --seconds 60``: recipes on three members that keep dying.

Every two seconds one member is killed -9 and started again. Meanwhile writers put keys that watchers must see
once each, contenders pass a lock round, and candidates are elected in turn.

What is right is judged at the end by the store's own revisions. The history is read once more from the first
revision on; every holder has left marks of its hold, keys that are created once, so the revisions of a mark
say when it took effect, whatever became of the answers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.failover import serves, spread
from tests.cluster.members import Cluster, cluster
from tests.servers import Kind

from petcd.client import Client, Event, LeaseLost, Put, Resumed, TransportFailure, compare
from petcd.client.recipes import Election, Lock
from petcd.client.recipes._session import persist
from petcd.errors import EtcdError

KILL_SECONDS = 2.0
DOWN_SECONDS = 0.5
CALL_SECONDS = 1.0
"""What a member does not answer in this time, because the leader it asked is gone, is asked again."""
WATCHERS = 3
WRITERS = 3
CONTENDERS = 4
CANDIDATES = 3
OBSERVER_BEHIND_MAX = 3
TERM_SECONDS = 0.2
"""How long a leader leads before it resigns."""
DATA, LOCK, HOLDS, ELECTION = "data/", "lock", "holds/", "election"
LAST = b"data/last"


@dataclass
class Report:
    kind: Kind
    seconds: float = 0.0
    kills: int = 0
    restart_seconds: list[float] = field(default_factory=list)
    written: int = 0
    unknown: int = 0
    """Writes without an answer; whether they were made is read from the store."""
    events: int = 0
    """Events of the watched keys, by the store's history."""
    resumes: int = 0
    """How often watches went on after their stream had broken."""
    lost: int = 0
    repeated: int = 0
    holds: int = 0
    holds_lost: int = 0
    """Holds whose holder was told that its lease was gone."""
    duplicate_holders: int = 0
    leaders: int = 0
    leaders_observed: int = 0
    leader_gaps: list[float] = field(default_factory=list)
    """From the end of a leader's term to the beginning of the next."""
    wrong: list[str] = field(default_factory=list)

    def describe(self) -> str:
        gaps = sorted(self.leader_gaps)
        median = f"{statistics.median(gaps):.2f} s" if gaps else "-"
        return "\n".join(
            [
                f"{self.kind}: {self.kills} kills in {self.seconds:.0f} s, each of one of three members",
                f"  member serves again  {spread(self.restart_seconds)}",
                f"  writes: {self.written} acknowledged, {self.unknown} of unknown fate",
                f"  watches: {WATCHERS} watchers of {self.events} events, resumed {self.resumes} times",
                f"  watch events lost: {self.lost}, repeated: {self.repeated}",
                f"  lock: {self.holds} holds by {CONTENDERS} contenders, {self.holds_lost} told lost",
                f"  duplicate holders: {self.duplicate_holders}",
                f"  election: {self.leaders} leaders, {self.leaders_observed} seen by the observer",
                f"  without a leader: median {median}, max {gaps[-1] if gaps else 0.0:.2f} s",
                f"  wrong: {len(self.wrong)}",
                *(f"    {line}" for line in self.wrong[:20]),
            ]
        )


class Storm:
    """What runs while members die, and what it has seen."""

    def __init__(self, endpoints: list[str], report: Report) -> None:
        self._endpoints = endpoints
        self._report = report
        self.stopping = asyncio.Event()
        self.watched: list[list[tuple[bytes, int]]] = []
        """Key and revision of every event, for each watcher."""
        self.holds: list[int] = []
        """The tokens of all holds, in the order in which their holders began them."""
        self.inside = 0
        self.observed: list[int] = []
        self.terms: list[tuple[float, float]] = []
        """When each leader knew that it led, and when it resigned."""

    def client(self) -> Client:
        endpoints = list(self._endpoints)
        random.shuffle(endpoints)
        return Client(endpoints, timeout=CALL_SECONDS)

    async def write(self, number: int) -> None:
        async with self.client() as client:
            count = 0
            while not self.stopping.is_set():
                key = f"{DATA}{number}/{count}"
                count += 1
                try:
                    await client.put(key, key)
                    self._report.written += 1
                except EtcdError as error:
                    if not isinstance(error, TransportFailure) or error.sent:
                        self._report.unknown += 1
                await asyncio.sleep(0.005)

    async def watch(self, ready: asyncio.Event) -> None:
        """See every event of the data until the last one of the storm."""
        seen: list[tuple[bytes, int]] = []
        self.watched.append(seen)
        async with self.client() as client, client.watch(DATA, prefix=True, start_revision=1) as watch:
            ready.set()
            async for notice in watch.all():
                if isinstance(notice, Event):
                    seen.append((notice.key, notice.revision))
                    if notice.key == LAST:
                        return
                elif isinstance(notice, Resumed):
                    self._report.resumes += 1

    async def contend(self) -> None:
        async with self.client() as client:
            while not self.stopping.is_set():
                lock = Lock(client, LOCK)
                async with lock:
                    token = lock.token
                    self.holds.append(token)
                    self.inside += 1
                    if self.inside > 1:
                        self._report.wrong.append(f"{self.inside} holders at once in this program")
                    try:
                        await lock_work(client, lock)
                    except LeaseLost:
                        self._report.holds_lost += 1
                    finally:
                        self.inside -= 1

    async def stand(self, name: str) -> None:
        async with self.client() as client:
            while not self.stopping.is_set():
                async with Election(client, ELECTION, name) as leadership:
                    began = time.monotonic()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(TERM_SECONDS):
                            await leadership.lost.wait()
                    self.terms.append((began, time.monotonic()))

    async def observe(self) -> None:
        async with self.client() as client:
            async for leader in Election(client, ELECTION).observe():
                self.observed.append(leader.token)


async def lock_work(client: Client, lock: Lock) -> None:
    """What a holder does: it marks that it is there, works, and marks that it leaves."""
    await mark(client, f"{HOLDS}{lock.token}/enter", lock)
    await asyncio.sleep(0.01)
    lock.check()
    await mark(client, f"{HOLDS}{lock.token}/leave", lock)


async def mark(client: Client, key: str, lock: Lock) -> None:
    """Create a key, without asking whether the lock is still held: the judge shall see who believed so."""
    lock.check()
    absent = compare(key).create_revision == 0
    await persist(lambda: client.txn([absent], [Put(key, lock.key)]))


async def kill_in_turn(c: Cluster, seconds: float, report: Report, rng: random.Random) -> None:
    """Every two seconds another member dies and comes back."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        turn = time.monotonic()
        member = c[rng.choice(sorted(c.members))]
        member.kill()
        report.kills += 1
        await asyncio.sleep(DOWN_SECONDS)
        started = time.monotonic()
        member.start()
        await serves(member.endpoint, pause=0.02)
        report.restart_seconds.append(time.monotonic() - started)
        await asyncio.sleep(max(0.0, KILL_SECONDS - (time.monotonic() - turn)))
    report.seconds = time.monotonic() - began


async def storm(c: Cluster, seconds: float, *, seed: int = 1) -> Report:
    report = Report(c.kind)
    run = Storm(c.endpoints, report)
    ready = [asyncio.Event() for _ in range(WATCHERS)]

    async def ends(tasks: list[asyncio.Task[None]]) -> None:
        async with asyncio.timeout(60):
            await asyncio.gather(*tasks)

    def start(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.create_task(work)

    watchers = [start(run.watch(event)) for event in ready]
    observer = start(run.observe())
    await asyncio.gather(*(event.wait() for event in ready))
    workers = [
        *(start(run.write(number)) for number in range(WRITERS)),
        *(start(run.contend()) for _ in range(CONTENDERS)),
        *(start(run.stand(f"candidate {number}")) for number in range(CANDIDATES)),
    ]
    try:
        await kill_in_turn(c, seconds, report, random.Random(seed))
        run.stopping.set()
        await ends(workers)
        async with run.client() as client:
            absent = compare(LAST).create_revision == 0
            await persist(lambda: client.txn([absent], [Put(LAST)]))
            await ends(watchers)
            history = await read_history(client)
    finally:
        for task in (observer, *watchers, *workers):
            task.cancel()
        await asyncio.gather(observer, *watchers, *workers, return_exceptions=True)
    judge_watchers(run.watched, history, report)
    judge_holds(run.holds, history, report)
    judge_election(run.observed, run.terms, history, report)
    return report


async def read_history(client: Client) -> list[Event]:
    """Every event of the store up to the last one of the storm."""
    events: list[Event] = []
    async with client.watch(b"", prefix=True, start_revision=1) as watch:
        async for event in watch:
            events.append(event)
            if event.key == LAST:
                return events
    raise AssertionError("the history ended before its last event")


def judge_watchers(watched: list[list[tuple[bytes, int]]], history: list[Event], report: Report) -> None:
    """Every watcher must have seen exactly the events of the history, in its order."""
    expected = [(event.key, event.revision) for event in history if event.key.startswith(DATA.encode())]
    report.events = len(expected)
    for seen in watched:
        counts = Counter(seen)
        report.lost += sum(1 for event in expected if event not in counts)
        report.repeated += sum(count - 1 for count in counts.values())
        if seen != expected:
            report.wrong.append(f"a watcher has seen {len(seen)} events, which are not the {len(expected)}")


def judge_holds(begun: list[int], history: list[Event], report: Report) -> None:
    """No hold may begin before the one before it has ended, and none may be marked outside its key's life."""
    created: dict[bytes, int] = {}
    ended: dict[int, int] = {}
    marks: dict[tuple[int, str], int] = {}
    prefix, holds = f"{LOCK}/".encode(), HOLDS.encode()
    for event in history:
        if event.key.startswith(prefix):
            if event.deleted:
                ended[created.pop(event.key)] = event.revision
            elif event.created:
                created[event.key] = event.revision
        elif event.key.startswith(holds):
            token, name = event.key.decode().removeprefix(HOLDS).split("/")
            marks[int(token), name] = event.revision
    forever = history[-1].revision + 1
    tokens = sorted(begun)
    report.holds = len(begun)
    if begun != tokens:
        report.wrong.append("the tokens of later holders are not larger")
    last_end = 0
    for token in tokens:
        enter = marks.get((token, "enter"), token)
        # A holder that has not marked its end was told that the lock is lost, or its key's end is its own.
        end = marks.get((token, "leave"), ended.get(token, forever))
        if enter < last_end or enter < token or end > ended.get(token, forever):
            report.duplicate_holders += 1
            report.wrong.append(f"hold {token}: from {enter} to {end}, the one before until {last_end}")
        last_end = end


def judge_election(
    observed: list[int], terms: list[tuple[float, float]], history: list[Event], report: Report
) -> None:
    """Leaders by the store: the oldest key at each moment. The observer must have seen each of them once."""
    line: dict[bytes, int] = {}
    leaders: list[int] = []
    prefix = f"{ELECTION}/".encode()
    for event in history:
        if not event.key.startswith(prefix):
            continue
        if event.deleted:
            line.pop(event.key, None)
        elif event.created:
            line[event.key] = event.revision
        oldest = min(line.values(), default=0)
        if oldest and oldest not in leaders[-1:]:
            leaders.append(oldest)
    report.leaders = len(leaders)
    report.leaders_observed = len(observed)
    for before, after in itertools.pairwise(sorted(terms)):
        report.leader_gaps.append(after[0] - before[1])
        if after[0] < before[1]:
            report.wrong.append("two leaders at once in this program")
    if leaders != sorted(leaders):
        report.wrong.append("leaders' tokens do not grow")
    # At the end the observer may be about to see the last ones.
    if observed != leaders[: len(observed)] or len(observed) < len(leaders) - OBSERVER_BEHIND_MAX:
        report.wrong.append("the observer has not seen the leaders that there were")


def run(kind: Kind, seconds: float, *, seed: int = 1) -> Report:
    with cluster(kind) as c:
        return asyncio.run(storm(c, seconds, seed=seed))


def main(say: Callable[[str], object] = print) -> int:
    parser = argparse.ArgumentParser(description="Recipes on three members, one killed every two seconds.")
    parser.add_argument("--kind", choices=["go", "petcd"], default="petcd")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    report = run(args.kind, args.seconds, seed=args.seed)
    say(report.describe())
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
