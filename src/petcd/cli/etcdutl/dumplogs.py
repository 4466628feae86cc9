"""dump-logs: the entries of a write-ahead log, one a line; also ``etcd-dump-logs`` (contract cli 7.3).

The flags are those of a Go program: one dash does as well as two.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from petcd.cli.etcdctl.commands import ERROR, Exit, complain, write
from petcd.cli.etcdctl.grammar import Flag, boolean, string, unsigned
from petcd.cli.etcdutl import commands
from petcd.cli.etcdutl.commands import Node, Tool
from petcd.cli.etcdutl.entrylines import NORMAL, TYPES, decoded, line, raw_lines
from petcd.cli.etcdutl.files import DISK, fail
from petcd.pb.etcdserverpb import Metadata
from petcd.server.backup import newest_snapshot
from petcd.server.ids import hex_id
from petcd.storage import schema
from petcd.storage.errors import StorageError, TornError
from petcd.storage.snapshots import Snapshotter
from petcd.storage.wal import WalContents, WalSnapshot, valid_snapshots
from petcd.storage.wal.reader import SegmentReader, collect, segment_names, select_segments

if TYPE_CHECKING:
    from petcd.cli.etcdctl.context import Context

FLAGS: Final[tuple[Flag, ...]] = (
    string("start-snap", "base name of the snapshot file to start from"),
    unsigned("start-index", "index of the first entry to list"),
    unsigned("end-index", "index of the entry to stop before"),
    string("wal-dir", "directory of the log, when it is not in the data directory"),
    string("entry-type", "kinds of entries to list, comma separated", default="Normal,ConfigChange"),
    string("stream-decoder", "a program that answers each entry, in hexadecimal, with <status>|<data>"),
    boolean("raw", "list the records as they are"),
)


def _dump(context: Context) -> None:
    flags = context.flags
    if len(context.arguments) != 1:
        raise Exit(ERROR, f"Must provide data-dir argument (got [{' '.join(context.arguments)}])")
    if flags["start-snap"] and "start-index" in flags.changed:
        raise Exit(ERROR, "start-snap and start-index flags cannot be used together.")
    data_dir = context.arguments[0].rstrip("/")
    wal_dir = flags["wal-dir"] or f"{data_dir}/member/wal"
    try:
        if flags["raw"]:
            _dump_raw(wal_dir)
        else:
            _dump_entries(context, data_dir, wal_dir)
    except BrokenPipeError:
        raise  # of our own output
    except (OSError, StorageError) as error:
        fail(f"Failed reading WAL: {error}")


def _dump_entries(context: Context, data_dir: str, wal_dir: str) -> None:
    flags = context.flags
    start = int(flags["start-index"])
    wanted = [name.strip() for name in flags["entry-type"].split(",") if name.strip()]
    for name in wanted:
        if name not in TYPES:
            complain(
                f"[{name}] is not a valid entry-type, ignored.\nPlease set entry-type to one or more of:"
            )
            complain("\n".join(TYPES))
    kinds = [TYPES[name] for name in wanted if name in TYPES]
    if "start-index" in flags.changed:
        write(f"Start dumping log entries from index {start}.\n")
        before = max(start - 1, 0)
        # A snapshot record may stand there, and then must be of this term.
        terms = [one.term for one in valid_snapshots(DISK, wal_dir) if one.index == before]
        base = WalSnapshot(before, terms[0] if terms else 0)
    else:
        base = _show_snapshot(data_dir, wal_dir, flags["start-snap"])
    contents = _read(wal_dir, base)
    entries = contents.entries
    if "end-index" in flags.changed:
        entries = [e for e in entries if e.index < flags["end-index"]]
    metadata = Metadata.decode(contents.metadata)
    state = contents.hard_state
    last = entries[-1].index if entries else base.index
    write(
        f"WAL metadata:\nnodeID={hex_id(metadata.NodeID)} clusterID={hex_id(metadata.ClusterID)} "
        f"term={state.term} commitIndex={state.commit} vote={hex_id(state.vote)}\n"
        f"WAL entries: {len(entries)}\nlastIndex={last}\n"
    )
    decoder = flags["stream-decoder"]
    write(
        f"{'term':>4}\t{'index':>10}\ttype\tdata"
        + ("\tdecoder_status\tdecoded_data" if decoder else "")
        + "\n"
    )
    count = 0
    answers = _Decoder(decoder) if decoder else None
    try:
        for entry in entries:
            request = decoded(entry) if entry.type == NORMAL else None
            if any(kind(entry, request) for kind in kinds):
                count += 1
                tail = answers.ask(entry.data) if answers is not None else ""
                write(line(entry, request) + tail + "\n")
    finally:
        if answers is not None:
            answers.close()
    write(f"\nEntry types ({','.join(wanted)}) count is : {count}\n")


def _read(wal_dir: str, base: WalSnapshot) -> WalContents:
    """What the log holds behind ``base``; a torn end is left out."""
    names = select_segments(DISK, wal_dir, base.index)
    files = [DISK.open(f"{wal_dir}/{name}", readonly=True) for name in names]
    try:
        return collect(SegmentReader(files), files, base, torn_is_end=True)
    finally:
        for file in files:
            file.close()


def _show_snapshot(data_dir: str, wal_dir: str, name: str) -> WalSnapshot:
    """Say which snapshot the listing begins at; its place."""
    snap_dir = f"{data_dir}/member/snap"
    if name:
        name = name if name.endswith(".snap") else f"{name}.snap"
    else:
        place = newest_snapshot(DISK, snap_dir, wal_dir)
        name = f"{place.term:016x}-{place.index:016x}.snap" if place.index else ""
    write("Snapshot:\n")
    base = WalSnapshot()
    if not name:
        write("empty\n")
    else:
        metadata = Snapshotter(DISK, snap_dir).load(name).metadata
        assert metadata is not None, "load checks it"
        conf = metadata.conf_state
        voters = " ".join(map(hex_id, conf.voters)) if conf is not None else ""
        shown = schema.encode_conf_state(conf).decode() if conf is not None else "{}"
        write(f"term={metadata.term} index={metadata.index} nodes=[{voters}] confstate={shown}\n")
        base = WalSnapshot(metadata.index, metadata.term)
    write("Start dumping log entries from snapshot.\n")
    return base


class _Decoder:
    """The program of ``-stream-decoder``."""

    def __init__(self, command: str) -> None:
        import shlex
        import subprocess

        try:
            words = shlex.split(command)
        except ValueError as error:
            fail(f"{command}: {str(error).lower()}")
        if not words:
            fail("-stream-decoder names no program")
        try:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                encoding="utf-8",
                errors="surrogateescape",
            )
        except OSError as error:
            fail(f"{command}: {(error.strerror or str(error)).lower()}")

    def ask(self, data: bytes) -> str:
        """Its two columns for an entry's data."""
        out, back = self._process.stdin, self._process.stdout
        assert out is not None and back is not None
        try:
            out.write(data.hex() + "\n")
            out.flush()
            answer = back.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            fail("the decoder has ended")
        status, *rest = answer.rstrip("\n").split("|")
        if not rest:
            return f"\tdecoder output format is not right, print output anyway\t{status}"
        if len(rest) > 1:
            status += "(*WARNING: data might contain deliminator used by etcd-dump-logs)"
        return f"\t{status}\t{''.join(rest)}"

    def close(self) -> None:
        # Closes its pipes and waits. It may have left what was written last.
        with contextlib.suppress(BrokenPipeError), self._process:
            pass


# ---------------------------------------------------------------------- records as they are


def _dump_raw(wal_dir: str) -> None:
    files = [DISK.open(f"{wal_dir}/{name}", readonly=True) for name in segment_names(DISK, wal_dir)]
    reader = SegmentReader(files)
    try:
        for one in raw_lines(reader):
            write(one + "\n")
        write("EOF: All entries were processed.\n")
    except TornError as error:
        complain(f"Error: Failed reading WAL: {error}")
        raise Exit(ERROR) from None
    finally:
        for file in files:
            file.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """``etcd-dump-logs``."""
    root = Node("etcd-dump-logs", "Lists the entries of a write-ahead log.", "dumplogs")
    return commands.main(root, arguments)


_TEXT: Final = "Lists the entries of the write-ahead log in a data directory."
COMMANDS: Final = {
    "dump-logs": Tool(_dump, "dump-logs <data dir>", FLAGS, _TEXT, single_dash=True),
    "": Tool(_dump, "etcd-dump-logs <data dir>", FLAGS, _TEXT, single_dash=True),
}
