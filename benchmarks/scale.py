"""Scale beside another etcd: many keys, much history, many watchers. Prints one table of both.

    python benchmarks/scale.py --a go --b petcd
    python benchmarks/scale.py --a go --b petcd --keys 100000 --watchers 1000     # a quick look

Each server is started in turn on an empty directory and loaded from this process, on the same machine, which
should have nothing else to do. Report ratios, not figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.channel import Channel
from tests.servers import Kind, Server, serving

from petcd.pb import etcdserverpb as pb

PUT = "/etcdserverpb.KV/Put"
RANGE = "/etcdserverpb.KV/Range"
COMPACT = "/etcdserverpb.KV/Compact"
WATCH = "/etcdserverpb.Watch/Watch"

VALUE = b"v" * 256
CONNECTIONS = 10
WRITERS = 100
WATCHERS_PER_STREAM = 100

Figures = dict[str, float]


def key_of(number: int) -> bytes:
    """Thousand keys to a prefix."""
    return b"/scale/%06d/%03d" % divmod(number, 1000)


class Writers:
    """A fixed number of puts in flight, spread over connections, with the latency of each."""

    def __init__(self, channels: list[Channel], in_flight: int) -> None:
        self._channels = channels
        self._in_flight = in_flight
        self.latencies: list[tuple[float, float]] = []
        """(when it ended, how long it took)"""
        self.errors: list[str] = []

    async def run(self, keys: Iterator[bytes]) -> None:
        """Put every key once; keys may be endless, ``stop`` ends them."""
        loop = asyncio.get_running_loop()
        finished = loop.create_future()
        alive = self._in_flight
        clock = time.perf_counter
        latencies = self.latencies

        def next_put(channel: Channel) -> None:
            nonlocal alive
            key = next(keys, None)
            if key is None:
                alive -= 1
                if not alive and not finished.done():
                    finished.set_result(None)
                return
            started = clock()

            def done(code: int, text: str, _: bytes) -> None:
                now = clock()
                latencies.append((now, now - started))
                if code:
                    self.errors.append(f"{code} {text}")
                next_put(channel)

            channel.call(PUT, pb.PutRequest(key=key, value=VALUE).encode(), done)

        for number in range(self._in_flight):
            next_put(self._channels[number % len(self._channels)])
        await finished
        if self.errors:
            raise RuntimeError(f"{len(self.errors)} puts failed: {self.errors[0]}")


async def connect(server: Server, count: int) -> list[Channel]:
    return [await Channel.connect(server.endpoint) for _ in range(count)]


def close(channels: list[Channel]) -> None:
    for channel in channels:
        channel.close()


def percentile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0


async def timed(channel: Channel, path: str, message: bytes) -> tuple[float, bytes]:
    started = time.perf_counter()
    body = await channel.future(path, message)
    return time.perf_counter() - started, body


async def fill(server: Server, keys: int, figures: Figures) -> None:
    channels = await connect(server, CONNECTIONS)
    empty = server.rss_bytes()
    started = time.perf_counter()
    await Writers(channels, WRITERS).run(key_of(number) for number in range(keys))
    figures["fill: puts/s"] = keys / (time.perf_counter() - started)
    await asyncio.sleep(2)
    figures["fill: resident bytes a key"] = (server.rss_bytes() - empty) / keys
    close(channels)


async def ranges(server: Server, keys: int, figures: Figures) -> None:
    (channel,) = await connect(server, 1)
    prefixes = max(1, keys // 1000)
    times = []
    for number in range(200):
        prefix = b"/scale/%06d/" % (number * 7919 % prefixes)
        request = pb.RangeRequest(key=prefix, range_end=prefix[:-1] + b"0").encode()
        seconds, body = await timed(channel, RANGE, request)
        assert len(body) > 1000
        times.append(seconds)
    figures["range of 1000 keys: ms (median)"] = percentile(times, 0.5) * 1000
    figures["range of 1000 keys: ms (p99)"] = percentile(times, 0.99) * 1000
    request = pb.RangeRequest(key=b"/scale/", range_end=b"/scale0", count_only=True).encode()
    figures["count of all: ms"] = (await timed(channel, RANGE, request))[0] * 1000
    request = pb.RangeRequest(key=b"/scale/", range_end=b"/scale0").encode()
    seconds, body = await timed(channel, RANGE, request)
    figures["range of all: s"] = seconds
    figures["range of all: MB"] = len(body) / 1e6
    figures["peak resident MB after it"] = server.peak_rss_bytes() / 1e6
    close([channel])


async def compaction(server: Server, keys: int, figures: Figures) -> None:
    """Overwrite nine tenths of the keys, then compact all of that while a hundred clients write."""
    channels = await connect(server, CONNECTIONS)
    old = keys * 9 // 10
    await Writers(channels, WRITERS).run(key_of(number) for number in range(old))
    body = await channels[0].future(RANGE, pb.RangeRequest(key=b"x").encode())
    header = pb.RangeResponse.decode(body).header
    assert header is not None

    stop = False

    def endless() -> Iterator[bytes]:
        number = 0
        while not stop:
            number += 1
            yield b"/during/%d" % (number % 10_000)

    writers = Writers(channels, WRITERS)
    writing = asyncio.ensure_future(writers.run(endless()))
    await asyncio.sleep(3)
    (compactor,) = await connect(server, 1)
    begun = time.perf_counter()
    request = pb.CompactionRequest(revision=header.revision, physical=True).encode()
    seconds, _ = await timed(compactor, COMPACT, request)
    ended = time.perf_counter()
    await asyncio.sleep(0.5)
    stop = True
    await writing
    during = [took for at, took in writers.latencies if begun <= at <= ended]
    before = [took for at, took in writers.latencies if at < begun]
    figures["compaction: revisions"] = old
    figures["compaction: s"] = seconds
    figures["writes before it: puts/s"] = len(before) / 3
    figures["writes before it: ms (p99)"] = percentile(before, 0.99) * 1000
    figures["writes during it: puts/s"] = len(during) / max(seconds, 1e-9)
    figures["writes during it: ms (p99)"] = percentile(during, 0.99) * 1000
    figures["writes during it: ms (max)"] = max(during, default=0.0) * 1000
    close([*channels, compactor])


def count_events(message: bytes) -> int:
    """Events of a WatchResponse, counted without decoding them."""
    count = position = 0
    size = len(message)
    while position < size:
        tag = message[position]
        position += 1
        value = shift = 0
        while True:
            byte = message[position]
            position += 1
            value |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
        if tag & 7 == 2:
            position += value
            count += tag == 0x5A
    return count


async def watchers(server: Server, count: int, puts: int, *, distinct: bool, figures: Figures) -> None:
    """``count`` watchers, on one key or on a key each, and ``puts`` events for every one of them."""
    name = "distinct keys" if distinct else "one key"
    before = server.rss_bytes()
    channels = await connect(server, CONNECTIONS)
    loop = asyncio.get_running_loop()
    created = delivered = 0
    all_created, all_delivered = loop.create_future(), loop.create_future()
    total = count * puts

    def on_message(message: bytes) -> None:
        nonlocal created, delivered
        response = pb.WatchResponse.decode(message)
        if response.created:
            created += 1
            if created == count:
                all_created.set_result(None)
        delivered += len(response.events)
        if delivered >= total and not all_delivered.done():
            all_delivered.set_result(None)

    def on_event(message: bytes) -> None:
        nonlocal delivered
        delivered += count_events(message)
        if delivered >= total and not all_delivered.done():
            all_delivered.set_result(None)

    handlers: list[Callable[[bytes], object]] = [on_message]

    def dispatch(message: bytes) -> object:
        return handlers[0](message)

    number = 0
    while number < count:
        stream = channels[number // WATCHERS_PER_STREAM % len(channels)].stream(
            WATCH, dispatch, lambda *_: None
        )
        for _ in range(min(WATCHERS_PER_STREAM, count - number)):
            key = b"/watched/%06d" % (number if distinct else 0)
            create = pb.WatchCreateRequest(key=key)
            stream.send(pb.WatchRequest(create_request=create).encode())
            number += 1
    await asyncio.wait_for(all_created, 120)
    await asyncio.sleep(1)
    figures[f"{count} watchers, {name}: resident kB each"] = (server.rss_bytes() - before) / count / 1000
    handlers[0] = on_event
    writers = await connect(server, CONNECTIONS)
    started = time.perf_counter()
    keys = (
        b"/watched/%06d" % (one if distinct else 0)
        for _ in range(puts)
        for one in range(count if distinct else 1)
    )
    await Writers(writers, WRITERS if distinct else 10).run(keys)
    await asyncio.wait_for(all_delivered, 300)
    figures[f"{count} watchers, {name}: events/s"] = total / (time.perf_counter() - started)
    figures[f"{count} watchers, {name}: peak resident MB"] = server.peak_rss_bytes() / 1e6
    close([*channels, *writers])


def measure(kind: Kind, args: argparse.Namespace) -> Figures:
    figures: Figures = {}
    flags = ("--quota-backend-bytes=8589934592", "--max-request-bytes=1572864")
    if not args.no_keys:
        with serving(kind, None, *flags) as server:
            figures["start on nothing: ms"] = server.ready_seconds * 1000
            figures["resident when started: MB"] = server.rss_bytes() / 1e6
            run(fill(server, args.keys, figures))
            server.stop(seconds_max=120)
            server.start(seconds_max=300)
            figures["restart: s"] = server.ready_seconds
            figures["resident after the restart: MB"] = server.rss_bytes() / 1e6
            server.kill()
            server.start(seconds_max=300)
            figures["restart after kill -9: s"] = server.ready_seconds
            run(ranges(server, args.keys, figures))
            run(compaction(server, args.keys, figures))
    if not args.no_watchers:
        for distinct, puts in ((False, args.events), (True, max(1, args.events // 10))):
            with serving(kind, None, *flags, limits={"nofile": 20000}) as server:
                run(watchers(server, args.watchers, puts, distinct=distinct, figures=figures))
    return figures


def run(coroutine: Any) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(coroutine)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(coroutine)


def table(names: list[str], results: list[Figures]) -> str:
    rows = [["", *names, f"{names[-1]} / {names[0]}"]]
    for name in results[0]:
        values = [result.get(name, float("nan")) for result in results]
        ratio = values[-1] / values[0] if values[0] else float("nan")
        rows.append([name, *(f"{value:,.2f}" for value in values), f"{ratio:.2f}"])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        lines.append("  ".join(cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--a", choices=["go", "petcd"], default="go")
    parser.add_argument("--b", choices=["go", "petcd"], default="petcd")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--watchers", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=100, help="events for every watcher on one key")
    parser.add_argument("--no-keys", action="store_true", help="leave out the keys, measure watchers only")
    parser.add_argument("--no-watchers", action="store_true")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON too")
    args = parser.parse_args()
    kinds = [cast("Kind", args.a), cast("Kind", args.b)]
    if kinds[0] == kinds[1]:
        kinds = kinds[:1]
    results = []
    for kind in kinds:
        print(f"{kind} …", file=sys.stderr, flush=True)
        results.append(measure(kind, args))
    print(table([str(kind) for kind in kinds], results))
    if args.json:
        print(json.dumps(dict(zip(kinds, results, strict=True))))


if __name__ == "__main__":
    main()
