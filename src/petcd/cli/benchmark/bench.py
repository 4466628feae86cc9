"""One run of one command: its flags, its channels, its reports, and how it ends."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from petcd.cli.benchmark import perfdash
from petcd.cli.benchmark.channels import Channel, Dialer, Identity
from petcd.cli.benchmark.display import Display, Standing
from petcd.cli.benchmark.failures import Failure, Stopped
from petcd.cli.benchmark.pacer import Pacer
from petcd.cli.benchmark.report import Report
from petcd.cli.etcdctl.commands import complain, write
from petcd.cli.etcdctl.grammar import FlagSet
from petcd.cli.etcdctl.session import describe
from petcd.client.endpoints import Endpoint
from petcd.errors import EtcdError

clock = time.perf_counter_ns
Worker = Coroutine[Any, Any, None]

_DIALS_AT_ONCE: Final = 64


@dataclass(frozen=True, slots=True)
class Line:
    """A command line, understood."""

    flags: FlagSet
    arguments: list[str]
    endpoints: list[Endpoint]
    dialer: Dialer
    identity: Identity


class Bench:
    """What a command is given. Its channels stand when the command begins."""

    def __init__(self, line: Line) -> None:
        self.flags = line.flags
        self.arguments = line.arguments
        self.endpoints = line.endpoints
        self.dialer = line.dialer
        self.identity = line.identity
        self.channels: list[Channel] = []
        self.reports: list[Report] = []
        self.working = False
        """Something is being measured, and ends by itself after ``stop``."""
        self._stopped: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def stop(self, signal: int) -> None:
        """End the run: what was measured is reported."""
        if not self._stopped.done():
            self._stopped.set_result(signal)

    @property
    def stopped_by(self) -> int:
        """The signal; only after ``stop``."""
        return self._stopped.result()

    # --- channels -------------------------------------------------------------------------------------

    async def connect(self, count: int) -> list[Channel]:
        """So many new channels, which close with the run. Raises Failure."""
        channels = [Channel(self.endpoints, self.dialer, self.identity) for _ in range(count)]
        self.channels += channels
        refused: dict[str, str] = {}
        # The first alone: a wrong address is told at once, and one log-in serves all.
        for first, last in [(0, 1), *((at, at + _DIALS_AT_ONCE) for at in range(1, count, _DIALS_AT_ONCE))]:
            for outcome in await asyncio.gather(*[channel.open() for channel in channels[first:last]]):
                refused.update(outcome)
        for endpoint, text in refused.items():
            complain(f"warning: {endpoint}: {text}")
        return channels

    def clients(self) -> list[Channel]:
        """A channel for each of ``--clients``; they share those of ``--conns``."""
        conns = self.channels[: self.flags["conns"]]
        return [conns[at % len(conns)] for at in range(self.flags["clients"])]

    async def close(self) -> None:
        await asyncio.gather(*[channel.close() for channel in self.channels])

    # --- measuring ------------------------------------------------------------------------------------

    def report(self, operation: str) -> Report:
        flags = self.flags
        report = Report(
            operation,
            precise=flags["precise"],
            sample=flags["sample"],
            epoch=time.time_ns() - clock(),
        )
        self.reports.append(report)
        return report

    async def send(
        self,
        title: str,
        total: int,
        path: bytes,
        messages: Iterator[tuple[bytes, Report]],
        reports: Sequence[Report],
        tell: Callable[[], str],
    ) -> None:
        """Unary calls by all clients at ``--rate``; each message comes with the report of its outcome."""
        pacer = Pacer(self.flags["rate"])
        workers = [_send(channel, path, messages, pacer) for channel in self.clients()]
        await self.work(title, total, workers, reports, tell)

    async def work(
        self,
        title: str,
        total: int,
        workers: Sequence[Worker],
        reports: Sequence[Report],
        tell: Callable[[], str],
        standing: Callable[[], Standing] | None = None,
    ) -> None:
        """Run ``workers`` until all are done, then print ``tell()``, whatever ended them.

        Raises Stopped after a signal, and the first Failure or EtcdError of a worker.
        """
        self.working = True
        tasks = [asyncio.ensure_future(worker) for worker in workers]
        everyone = asyncio.gather(*tasks)
        began = clock()
        for report in reports:
            report.begin(began)
        try:
            async with Display(sys.stderr, title, total, standing or (lambda: _standing(reports))):
                waited: set[asyncio.Future[Any]] = {everyone, self._stopped}
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                ended = clock()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(everyone, *tasks, return_exceptions=True)
            self.working = False
        for report in reports:
            report.end(ended)
        self.say(tell())
        if not everyone.cancelled() and (trouble := everyone.exception()) is not None:
            raise trouble
        if self._stopped.done():
            raise Stopped(self._stopped.result())

    def say(self, text: str) -> None:
        """To stdout, at once."""
        write(text)

    def conclude(self) -> None:
        """After the last phase: perf-dash files, and a Failure when nothing was answered at all."""
        if self.flags["report-perfdash"]:
            for report in self.reports:
                try:
                    path = perfdash.write(report, time.time())
                except OSError as error:
                    raise Failure(f"cannot write the perf-dash report: {error}") from None
                self.say(f"Successfully created a JSON perf report at {path}\n")
        if any(report.failed for report in self.reports) and not any(
            report.answered for report in self.reports
        ):
            raise Failure("no request succeeded")


def _standing(reports: Sequence[Report]) -> Standing:
    failed = sum(report.failed for report in reports)
    answered = sum(report.answered for report in reports)
    return Standing(answered + failed, failed, sum(report.sum for report in reports))


async def _send(
    channel: Channel, path: bytes, messages: Iterator[tuple[bytes, Report]], pacer: Pacer
) -> None:
    """One client: the next message when the last one is answered."""
    for message, report in messages:
        await pacer.wait()
        began = clock()
        try:
            await channel.unary(path, message)
        except EtcdError as error:
            report.fail(describe(error))
        else:
            report.add(began, clock())
