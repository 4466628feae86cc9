"""range: the same read again and again, in one answer, in a stream or page by page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from petcd.cli.benchmark import paths
from petcd.cli.benchmark.bench import Bench, clock
from petcd.cli.benchmark.channels import Channel
from petcd.cli.benchmark.commands import TOTAL_DEFAULT, Command, consistency, rate
from petcd.cli.benchmark.failures import BAD_LINE, Failure
from petcd.cli.benchmark.keys import ALL
from petcd.cli.benchmark.pacer import Pacer
from petcd.cli.benchmark.report import Report
from petcd.cli.etcdctl.golang import raw
from petcd.cli.etcdctl.grammar import FlagSet, boolean, integer
from petcd.cli.etcdctl.kv import prefix_end
from petcd.cli.etcdctl.session import describe
from petcd.errors import EtcdError
from petcd.pb.etcdserverpb import kv as pb

_PAGE: Final = 10_000
"""Keys of one page of ``--paginate``: what Kubernetes' watch cache asks for."""

_WORDS: Final = {"l": "linearizable", "s": "serializable"}


def check_consistency(flags: FlagSet) -> None:
    """Raises Failure for a letter that is neither."""
    if flags["consistency"] not in _WORDS:
        raise Failure(f"expected --consistency l or s, got ({flags['consistency']})")


def announce(bench: Bench) -> bool:
    """Say how reads are done; whether serializable."""
    letter = bench.flags["consistency"]
    bench.say(f"bench with {_WORDS[letter]} range\n")
    return bool(letter == "s")


def _check(flags: FlagSet, arguments: list[str]) -> None:
    check_consistency(flags)
    if not arguments and not flags["prefix"]:
        raise Failure("range needs a key, or --prefix", BAD_LINE)
    if flags["count-only"] and flags["keys-only"]:
        raise Failure("`--keys-only` and `--count-only` cannot be set at the same time")
    if flags["paginate"] and flags["limit"] > 0:
        raise Failure("--paginate and --limit are mutually exclusive")
    if flags["paginate"] and flags["stream"]:
        raise Failure("--paginate and --stream are mutually exclusive")
    if flags["prefix"] and len(arguments) > 1:
        raise Failure("--prefix and an end-range are mutually exclusive")


def _request(bench: Bench) -> pb.RangeRequest:
    flags = bench.flags
    key, end = [*map(raw, bench.arguments), b"", b""][:2]
    if flags["prefix"]:
        end = prefix_end(key)
        key = key or ALL
    return pb.RangeRequest(
        key=key,
        range_end=end,
        limit=flags["limit"],
        count_only=flags["count-only"],
        keys_only=flags["keys-only"],
    )


async def _stream(channel: Channel, request: pb.RangeRequest) -> None:
    stream = await channel.stream(paths.RANGE_STREAM)
    try:
        stream.send(request.encode())
        stream.half_close()
        async for message in stream:
            pb.RangeStreamResponse.decode(message)
    finally:
        stream.cancel()


async def _pages(channel: Channel, request: pb.RangeRequest) -> None:
    """All pages, at the revision of the first."""
    key, revision = request.key, 0
    while True:
        page = pb.RangeRequest(
            key=key,
            range_end=request.range_end,
            limit=_PAGE,
            revision=revision,
            serializable=request.serializable,
            keys_only=request.keys_only,
            count_only=request.count_only,
        )
        response = pb.RangeResponse.decode(await channel.unary(paths.RANGE, page.encode()))
        if not response.more or not response.kvs:
            return
        if not revision and response.header is not None:
            revision = response.header.revision
        key = response.kvs[-1].key + b"\0"


async def _read(
    channel: Channel, turns: Iterator[int], pacer: Pacer, report: Report, once: Callable[[], Awaitable[None]]
) -> None:
    for _ in turns:
        await pacer.wait()
        began = clock()
        try:
            await once()
        except EtcdError as error:
            report.fail(describe(error))
        else:
            report.add(began, clock())


async def ranges(bench: Bench) -> None:
    flags = bench.flags
    request = _request(bench)
    request.serializable = announce(bench)
    report = bench.report("range")
    total = flags["total"]
    if not flags["stream"] and not flags["paginate"]:
        message = request.encode()
        same = ((message, report) for _ in range(total))
        await bench.send("range", total, paths.RANGE, same, [report], report.text)
        return
    read = _stream if flags["stream"] else _pages
    turns, pacer = iter(range(total)), Pacer(flags["rate"])
    workers = [
        _read(channel, turns, pacer, report, lambda channel=channel: read(channel, request))  # type: ignore[misc]
        for channel in bench.clients()
    ]
    await bench.work("range", total, workers, [report], report.text)


RANGE: Final = Command(
    "range",
    "Benchmark range",
    ranges,
    (
        rate("range requests"),
        integer("total", "Total number of range requests", default=TOTAL_DEFAULT),
        consistency(),
        integer("limit", "Maximum number of results to return from range request (0 is no limit)"),
        boolean("count-only", "Only returns the count of keys"),
        boolean("keys-only", "Only returns the keys"),
        boolean("stream", "Use RangeStream instead of unary Range"),
        boolean("paginate", "Use paginated unary range with 10k-key pages"),
        boolean("prefix", "Range over all keys with the given key as prefix"),
    ),
    arguments="key [end-range]",
    arguments_max=2,
    check=_check,
)
