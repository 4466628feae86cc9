"""``python -m tests.crash --rounds 200``: kill -9 under load from the command line."""

from __future__ import annotations

import argparse
import sys

from tests.crash import kill


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill a server under load, restart it, look for losses.")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=int, default=5000)
    parser.add_argument("--kind", choices=["go", "petcd"], default="petcd")
    parser.add_argument("--quiet", action="store_true")
    args = parser.parse_args()
    say = (lambda _: None) if args.quiet else print
    report = kill.run(args.kind, args.rounds, args.seed, rate=args.rate, say=say)
    print(report.describe())
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
