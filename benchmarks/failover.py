"""How long a cluster takes to start, and to find a new leader, beside another etcd. Prints one table of both.

    python benchmarks/failover.py --a go --b petcd

Three members on three hosts (network namespaces, so this needs root), with etcd's own timing: a heartbeat of
100 ms, an election timeout of 1000 ms. What is measured:

- start, leader: fresh members, from the moment they are started to the first that says it leads;
- start, write: to the first acknowledged write;
- start, healthy: until every member answers a linearizable read;
- restart, write: the same members ended cleanly, and started again on their data;
- kill, leader and kill, write: from kill -9 of the leader to the next one, and to the next write;
- move, write: from the request to move the leadership to the first write sent after it.

The start is the program's own; the two kills are mostly the election timeout, drawn at random between one
and two seconds, so their medians are worth something only over many rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.cluster.failover import first_write, kill_leaders, leader_among, serves
from tests.cluster.members import Cluster, cluster
from tests.cluster.network import missing
from tests.servers import Kind

Figures = dict[str, list[float]]


async def _start(c: Cluster, figures: Figures, name: str) -> None:
    started = time.monotonic()

    def note(what: str) -> None:
        figures[f"{name}, {what}"].append(time.monotonic() - started)

    async def write() -> None:
        await first_write(c.endpoints)
        note("write")

    async def leader() -> None:
        await leader_among(c.endpoints)
        note("leader")

    for member in c.members.values():
        member.start()
    await asyncio.gather(write(), leader())
    await asyncio.gather(*(serves(endpoint, pause=0.01) for endpoint in c.endpoints))
    note("healthy")


async def _move(c: Cluster, figures: Figures) -> None:
    old = c.leader()
    new = old % 3 + 1
    target = f"{c.member_id(new):x}"
    started = time.monotonic()
    moving = asyncio.ensure_future(asyncio.to_thread(c.etcdctl, "move-leader", target, via=old))
    await asyncio.sleep(0)
    await leader_among([c[new].endpoint])
    await first_write([c[new].endpoint])
    figures["move, write"].append(time.monotonic() - started)
    await moving


def measure(kind: Kind, starts: int, kills: int, seed: int) -> Figures:
    figures: Figures = defaultdict(list)
    for number in range(starts):
        with cluster(kind, started=False) as c:
            asyncio.run(_start(c, figures, "start"))
            asyncio.run(_move(c, figures))
            for member in c.members.values():
                member.stop()
            asyncio.run(_start(c, figures, "restart"))
            if number == starts - 1:
                report = asyncio.run(kill_leaders(c, kills, seed=seed, clients=2))
                figures["kill, leader"] = report.leader_seconds
                figures["kill, write"] = report.write_seconds
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description="Time to start and to fail over, of two kinds of server.")
    parser.add_argument("--a", choices=["go", "petcd"], default="go")
    parser.add_argument("--b", choices=["go", "petcd"], default="petcd")
    parser.add_argument("--starts", type=int, default=7)
    parser.add_argument("--kills", type=int, default=15)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    reason = missing()
    if reason:
        print(reason)
        return 1
    kinds = [cast("Kind", args.a), cast("Kind", args.b)]
    measured = [measure(kind, args.starts, args.kills, args.seed) for kind in kinds]
    print(f"{'seconds: median (max)':24}" + "".join(f"{kind:>18}" for kind in kinds) + f"{'ratio':>8}")
    for name in measured[0]:
        medians = [statistics.median(figures[name]) for figures in measured]
        cells = [f"{m:.3f} ({max(f[name]):.3f})" for m, f in zip(medians, measured, strict=True)]
        print(f"{name:24}" + "".join(f"{cell:>18}" for cell in cells) + f"{medians[1] / medians[0]:8.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
