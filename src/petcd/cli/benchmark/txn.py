"""txn-put and txn-mixed: transactions without a condition."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from random import random
from typing import Final

from petcd.cli.benchmark import paths
from petcd.cli.benchmark.bench import Bench
from petcd.cli.benchmark.commands import TOTAL_DEFAULT, Command, consistency, key_space, rate, sizes
from petcd.cli.benchmark.failures import Failure
from petcd.cli.benchmark.keys import ALL, check_space, numbered, value
from petcd.cli.benchmark.ranges import announce, check_consistency
from petcd.cli.benchmark.report import Report
from petcd.cli.etcdctl.golang import raw
from petcd.cli.etcdctl.grammar import FlagSet, integer, number, string
from petcd.pb.etcdserverpb import kv as pb

_LIMIT_DEFAULT: Final = 1000


def _txn(operations: list[pb.RequestOp]) -> bytes:
    return pb.TxnRequest(success=operations).encode()


def _puts(bench: Bench, report: Report) -> Iterator[tuple[bytes, Report]]:
    flags = bench.flags
    size, space, each = flags["key-size"], flags["key-space-size"], flags["txn-ops"]
    content = value(flags["val-size"])
    for at in range(flags["total"]):
        keys = [numbered((at * each + step) % space, size) for step in range(each)]
        puts = [pb.RequestOp(request_put=pb.PutRequest(key=key, value=content)) for key in keys]
        yield _txn(puts), report


def _check_put(flags: FlagSet, _arguments: list[str]) -> None:
    check_space(flags["key-size"], flags["key-space-size"])
    each, space = flags["txn-ops"], flags["key-space-size"]
    if each > space:
        raise Failure(
            f"expected --txn-ops no larger than --key-space-size, got txn-ops({each}) key-space-size({space})"
        )


async def txn_put(bench: Bench) -> None:
    report = bench.report("txn-put")
    await bench.send(
        "txn-put",
        bench.flags["total"],
        paths.TXN,
        _puts(bench, report),
        [report],
        lambda: report.text() + "\n",
    )


def _read(bench: Bench, *, serializable: bool) -> pb.RequestOp:
    """All keys, or from the first argument to the second or ``--end-key``; one key when there is no end."""
    key, end = [*map(raw, bench.arguments), b"", b""][:2]
    end = end or raw(bench.flags["end-key"])
    if not key:
        key, end = ALL, end or ALL
    request = pb.RangeRequest(key=key, range_end=end, limit=bench.flags["limit"], serializable=serializable)
    return pb.RequestOp(request_range=request)


class _Mix:
    """Reads and writes at random, in the ratio asked for, and how many of each there were."""

    def __init__(self, bench: Bench, reading: Report, writing: Report, *, serializable: bool) -> None:
        self._bench = bench
        self._reading = reading
        self._writing = writing
        self._read = _txn([_read(bench, serializable=serializable)])
        self.reads = 0
        self.writes = 0

    def __iter__(self) -> Iterator[tuple[bytes, Report]]:
        flags = self._bench.flags
        size, space, ratio = flags["key-size"], flags["key-space-size"], flags["rw-ratio"]
        share = ratio / (1 + ratio)
        content = value(flags["val-size"])
        for at in range(flags["total"]):
            if random() < share:
                self.reads += 1
                yield self._read, self._reading
            else:
                self.writes += 1
                put = pb.PutRequest(key=numbered(at % space, size), value=content)
                yield _txn([pb.RequestOp(request_put=put)]), self._writing


def _check_mixed(flags: FlagSet, arguments: list[str]) -> None:
    check_space(flags["key-size"], flags["key-space-size"])
    check_consistency(flags)
    if not 0 <= flags["rw-ratio"] < inf:
        raise Failure(f"expected --rw-ratio not below 0, got ({flags['rw-ratio']:g})")
    if flags["end-key"] and len(arguments) > 1:
        raise Failure("--end-key and an end-range are mutually exclusive")


async def txn_mixed(bench: Bench) -> None:
    serializable = announce(bench)
    reading, writing = bench.report("txn-mixed-read"), bench.report("txn-mixed-write")
    mix = _Mix(bench, reading, writing, serializable=serializable)

    def tell() -> str:
        return (
            f"Total Read Ops: {mix.reads}\nDetails:{reading.text()}\n"
            f"Total Write Ops: {mix.writes}\nDetails:{writing.text()}\n"
        )

    await bench.send("txn-mixed", bench.flags["total"], paths.TXN, iter(mix), [reading, writing], tell)


TXN_PUT: Final = Command(
    "txn-put",
    "Benchmark txn-put",
    txn_put,
    (
        *sizes("txn put"),
        integer("txn-ops", "Number of puts per txn", default=1),
        rate("txns"),
        integer("total", "Total number of txn requests", default=TOTAL_DEFAULT),
        key_space(),
    ),
    check=_check_put,
)

TXN_MIXED: Final = Command(
    "txn-mixed",
    "Benchmark a mixed load of txn-put & txn-range.",
    txn_mixed,
    (
        *sizes("mixed txn"),
        rate("txns"),
        integer("total", "Total number of txn requests", default=TOTAL_DEFAULT),
        string(
            "end-key",
            "Read operation range end key. By default, we do full range query "
            "with the default limit of 1000.",
        ),
        integer("limit", "Read operation range result limit", default=_LIMIT_DEFAULT),
        key_space(),
        consistency(),
        number("rw-ratio", "Read/write ops ratio", default=1.0),
    ),
    arguments="[key [end-range]]",
    arguments_max=2,
    check=_check_mixed,
)
