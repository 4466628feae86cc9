"""check perf and check datascale (contract cli section 3.19)."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from petcd.cli.etcdctl import methods
from petcd.cli.etcdctl.commands import BAD_FEATURE, ERROR, INVALID_INPUT, Exit, Leaf, write
from petcd.cli.etcdctl.endpoint import session_to
from petcd.cli.etcdctl.golang import quote
from petcd.cli.etcdctl.grammar import boolean, string
from petcd.cli.etcdctl.kv import prefix_end
from petcd.cli.etcdctl.load import drive
from petcd.cli.etcdctl.session import CallFailed
from petcd.cli.progress import Bar
from petcd.pb.etcdserverpb import kv as pb
from petcd.pb.etcdserverpb import maintenance

if TYPE_CHECKING:
    import ssl

    from petcd.cli.etcdctl.context import Context
    from petcd.client.blocking import BlockingConnection

_CONNECTIONS_MAX: Final = 16


class Load(NamedTuple):
    """Puts wanted per second, clients, seconds."""

    per_second: int
    clients: int
    seconds: int


class Scale(NamedTuple):
    keys: int
    clients: int


_LETTERS: Final = {"s": "s", "small": "s", "m": "m", "medium": "m", "l": "l", "large": "l"} | {
    "xl": "xl",
    "xLarge": "xl",
}
LOADS: Final = {
    "s": Load(150, 50, 60),
    "m": Load(1000, 200, 60),
    "l": Load(8000, 500, 60),
    "xl": Load(15000, 1000, 60),
}
SCALES: Final = {
    "s": Scale(10_000, 50),
    "m": Scale(100_000, 200),
    "l": Scale(1_000_000, 500),
    "xl": Scale(3_000_000, 1000),
}


def _chosen(context: Context) -> str:
    name = context.flags["load"]
    letter = _LETTERS.get(name)
    if letter is None:
        raise Exit(BAD_FEATURE, f"unknown load option {name}")
    return letter


def _refuse_used_prefix(context: Context, prefix: bytes, hint: str) -> None:
    request = pb.RangeRequest(key=prefix, range_end=prefix_end(prefix), limit=1)
    response = context.call(methods.RANGE, request, pb.RangeResponse, read=True)
    if response.kvs:
        raise Exit(INVALID_INPUT, f"prefix {quote(prefix)} has keys. Delete with {hint} first")


def _connections(context: Context, clients: int) -> list[BlockingConnection]:
    """A few connections that share the clients' calls among them."""
    endpoints = context.endpoints()
    out = []
    for at in range(min(clients, _CONNECTIONS_MAX)):
        session = session_to(context, endpoints[at % len(endpoints)])
        out.append(session.connection())
    return out


def _puts(prefix: bytes, key_bytes: int, value_bytes: int) -> Iterator[bytes]:
    value = bytes(value_bytes)
    draw = random.Random()
    while True:
        tail = draw.getrandbits(63).to_bytes(8, "little").ljust(key_bytes, b"\0")
        yield pb.PutRequest(key=prefix + tail, value=value).encode()


def _clean_up(context: Context, prefix: bytes) -> None:
    context.session.deadline = None
    request = pb.DeleteRangeRequest(key=prefix, range_end=prefix_end(prefix))
    response = context.call(methods.DELETE_RANGE, request, pb.DeleteRangeResponse)
    revision = response.header.revision if response.header else 0
    if context.flags["auto-compact"]:
        write(f"Compacting with revision {revision}\n")
        compact = pb.CompactionRequest(revision=revision, physical=True)
        context.call(methods.COMPACT, compact, pb.CompactionResponse)
        write(f"Compacted with revision {revision}\n")
    if context.flags["auto-defrag"]:
        for endpoint in context.endpoints():
            write(f"Defragmenting {quote(endpoint)}\n")
            session = session_to(context, endpoint)
            try:
                session.deadline = None
                session.login()
                session.call_raw(
                    methods.DEFRAGMENT, maintenance.DefragmentRequest(), maintenance.DefragmentResponse
                )
            except CallFailed as failure:
                raise Exit(ERROR, failure.message) from None
            finally:
                session.close()
            write(f"Defragmented {quote(endpoint)}\n")


def measure(context: Context, load: Load) -> bool:
    """Run one load, print the verdicts, and say whether all of them passed."""
    prefix = context.flags["prefix"].encode("utf-8", "surrogateescape")
    shown = context.flags["prefix"]
    _refuse_used_prefix(context, prefix, f"'etcdctl del --prefix {shown}'")
    connections = _connections(context, load.clients)
    bar = Bar("{} s".format)
    report = drive(
        connections,
        context.session.metadata,
        methods.PUT,
        _puts(prefix, 256, 1024),
        in_flight=load.clients,
        per_second=load.per_second,
        seconds=load.seconds,
        tick=lambda elapsed, _: bar("writing", int(elapsed), load.seconds),
    )
    bar.close()
    for connection in connections:
        connection.close()
    _clean_up(context, prefix)
    good = True
    if report.errors:
        write("FAIL: too many errors\n")
        for text, count in report.errors.items():
            write(f"FAIL: ERROR({text}) -> {count}\n")
        good = False
    rate = int(report.per_second) + 1
    if report.per_second / load.per_second <= 0.9:
        write(f"FAIL: Throughput too low: {rate} writes/s\n")
        good = False
    else:
        write(f"PASS: Throughput is {rate} writes/s\n")
    if report.slowest > 0.5:
        write(f"Slowest request took too long: {report.slowest:f}s\n")
        good = False
    else:
        write(f"PASS: Slowest request took {report.slowest:f}s\n")
    if report.deviation > 0.1:
        write(f"Stddev too high: {report.deviation:f}s\n")
        good = False
    else:
        write(f"PASS: Stddev is {report.deviation:f}s\n")
    write("PASS\n" if good else "FAIL\n")
    return good


def _perf(context: Context) -> None:
    load = LOADS[_chosen(context)]
    if not measure(context, load):
        raise Exit(ERROR)


def _http(context: Context) -> ssl.SSLContext | None:
    """The command's trust and certificate, for HTTP/1.1; None: in the clear."""
    if context.session.tls is None:
        return None
    from petcd.cli.etcdctl.security import client_context

    flags = context.flags
    skip = flags["insecure-skip-tls-verify"]
    return client_context(flags["cert"], flags["key"], flags["cacert"], skip_verify=skip, alpn="http/1.1")


def _memory(context: Context) -> int:
    """``process_resident_memory_bytes`` of the first endpoint; 0 when it cannot be read."""
    from urllib.error import URLError
    from urllib.request import urlopen

    tls = _http(context)
    endpoint = context.endpoints()[0].strip()
    scheme = "http" if tls is None else "https"
    address = endpoint.partition("://")[2] or endpoint
    try:
        with urlopen(f"{scheme}://{address}/metrics", timeout=10, context=tls) as answer:
            for line in answer:
                name, _, value = line.partition(b" ")
                if name == b"process_resident_memory_bytes":
                    return int(float(value))
    except (URLError, OSError, ValueError):
        return 0
    return 0


def grow(context: Context, scale: Scale) -> None:
    """Put so many keys and print how much memory they took."""
    prefix = context.flags["prefix"].encode("utf-8", "surrogateescape")
    shown = context.flags["prefix"]
    _refuse_used_prefix(context, prefix, f"etcdctl del --prefix {shown}")
    write(
        f"Start data scale check for work load [{scale.keys} key-value pairs, 1024 bytes per key-value, "
        f"{scale.clients} concurrent clients].\n"
    )
    before = _memory(context)
    if not before:
        write("FAIL: Could not read process_resident_memory_bytes before the put operations.\n")
        raise Exit(ERROR)
    connections = _connections(context, scale.clients)
    bar = Bar("{} keys".format)
    report = drive(
        connections,
        context.session.metadata,
        methods.PUT,
        itertools.islice(_puts(prefix, 512, 512), scale.keys),
        in_flight=scale.clients,
        tick=lambda _, answered: bar("writing", answered, scale.keys),
    )
    bar.close()
    for connection in connections:
        connection.close()
    after = _memory(context)
    if not after:
        write("FAIL: Could not read process_resident_memory_bytes after the put operations.\n")
        raise Exit(ERROR)
    _clean_up(context, prefix)
    if report.errors:
        write("FAIL: too many errors\n")
        for text, count in report.errors.items():
            write(f"FAIL: ERROR({text}) -> {count}\n")
        raise Exit(ERROR)
    write(f"PASS: Approximate system memory used : {(after - before) / (1024 * 1024):.2f} MB.\n")


def _datascale(context: Context) -> None:
    grow(context, SCALES[_chosen(context)])


_OPTIONS: Final = (
    string(
        "load",
        "The workload model: s(small), m(medium), l(large), xl(xLarge)",
        default="s",
    ),
    boolean("auto-compact", "Compact storage with last revision after test is finished."),
    boolean("auto-defrag", "Defragment storage after test is finished."),
)

COMMANDS: Final = {
    "check perf": Leaf(
        _perf,
        "perf [options]",
        (
            *_OPTIONS,
            string(
                "prefix",
                "The prefix for writing the performance check's keys.",
                default="/etcdctl-check-perf/",
            ),
        ),
        "Check the performance of the etcd cluster",
    ),
    "check datascale": Leaf(
        _datascale,
        "datascale [options]",
        (
            *_OPTIONS,
            string(
                "prefix",
                "The prefix for writing the datascale check's keys.",
                default="/etcdctl-check-datascale/",
            ),
        ),
        "Check the memory usage of holding data for different workloads on a given server endpoint.",
    ),
}
