"""stm: transactions over a few keys that are tried again until nothing has come between.

Four levels, by how reads are made and what the commit compares (the fourth adds the keys written):

    c   committed reads: nothing is compared
    r   repeatable reads: what was read is unchanged
    s   serializable: and all was read at the revision of the first read
    ss  serializable snapshot: and what is written is unchanged since that revision
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from random import sample
from typing import Final

from petcd.cli.benchmark import paths
from petcd.cli.benchmark.bench import Bench, clock
from petcd.cli.benchmark.channels import Channel
from petcd.cli.benchmark.commands import TOTAL_DEFAULT, Command, rate
from petcd.cli.benchmark.failures import Failure
from petcd.cli.benchmark.keys import numbered, value
from petcd.cli.benchmark.locks import LOCKERS, Locker
from petcd.cli.benchmark.pacer import Pacer
from petcd.cli.benchmark.report import Report
from petcd.cli.etcdctl.grammar import FlagSet, integer, string
from petcd.cli.etcdctl.session import describe
from petcd.errors import EtcdError
from petcd.pb.etcdserverpb import kv as pb

_KEY_SIZE: Final = 16
_LEVELS: Final = ("c", "r", "s", "ss")


def _get(key: bytes, revision: int = 0, *, serializable: bool = False) -> pb.RequestOp:
    request = pb.RangeRequest(key=key, revision=revision, serializable=serializable)
    return pb.RequestOp(request_range=request)


def _mod(key: bytes, result: int, revision: int) -> pb.Compare:
    return pb.Compare(result=result, target=pb.CompareTarget.MOD, key=key, mod_revision=revision)


class Transaction:
    """One transaction of one client, over all its attempts."""

    def __init__(self, channel: Channel, level: str) -> None:
        self._channel = channel
        self._level = level
        self._read: dict[bytes, int] = {}
        """Modification revisions of the keys read in this attempt; 0 for a key that is not there."""
        self._known: dict[bytes, int] = {}
        """What a commit that found a conflict has read in passing: the next attempt's reads."""
        self._first = 0
        """The store's revision at the first read."""

    async def _txn(self, request: pb.TxnRequest) -> pb.TxnResponse:
        return pb.TxnResponse.decode(await self._channel.unary(paths.TXN, request.encode()))

    async def get(self, key: bytes) -> None:
        if key in self._read:
            return
        if key in self._known:
            self._read[key] = self._known.pop(key)
            return
        if self._level in ("c", "r"):
            operation = _get(key, serializable=True)
        else:
            operation = _get(key, self._first, serializable=bool(self._first))
        response = await self._txn(pb.TxnRequest(success=[operation]))
        self._read[key] = _revisions(response)[0]
        if not self._first and response.header is not None:
            self._first = response.header.revision

    def begin(self) -> None:
        """A new attempt."""
        self._read = {}

    async def commit(self, writes: dict[bytes, bytes]) -> bool:
        """Whether nothing had come between."""
        compares = []
        if self._level != "c":
            compares = [_mod(key, pb.CompareResult.EQUAL, revision) for key, revision in self._read.items()]
        if self._level == "ss":
            compares += [_mod(key, pb.CompareResult.LESS, self._first + 1) for key in writes]
        puts = [pb.RequestOp(request_put=pb.PutRequest(key=key, value=new)) for key, new in writes.items()]
        again = list(self._read) if self._level in ("s", "ss") else []
        response = await self._txn(
            pb.TxnRequest(compare=compares, success=puts, failure=[_get(key) for key in again])
        )
        if response.succeeded:
            return True
        self._first = response.header.revision if again and response.header is not None else 0
        self._known = dict(zip(again, _revisions(response), strict=True))
        return False


def _revisions(response: pb.TxnResponse) -> list[int]:
    found = []
    for operation in response.responses:
        kvs = operation.response_range.kvs if operation.response_range is not None else []
        found.append(kvs[0].mod_revision if kvs else 0)
    return found


async def _run(
    channel: Channel,
    turns: Iterator[Sequence[bytes]],
    pacer: Pacer,
    locker: Locker,
    flags: FlagSet,
    report: Report,
) -> None:
    """One client: the next transaction when the last one has passed."""
    for keys in turns:
        began = clock()
        try:
            await locker.lock()
            # A run that is cut short leaves the lock to the end of its lease.
            try:
                await _pass(Transaction(channel, flags["isolation"]), keys, pacer, flags)
            except EtcdError:
                await locker.unlock()
                raise
            await locker.unlock()
        except EtcdError as error:
            report.fail(describe(error))
        else:
            report.add(began, clock())


async def _pass(transaction: Transaction, keys: Sequence[bytes], pacer: Pacer, flags: FlagSet) -> None:
    """Attempts until one is not in conflict. Raises EtcdError."""
    written = keys[: len(keys) * flags["txn-wr-percent"] // 100]
    while True:
        await pacer.wait()
        transaction.begin()
        for key in keys:
            await transaction.get(key)
        if await transaction.commit({key: value(flags["val-size"]) for key in written}):
            return


def _check(flags: FlagSet, _arguments: list[str]) -> None:
    count, each, percent = flags["keys"], flags["keys-per-txn"], flags["txn-wr-percent"]
    if count <= 0:
        raise Failure(f"expected positive --keys, got ({count})")
    if not 0 <= percent <= 100:
        raise Failure(f"expected [0, 100] --txn-wr-percent, got ({percent})")
    if not 0 <= each <= count:
        raise Failure(f"expected --keys-per-txn between 0 and {count}, got ({each})")
    if flags["isolation"] not in _LEVELS:
        raise Failure(f"expected --isolation c, r, s or ss, got ({flags['isolation']})")
    if flags["stm-locker"] not in LOCKERS:
        raise Failure(f'unexpected stm locker "{flags["stm-locker"]}"')


async def stm(bench: Bench) -> None:
    flags = bench.flags
    clients = bench.clients()
    make = LOCKERS[flags["stm-locker"]]
    lockers = [make(channel) for channel in clients]
    await asyncio.gather(*[locker.open() for locker in lockers])
    report = bench.report("stm")
    turns = (
        [numbered(at, _KEY_SIZE) for at in sample(range(flags["keys"]), flags["keys-per-txn"])]
        for _ in range(flags["total"])
    )
    pacer = Pacer(flags["rate"])
    try:
        await bench.work(
            "stm",
            flags["total"],
            [
                _run(channel, turns, pacer, locker, flags, report)
                for channel, locker in zip(clients, lockers, strict=True)
            ],
            [report],
            report.text,
        )
    finally:
        await asyncio.gather(*[locker.close() for locker in lockers])


STM: Final = Command(
    "stm",
    "Benchmark STM",
    stm,
    (
        string(
            "isolation",
            "Read Committed (c), Repeatable Reads (r), Serializable (s), or Snapshot (ss)",
            default="r",
        ),
        integer("keys", "Total unique keys accessible by the benchmark", default=1),
        integer("total", "Total number of completed STM transactions", default=TOTAL_DEFAULT),
        integer("keys-per-txn", "Number of keys to access per transaction", default=1),
        integer("txn-wr-percent", "Percentage of keys to overwrite per transaction", default=50),
        string(
            "stm-locker",
            "Wrap STM transaction with a custom locking mechanism (stm, lock-client, lock-rpc)",
            default="stm",
        ),
        integer("val-size", "Value size of each STM put request", default=8),
        rate("STM transactions"),
    ),
    check=_check,
)
