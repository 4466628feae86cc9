"""The same command lines by Debian's etcdctl and by ours: stdout, stderr and exit status, byte for byte.

``python -m tests.etcdctl.differential`` runs every group of ``cases`` against Go etcd and against petcd and
prints how many cases there are, how many are identical, and every difference with its reason. The two tools
of a case talk to two servers of one kind that were started alike (same ids) and brought through the same
lines, or, for three members, to one cluster. Ids of leases, times, ports and log lines are masked.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.etcdctl.case import Case, Group
from tests.etcdctl.groups import GROUPS
from tests.etcdctl.reasons import OUTCOME
from tests.etcdctl.side import Side
from tests.etcdctl.topology import sides
from tests.servers import HAS_GO_ETCD, HAS_GO_ETCDCTL, Kind

_NOT_RUN = -1000


@dataclass
class Verdict:
    """What became of a group's cases."""

    identical: list[Case] = field(default_factory=list)
    exact: list[Case] = field(default_factory=list)
    """Different, and exactly as their reason says."""
    layout: list[Case] = field(default_factory=list)
    """Different in layout, for their reason; the exit status is the same."""
    wrong: list[str] = field(default_factory=list)

    @property
    def cases(self) -> int:
        return len(self.identical) + len(self.exact) + len(self.layout) + len(self.wrong)


def compare(group: Group, kind: Kind) -> Verdict:
    """Run a group against servers of this kind."""
    verdict = Verdict()
    with sides(group.where, kind) as pair, ThreadPoolExecutor(2) as pool:
        for case in group.cases:
            if case.only not in ("", kind):
                continue
            if group.where == "trio":
                theirs, own = pair[0].run(case), pair[1].run(case)
            else:
                theirs, own = pool.map(lambda side, case=case: _run(side, case), pair)
            _judge(verdict, case, kind, theirs, own)
    return verdict


def _run(side: Side, case: Case) -> OUTCOME:
    try:
        return side.run(case)
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        # What keeps a case from being run at all is a finding like others.
        return b"", f"<{error}>".encode(), _NOT_RUN


def _judge(verdict: Verdict, case: Case, kind: Kind, theirs: OUTCOME, own: OUTCOME) -> None:
    report = f"{case.name}\n    go   {theirs}\n    ours {own}"
    reason = case.differs
    if _NOT_RUN in (own[2], theirs[2]):
        verdict.wrong.append(report)
    elif own == theirs:
        if reason is not None and kind == "go" and reason.server in ("", kind):
            verdict.wrong.append(f"no longer differs: {report}")
        else:
            verdict.identical.append(case)
    elif reason is None:
        verdict.wrong.append(report)
    elif case.expect is not None:
        # The older release has nothing like it.
        if own == case.expect:
            verdict.exact.append(case)
        else:
            verdict.wrong.append(f"{report}\n    want {case.expect}")
    elif reason.exact:
        try:
            left, right = reason.theirs(theirs), reason.ours(own)
        except AssertionError as error:
            verdict.wrong.append(f"{report}\n    {error}")
            return
        if left == right:
            (verdict.layout if reason.layout else verdict.exact).append(case)
        else:
            verdict.wrong.append(f"{report}\n    rewritten {left}\n    reduced   {right}")
    elif own[2] == theirs[2]:
        verdict.layout.append(case)
    else:
        verdict.wrong.append(report)


def _report(kind: Kind, groups: list[Group]) -> Iterator[tuple[str, Verdict]]:
    for group in groups:
        if kind in group.kinds:
            yield group.name, compare(group, kind)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.etcdctl.differential", description=__doc__)
    parser.add_argument("--server", choices=("go", "petcd"), action="append", help="default: both, in turn")
    parser.add_argument("--group", choices=sorted(GROUPS), action="append", help="default: all")
    parser.add_argument("--quiet", action="store_true", help="only the numbers, and what is wrong")
    options = parser.parse_args(arguments)
    if not (HAS_GO_ETCD and HAS_GO_ETCDCTL):
        parser.error(
            "Debian's etcd and etcdctl (3.4) are not installed: packages etcd-server and etcd-client"
        )
    groups = [GROUPS[name] for name in options.group or GROUPS]
    failed = False
    for kind in options.server or ("go", "petcd"):
        total = Verdict()
        print(f"against {'Go etcd 3.4' if kind == 'go' else 'petcd'}")
        print(f"  {'group':14}{'cases':>7}{'identical':>11}{'differ':>8}{'wrong':>7}")
        for name, verdict in _report(kind, groups):
            differ = len(verdict.exact) + len(verdict.layout)
            row = (verdict.cases, len(verdict.identical), differ, len(verdict.wrong))
            print("  {:14}{:7}{:11}{:8}{:7}".format(name, *row), flush=True)
            for part in ("identical", "exact", "layout", "wrong"):
                getattr(total, part).extend(getattr(verdict, part))
        differ = len(total.exact) + len(total.layout)
        row = (total.cases, len(total.identical), differ, len(total.wrong))
        print("  {:14}{:7}{:11}{:8}{:7}".format("all", *row))
        if not options.quiet:
            print(f"\n  {len(total.exact)} differ exactly as later releases do:")
            _list(total.exact)
            print(f"\n  {len(total.layout)} have another layout (same stream, same exit status):")
            _list(total.layout)
        for report in total.wrong:
            print(f"\n  WRONG {report}")
        print(flush=True)
        failed = failed or bool(total.wrong)
    return 1 if failed else 0


def _list(cases: list[Case]) -> None:
    by_reason: dict[str, list[Case]] = {}
    for case in cases:
        assert case.differs is not None
        by_reason.setdefault(case.differs.text, []).append(case)
    for text, alike in sorted(by_reason.items()):
        print(f"    {text}")
        for case in alike:
            print(f"      {case.name}")


if __name__ == "__main__":
    sys.exit(main())
