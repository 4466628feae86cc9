"""The command line, the loop, the signals, and how the process ends.

Statuses: 0 done; 1 could not begin, had to give up, or nothing succeeded; 255 no such command or flag;
130 and 143 after SIGINT and SIGTERM, with the report so far.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from typing import Any, Final

from petcd.cli.benchmark import commands
from petcd.cli.benchmark.bench import Bench, Line
from petcd.cli.benchmark.commands import GLOBAL_FLAGS, NAME, Command
from petcd.cli.benchmark.failures import BAD_LINE, DONE, FAILED, Failure, Stopped
from petcd.cli.benchmark.leases import LEASE_KEEPALIVE
from petcd.cli.benchmark.put import PUT
from petcd.cli.benchmark.ranges import RANGE
from petcd.cli.benchmark.setup import dialer, endpoints, identity, narrow_to_leader, synchronize
from petcd.cli.benchmark.stm import STM
from petcd.cli.benchmark.txn import TXN_MIXED, TXN_PUT
from petcd.cli.benchmark.watch import WATCH
from petcd.cli.benchmark.watchget import WATCH_GET
from petcd.cli.benchmark.watchlatency import WATCH_LATENCY
from petcd.cli.etcdctl.commands import complain, write
from petcd.cli.etcdctl.golang import quote
from petcd.cli.etcdctl.grammar import FlagError, FlagSet, HelpRequested, boolean
from petcd.cli.etcdctl.session import describe
from petcd.errors import EtcdError

COMMANDS: Final[tuple[Command, ...]] = (
    PUT,
    RANGE,
    TXN_PUT,
    TXN_MIXED,
    WATCH,
    WATCH_LATENCY,
    WATCH_GET,
    LEASE_KEEPALIVE,
    STM,
)

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_GC_THRESHOLDS: Final = (100_000, 50, 1_000)
"""A call under way is a handful of objects and never part of a cycle: looking at them costs a tenth of the
load, and its pauses would be taken for the server's."""


def execute(arguments: Sequence[str]) -> int:
    """Run one command line; the exit status."""
    try:
        return _execute(list(arguments))
    except BrokenPipeError:
        # Nobody reads the report. What is still buffered would only complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:  # no room for the report, no more descriptors
        with contextlib.suppress(OSError):
            complain(f"Error: {error}")
        return FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def program() -> str:
    """The name we were called by, if it is one of ours."""
    name = os.path.basename(sys.argv[0])  # noqa: PTH119
    return name if name in (NAME, f"etcd-{NAME}") else NAME


def _find(name: str) -> Command | None:
    return next((command for command in COMMANDS if name in (command.name, command.alias)), None)


def _execute(arguments: list[str]) -> int:
    flags = FlagSet((*GLOBAL_FLAGS, boolean("help", "", "h")))
    # The first word that is no flag's value names the command; flags of all commands may stand before it.
    at = 0
    while at < len(arguments) and arguments[at].startswith("-") and arguments[at] != "--":
        at += 2 if flags.consumes_next(arguments[at]) else 1
    if at >= len(arguments) or arguments[at] == "--":
        return _root(flags, arguments)
    name = arguments.pop(at)
    if name == "help":
        return _help(arguments)
    command = _find(name)
    if command is None:
        return _unknown(name)
    return _command(command, arguments)


def _root(flags: FlagSet, arguments: list[str]) -> int:
    with contextlib.suppress(HelpRequested):
        try:
            flags.parse(arguments)
        except FlagError as error:
            complain(f"Error: {error}\n{commands.root_help(program(), COMMANDS)}")
            return BAD_LINE
    write(commands.root_help(program(), COMMANDS))
    return DONE


def _help(arguments: list[str]) -> int:
    words = [word for word in arguments if not word.startswith("-")]
    if not words:
        write(commands.root_help(program(), COMMANDS))
        return DONE
    command = _find(words[0])
    if command is None:
        return _unknown(words[0])
    write(commands.command_help(program(), command))
    return DONE


def _unknown(name: str) -> int:
    complain(f"Error: unknown command {quote(name)} for {quote(program())}")
    complain(f"Run '{program()} --help' for usage.")
    return BAD_LINE


def _command(command: Command, arguments: list[str]) -> int:
    flags = FlagSet(command.flags)
    flags.add((*GLOBAL_FLAGS, commands.help_flag(command.name)))
    try:
        words, _ = flags.parse(arguments)
        if flags["help"]:
            raise HelpRequested
        if len(words) > command.arguments_max:
            raise FlagError(f"unexpected argument {quote(words[command.arguments_max])}")
    except HelpRequested:
        write(commands.command_help(program(), command))
        return DONE
    except FlagError as error:
        complain(f"Error: {error}\n{commands.usage(program(), command)}")
        return BAD_LINE
    try:
        _check(flags)
        command.check(flags, words)
        _run(_session(command, Line(flags, words, endpoints(flags), dialer(flags), identity(flags))))
    except Stopped as stopped:
        complain("stopped: the report covers what was done so far")
        return 128 + stopped.signal
    except Failure as failure:
        complain(f"Error: {failure}")
        if failure.status == BAD_LINE:
            complain(commands.usage(program(), command))
        return failure.status
    except EtcdError as error:
        complain(f"Error: {describe(error)}")
        return FAILED
    return DONE


def _run(main: Coroutine[Any, Any, None]) -> None:
    """Drive ``main`` on the fastest loop there is."""
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    try:
        import uvloop

        factory: Any = uvloop.new_event_loop
    except ImportError:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)


def _check(flags: FlagSet) -> None:
    """Numbers that cannot be meant. Raises Failure."""
    for name in ("conns", "clients", "streams", "watch-per-stream", "watched-key-total"):
        if name in flags.flags and flags[name] <= 0:
            raise Failure(f"expected positive --{name}, got ({flags[name]})")
    for name, flag in flags.flags.items():
        if flag.kind in ("int", "duration") and flags[name] < 0:
            raise Failure(f"expected --{name} not below 0, got ({flags[name]})")


async def _session(command: Command, line: Line) -> None:
    """Connect, run, close. Raises Failure, Stopped, EtcdError."""
    bench = Bench(line)
    loop = asyncio.get_running_loop()
    this = asyncio.current_task()
    assert this is not None

    def forget_signals() -> None:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)

    def stop(number: int) -> None:
        forget_signals()  # a second signal ends the process whatever it does
        bench.stop(number)
        if not bench.working:
            this.cancel()

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop, number)
    try:
        await _serve(command, bench)
    except asyncio.CancelledError:
        # Before or after the measuring: there is nothing to report.
        raise Stopped(bench.stopped_by) from None
    finally:
        forget_signals()
        await bench.close()


async def _serve(command: Command, bench: Bench) -> None:
    if bench.flags["target-leader"]:
        await narrow_to_leader(bench)
    await bench.connect(bench.flags["conns"])
    async with synchronize(bench):
        await command.run(bench)
    bench.conclude()
