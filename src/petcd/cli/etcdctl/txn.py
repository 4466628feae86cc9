"""txn: comparisons and requests from stdin, as one transaction (contract cli section 3.4)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from petcd.cli.etcdctl import golang, methods
from petcd.cli.etcdctl.commands import INVALID_INPUT, Exit, Leaf, bad_args, complain, write
from petcd.cli.etcdctl.golang import raw
from petcd.cli.etcdctl.grammar import FlagError, FlagSet, HelpRequested, boolean, usages
from petcd.cli.etcdctl.kv import COMMANDS as COMMANDS_OF_KV
from petcd.cli.etcdctl.kv import DEL_FLAGS, GET_FLAGS, PUT_FLAGS, delete_request, get_request, put_request
from petcd.pb.etcdserverpb import kv as pb

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context

T = TypeVar("T")

_BLOCK_BYTES: Final = 4096

_RESULTS: Final = {"=": 0, ">": 1, "<": 2, "!=": 3}
_TARGETS: Final = {
    "ver": (0, "version"),
    "version": (0, "version"),
    "c": (1, "create_revision"),
    "create": (1, "create_revision"),
    "m": (2, "mod_revision"),
    "mod": (2, "mod_revision"),
    "val": (3, "value"),
    "value": (3, "value"),
    "lease": (4, "lease"),
}


def words(line: str) -> list[str]:
    """The tokens of a request line: double-quoted Go strings, single-quoted raw ones, runs of non-blanks."""
    out = []
    at = 0
    while at < len(line):
        char = line[at]
        if char.isspace():
            at += 1
            continue
        if char == '"':
            end = at + 1
            while end < len(line) and line[end] != '"':
                end += 2 if line[end] == "\\" else 1
            token = line[at : end + 1]
            value = golang.unquote(token)
            out.append(token if value is None else value)
            at = end + 1
        elif char == "'":
            end = line.find("'", at + 1)
            end = len(line) if end < 0 else end
            out.append(line[at + 1 : end])
            at = end + 1
        else:
            end = at
            while end < len(line) and not line[end].isspace():
                end += 1
            out.append(line[at:end])
            at = end
    return out


def _invalid(message: str) -> Exit:
    return Exit(INVALID_INPUT, message)


def parse_compare(line: str) -> pb.Compare:
    """One comparison: ``<target>(<quoted key>) <op> <quoted value>``."""
    target, parenthesis, rest = line.partition("(")
    if not parenthesis:
        raise _invalid(f"malformed comparison: {line}")
    key = operator = value = ""
    complete = False
    found = golang.scan_quoted(rest, len(rest) - len(rest.lstrip(" ")))
    if found is not None:
        key, at = found
        if rest[at : at + 1] == ")" and rest[at + 1 : at + 2].isspace():
            operator, *literal = rest[at + 2 :].split(None, 1) or [""]
            scanned = golang.scan_quoted(literal[0], 0) if literal else None
            if scanned is not None:
                value = scanned[0]
                complete = True
    if not complete:
        raise _invalid(
            f"malformed comparison: {line}; got {target}({golang.quote(key)}) {operator} "
            f"{golang.quote(value)}"
        )
    known = _TARGETS.get(target)
    if known is None:
        raise _invalid(f"malformed comparison: {line} (unknown target {target})")
    result = _RESULTS.get(operator)
    if result is None:
        raise _invalid(f"malformed comparison: {line} (unknown result op {operator})")
    number, field = known
    compare = pb.Compare(result=result, target=number, key=raw(key))
    try:
        if field == "value":
            compare.value = raw(value)
        else:
            setattr(compare, field, golang.parse_int(value, 16 if field == "lease" else 10))
    except golang.ParseError:
        raise _invalid(f"invalid txn compare request: {line}") from None
    return compare


def parse_request(line: str) -> pb.RequestOp:
    """One request: the syntax of put, get and del with their own flags."""
    tokens = words(line)
    if len(tokens) < 2:
        raise _invalid(f"invalid txn compare request: {line}")
    flags, rest = FlagSet(), tokens[1:]
    declared = {"put": PUT_FLAGS, "get": GET_FLAGS, "del": DEL_FLAGS}.get(tokens[0])
    if declared is None:
        raise _invalid(f"invalid txn request: {line}")
    flags.add(declared)
    try:
        arguments, _ = flags.parse(rest)
    except (FlagError, HelpRequested):
        # The inner command speaks with cobra's own layout.
        shown = usages([*declared, boolean("help", f"help for {tokens[0]}", "h")])
        complain(f"Usage:\n   {COMMANDS_OF_KV[tokens[0]].use} [flags]\n\nFlags:\n{shown}")
        raise _invalid(f"invalid txn request: {line}") from None
    if tokens[0] == "put":
        return pb.RequestOp(request_put=put_request(flags, arguments))
    if tokens[0] == "get":
        return pb.RequestOp(request_range=get_request(flags, arguments))
    return pb.RequestOp(request_delete_range=delete_request(flags, arguments))


class Lines:
    """The lines of stdin, read in blocks as Go's buffered reader does.

    What is in a block is used up: a ``put`` of the transaction that looks for its value on stdin finds only
    what follows the block.
    """

    def __init__(self) -> None:
        self._number = sys.stdin.fileno()
        self._rest = b""

    def __call__(self) -> str:
        while b"\n" not in self._rest:
            block = os.read(self._number, _BLOCK_BYTES)
            if not block:
                raise _invalid("EOF")
            self._rest += block
        line, _, self._rest = self._rest.partition(b"\n")
        return golang.text_of(line)


def _section(read_line: Lines, parse: Callable[[str], T]) -> list[T]:
    """What the lines up to a blank one say; each is parsed before the next is read."""
    out: list[T] = []
    while True:
        text = read_line().strip()
        if not text:
            return out
        out.append(parse(text))


def _txn(context: Context) -> None:
    if context.arguments:
        bad_args("txn command does not accept argument")
    session = context.timeless()
    interactive = context.flags["interactive"]

    def prompt(text: str) -> None:
        if interactive:
            write(text + "\n")

    request = pb.TxnRequest()
    lines = Lines()
    prompt("compares:")
    request.compare = _section(lines, parse_compare)
    prompt("success requests (get, put, del):")
    request.success = _section(lines, parse_request)
    prompt("failure requests (get, put, del):")
    request.failure = _section(lines, parse_request)
    response = session.call(methods.TXN, request, pb.TxnResponse, read=_only_reads(request))
    context.printer.txn(response)


def _only_reads(request: pb.TxnRequest) -> bool:
    return all(op.request_range is not None for op in (*request.success, *request.failure))


COMMANDS: Final = {
    "txn": Leaf(
        _txn,
        "txn [options]",
        (boolean("interactive", "Input transaction in interactive mode", "i"),),
        "Txn processes all the requests in one transaction",
    ),
}
