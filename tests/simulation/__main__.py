"""Random runs from the command line; a seed is a run.

python -m tests.simulation --seeds 1000                       one member, random crashes
python -m tests.simulation --cluster --seeds 2000 --jobs 2    whole clusters, every fault, every checker
python -m tests.simulation --cluster --seed 4711 --trace      one of them again, with its trace
python -m tests.simulation --mutations                        how many seeds it takes to catch each mistake
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import sys
import time
import traceback
from collections.abc import Iterator

from tests.simulation import mutations, single, storm

_CHUNK = 10


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--cluster", action="store_true", help="clusters instead of a single member")
    parser.add_argument("--mutations", action="store_true", help="a table of mistakes and who catches them")
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--start", "--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="this one only")
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--trace", action="store_true", help="print the end of the trace of a failure")
    parser.add_argument("--trace-lines", type=int, default=200)
    parser.add_argument("--requests", type=int, default=60, help="of a single member's run")
    parser.add_argument("--crashes", type=int, default=6, help="of a single member's run")
    parser.add_argument("--only", default="", help="with --mutations: those whose name contains this")
    args = parser.parse_args()
    if args.mutations:
        return mutations.table(args.only, args.seeds, args.jobs)
    if args.seed is not None:
        args.start, args.seeds, args.jobs = args.seed, 1, 1
    return clusters(args) if args.cluster else members(args)


def clusters(args: argparse.Namespace) -> int:
    """Whole clusters; every failure is shown with how to run it again."""
    failed: list[int] = []
    faults: collections.Counter[str] = collections.Counter()
    totals: collections.Counter[str] = collections.Counter()
    started = reported = time.monotonic()
    count = 0
    for seed, outcome, problem in results(args):
        count += 1
        if outcome is None:
            failed.append(seed)
            print(f"seed {seed}: {problem}", flush=True)
            if args.trace:
                print("\n".join(storm.trace_of(seed, args.members)[-args.trace_lines :]), flush=True)
            else:
                print(
                    f"  again: python -m tests.simulation --cluster --members {args.members} "
                    f"--seed {seed} --trace",
                    flush=True,
                )
        else:
            faults.update(outcome.faults)
            for name in ("calls", "answered", "entries", "leaders", "snapshots", "crashes"):
                totals[name] += getattr(outcome, name)
        if time.monotonic() - reported > 60:
            reported = time.monotonic()
            rate = count / (reported - started) * 60
            print(f"  {count} seeds, {rate:.0f} a minute, failed: {failed}", flush=True)
    seconds = time.monotonic() - started
    print(", ".join(f"{name} {number}" for name, number in totals.items()))
    print(", ".join(f"{name} {number}" for name, number in sorted(faults.items())))
    print(
        f"{count} seeds of {args.members} members in {seconds:.0f} s ({count / seconds * 60:.0f} a minute), "
        f"failed: {sorted(failed)}"
    )
    return 1 if failed else 0


Result = tuple[int, storm.Outcome | None, str]


def results(args: argparse.Namespace) -> Iterator[Result]:
    chunks = [
        (range(first, min(first + _CHUNK, args.start + args.seeds)), args.members)
        for first in range(args.start, args.start + args.seeds, _CHUNK)
    ]
    if args.jobs <= 1:
        for chunk in chunks:
            yield from _run_chunk(chunk)
        return
    with multiprocessing.Pool(args.jobs) as pool:
        for done in pool.imap_unordered(_run_chunk, chunks):
            yield from done


def _run_chunk(chunk: tuple[range, int]) -> list[Result]:
    seeds, size = chunk
    found: list[Result] = []
    for seed in seeds:
        try:
            found.append((seed, storm.run(seed, size), ""))
        except Exception as error:  # noqa: BLE001 - the other seeds are tried, too
            text = f"{type(error).__name__}: {error}"
            if not isinstance(error, storm.COMPLAINTS):
                text += "\n" + "".join(traceback.format_tb(error.__traceback__)[-4:])
            found.append((seed, None, text))
    return found


def members(args: argparse.Namespace) -> int:
    """A single member."""
    failed = []
    started = time.monotonic()
    with single.small_segments():
        for seed in range(args.start, args.start + args.seeds):
            try:
                single.random_crashes(seed, args.requests, args.crashes)
            except Exception as error:  # noqa: BLE001 - the other seeds are tried, too
                failed.append(seed)
                print(f"seed {seed}: {error}")
    seconds = time.monotonic() - started
    print(
        f"{args.seeds} seeds in {seconds:.0f} s ({args.seeds / seconds * 60:.0f} a minute), failed: {failed}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
