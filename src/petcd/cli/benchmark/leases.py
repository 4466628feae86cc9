"""lease-keepalive: leases renewed, each time over a stream of its own as one call does it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from petcd.cli.benchmark import paths
from petcd.cli.benchmark.bench import Bench, clock
from petcd.cli.benchmark.channels import Channel
from petcd.cli.benchmark.commands import TOTAL_DEFAULT, Command
from petcd.cli.benchmark.report import Report
from petcd.cli.etcdctl.grammar import integer
from petcd.cli.etcdctl.session import describe
from petcd.errors import Code, EtcdError, LeaseNotFound, StatusError
from petcd.pb.etcdserverpb import lease as pb

_TTL_SECONDS: Final = 100


async def grant(channel: Channel, ttl: int) -> int:
    """A new lease's id. Raises EtcdError."""
    answer = await channel.unary(paths.LEASE_GRANT, pb.LeaseGrantRequest(TTL=ttl).encode())
    return pb.LeaseGrantResponse.decode(answer).ID


async def keep_alive_once(channel: Channel, lease: int) -> None:
    """Raises EtcdError."""
    stream = await channel.stream(paths.LEASE_KEEP_ALIVE)
    try:
        stream.send(pb.LeaseKeepAliveRequest(ID=lease).encode())
        answer = await stream.recv()
    finally:
        stream.cancel()
    if answer is None:
        raise StatusError(Code.UNAVAILABLE, "the stream ended without an answer")
    if pb.LeaseKeepAliveResponse.decode(answer).TTL <= 0:
        raise LeaseNotFound


async def _keep(channel: Channel, lease: int, turns: Iterator[int], report: Report) -> None:
    for _ in turns:
        began = clock()
        try:
            await keep_alive_once(channel, lease)
        except EtcdError as error:
            report.fail(describe(error))
        else:
            report.add(began, clock())


async def lease_keepalive(bench: Bench) -> None:
    total = bench.flags["total"]
    clients = bench.clients()
    leases = [await grant(channel, _TTL_SECONDS) for channel in clients]
    report = bench.report("lease-keepalive")
    turns = iter(range(total))
    workers = [_keep(channel, lease, turns, report) for channel, lease in zip(clients, leases, strict=True)]
    await bench.work("lease-keepalive", total, workers, [report], report.text)


LEASE_KEEPALIVE: Final = Command(
    "lease-keepalive",
    "Benchmark lease keepalive",
    lease_keepalive,
    (integer("total", "Total number of lease keepalive requests", default=TOTAL_DEFAULT),),
    alias="lease",
)
