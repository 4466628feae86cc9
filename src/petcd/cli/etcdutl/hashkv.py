"""hashkv: the HashKV of a database at rest (contract cli section 5.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from petcd.cli.etcdctl.grammar import integer
from petcd.cli.etcdutl.commands import Tool
from petcd.cli.etcdutl.files import check_exists, database, fail
from petcd.cli.etcdutl.printing import check_format, hash_cells, show
from petcd.cli.progress import Bar

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context


def _hashkv(context: Context) -> None:
    from petcd.errors import EtcdError
    from petcd.mvcc.filehash import file_hash

    name = check_format(context)
    (path,) = context.arguments
    check_exists(path)
    bar = Bar()
    try:
        with database(path, context.flags["timeout"]) as (_, found):
            size = found.size_bytes
            answer = file_hash(found, context.flags["rev"], lambda done: bar("hashing", done, size))
    except EtcdError as error:
        fail(error.text.removeprefix("etcdserver: "))
    finally:
        bar.close()
    show(name, hash_cells(answer))


COMMANDS: Final = {
    "hashkv": Tool(
        _hashkv,
        "hashkv <filename>",
        (integer("rev", "maximum revision to hash (default: latest revision)"),),
        "Prints the hash of the key-value history in a database file: a backend or a snapshot.",
        exactly=1,
    ),
}
