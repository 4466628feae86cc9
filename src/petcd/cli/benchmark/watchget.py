"""watch-get: serializable reads while many watches catch up with the past."""

from __future__ import annotations

from typing import Final

from petcd.cli.benchmark import paths
from petcd.cli.benchmark.bench import Bench, clock
from petcd.cli.benchmark.channels import Channel
from petcd.cli.benchmark.commands import Command
from petcd.cli.benchmark.display import Standing
from petcd.cli.benchmark.report import Report
from petcd.cli.benchmark.watchers import WatchStream
from petcd.cli.etcdctl.grammar import integer
from petcd.cli.etcdctl.session import describe
from petcd.errors import EtcdError
from petcd.pb.etcdserverpb import kv as pb

_WATCHED: Final = b"watchkey"
_READ: Final = b"abc"


class _Catching:
    """Watches that have not yet got all their events."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.came = 0

    @property
    def over(self) -> bool:
        return self.came >= self.expected

    async def take(self, stream: WatchStream, watches: int, events: int, revision: int) -> None:
        for _ in range(watches):
            stream.ask(_WATCHED, revision=revision)
        left = watches * events
        if not left:
            return
        async for response in stream.responses():
            self.came += len(response.events)
            left -= len(response.events)
            if left <= 0:
                return

    async def read(self, channel: Channel, report: Report) -> None:
        """One read after the other for as long as it lasts."""
        message = pb.RangeRequest(key=_READ, serializable=True).encode()
        while not self.over:
            began = clock()
            try:
                await channel.unary(paths.RANGE, message)
            except EtcdError as error:
                report.fail(describe(error))
            else:
                report.add(began, clock())


async def watch_get(bench: Bench) -> None:
    flags = bench.flags
    watches, count, events = flags["watchers"], flags["streams"], flags["events"]
    clients = bench.clients()
    revision = 0
    for at in range(events):
        message = pb.PutRequest(key=_WATCHED, value=str(at).encode()).encode()
        response = pb.PutResponse.decode(await clients[0].unary(paths.PUT, message))
        if not revision and response.header is not None:
            revision = response.header.revision
    streams = [await WatchStream.open(clients[at % len(clients)]) for at in range(count)]
    (reader,) = await bench.connect(1)

    catching = _Catching(watches * events)
    report = bench.report("watch-get")
    shares = [len(range(at, watches, count)) for at in range(count)]
    await bench.work(
        "watch-get",
        catching.expected,
        [
            *(
                catching.take(stream, share, events, revision)
                for stream, share in zip(streams, shares, strict=True)
            ),
            catching.read(reader, report),
        ],
        [report],
        lambda: f"Get during watch summary:\n{report.text()}",
        lambda: Standing(catching.came),
    )


WATCH_GET: Final = Command(
    "watch-get",
    "Benchmark watch with get",
    watch_get,
    (
        integer("watchers", "Total number of watchers", default=10_000),
        integer("streams", "Total number of watcher streams", default=1),
        integer("events", "Number of events per watcher", default=8),
    ),
    description=(
        "Benchmark watch-get makes watches that begin in the past, and measures serializable reads of a key\n"
        "for as long as the server is busy with sending them what they have missed."
    ),
)
