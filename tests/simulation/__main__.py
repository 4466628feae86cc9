"""``python -m tests.simulation --seeds 1000``: random histories of one member with random crashes."""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation import single


def main() -> int:
    parser = argparse.ArgumentParser(description="Crash a simulated member in random histories.")
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--requests", type=int, default=60)
    parser.add_argument("--crashes", type=int, default=6)
    args = parser.parse_args()
    failed = []
    started = time.monotonic()
    with single.small_segments():
        for seed in range(args.first, args.first + args.seeds):
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
