"""defrag: give back the free pages of a stopped member's database (contract cli section 5.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from petcd.cli.etcdctl.golang import quote
from petcd.cli.etcdctl.grammar import string
from petcd.cli.etcdutl.commands import Tool
from petcd.cli.etcdutl.files import fail, os_text

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context


def _defrag(context: Context) -> None:
    from petcd.cli.etcdutl.datadir import go_database, our_backend, our_database, rewrite_go_database
    from petcd.storage.errors import StorageError

    data_dir: str = context.flags["data-dir"]
    timeout = context.flags["timeout"]
    path = go_database(data_dir)
    try:
        ours = our_database(data_dir)
        path = ours or path
        waiting = (
            f"waiting for etcd to close and release its lock on {quote(path)}. "
            "To defrag a running etcd instance, use `etcdctl defrag` instead."
        )
        if ours:
            with our_backend(data_dir, timeout, waiting) as backend:
                backend.defragment(lambda: None)
        else:
            rewrite_go_database(path, timeout, waiting)
    except OSError as error:
        fail(f"Failed to defragment etcd data[{data_dir}] ({os_text('stat', path, error)})")
    except StorageError as error:
        fail(f"Failed to defragment etcd data[{data_dir}] ({error})")


COMMANDS: Final = {
    "defrag": Tool(
        _defrag,
        "defrag",
        (string("data-dir", "path of the data directory of a stopped member"),),
        "Defragments the storage of a stopped member.",
        required=("data-dir",),
    ),
}
