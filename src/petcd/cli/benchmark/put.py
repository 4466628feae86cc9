"""put: new values for numbered keys."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from random import randrange
from typing import Final

from petcd.cli.benchmark import paths
from petcd.cli.benchmark.bench import Bench, clock
from petcd.cli.benchmark.channels import Channel, every
from petcd.cli.benchmark.commands import TOTAL_DEFAULT, Command, key_space, rate, sequential, sizes
from petcd.cli.benchmark.keys import check_space, numbered, value
from petcd.cli.benchmark.report import Report
from petcd.cli.etcdctl import golang
from petcd.cli.etcdctl.commands import complain
from petcd.cli.etcdctl.grammar import FlagSet, boolean, duration, integer, string
from petcd.cli.etcdctl.session import describe
from petcd.errors import Compacted, EtcdError
from petcd.pb.etcdserverpb import kv as pb
from petcd.pb.etcdserverpb import maintenance

_DELTA_DEFAULT: Final = 1000


def _messages(bench: Bench, report: Report) -> Iterator[tuple[bytes, Report]]:
    flags = bench.flags
    size, space, prefix = flags["key-size"], flags["key-space-size"], golang.raw(flags["prefix"])
    content = value(flags["val-size"])
    in_order = flags["sequential-keys"]
    for at in range(flags["total"]):
        number = at % space if in_order else randrange(space)
        yield pb.PutRequest(key=prefix + numbered(number, size), value=content).encode(), report


async def _compact(channel: Channel, delta: int) -> None:
    """Forget all but the last ``delta`` revisions; the run goes on when that fails."""
    try:
        now = pb.RangeResponse.decode(
            await channel.unary(paths.RANGE, pb.RangeRequest(key=b"\0", limit=1).encode())
        )
        revision = max(0, (now.header.revision if now.header is not None else 0) - delta)
        await channel.unary(paths.COMPACT, pb.CompactionRequest(revision=revision).encode())
    except Compacted:
        return  # nothing was written since the last time
    except EtcdError as error:
        complain(f"warning: compaction failed: {describe(error)}")


async def _hash(bench: Bench) -> str:
    """``--check-hashkv``: what the first endpoint's history hashes to, and how long that took."""
    endpoint = bench.endpoints[0]
    connection = await bench.dialer.dial(endpoint)
    try:
        metadata = bench.identity.metadata
        began = clock()
        answer = await connection.unary(
            paths.HASH_KV, maintenance.HashKVRequest().encode(), metadata=metadata
        )
        status = await connection.unary(paths.STATUS, maintenance.StatusRequest().encode(), metadata=metadata)
        took = clock() - began
    finally:
        connection.close()
    return (
        "HashKV Summary:\n"
        f"\tHashKV: {maintenance.HashKVResponse.decode(answer).hash}\n"
        f"\tEndpoint: {endpoint.text}\n"
        f"\tTime taken to get hashkv: {golang.duration(took)}\n"
        f"\tDB size: {golang.size(maintenance.StatusResponse.decode(status).dbSize)}\n"
    )


def _check(flags: FlagSet, _arguments: list[str]) -> None:
    check_space(flags["key-size"], flags["key-space-size"])


async def put(bench: Bench) -> None:
    flags = bench.flags
    report = bench.report("put")
    compactor = None
    if flags["compact-interval"]:
        channel = bench.channels[0]
        compactor = asyncio.ensure_future(
            every(flags["compact-interval"] / 1e9, lambda: _compact(channel, flags["compact-index-delta"]))
        )
    try:
        await bench.send(
            "put",
            flags["total"],
            paths.PUT,
            _messages(bench, report),
            [report],
            lambda: report.text() + "\n",
        )
    finally:
        if compactor is not None:
            compactor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await compactor
    if flags["check-hashkv"]:
        bench.say(await _hash(bench))


PUT: Final = Command(
    "put",
    "Benchmark put",
    put,
    (
        *sizes("put request"),
        rate("puts"),
        integer("total", "Total number of put requests", default=TOTAL_DEFAULT),
        key_space(),
        sequential(),
        string("prefix", "Prefix for keys"),
        duration(
            "compact-interval",
            "Interval to compact database (do not duplicate this with etcd's 'auto-compaction-retention' "
            "flag) (e.g. --compact-interval=5m compacts every 5-minute)",
        ),
        integer(
            "compact-index-delta",
            "Delta between current revision and compact revision "
            "(e.g. current revision 10000, compact at 9000)",
            default=_DELTA_DEFAULT,
        ),
        boolean("check-hashkv", "'true' to check hashkv"),
    ),
    check=_check,
)
