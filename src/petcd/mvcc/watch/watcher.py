"""One watcher, and the table by which the watchers of a key are found."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from petcd.mvcc.watch.intervals import IntervalMap

if TYPE_CHECKING:
    from petcd.mvcc.watch.stream import WatchStream


class State(IntEnum):
    """Where a watcher stands.

    synced -> parked: an event came while the stream was full; parked -> queued: the stream drained;
    queued -> synced: it caught up from the store; queued -> ended: what it needs is compacted.
    """

    SYNCED = 0
    QUEUED = 1
    PARKED = 2
    ENDED = 3


# Reaching an enum member through its class costs 60 ns on CPython 3.11.
SYNCED: Final = State.SYNCED
QUEUED: Final = State.QUEUED
PARKED: Final = State.PARKED
ENDED: Final = State.ENDED


class Watcher:
    """A key or a range that one stream watches.

    Invariant: every event below ``next_rev`` has been handed to the stream or was not asked for. While
    synced, ``next_rev`` only says which revisions to skip (a start in the future).
    """

    __slots__ = (
        "end",
        "fragment",
        "head",
        "id",
        "key",
        "next_rev",
        "no_delete",
        "no_put",
        "prev_kv",
        "progress_due",
        "progress_notify",
        "start_rev",
        "state",
        "stream",
    )

    def __init__(
        self,
        stream: WatchStream,
        watch_id: int,
        head: bytes,
        key: bytes,
        end: bytes | None,
        next_rev: int,
        start_rev: int,
    ) -> None:
        self.stream = stream
        self.id = watch_id
        self.head = head
        """The watch id as a field."""
        self.key = key
        self.end = end
        """Empty: the one key; None: no upper end."""
        self.next_rev = next_rev
        self.start_rev = start_rev
        """The start that was asked for, 0 for "from now on"; progress waits until it is reached."""
        self.state = SYNCED
        self.no_put = False
        self.no_delete = False
        self.prev_kv = False
        self.fragment = False
        self.progress_notify = False
        self.progress_due = True


class WatcherTable:
    """Watchers by what they watch. Groups are dicts used as ordered sets."""

    __slots__ = ("_all", "_keys", "_ranges")

    def __init__(self) -> None:
        self._keys: dict[bytes, dict[Watcher, None]] = {}
        self._ranges: IntervalMap[dict[Watcher, None]] = IntervalMap()
        self._all: dict[Watcher, None] = {}

    @property
    def size(self) -> int:
        return len(self._all)

    def watchers(self) -> list[Watcher]:
        """All of them, first come first."""
        return list(self._all)

    def add(self, watcher: Watcher) -> None:
        self._all[watcher] = None
        key, end = watcher.key, watcher.end
        if end == b"":
            group = self._keys.get(key)
            if group is None:
                self._keys[key] = {watcher: None}
                return
        else:
            group = self._ranges.get(key, end)
            if group is None:
                self._ranges.put(key, end, {watcher: None})
                return
        group[watcher] = None

    def remove(self, watcher: Watcher) -> None:
        del self._all[watcher]
        key, end = watcher.key, watcher.end
        if end == b"":
            group = self._keys[key]
            del group[watcher]
            if not group:
                del self._keys[key]
            return
        found = self._ranges.get(key, end)
        assert found is not None
        del found[watcher]
        if not found:
            self._ranges.remove(key, end)

    def of(self, key: bytes) -> list[dict[Watcher, None]]:
        """The groups that watch ``key``."""
        groups = self._ranges.at(key) if len(self._ranges) else []
        group = self._keys.get(key)
        if group is not None:
            groups.append(group)
        return groups
