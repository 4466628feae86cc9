"""Raft messages and entries as bytes: ``raftpb.Message`` without building protobuf objects.

Written are only fields that are set, as etcd 3.7 does, which every release reads; reading takes any spelling
of the same message. An entry is encoded once: the form made here lies in ``Entry.encoded`` until the
write-ahead log takes it, and the form that came off the wire goes into the log as it is.
Whatever the bytes, decoding returns or raises ``DecodeError``.
Source: contract page "peer", 6.1, 6.7 and 7.1.
"""

from __future__ import annotations

from typing import Final

from petcd.pb import raftpb, splice
from petcd.pb.wire import VARINTS, DecodeError, long_varint, skip, varint
from petcd.raft import MSG_PROP, ConfState, Entry, Message, Snapshot, SnapshotMetadata

_UINT64: Final = (1 << 64) - 1
_ROUTES_MAX: Final = 256
_routes: dict[tuple[int, int], bytes] = {}


# --- writing ---------------------------------------------------------------------------------------------


def encode_entry(entry: Entry) -> bytes:
    """The entry's form for the log and for all followers. A proposal, which has no index yet, keeps none."""
    encoded = entry.encoded
    if encoded is None:
        encoded = splice.entry(entry.type, entry.term, entry.index, entry.data)
        if entry.index:
            entry.encoded = encoded
    return encoded


def encode_message(message: Message) -> bytes:
    """``raftpb.Message``, set fields only."""
    out: list[bytes] = []
    if message.type:
        out += (b"\x08", varint(message.type))
    route = (message.to, message.from_)
    out.append(_routes.get(route) or encode_route(*route))
    if message.term:
        out += (b"\x20", varint(message.term))
    if message.log_term:
        out += (b"\x28", varint(message.log_term))
    if message.index:
        out += (b"\x30", varint(message.index))
    for entry in message.entries:
        encoded = entry.encoded
        if encoded is None:
            encoded = encode_entry(entry)
        n = len(encoded)
        out += (b":", VARINTS[n] if n < 2048 else varint(n), encoded)
    if message.commit:
        out += (b"\x40", varint(message.commit))
    if message.snapshot is not None:
        body = encode_snapshot(message.snapshot)
        out += (b"\x4a", varint(len(body)), body)
    if message.reject:
        out.append(b"\x50\x01")
    if message.reject_hint:
        out += (b"\x58", varint(message.reject_hint))
    if message.context:
        out += (b"\x62", varint(len(message.context)), message.context)
    return b"".join(out)


def encode_route(to: int, from_: int) -> bytes:
    """The fields ``to`` and ``from``: two long numbers, the same in every message of a stream."""
    encoded = (b"\x10" + varint(to) if to else b"") + (b"\x18" + varint(from_) if from_ else b"")
    if len(_routes) >= _ROUTES_MAX:
        _routes.clear()
    _routes[to, from_] = encoded
    return encoded


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """In the form of etcd <= 3.6, which writes every scalar: its readers are the pickiest."""
    metadata = snapshot.metadata
    conf = metadata.conf_state
    return raftpb.Snapshot(
        data=snapshot.data,
        metadata=raftpb.SnapshotMetadata(
            conf_state=raftpb.ConfState(
                voters=list(conf.voters),
                learners=list(conf.learners),
                voters_outgoing=list(conf.voters_outgoing),
                learners_next=list(conf.learners_next),
                auto_leave=conf.auto_leave,
            ),
            index=metadata.index,
            term=metadata.term,
        ),
    ).encode()


# --- reading ---------------------------------------------------------------------------------------------


class Route:
    """From whom to whom the messages of a stream go, as they begin with it: known bytes need no decoding."""

    __slots__ = ("encoded", "from_", "size", "to")

    def __init__(self, to: int, from_: int) -> None:
        self.to = to
        self.from_ = from_
        self.encoded: Final = encode_route(to, from_)
        self.size: Final = len(self.encoded)


def decode_message(data: bytes, start: int, end: int, route: Route | None = None) -> Message:
    """The message in ``data[start:end]``, quicker where it goes by ``route``. Raises: DecodeError."""
    kind = to = from_ = term = log_term = index = commit = hint = 0
    reject = False
    context = b""
    snapshot: Snapshot | None = None
    entries: list[Entry] = []
    i = start
    try:
        if (
            route is not None
            and i + 2 + route.size <= end
            and data[i] == 8
            and data[i + 1] < 128
            and data.startswith(route.encoded, i + 2)
        ):
            kind = data[i + 1]
            to, from_ = route.to, route.from_
            i += 2 + route.size
        while i < end:
            tag = data[i]
            i += 1
            if tag > 127:
                tag, i = long_varint(data, i - 1)
            if tag & 7 == 0 and tag <= 88:
                value = data[i]
                i += 1
                if value > 127:
                    value, i = long_varint(data, i - 1)
                if tag == 8:
                    kind = value
                elif tag == 16:
                    to = value
                elif tag == 24:
                    from_ = value
                elif tag == 32:
                    term = value
                elif tag == 40:
                    log_term = value
                elif tag == 48:
                    index = value
                elif tag == 64:
                    commit = value
                elif tag == 80:
                    reject = value != 0
                elif tag == 88:
                    hint = value
                elif tag < 8:
                    raise DecodeError("illegal field number")
            elif tag == 58:
                n = data[i]
                i += 1
                if n > 127:
                    n, i = long_varint(data, i - 1)
                if i + n > end:
                    raise DecodeError("unexpected end of message")
                entries.append(decode_entry(data, i, i + n))
                i += n
            elif tag == 74:
                n, i = long_varint(data, i)
                if i + n > end:
                    raise DecodeError("unexpected end of message")
                snapshot = _snapshot(raftpb.Snapshot.decode(data, i, i + n))
                i += n
            elif tag == 98:
                n, i = long_varint(data, i)
                context = data[i : i + n]
                i += n
            else:
                i = skip(data, i, end, tag)
    except IndexError:
        raise DecodeError("unexpected end of message") from None
    if i != end:
        raise DecodeError("field reaches past its message")
    if kind == MSG_PROP:
        for entry in entries:  # whatever place in the log it claims, the leader gives it one
            entry.encoded = None
    return Message(
        kind, to, from_, term, log_term, index, entries or (), commit, snapshot, reject, hint, context
    )


def decode_entry(data: bytes, start: int, end: int) -> Entry:
    """The entry in ``data[start:end]``. Raises: DecodeError."""
    try:
        # As etcd <= 3.6 and this program write it; that form can go into the log as it is.
        if data[start] == 8 and data[start + 2] == 16:
            kind = data[start + 1]
            term = data[start + 3]
            i = start + 4
            if term > 127:
                term, i = long_varint(data, i - 1)
            if data[i] == 24:
                index, i = long_varint(data, i + 1)
                if i == end:
                    if kind < 3:
                        return Entry(term, index, kind, b"", None, data[start:end])
                elif data[i] == 34:
                    n = data[i + 1]
                    i += 2
                    if n > 127:
                        n, i = long_varint(data, i - 1)
                    if i + n == end and kind < 3:
                        return Entry(term, index, kind, data[i:end], None, data[start:end])
    except IndexError:
        pass  # too short for this spelling, at the end of what came
    return _any_entry(data, start, end)


def _any_entry(data: bytes, start: int, end: int) -> Entry:
    """An entry spelled in another way: fields left out, repeated or out of order."""
    kind = term = index = 0
    body = b""
    i = start
    try:
        while i < end:
            tag, i = long_varint(data, i)
            if tag == 8:
                kind, i = long_varint(data, i)
            elif tag == 16:
                term, i = long_varint(data, i)
            elif tag == 24:
                index, i = long_varint(data, i)
            elif tag == 34:
                n, i = long_varint(data, i)
                body = data[i : i + n]
                i += n
            else:
                i = skip(data, i, end, tag)
    except IndexError:
        raise DecodeError("unexpected end of message") from None
    if i != end:
        raise DecodeError("field reaches past its message")
    if kind > 2:
        raise DecodeError("unknown type of entry")
    return Entry(term, index, kind, body)


def _snapshot(found: raftpb.Snapshot) -> Snapshot:
    metadata = found.metadata or raftpb.SnapshotMetadata()
    conf = metadata.conf_state or raftpb.ConfState()
    return Snapshot(
        found.data,
        SnapshotMetadata(
            ConfState(
                list(conf.voters),
                list(conf.learners),
                list(conf.voters_outgoing),
                list(conf.learners_next),
                conf.auto_leave,
            ),
            metadata.index & _UINT64,
            metadata.term & _UINT64,
        ),
    )
