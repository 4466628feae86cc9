"""Entries and records of a write-ahead log as lines of text (contract cli section 7.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from petcd.cli.etcdctl.golang import quote
from petcd.cli.etcdutl.prototext import octal, text
from petcd.pb.etcdserverpb import InternalRaftRequest, Metadata, Request
from petcd.pb.raftpb import ConfChange
from petcd.pb.wire import DecodeError
from petcd.server.ids import hex_id
from petcd.storage.wal import WalEntry
from petcd.storage.wal.reader import SegmentReader, parse_entry, parse_snapshot, parse_state
from petcd.storage.wal.records import ENTRY, METADATA, SNAPSHOT, STATE

NORMAL: Final = 0
_EXCERPT: Final = 64
_CHANGES: Final = (
    "ConfChangeAddNode",
    "ConfChangeRemoveNode",
    "ConfChangeUpdateNode",
    "ConfChangeAddLearnerNode",
)
_ENTRY_TYPES: Final = ("EntryNormal", "EntryConfChange", "EntryConfChangeV2")

Decoded = Request | InternalRaftRequest | None


def decoded(entry: WalEntry) -> Decoded:
    """A normal entry's request; None when it is neither kind."""
    try:
        return InternalRaftRequest.decode(entry.data)
    except DecodeError:
        try:
            return Request.decode(entry.data)
        except DecodeError:
            return None


def _has(name: str) -> Callable[[WalEntry, Decoded], bool]:
    return lambda _, request: isinstance(request, InternalRaftRequest) and getattr(request, name) is not None


TYPES: Final[dict[str, Callable[[WalEntry, Decoded], bool]]] = {
    "ConfigChange": lambda entry, _: entry.type != NORMAL,
    "Normal": lambda entry, _: entry.type == NORMAL,
    "Request": lambda entry, request: entry.type == NORMAL and isinstance(request, Request),
    "InternalRaftRequest": lambda entry, request: (
        entry.type == NORMAL and bool(entry.data) and isinstance(request, InternalRaftRequest)
    ),
    "IRRRange": _has("range"),
    "IRRPut": _has("put"),
    "IRRDeleteRange": _has("delete_range"),
    "IRRTxn": _has("txn"),
    "IRRCompaction": _has("compaction"),
    "IRRLeaseGrant": _has("lease_grant"),
    "IRRLeaseRevoke": _has("lease_revoke"),
    "IRRLeaseCheckpoint": _has("lease_checkpoint"),
}
"""The kinds of entry that ``-entry-type`` can name."""


def line(entry: WalEntry, request: Decoded) -> str:
    """One entry, as its columns."""
    head = f"{entry.term:>4}\t{entry.index:>10}\t"
    if entry.type != NORMAL:
        try:
            change = ConfChange.decode(entry.data)
        except DecodeError:
            return f"{head}conf\t???"
        kind = _CHANGES[change.type] if change.type < len(_CHANGES) else str(change.type)
        return f"{head}conf\tmethod={kind} id={hex_id(change.node_id)}"
    if not entry.data:
        return f"{head}norm\tnoop"
    if isinstance(request, Request):
        return f"{head}norm\t{_v2(request)}"
    if request is None:
        return f"{head}norm\t???"
    for name in ("auth_user_change_password", "auth_user_add", "authenticate"):
        part: Any = getattr(request, name)
        if part is not None:
            for secret in ("password", "hashedPassword", "simple_token"):
                if getattr(part, secret, ""):
                    setattr(part, secret, "<value removed>")
    return f"{head}norm\t{text(request)}"


def _v2(request: Request) -> str:
    if not request.Method:
        return "noop"
    if request.Method == "SYNC":
        import datetime

        seconds, rest = divmod(request.Time, 1_000_000_000)
        moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
        fraction = f".{rest:09d}".rstrip("0") if rest else ""
        return f'method=SYNC time="{moment}{fraction} +0000 UTC"'
    path = _excerpt(request.Path, _EXCERPT, _EXCERPT)
    if request.Method in ("QGET", "DELETE"):
        return f"method={request.Method} path={path}"
    return f"method={request.Method} path={path} val={_excerpt(request.Val, 2 * _EXCERPT, 0)}"


def _excerpt(value: str, before: int, after: int) -> str:
    if before + after > len(value):
        return quote(value)
    return f"{quote(value[:before])}...{quote(value[len(value) - after :])}"


def raw_lines(reader: SegmentReader) -> Iterator[str]:
    """Every record of a log. Raises: what the reader raises."""
    segment, crc = -1, 0
    for record, data in reader:
        if reader.position != segment:
            # Each segment begins with the checksum of the one before.
            segment = reader.position
            yield f"CRC: {crc}"
        crc = reader.crc
        if record == METADATA:
            yield f"Metadata: {text(Metadata.decode(data))} "
        elif record == ENTRY:
            entry = parse_entry(data)
            shown = f" Data:{octal(entry.data)}" if entry.data else ""
            kind = _ENTRY_TYPES[entry.type] if entry.type < len(_ENTRY_TYPES) else entry.type
            yield f"Entry: Term:{entry.term} Index:{entry.index} Type:{kind}{shown} "
        elif record == SNAPSHOT:
            place = parse_snapshot(data)
            conf = f" conf_state:{{{text(place.conf_state)}}}" if place.conf_state is not None else ""
            yield f"Snapshot: index:{place.index} term:{place.term}{conf} "
        elif record == STATE:
            state = parse_state(data)
            yield f"HardState: term:{state.term} vote:{state.vote} commit:{state.commit} "
