"""check v2store: whether a member holds anything of the v2 API's users (contract cli section 5.7).

petcd and releases from 3.6 on refuse to start on such a directory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from petcd.cli.etcdctl.commands import write
from petcd.cli.etcdctl.grammar import string
from petcd.cli.etcdutl.commands import Tool
from petcd.cli.etcdutl.files import DISK, fail

if TYPE_CHECKING:
    from collections.abc import Iterable

    from petcd.cli.etcdctl.context import Context
    from petcd.storage.wal import WalEntry, WalSnapshot


def _check(context: Context) -> None:
    from petcd.server.backup import newest_snapshot
    from petcd.storage.wal import read_log

    data_dir: str = context.flags["data-dir"].rstrip("/")
    snap_dir = f"{data_dir}/member/snap"
    wal_dir: str = context.flags["wal-dir"].rstrip("/") or f"{data_dir}/member/wal"
    for path in (snap_dir, wal_dir):
        if not DISK.is_dir(path):
            fail(f"open {path}: no such file or directory")
    place = newest_snapshot(DISK, snap_dir, wal_dir)
    in_store = place.index > 0 and _in_store(snap_dir, place)
    in_log = _in_log(read_log(DISK, wal_dir, place if place.index else None).entries)
    if in_store and in_log:
        fail("detected custom v2 content in both v2store and WAL records")
    if in_store:
        fail("detected custom content in v2store")
    if in_log:
        fail("detected custom v2 content in WAL records")
    write("No custom content found in both v2store and WAL records.\n")


def _in_store(snap_dir: str, place: WalSnapshot) -> bool:
    from petcd.server.membership import Membership
    from petcd.server.takeover.membership import V2KeysError, from_tree
    from petcd.storage.memory_backend import MemoryBackend
    from petcd.storage.snapshots import Snapshotter

    name = f"{place.term:016x}-{place.index:016x}.snap"
    snapshot = Snapshotter(DISK, snap_dir).load(name)
    try:
        from_tree(f"{snap_dir}/{name}", snapshot.data, Membership(0, MemoryBackend()))
    except V2KeysError:
        return True
    return False


def _in_log(entries: Iterable[WalEntry]) -> bool:
    from petcd.cli.etcdutl.entrylines import NORMAL, decoded
    from petcd.pb.etcdserverpb import Request
    from petcd.server.v2requests import UnknownV2Request, meaning_of

    for entry in entries:
        if entry.type != NORMAL or not entry.data:
            continue
        request = decoded(entry)
        v2 = request if request is None or isinstance(request, Request) else request.v2
        if v2 is not None:
            try:
                meaning_of(v2)
            except UnknownV2Request:
                return True
    return False


COMMANDS: Final = {
    "check v2store": Tool(
        _check,
        "v2store",
        (
            string("data-dir", "path of the data directory of a stopped member"),
            string("wal-dir", "path of its write-ahead log, when that has a directory of its own"),
        ),
        "Looks for keys, users and roles of the v2 API in the newest snapshot and behind it in the log.",
        required=("data-dir",),
    ),
}
