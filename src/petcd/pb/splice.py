"""Hot paths that make encoded messages out of encoded parts, without building objects.

Promises: what a function here returns is byte for byte what ``encode`` of the equal message gives (the tests
hold each against its class). Arguments that are messages are their bytes, without a length, unless the name
says ``field``: then tag and length are already in front.
Source: contract/wire-v3.md sections 1.1, 1.2, 1.4; table 1.14 for the raft entry; disk.md 5.1 for tombstones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from petcd.pb.wire import VARINTS, DecodeError, delimited, long_varint, skip, varint

__all__ = [
    "Header",
    "header_prefix",
    "header",
    "key_value",
    "tombstone",
    "without_value",
    "put_response",
    "range_response",
    "delete_range_response",
    "response_op",
    "txn_response",
    "event_put",
    "event_delete",
    "event_fields",
    "watch_response",
    "request_header",
    "internal_put",
    "internal_request",
    "internal_header_id",
    "entry",
    "normal_entries",
    "delimited",
]


class EntryLike(Protocol):
    """A log entry, whoever's class it is."""

    term: int
    index: int
    type: int
    data: bytes
    encoded: bytes | None


_FIELD_2: Final = tuple(b"\x12" + length for length in VARINTS)
"""Tag and length of a sub-message in field 2, which holds the KeyValue in responses and events."""

_BODY_TAGS: Final = frozenset(number << 3 | 2 for number in range(3, 12))
"""One-byte tags of the requests an InternalRaftRequest can hold."""


def _scalar(encoded_tag: bytes, value: int) -> bytes:
    return encoded_tag + varint(value) if value else b""


# --- response header -------------------------------------------------------------------------------------


def header_prefix(cluster_id: int, member_id: int) -> bytes:
    """The part of a ResponseHeader that never changes."""
    return _scalar(b"\x08", cluster_id) + _scalar(b"\x10", member_id)


def header(prefix: bytes, revision: int, term: int) -> bytes:
    """The header as field 1 of a response, tag and length in front."""
    body = prefix
    if revision:
        body += b"\x18" + (VARINTS[revision] if 0 <= revision < 2048 else varint(revision))
    if term:
        body += b"\x20" + (VARINTS[term] if 0 <= term < 2048 else varint(term))
    return b"\n" + VARINTS[len(body)] + body


class Header:
    """One member's response headers; remembers the last, which reads ask for again and again."""

    __slots__ = ("_encoded", "_head", "_limit", "_prefix", "_revision", "_start", "_tail", "_term")

    def __init__(self, cluster_id: int, member_id: int) -> None:
        self._prefix = header_prefix(cluster_id, member_id)
        self._revision = self._term = 0
        self._start = self._limit = 0
        self._head = self._tail = b""
        self._encoded = header(self._prefix, 0, 0)

    def at(self, revision: int, term: int) -> bytes:
        """The header as field 1 of a response."""
        if revision != self._revision or term != self._term:
            if term != self._term or revision >= self._limit or revision < self._start:
                self._learn(revision, term)
            self._encoded = self._head + (varint(revision) if revision else b"") + self._tail
            self._revision = revision
        return self._encoded

    def _learn(self, revision: int, term: int) -> None:
        """What surrounds the revision stays the same while its length does."""
        whole = header(self._prefix, revision, term)
        self._term = term
        self._tail = b"\x20" + varint(term) if term else b""
        size = len(varint(revision)) if revision else 0
        cut = len(whole) - len(self._tail) - size
        self._head = whole[:cut]
        # Revision 0 is left out of a header, and negative ones are not worth remembering.
        self._start, self._limit = (1 << 7 * (size - 1), 1 << 7 * size) if revision > 0 else (0, 0)
        if size == 1:
            self._start = 1


# --- key-values ------------------------------------------------------------------------------------------


def key_value(key: bytes, create: int, mod: int, version: int, value: bytes, lease: int) -> bytes:
    """A KeyValue as it is stored and sent. ``key``, ``create``, ``mod`` and ``version`` are never zero."""
    n = len(key)
    encoded_mod = VARINTS[mod] if mod < 2048 else varint(mod)
    parts = [
        b"\n",
        VARINTS[n] if n < 2048 else varint(n),
        key,
        b"\x10",
        encoded_mod if create == mod else varint(create),
        b"\x18",
        encoded_mod,
        b" ",
        VARINTS[version] if version < 2048 else varint(version),
    ]
    if value:
        n = len(value)
        parts += (b"*", VARINTS[n] if n < 2048 else varint(n), value)
    if lease:
        parts += (b"0", varint(lease))
    return b"".join(parts)


def tombstone(key: bytes) -> bytes:
    """The stored value of a deletion: a KeyValue with only its key."""
    return delimited(b"\n", key)


def without_value(kv: bytes) -> bytes:
    """An encoded KeyValue less its value, for ranges of keys only.

    Raises: DecodeError.
    """
    i = 0
    end = len(kv)
    try:
        while i < end:
            start = i
            tag = kv[i]
            i = skip(kv, i + 1, end, tag)
            if tag == 0x2A:
                return kv[:start] + kv[i:]
    except IndexError:
        raise DecodeError("unexpected end of message") from None
    return kv


# --- response bodies, less the header --------------------------------------------------------------------


def put_response(prev_kv: bytes | None) -> bytes:
    """PutResponse after its header."""
    return b"" if prev_kv is None else delimited(b"\x12", prev_kv)


def range_response(kvs: Iterable[bytes], more: bool, count: int) -> bytes:
    """RangeResponse after its header."""
    out = []
    for kv in kvs:
        n = len(kv)
        out.append(_FIELD_2[n] if n < 2048 else b"\x12" + varint(n))
        out.append(kv)
    if more:
        out.append(b"\x18\x01")
    if count:
        out.append(b"\x20")
        out.append(VARINTS[count] if count < 2048 else varint(count))
    return b"".join(out)


def delete_range_response(deleted: int, prev_kvs: Iterable[bytes] = ()) -> bytes:
    """DeleteRangeResponse after its header."""
    return _scalar(b"\x10", deleted) + b"".join([delimited(b"\x1a", kv) for kv in prev_kvs])


def response_op(number: int, response: bytes) -> bytes:
    """A ResponseOp: 1 range, 2 put, 3 delete range, 4 txn."""
    return delimited(VARINTS[number << 3 | 2], response)


def txn_response(succeeded: bool, responses: Iterable[bytes]) -> bytes:
    """TxnResponse after its header."""
    return (b"\x10\x01" if succeeded else b"") + b"".join([delimited(b"\x1a", op) for op in responses])


# --- watching --------------------------------------------------------------------------------------------


def event_put(kv: bytes, prev_kv: bytes | None = None) -> bytes:
    """A PUT event."""
    n = len(kv)
    event = (_FIELD_2[n] if n < 2048 else b"\x12" + varint(n)) + kv
    return event if prev_kv is None else event + delimited(b"\x1a", prev_kv)


def event_delete(key: bytes, mod: int, prev_kv: bytes | None = None) -> bytes:
    """A DELETE event: its KeyValue holds only the key and the revision of the deletion."""
    event = b"\x08\x01" + delimited(b"\x12", delimited(b"\n", key) + _scalar(b"\x18", mod))
    return event if prev_kv is None else event + delimited(b"\x1a", prev_kv)


def event_fields(events: Iterable[bytes]) -> bytes:
    """Events as the run of fields 11 that ends a WatchResponse; made once for all watchers that share it."""
    out = []
    for event in events:
        n = len(event)
        out.append(b"Z")
        out.append(VARINTS[n] if n < 2048 else varint(n))
        out.append(event)
    return b"".join(out)


def watch_response(
    header_field: bytes,
    watch_id: int,
    event_run: bytes = b"",
    *,
    created: bool = False,
    canceled: bool = False,
    compact_revision: int = 0,
    cancel_reason: str = "",
    fragment: bool = False,
) -> bytes:
    """A whole WatchResponse; ``event_run`` comes from ``event_fields``."""
    out = [header_field]
    if watch_id:
        out.append(b"\x10")
        out.append(VARINTS[watch_id] if 0 <= watch_id < 2048 else varint(watch_id))
    if created:
        out.append(b"\x18\x01")
    if canceled:
        out.append(b"\x20\x01")
    if compact_revision:
        out.append(_scalar(b"(", compact_revision))
    if cancel_reason:
        out.append(delimited(b"2", cancel_reason.encode()))
    if fragment:
        out.append(b"8\x01")
    out.append(event_run)
    return b"".join(out)


# --- raft log --------------------------------------------------------------------------------------------


def request_header(request_id: int, username: bytes = b"", auth_revision: int = 0) -> bytes:
    """RequestHeader as field 100 of an InternalRaftRequest, tag and length in front."""
    body = b"\x08" + varint(request_id) if request_id else b""
    if username:
        body += delimited(b"\x12", username)
    if auth_revision:
        body += b"\x18" + varint(auth_revision)
    return delimited(b"\xa2\x06", body)


def internal_put(request_id: int, put: bytes) -> bytes:
    """InternalRaftRequest around an encoded PutRequest, with auth off."""
    n = len(put)
    encoded_id = varint(request_id)
    return b"".join(
        (
            b'"',
            VARINTS[n] if n < 2048 else varint(n),
            put,
            b"\xa2\x06",
            VARINTS[len(encoded_id) + 1],
            b"\x08",
            encoded_id,
        )
    )


def internal_request(
    number: int, request: bytes, request_id: int, username: bytes = b"", auth_revision: int = 0
) -> bytes:
    """InternalRaftRequest around the encoded request of field ``number``."""
    if number < 12 and not username and not auth_revision and request_id:
        n = len(request)
        encoded_id = varint(request_id)
        return b"".join(
            (
                VARINTS[number << 3 | 2],
                VARINTS[n] if n < 2048 else varint(n),
                request,
                b"\xa2\x06",
                VARINTS[len(encoded_id) + 1],
                b"\x08",
                encoded_id,
            )
        )
    body = delimited(varint(number << 3 | 2), request)
    head = request_header(request_id, username, auth_revision)
    return body + head if number < 100 else head + body


def internal_header_id(data: bytes) -> int:
    """The request id of an encoded InternalRaftRequest: field 1 if not zero, else ``header.ID``, else 0.

    Bodies are skipped by their lengths. Raises: DecodeError.
    """
    i = 0
    end = len(data)
    found = 0
    try:
        # As members write it: one body, then a header that ends the message and holds nothing but the id.
        # Whatever looks different takes the general way below.
        if data and data[0] in _BODY_TAGS:
            n, i = data[1], 2
            if n > 127:
                n, i = long_varint(data, 1)
            i += n
            if (
                data[i : i + 2] == b"\xa2\x06"
                and i + 4 < end
                and data[i + 3] == 8
                and i + 3 + data[i + 2] == end < i + 131
            ):
                found, i = long_varint(data, i + 4)
                if i == end:
                    return found
        i = found = 0
        while i < end:
            tag = data[i]
            i += 1
            if tag > 127:
                tag, i = long_varint(data, i - 1)
            if tag == 802:
                n, i = long_varint(data, i)
                stop = i + n
                while i < stop:
                    tag, i = long_varint(data, i)
                    if tag == 8:
                        found, i = long_varint(data, i)
                    else:
                        i = skip(data, i, stop, tag)
                if i != stop:
                    raise DecodeError("field reaches past its message")
            elif tag == 8:
                request_id, i = long_varint(data, i)
                if request_id:
                    return request_id
            else:
                i = skip(data, i, end, tag)
    except IndexError:
        raise DecodeError("unexpected end of message") from None
    if i != end:
        raise DecodeError("field reaches past its message")
    return found


def normal_entries(entries: Iterable[EntryLike]) -> list[tuple[int, bytes]]:
    """(index, encoded entry) of a batch; half the cost of ``entry``, since neighbours share their term.

    A form that is lying there, made to be sent or come from the leader, is taken, and forgotten by the entry:
    the log keeps it for thousands of others.
    """
    term, head = -1, b""
    out = []
    for one in entries:
        encoded = one.encoded
        if encoded is not None:
            one.encoded = None
            out.append((one.index, encoded))
            continue
        data = one.data
        if one.type or not data:
            out.append((one.index, entry(one.type, one.term, one.index, data)))
            continue
        if one.term != term:
            term = one.term
            head = b"\x08\x00\x10" + varint(term) + b"\x18"
        index = one.index
        n = len(data)
        out.append(
            (
                index,
                b"".join((head, varint(index), b'"', VARINTS[n] if n < 2048 else varint(n), data)),
            )
        )
    return out


def entry(entry_type: int, term: int, index: int, data: bytes) -> bytes:
    """A raft entry in the form etcd <= 3.6 writes: type, term and index always, data unless empty."""
    head = b"".join(
        (
            b"\x08",
            VARINTS[entry_type],
            b"\x10",
            VARINTS[term] if term < 2048 else varint(term),
            b"\x18",
            VARINTS[index] if index < 2048 else varint(index),
        )
    )
    if not data:
        return head
    n = len(data)
    return b"".join((head, b'"', VARINTS[n] if n < 2048 else varint(n), data))
