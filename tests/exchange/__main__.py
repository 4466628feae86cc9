"""``python -m tests.exchange [--rounds N] [--seed S]``: random histories of Go etcd, taken over."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.exchange.rounds import compare_once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    for seed in range(asked.seed, asked.seed + asked.rounds):
        with tempfile.TemporaryDirectory(prefix="exchange-") as directory:
            print(f"{seed}: {compare_once(seed, Path(directory))}", flush=True)


if __name__ == "__main__":
    main()
