"""watch: how fast watches are made, and how fast their events come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from random import randrange
from typing import Final

from petcd.cli.benchmark import paths
from petcd.cli.benchmark.bench import Bench, clock
from petcd.cli.benchmark.channels import Channel
from petcd.cli.benchmark.commands import Command, key_space, sequential
from petcd.cli.benchmark.keys import check_space, numbered
from petcd.cli.benchmark.pacer import Pacer
from petcd.cli.benchmark.report import Report
from petcd.cli.benchmark.watchers import WatchStream
from petcd.cli.etcdctl.grammar import FlagSet, integer
from petcd.pb.etcdserverpb import kv as pb

_VALUE: Final = b"data"


def _check(flags: FlagSet, _arguments: list[str]) -> None:
    check_space(flags["key-size"], flags["key-space-size"])


def _watched_keys(bench: Bench) -> list[bytes]:
    """The keys to watch; with a small key space one may be there more than once."""
    flags = bench.flags
    size, space = flags["key-size"], flags["key-space-size"]
    in_order = flags["sequential-keys"]
    return [
        numbered(at % space if in_order else randrange(space), size)
        for at in range(flags["watched-key-total"])
    ]


async def _make(stream: WatchStream, keys: Sequence[bytes], report: Report) -> None:
    """Watches on one stream, each asked for when the last one stands."""
    for key in keys:
        began = clock()
        stream.ask(key)
        await stream.created()
        report.add(began, clock())


async def _take(stream: WatchStream, expected: int, report: Report) -> None:
    """The events of one stream; the time of each is that since its response was read, as in etcd's tool."""
    if not expected:
        return
    async for response in stream.responses():
        began = clock()
        for _ in response.events:
            report.add(began, clock())
        expected -= len(response.events)
        if expected <= 0:
            return


async def _put(channel: Channel, keys: Iterator[bytes], pacer: Pacer) -> None:
    """One client's puts. One that fails ends the run: nobody knows which events are still to come."""
    for key in keys:
        await pacer.wait()
        await channel.unary(paths.PUT, pb.PutRequest(key=key, value=_VALUE).encode())


async def watch(bench: Bench) -> None:
    flags = bench.flags
    keys = _watched_keys(bench)
    clients = bench.clients()
    each, puts = flags["watch-per-stream"], flags["put-total"]
    streams = [await WatchStream.open(clients[at % len(clients)]) for at in range(flags["streams"])]
    watched = [
        [keys[(number * each + at) % len(keys)] for at in range(each)] for number in range(len(streams))
    ]

    making = bench.report("watch-make")
    await bench.work(
        "watch-make",
        len(streams) * each,
        [_make(stream, hand, making) for stream, hand in zip(streams, watched, strict=True)],
        [making],
        lambda: f"Watch creation summary:\n{making.text()}",
    )

    times_put = Counter(keys[at % len(keys)] for at in range(puts))
    expected = [sum(times_put[key] for key in hand) for hand in watched]
    receiving = bench.report("watch-put")
    pacer = Pacer(flags["put-rate"])
    turns = iter([keys[at % len(keys)] for at in range(puts)])
    await bench.work(
        "watch-put",
        sum(expected),
        [
            *(_take(stream, count, receiving) for stream, count in zip(streams, expected, strict=True)),
            *(_put(channel, turns, pacer) for channel in clients),
        ],
        [receiving],
        lambda: f"Watch events received summary:\n{receiving.text()}",
    )


WATCH: Final = Command(
    "watch",
    "Benchmark watch",
    watch,
    (
        integer("streams", "Total watch streams", default=10),
        integer("watch-per-stream", "Total watchers per stream", default=100),
        integer("watched-key-total", "Total number of keys to be watched", default=1),
        integer("put-rate", "Number of keys to put per second"),
        integer("put-total", "Number of put requests", default=1000),
        integer("key-size", "Key size of watch request", default=32),
        key_space(),
        sequential(),
    ),
    check=_check,
    description=(
        "Benchmark watch makes watches, one after the other on each stream, and then puts the watched\n"
        "keys and takes the events, which shows how fast the server fans them out.\n\n"
        "There are --streams times --watch-per-stream watches, dealt out evenly to --watched-key-total keys\n"
        "(with a small --key-space-size some of these are the same), and each put makes an event for every\n"
        "watch of its key."
    ),
)
