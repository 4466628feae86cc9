"""dump-db: what a database holds; also ``etcd-dump-db`` (contract cli section 7.2).

A path is that of a data directory or of a database file, of etcd or of petcd, or of a snapshot.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NoReturn

from petcd.cli.etcdctl.commands import ERROR, Exit, complain, write
from petcd.cli.etcdctl.golang import ParseError, parse_int, quote
from petcd.cli.etcdctl.grammar import boolean, unsigned
from petcd.cli.etcdutl import commands
from petcd.cli.etcdutl.commands import Node, Tool
from petcd.cli.etcdutl.datadir import go_database, our_database
from petcd.cli.etcdutl.dbtext import DECODERS, key_record
from petcd.cli.etcdutl.files import DISK, database, opened
from petcd.pb.wire import DecodeError
from petcd.storage.bbolt import BboltFile
from petcd.storage.errors import CorruptError

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context
    from petcd.storage.atrest import Database

_REVISION_BYTES: Final = (17, 18)


def _fatal(text: str) -> NoReturn:
    """As a Go program's log.Fatal."""
    moment = datetime.datetime.now().strftime("%Y/%m/%d %H:%M:%S")
    complain(f"{moment} {text}")
    raise Exit(ERROR)


def _arguments(context: Context, count: int) -> list[str]:
    given = context.arguments
    if len(given) != count:
        _fatal(f"Must provide {count} arguments (got [{' '.join(given)}])")
    return given


def _path(given: str) -> str:
    """The database at or below a path."""
    path = given
    if DISK.is_dir(given):
        path = our_database(given) or go_database(given)
    if not DISK.exists(path):
        _fatal(f"{quote(path)} does not exist")
    return path


@contextmanager
def _opened(given: str, context: Context) -> Iterator[tuple[str, Database]]:
    path = _path(given)
    with database(path, context.flags["timeout"]) as (_, found):
        yield path, found


def _list(context: Context) -> None:
    (given,) = _arguments(context, 1)
    with _opened(given, context) as (_, found):
        write("".join(f"{bucket.decode()}\n" for bucket in found.buckets))


def _iterate(context: Context) -> None:
    given, name = _arguments(context, 2)
    limit = context.flags["limit"]
    with _opened(given, context) as (_, found):
        bucket = next((one for one in found.buckets if one.decode() == name), None)
        if bucket is None:
            _fatal(f"got nil bucket for {name}")
        shown: Callable[[bytes, bytes], str] = _plain
        if context.flags["decode"]:
            shown = DECODERS.get(bucket, _plain)
        for count, (key, value) in enumerate(found.backwards(bucket), 1):
            write(shown(key, value) + "\n")
            if count == limit:
                break


def _plain(key: bytes, value: bytes) -> str:
    return f"key={quote(key)}, value={quote(value)}"


def _hash(context: Context) -> None:
    from petcd.mvcc import hash_all

    (given,) = _arguments(context, 1)
    with _opened(given, context) as (path, found):
        result = 0
        for result in hash_all(found):  # noqa: B007 - the last one is the result
            pass
    write(f"db path: {path}\nHash: {result}\n")


def _scan(context: Context) -> None:
    given, text = _arguments(context, 2)
    try:
        start = parse_int(text)
    except ParseError as error:
        _fatal(str(error))
    path = _path(given)
    with opened(path) as file:
        try:
            found = BboltFile(file, damaged=True)
        except CorruptError as error:
            _fatal(str(error))
        number = 2
        while number < found.meta.high_water:
            try:
                pairs, pages = found.leaf_at(number)
            except CorruptError as error:
                complain(f"Reading page {number} failed: {error}. Continuing...")
                pairs, pages = [], 1
            for at, (key, value) in enumerate(pairs):
                if len(key) not in _REVISION_BYTES or key[8:9] != b"_":
                    break  # of another bucket
                if start and int.from_bytes(key[:8], "big") < start:
                    continue
                try:
                    record = key_record(key, value)
                except DecodeError as error:
                    complain(f"Reading page {number} failed: record {at}: {error}. Continuing...")
                else:
                    write(f"pageID={number}, index={at}/{len(pairs) - 1}, {record}\n")
            number += pages


def main(arguments: Sequence[str] | None = None) -> int:
    """``etcd-dump-db``."""
    from petcd.cli.etcdutl.tree import TIMEOUT, dump_db

    root = Node("etcd-dump-db", "Lists what a database holds.", children=dump_db(), persistent=(TIMEOUT,))
    return commands.main(root, arguments, again_on_stdout=True)


_TOOLS: Final = {
    "list-bucket": Tool(
        _list, "list-bucket [data dir or db file path]", (), "Lists the names of all buckets."
    ),
    "iterate-bucket": Tool(
        _iterate,
        "iterate-bucket [data dir or db file path] [bucket name]",
        (
            unsigned("limit", "most records to list (0: all)"),
            boolean("decode", "show what the records mean"),
        ),
        "Lists the records of a bucket, the last one first.",
    ),
    "hash": Tool(_hash, "hash [data dir or db file path]", (), "Prints the hash of a database."),
    "scan-keys": Tool(
        _scan,
        "scan-keys [data dir or db file path] [start revision]",
        (),
        "Lists the records of keys page by page, as far as pages of a damaged bbolt file can be read.",
    ),
}
COMMANDS: Final = {**_TOOLS, **{f"dump-db {name}": tool for name, tool in _TOOLS.items()}}
