"""``python -m tests.differential``: a long differential run from the command line."""

from __future__ import annotations

import argparse
import sys

from tests.differential.run import Differential
from tests.servers import serving


def main() -> int:
    parser = argparse.ArgumentParser(description="Give one random history to two servers and compare.")
    parser.add_argument("--operations", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--reference", choices=["go", "petcd"], default="go")
    parser.add_argument("--subject", choices=["go", "petcd"], default="petcd")
    args = parser.parse_args()
    with serving(args.reference) as reference, serving(args.subject) as subject:
        run = Differential(reference.endpoint, subject.endpoint, args.seed)
        try:
            report = run.run(args.operations)
        except Exception:
            print(run.report.describe())
            for name, server in (("reference", reference), ("subject", subject)):
                print(f"the end of the {name}'s log:\n{server.log_tail(2000)}")
            raise
    print(report.describe())
    return 1 if report.differences else 0


if __name__ == "__main__":
    sys.exit(main())
