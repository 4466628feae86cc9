"""Saving and restoring a snapshot, petcd's tools beside Go's, from and for either server.

    python benchmarks/snapshots.py                    # 1,000,000 keys with values of 100 bytes
    python benchmarks/snapshots.py --keys 100000 --directory /var/tmp

Of each command: seconds by the clock, seconds of processor time (the saver's own: the server's comes on top),
and the most memory it held. Beside the saving, the slowest of the puts that a client makes meanwhile. At the
end the four restored directories are served by the program they were made for, and their HashKV compared.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.servers import Kind, clean_environment, serving  # noqa: E402

from petcd.client import Client, Put  # noqa: E402

BATCH: Final = 100
"""Puts to a transaction while filling; etcd takes 128."""
AT_ONCE: Final = 20
_LOOK_SECONDS: Final = 0.01


class Cost(NamedTuple):
    seconds: float
    cpu: float
    megabytes: float


def peak_kilobytes(process: int) -> int:
    """The most it held until now. What ``wait4`` says begins with what this process holds."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return int(status.partition("VmHWM:")[2].split()[0]) if "VmHWM:" in status else 0


def run(command: Sequence[str | Path], env: dict[str, str]) -> Cost:
    """Run it to its end. Raises RuntimeError when it fails."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        actions = [(os.POSIX_SPAWN_DUP2, said.fileno(), 1), (os.POSIX_SPAWN_DUP2, said.fileno(), 2)]
        child = os.posix_spawn(str(command[0]), [str(word) for word in command], env, file_actions=actions)
        held, ended = 0, 0
        while not ended:
            held = max(held, peak_kilobytes(child))
            time.sleep(_LOOK_SECONDS)
            ended, status, usage = os.wait4(child, os.WNOHANG)
        seconds = time.perf_counter() - began
        if status:
            said.seek(0)
            raise RuntimeError(said.read().decode(errors="replace")[-2000:])
    return Cost(seconds, usage.ru_utime + usage.ru_stime, held / 1024)


async def fill(endpoint: str, keys: int) -> None:
    async with Client(endpoint, timeout=60) as client:

        async def work(first: int) -> None:
            for start in range(first * BATCH, keys, AT_ONCE * BATCH):
                numbers = range(start, min(start + BATCH, keys))
                await client.txn(then=[Put(b"bench/%012d" % n, b"%0100d" % n) for n in numbers])

        await asyncio.gather(*[work(first) for first in range(AT_ONCE)])


async def slowest_put(endpoint: str, over: asyncio.Event) -> float:
    """In seconds, until ``over``."""
    slowest = 0.0
    async with Client(endpoint, timeout=60) as client:
        while not over.is_set():
            began = time.perf_counter()
            await client.put("bench/meanwhile", "1")
            slowest = max(slowest, time.perf_counter() - began)
            await asyncio.sleep(0.005)
    return slowest


async def save(command: Sequence[str | Path], env: dict[str, str], endpoint: str) -> tuple[Cost, float]:
    over = asyncio.Event()
    writer = asyncio.ensure_future(slowest_put(endpoint, over))
    cost = await asyncio.to_thread(run, command, env)
    over.set()
    return cost, await writer


async def hash_of(endpoint: str) -> tuple[int, int]:
    async with Client(endpoint, timeout=60) as client:
        answer = await client.maintenance.hash_kv()
        return answer.hash, answer.compact_revision


def show(what: str, cost: Cost, more: str = "") -> None:
    print(
        f"{what:<46}{cost.seconds:>8.2f} s{cost.cpu:>8.2f} s cpu{cost.megabytes:>8.0f} MB  {more}", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--directory", default="/var/tmp")
    options = parser.parse_args()
    env = clean_environment({"ETCDCTL_API": "3"})
    ours = Path(sys.executable).parent
    savers = {"petcd": [ours / "etcdctl"], "go": [Path("/usr/bin/etcdctl")]}
    restorers = {"petcd": [ours / "etcdutl"], "go": [Path("/usr/bin/etcdctl")]}
    kinds: tuple[Kind, ...] = ("petcd", "go")
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="snapshots-") as name:
        directory = Path(name)
        for kind in kinds:
            with serving(kind, directory / kind) as server:
                asyncio.run(fill(server.endpoint, options.keys))
                for tool, command in savers.items():
                    file = directory / f"{kind}-{tool}.db"
                    line = [*command, f"--endpoints={server.endpoint}", "--command-timeout=600s"]
                    cost, slowest = asyncio.run(save([*line, "snapshot", "save", file], env, server.endpoint))
                    size = f"{file.stat().st_size / 1e6:.0f} MB, slowest put {slowest * 1e3:.0f} ms"
                    show(f"save from {kind} by {tool}'s etcdctl", cost, size)
        hashes = {}
        for kind in kinds:
            for tool, command in restorers.items():
                file, restored = directory / f"{kind}-petcd.db", directory / f"{kind}-for-{tool}"
                show(
                    f"restore of {kind}'s for {tool}",
                    run([*command, "snapshot", "restore", file, f"--data-dir={restored}/data.etcd"], env),
                )
                with serving(tool, restored) as server:
                    hashes[kind, tool] = asyncio.run(hash_of(server.endpoint))
        for kind in kinds:
            print(
                f"HashKV of {kind}'s, served by petcd and by Go:", hashes[kind, "petcd"], hashes[kind, "go"]
            )
            if hashes[kind, "petcd"] != hashes[kind, "go"]:
                raise SystemExit("they differ")


if __name__ == "__main__":
    main()
