"""WatchResponses and their events as bytes: encoded once, shared by all watchers that get the same.

A response is its header field, which the server makes, and what this module puts behind it
(contract/wire-v3.md 1.1, 4.2 to 4.8).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from petcd.mvcc.revision import PLAIN_BYTES, main_of
from petcd.pb import splice
from petcd.pb.wire import VARINTS, varint

if TYPE_CHECKING:
    from petcd.mvcc.store import Change

INVALID_ID: Final = -1
"""The watch id of refusals and of progress on request."""

DUPLICATE_ID: Final = "mvcc: duplicate watch ID provided on the WatchStream"
EMPTY_RANGE: Final = "mvcc: watcher range is empty"

_FRAGMENT: Final = b"\x38\x01"


def watch_id_field(watch_id: int) -> bytes:
    return b"\x10" + varint(watch_id) if watch_id else b""


def event_field(change: Change, prev_kv: bytes | None) -> bytes:
    """One change as field 11 of the response."""
    if len(change.rev) == PLAIN_BYTES:
        event = splice.event_put(change.kv, prev_kv)
    else:
        event = splice.event_delete(change.key, main_of(change.rev), prev_kv)
    n = len(event)
    return b"\x5a" + (VARINTS[n] if n < 2048 else varint(n)) + event


def fragments(head: bytes, events: Sequence[bytes], bytes_max: int) -> Iterator[bytes]:
    """The messages for one response: one if it is small enough or has a single event, else parts.

    ``head`` is header and watch id. Every part repeats it, all but the last carry the fragment mark, a single
    event is never split (contract 4.7).
    """
    if len(events) < 2 or len(head) + sum(map(len, events)) < bytes_max:
        yield head + b"".join(events)
        return
    room = bytes_max - len(head) - len(_FRAGMENT)
    part: list[bytes] = []
    used = 0
    for event in events:
        if part and used + len(event) >= room:
            yield head + _FRAGMENT + b"".join(part)
            part = []
            used = 0
        part.append(event)
        used += len(event)
    yield head + b"".join(part)
