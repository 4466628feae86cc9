"""watch: events of keys, prefixes and ranges, of several watches in interactive mode (contract cli 3.6).

All watches share one stream. When it breaks they resume on the next endpoint after the last revision each has
seen, so that nothing is lost and nothing printed twice.
"""

from __future__ import annotations

import os
import select
import sys
import time
from typing import TYPE_CHECKING, Final

from petcd import errors
from petcd.cli.etcdctl import golang, methods
from petcd.cli.etcdctl.commands import (
    BAD_ARGS,
    ERROR,
    INTERRUPTED,
    INVALID_INPUT,
    Exit,
    Leaf,
    bad_args,
    complain,
    write,
)
from petcd.cli.etcdctl.golang import quote, raw
from petcd.cli.etcdctl.grammar import FlagError, FlagSet, HelpRequested, boolean, integer
from petcd.cli.etcdctl.kv import FROM_KEY_END, prefix_end
from petcd.cli.etcdctl.session import CallFailed
from petcd.cli.etcdctl.txn import words
from petcd.pb.etcdserverpb import watch as pb

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context
    from petcd.cli.etcdctl.session import Stream

FLAGS: Final = (
    boolean("interactive", "Interactive mode", "i"),
    boolean("prefix", "Watch on a prefix if prefix is set"),
    integer("rev", "Revision to start watching"),
    boolean("prev-kv", "get the previous key-value pair before the event happens"),
    boolean("progress-notify", "get periodic watch progress notification from server"),
)
_LOOK_SECONDS: Final = 1.0
_NUMBER: Final = "bad number of arguments"
_SEPARATOR: Final = "bad number of arguments (found separator --, but no commands)"
_CONFLICT: Final = "bad number of arguments (found conflicting environment key)"


class _Watch:
    """One watch: its request, where it would resume, and the command to run per event."""

    __slots__ = ("command", "next_revision", "number", "request")

    def __init__(self, request: pb.WatchCreateRequest, command: list[str], number: int) -> None:
        self.request = request
        self.command = command
        self.number = number
        self.next_revision = request.start_revision


def _request(flags: FlagSet, arguments: list[str]) -> pb.WatchCreateRequest:
    """Raises ValueError with the text for a line that makes no watch."""
    if not arguments:
        raise ValueError(_NUMBER)
    key, end = raw(arguments[0]), b""
    if len(arguments) == 2:
        if flags["prefix"]:
            raise ValueError("`range_end` and `--prefix` are mutually exclusive")
        end = raw(arguments[1])
    if flags["prefix"]:
        key, end = (key, prefix_end(key)) if key else (b"\0", FROM_KEY_END)
    return pb.WatchCreateRequest(
        key=key,
        range_end=end,
        start_revision=flags["rev"],
        prev_kv=flags["prev-kv"],
        progress_notify=flags["progress-notify"],
    )


def _split(arguments: list[str], dash: int, environment: list[str]) -> tuple[list[str], list[str]]:
    """The watch's own arguments and the command after ``--``. Raises ValueError with the text."""
    own, command = (arguments, []) if dash < 0 else (arguments[:dash], arguments[dash:])
    if dash >= 0 and not command:
        raise ValueError(_SEPARATOR)
    if environment and own:
        raise ValueError(_CONFLICT)
    own = environment or own
    if not own and not command:
        raise ValueError(_NUMBER)
    return own, command


class _Watcher:
    """The stream, the watches on it, and what is printed of them."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.session = context.timeless()
        self.stream: Stream | None = None
        self.watches: dict[int, _Watch] = {}
        """By watch id on the present stream."""
        self.starting: list[_Watch] = []
        """Created on the present stream, not yet answered; answers come in this order."""
        self.numbers = 0

    def add(self, request: pb.WatchCreateRequest, command: list[str]) -> None:
        self.numbers += 1
        watch = _Watch(request, command, self.numbers)
        self.starting.append(watch)
        if self.stream is None:
            self._open()
        else:
            self._create(watch)

    def progress(self) -> None:
        if self.stream is not None:
            self._send(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))

    def _open(self) -> None:
        """A new stream with every watch there is, each from where it stands; tries until it succeeds."""
        waiting = [*self.watches.values(), *self.starting]
        waiting.sort(key=lambda watch: watch.number)
        self.watches.clear()
        pause = 0.05
        while True:
            try:
                self.stream = self.session.stream(methods.WATCH, metadata=[(b"hasleader", b"true")])
                self.starting = waiting
                for watch in waiting:
                    self._create(watch)
                return
            except CallFailed as failure:
                if not failure.temporary:
                    raise
                time.sleep(pause)
                pause = min(pause * 2, 1.0)

    def _create(self, watch: _Watch) -> None:
        watch.request.start_revision = watch.next_revision
        self._send(pb.WatchRequest(create_request=watch.request))

    def _send(self, request: pb.WatchRequest) -> None:
        if self.stream is not None:
            self.stream.send(request.encode())

    def turn(self, timeout: float | None) -> None:
        """Take what the server says, for so long."""
        if self.stream is None:
            return
        try:
            message = self.stream.receive(timeout)
        except TimeoutError:
            return
        except CallFailed as failure:
            if not failure.temporary:
                complain(f"watch was canceled ({failure.message})")
                raise Exit(INTERRUPTED, "watch is canceled by the server") from None
            message = None
        if message is None:
            self._open()
            return
        self._take(pb.WatchResponse.decode(message))

    def _take(self, response: pb.WatchResponse) -> None:
        revision = response.header.revision if response.header else 0
        if response.created and self.starting:
            watch = self.starting.pop(0)
            if response.canceled or response.watch_id == -1:
                self._canceled(watch, pb.WatchResponse(canceled=True, cancel_reason=response.cancel_reason))
                return
            self.watches[response.watch_id] = watch
            if not watch.next_revision:
                watch.next_revision = revision + 1
            return
        if response.watch_id == -1:
            for _ in self.watches:
                self._print(response, [])
            return
        known = self.watches.get(response.watch_id)
        if known is None:
            return
        if response.canceled:
            del self.watches[response.watch_id]
            self._canceled(known, response)
            return
        if response.events:
            last = response.events[-1].kv
            known.next_revision = (last.mod_revision if last else revision) + 1
        else:
            known.next_revision = max(known.next_revision, revision + 1)
        self._print(response, known.command)

    def _canceled(self, watch: _Watch, response: pb.WatchResponse) -> None:
        if response.compact_revision:
            reason = errors.Compacted.text
        else:
            reason = response.cancel_reason or errors.FutureRev.text
        complain(f"watch was canceled ({reason})")
        self._print(response, watch.command)
        if not self.context.flags["interactive"]:
            raise Exit(INTERRUPTED, "watch is canceled by the server")

    def _print(self, response: pb.WatchResponse, command: list[str]) -> None:
        revision = response.header.revision if response.header else 0
        if not (response.events or response.canceled or response.created) and revision:
            write(f"progress notify: {revision}\n")
        self.context.printer.watch(response)
        if command:
            for event in response.events:
                kv = event.kv
                _run(
                    command,
                    {
                        "ETCD_WATCH_REVISION": str(revision),
                        "ETCD_WATCH_EVENT_TYPE": quote("DELETE" if event.type == 1 else "PUT"),
                        "ETCD_WATCH_KEY": quote(kv.key if kv else b""),
                        "ETCD_WATCH_VALUE": quote(kv.value if kv else b""),
                    },
                )


def _run(command: list[str], extra: dict[str, str]) -> None:
    """Run the command of an event; its failure ends etcdctl."""
    from petcd.cli.etcdctl.process import run

    failure, _ = run(command, extra)
    if failure:
        shown = " ".join(quote(raw(word)) for word in command)
        complain(f"command [{shown}] error ({failure})")
        raise Exit(ERROR)


def _watch(context: Context) -> None:
    key, end = os.environ.get("ETCDCTL_WATCH_KEY", ""), os.environ.get("ETCDCTL_WATCH_RANGE_END", "")
    if not key and end:
        bad_args(f"ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={quote(raw(end))}")
    environment = ([key, end] if end else [key]) if key else []
    if context.flags["interactive"]:
        _interactive(_Watcher(context), environment)
    try:
        own, command = _split(context.arguments, context.dash, environment)
    except ValueError as error:
        bad_args(str(error))
    watcher = _Watcher(context)
    try:
        request = _request(context.flags, own)
    except ValueError as error:
        bad_args(str(error))
    watcher.add(request, command)
    while True:
        watcher.turn(None)


def _interactive(watcher: _Watcher, environment: list[str]) -> None:
    number = sys.stdin.fileno()
    pending = b""
    while True:
        inputs: list[int] = [number]
        if watcher.stream is not None:
            inputs.append(watcher.session.fileno())
            while watcher.stream is not None and watcher.stream.ready():
                watcher.turn(0)
        # Now and then a look at the connection, which may be dead in silence.
        ready, _, _ = select.select(inputs, [], [], _LOOK_SECONDS)
        if number in ready:
            data = os.read(number, 65536)
            if not data:
                raise Exit(INVALID_INPUT, "error reading watch request line: EOF")
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                _line(watcher, golang.text_of(line), environment)
        else:
            watcher.turn(0)


def _line(watcher: _Watcher, line: str, environment: list[str]) -> None:
    """One line of interactive mode."""
    tokens = words(line)
    if not tokens:
        complain(f"Invalid command: {line} (watch and progress supported)")
        return
    if tokens[0] == "progress":
        watcher.progress()
        return
    if tokens[0] != "watch":
        complain(f"Invalid command {line} (only support watch)")
        return
    if len(tokens) < 2 and not environment:
        complain(f"Invalid command {line} (command type or key is not provided)")
        return
    flags = FlagSet(FLAGS)
    try:
        arguments, dash = flags.parse(tokens[1:])
        own, command = _split(arguments, dash, environment)
    except (FlagError, ValueError) as error:
        raise Exit(BAD_ARGS, str(error)) from None
    except HelpRequested:
        raise Exit(BAD_ARGS, "pflag: help requested") from None
    try:
        request = _request(flags, own)
    except ValueError as error:
        complain(f"Invalid command {line} ({error})")
        return
    watcher.add(request, command)


COMMANDS: Final = {
    "watch": Leaf(
        _watch,
        "watch [options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
        FLAGS,
        "Watches events stream on keys or prefixes",
    ),
}
