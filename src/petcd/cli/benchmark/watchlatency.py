"""watch-latency: how long after the answer to a put its event comes to each watch."""

from __future__ import annotations

from array import array
from typing import Final

from petcd.cli.benchmark import paths
from petcd.cli.benchmark.bench import Bench, clock
from petcd.cli.benchmark.channels import Channel
from petcd.cli.benchmark.commands import Command
from petcd.cli.benchmark.display import Standing
from petcd.cli.benchmark.keys import value
from petcd.cli.benchmark.pacer import Pacer
from petcd.cli.benchmark.report import Report
from petcd.cli.benchmark.watchers import WatchStream
from petcd.cli.etcdctl.grammar import boolean, integer
from petcd.pb.etcdserverpb import kv as pb


class _Times:
    """When each put was answered, and when its event came to each watch of one key."""

    def __init__(self, puts: int) -> None:
        self._puts = puts
        self.answered = array("q")
        self._came: list[array[int]] = []
        self.events = 0

    async def take(self, stream: WatchStream, watches: int) -> None:
        """All events of one stream; the nth of a watch is that of the nth put."""
        came: dict[int, array[int]] = {}
        left = watches * self._puts
        if not left:
            return
        async for response in stream.responses():
            now = clock()
            times = came.get(response.watch_id)
            if times is None:
                times = came[response.watch_id] = array("q")
                self._came.append(times)
            for _ in response.events:
                times.append(now)
            self.events += len(response.events)
            left -= len(response.events)
            if left <= 0:
                return

    def tell(self, report: Report) -> None:
        """A latency for each event whose put was answered; one that came before the answer took no time."""
        for times in self._came:
            for answered, came in zip(self.answered, times, strict=False):
                report.add(min(answered, came), came)


async def _put(
    channel: Channel, message: bytes, puts: int, pacer: Pacer, times: _Times, report: Report
) -> None:
    """One put after the other; one that fails ends the run."""
    for _ in range(puts):
        await pacer.wait()
        began = clock()
        await channel.unary(paths.PUT, message)
        ended = clock()
        report.add(began, ended)
        times.answered.append(ended)


async def watch_latency(bench: Bench) -> None:
    flags = bench.flags
    key = value(flags["key-size"])
    message = pb.PutRequest(key=key, value=value(flags["val-size"])).encode()
    puts, each = flags["put-total"], flags["watchers-per-stream"]
    clients = bench.clients()
    streams = [await WatchStream.open(clients[at % len(clients)]) for at in range(flags["streams"])]
    for stream in streams:
        for _ in range(each):
            stream.ask(key, previous=flags["prevkv"])
    for stream in streams:
        for _ in range(each):
            await stream.created()
    (putter,) = await bench.connect(1)

    times = _Times(puts)
    putting, watching = bench.report("watch-latency-put"), bench.report("watch-latency-watch")

    def tell() -> str:
        times.tell(watching)
        return f"\nPut summary:\n{putting.text()}\nWatch events summary:\n{watching.text()}"

    await bench.work(
        "watch-latency",
        puts * each * len(streams),
        [
            *(times.take(stream, each) for stream in streams),
            _put(putter, message, puts, Pacer(flags["put-rate"]), times, putting),
        ],
        [putting, watching],
        tell,
        lambda: Standing(times.events),
    )


WATCH_LATENCY: Final = Command(
    "watch-latency",
    "Benchmark watch latency",
    watch_latency,
    (
        integer("streams", "Total watch streams", default=10),
        integer("watchers-per-stream", "Total watchers per stream", default=10),
        boolean("prevkv", "PrevKV enabled on watch requests"),
        integer("put-total", "Total number of put requests", default=1000),
        integer("put-rate", "Number of keys to put per second", default=100),
        integer("key-size", "Key size of watch response", default=32),
        integer("val-size", "Value size of watch response", default=32),
    ),
    description=(
        "Benchmark watch-latency watches one key many times, puts it again and again at a rate, and\n"
        "measures the time from the answer to a put until each watch has its event."
    ),
)
