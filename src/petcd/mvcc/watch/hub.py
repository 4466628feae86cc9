"""The watch hub: who learns of which change, and when.

Synced watchers get the changes of a revision as it is applied: one response per watcher and revision. A
watcher that starts in the past, or whose stream had no room when an event came, is not synced. It is
queued, and ``step`` catches it up from the store, in slices, until it has reached the newest revision.
Nothing is buffered here for a slow stream; past its sink's window it costs one watcher's worth of memory.

Catching up:

- a watcher on one key reads that key's revisions from the index, at most 1000 revisions a response;
- watchers on ranges are swept along: one slice of the key bucket, in revision order, is read once for all of
  them that are not behind its start. Slices begin in turn at the watcher that is farthest behind and at those
  nearly synced, so that a long replay does not hold up one that missed a few revisions.

A revision is never split over responses other than by fragmenting. Sources: contract/wire-v3.md section 4;
contract/history.md part 1, the watch properties (filter, ordered, unique, atomic, resumable, reliable,
bookmarkable, prevkv).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from petcd.mvcc import keyvalue
from petcd.mvcc.revision import PLAIN_BYTES, bound, main_of
from petcd.mvcc.store import Change, Store
from petcd.mvcc.watch.responses import event_field, fragments
from petcd.mvcc.watch.stream import Sink, WatchStream
from petcd.mvcc.watch.watcher import ENDED, PARKED, QUEUED, SYNCED, Watcher, WatcherTable
from petcd.pb import splice
from petcd.seams.failpoints import Failpoints
from petcd.storage.schema import KEY

if TYPE_CHECKING:
    from petcd.storage.backend import Backend

BATCH_REVISIONS: Final = 1000
"""Most revisions in one response to a watcher that catches up."""
BATCH_BYTES: Final = 1 << 20
"""A batch ends after the revision that takes its values past this."""
GROUP_MAX: Final = 2048
"""Most watchers on ranges that one sweep looks at."""
SLICE_EVENTS: Final = 2000
"""About how many events one slice delivers."""
MESSAGE_BYTES_MAX: Final = 1_572_864 + 524_288
"""From this size on a response is split for watchers that asked for fragments."""

_SWEEP_FIRST: Final = 16
"""Records in the first slice of a sweep; the number adapts to the size of the values."""


def plain_header(rev: int) -> bytes:
    """A header with the revision only; the server puts its own in place."""
    return splice.header(b"", rev, 0)


class WatchHub:
    """All watchers of a member.

    ``header`` gives the response header field for a revision (0: without one). ``wake`` is called when
    ``step`` has got work: the server then calls ``step`` until it returns True.
    """

    def __init__(
        self,
        store: Store,
        header: Callable[[int], bytes] = plain_header,
        *,
        wake: Callable[[], object] | None = None,
        message_bytes_max: int = MESSAGE_BYTES_MAX,
        failpoints: Failpoints | None = None,
    ) -> None:
        self.store = store
        self.header = header
        self.wake = wake
        self.message_bytes_max = message_bytes_max
        self.failpoints = failpoints if failpoints is not None else Failpoints()
        self.active = False
        """Whether any watcher is synced, so that changes must be notified."""
        self.stream_count = 0
        self.watcher_count = 0
        self.event_count = 0
        """Events delivered so far."""
        self._synced = WatcherTable()
        self._keys_behind: dict[Watcher, None] = {}
        """Queued watchers on one key, first come first."""
        self._ranges_behind: dict[Watcher, None] = {}
        self._sweep_records = _SWEEP_FIRST
        self._near_next = False
        self._stepping = False
        self._notified = store.rev
        """The last revision that was notified while somebody watched."""

    @property
    def slow_watcher_count(self) -> int:
        """Watchers that are behind."""
        return self.watcher_count - self._synced.size

    @property
    def pending(self) -> bool:
        """Whether ``step`` has work."""
        return bool(self._keys_behind or self._ranges_behind)

    # Streams and their watchers

    def open(self, sink: Sink) -> WatchStream:
        """A new stream whose responses go to ``sink``."""
        self.stream_count += 1
        return WatchStream(self, sink)

    def closed(self, _stream: WatchStream) -> None:
        self.stream_count -= 1

    def add(self, watcher: Watcher) -> None:
        """Take a new watcher in (from its stream)."""
        self.watcher_count += 1
        if watcher.next_rev > self.store.rev:
            self._sync(watcher)
        else:
            self._queue(watcher)

    def drop(self, watcher: Watcher) -> None:
        """Forget a watcher (from its stream)."""
        self.watcher_count -= 1
        state = watcher.state
        if state == SYNCED:
            self._unsync(watcher)
        elif state == QUEUED:
            self._behind(watcher).pop(watcher)
        elif state == PARKED:
            watcher.stream.parked.pop(watcher, None)
        watcher.state = ENDED

    def unpark(self, stream: WatchStream) -> None:
        """The stream has room again."""
        if self.failpoints.armed:
            self.failpoints.hit("beforeMoveVictims")
        parked, stream.parked = stream.parked, {}
        for watcher in parked:
            self._queue(watcher)

    def resync(self) -> None:
        """The store was replaced by a snapshot: every synced watcher catches up from where it was."""
        for stream_watcher in self._synced.watchers():
            self._unsync(stream_watcher)
            stream_watcher.next_rev = max(stream_watcher.next_rev, self._notified + 1)
            self._queue(stream_watcher)
        self._notified = self.store.rev

    def _sync(self, watcher: Watcher) -> None:
        if not self.active:
            self.active = True
            self.store.watched = True
            self._notified = self.store.rev
        watcher.state = SYNCED
        self._synced.add(watcher)

    def _unsync(self, watcher: Watcher) -> None:
        self._synced.remove(watcher)
        if not self._synced.size:
            self.active = False
            self.store.watched = False

    def _queue(self, watcher: Watcher) -> None:
        idle = not (self._stepping or self.pending)
        watcher.state = QUEUED
        self._behind(watcher)[watcher] = None
        if idle and self.wake is not None:
            self.wake()

    def _behind(self, watcher: Watcher) -> dict[Watcher, None]:
        return self._keys_behind if watcher.end == b"" else self._ranges_behind

    # Synced watchers

    def notify(self, rev: int, changes: Sequence[Change]) -> None:
        """Deliver the changes of one applied revision. Each revision once, in order."""
        assert rev > self._notified
        self._notified = rev
        if self.failpoints.armed:
            self.failpoints.hit("beforeSendWatchResponse")
        if len(changes) == 1:
            self._notify_one(rev, changes[0])
            return
        wanted: dict[Watcher, list[int]] = {}
        find = self._synced.of
        for i, change in enumerate(changes):
            is_put = len(change.rev) == PLAIN_BYTES
            for group in find(change.key):
                for watcher in group:
                    if watcher.next_rev > rev or (watcher.no_put if is_put else watcher.no_delete):
                        continue
                    indexes = wanted.get(watcher)
                    if indexes is None:
                        wanted[watcher] = [i]
                    else:
                        indexes.append(i)
        if not wanted:
            return
        header = self.header(rev)
        plain: dict[int, bytes] = {}
        with_prev: dict[int, bytes] = {}
        runs: dict[tuple[bool, tuple[int, ...]], list[bytes]] = {}
        for watcher, indexes in wanted.items():
            stream = watcher.stream
            if stream.full:
                self._park(watcher, rev)
                continue
            run_key = (watcher.prev_kv, tuple(indexes))
            events = runs.get(run_key)
            if events is None:
                encoded = with_prev if watcher.prev_kv else plain
                events = runs[run_key] = []
                for i in indexes:
                    event = encoded.get(i)
                    if event is None:
                        change = changes[i]
                        prev = self.store.previous(change) if watcher.prev_kv else None
                        event = encoded[i] = event_field(change, prev)
                    events.append(event)
            self._deliver(watcher, header, events)

    def _notify_one(self, rev: int, change: Change) -> None:
        """The same for a revision with one change, by far the most frequent kind."""
        groups = self._synced.of(change.key)
        if not groups:
            return
        is_put = len(change.rev) == PLAIN_BYTES
        header = self.header(rev)
        plain = with_prev = b""
        # The message of the last head seen; most streams call their first watcher 0.
        last_head: bytes | None = None
        last_prev = False
        message = b""
        sent = 0
        lagging: list[Watcher] = []
        for group in groups:
            for watcher in group:
                if watcher.next_rev > rev or (watcher.no_put if is_put else watcher.no_delete):
                    continue
                stream = watcher.stream
                if stream.full:
                    lagging.append(watcher)
                    continue
                head = watcher.head
                if head != last_head or watcher.prev_kv is not last_prev:
                    last_head = head
                    last_prev = watcher.prev_kv
                    if last_prev:
                        with_prev = with_prev or event_field(change, self.store.previous(change))
                        message = header + head + with_prev
                    else:
                        plain = plain or event_field(change, None)
                        message = header + head + plain
                sent += 1
                watcher.progress_due = False
                if not stream.send(message):
                    stream.full = True
        self.event_count += sent
        for watcher in lagging:
            self._park(watcher, rev)

    def _park(self, watcher: Watcher, next_rev: int) -> None:
        """The event of ``next_rev`` cannot be sent now: it will be read from the store."""
        self._unsync(watcher)
        watcher.next_rev = next_rev
        watcher.stream.park(watcher)

    def _deliver(self, watcher: Watcher, header: bytes, events: Sequence[bytes]) -> None:
        """Send one response, in fragments if it must and may."""
        stream = watcher.stream
        self.event_count += len(events)
        watcher.progress_due = False
        head = header + watcher.head
        if watcher.fragment:
            for message in fragments(head, events, self.message_bytes_max):
                if not stream.send(message):
                    stream.full = True
        elif not stream.send(head + b"".join(events)):
            stream.full = True

    # Watchers that are behind

    def step(self) -> bool:
        """One slice of catching up; whether nothing is left to do."""
        if self.failpoints.armed:
            self.failpoints.hit("beforeSyncWatchers")
        self._stepping = True
        budget = SLICE_EVENTS
        turns = len(self._keys_behind)
        while budget > 0 and turns > 0:
            turns -= 1
            watcher = next(iter(self._keys_behind))
            del self._keys_behind[watcher]
            budget -= 10 + self._catch_up_key(watcher)
        if budget > 0 and self._ranges_behind:
            self._sweep()
        self._stepping = False
        return not self.pending

    def _resolve(self, watcher: Watcher) -> bool:
        """Whether a watcher that was taken from its queue is to be caught up; if not, it is put where it
        belongs."""
        store = self.store
        if watcher.next_rev < store.compact_rev:
            watcher.stream.ended(watcher, store.compact_rev)
        elif watcher.next_rev > store.rev:
            self._sync(watcher)
        elif watcher.stream.full:
            watcher.stream.park(watcher)
        else:
            return True
        return False

    def _advance(self, watcher: Watcher, next_rev: int) -> None:
        """Everything below ``next_rev`` was handed over; put the watcher where it belongs now."""
        watcher.next_rev = next_rev
        if next_rev > self.store.rev:
            self._sync(watcher)
        elif watcher.stream.full:
            watcher.stream.park(watcher)
        else:
            self._queue(watcher)

    def _catch_up_key(self, watcher: Watcher) -> int:
        """One batch for a watcher on one key, by the index; the number of events."""
        if not self._resolve(watcher):
            return 0
        store = self.store
        ki = store.index.keys.get(watcher.key)
        if ki is None or main_of(ki.mod) < watcher.next_rev:
            self._advance(watcher, store.rev + 1)
            return 0
        older = ki.older or []
        first = bisect_left(older, bound(watcher.next_rev - 1))
        batch = older[first : first + BATCH_REVISIONS]
        if len(batch) < BATCH_REVISIONS:
            batch.append(ki.mod)
        batch = _whole_revisions(batch, older, ki.mod, first)
        events: list[bytes] = []
        size = 0
        next_rev = store.rev + 1
        for i, rev in enumerate(batch):
            if size > BATCH_BYTES and rev[:8] != batch[i - 1][:8]:
                next_rev = main_of(rev)
                break
            kv = store.backend.get(KEY, rev)
            assert kv is not None, rev
            if watcher.no_put if len(rev) == PLAIN_BYTES else watcher.no_delete:
                continue
            event = self._stored_event(watcher, watcher.key, rev, kv)
            events.append(event)
            size += len(event)
        else:
            if batch[-1] != ki.mod:
                next_rev = main_of(batch[-1]) + 1
        if events:
            self._deliver(watcher, self.header(store.rev), events)
        self._advance(watcher, next_rev)
        return len(events)

    def _stored_event(self, watcher: Watcher, key: bytes, rev: bytes, kv: bytes) -> bytes:
        prev = self._previous(key, rev, kv) if watcher.prev_kv else None
        return event_field(Change(key, rev, kv, None), prev)

    def _previous(self, key: bytes, rev: bytes, kv: bytes) -> bytes | None:
        """As ``Store.previous``, for a change that is read back."""
        store = self.store
        main = main_of(rev)
        if main - 1 < store.compact_rev:
            return None
        if len(rev) == PLAIN_BYTES and keyvalue.decode(kv).create_revision == main:
            return None
        prev = store.index.at(key, bound(main - 1))
        return store.backend.get(KEY, prev) if prev is not None else None

    def _sweep(self) -> None:
        """One slice of the key bucket for the watchers on ranges."""
        store = self.store
        group: list[Watcher] = []
        for watcher in list(self._ranges_behind)[:GROUP_MAX]:
            del self._ranges_behind[watcher]
            if self._resolve(watcher):
                self._ranges_behind[watcher] = None
                group.append(watcher)
        if not group:
            return
        # Those that were looked at go to the back, so that the group changes when there are more.
        start = min(watcher.next_rev for watcher in group)
        self._near_next = not self._near_next
        if self._near_next:
            near = store.rev - self._sweep_records
            start = min((watcher.next_rev for watcher in group if watcher.next_rev >= near), default=start)
        rows, next_rev = read_revisions(store.backend, start, store.rev, self._sweep_records)
        size = 0
        for i, (rev, kv) in enumerate(rows):
            if size > BATCH_BYTES and rev[:8] != rows[i - 1][0][:8]:
                next_rev = main_of(rev)
                del rows[i:]
                break
            size += len(kv)
        self._adapt(size, len(rows))
        served = WatcherTable()
        for watcher in group:
            if start <= watcher.next_rev < next_rev:
                served.add(watcher)
                del self._ranges_behind[watcher]
        wanted: dict[Watcher, list[bytes]] = {watcher: [] for watcher in served.watchers()}
        for rev, kv in rows:
            key = keyvalue.key_of(kv) if kv else b""
            if not key:
                continue
            main = main_of(rev)
            is_put = len(rev) == PLAIN_BYTES
            plain = with_prev = b""
            for watchers in served.of(key):
                for watcher in watchers:
                    if main < watcher.next_rev or (watcher.no_put if is_put else watcher.no_delete):
                        continue
                    if watcher.prev_kv:
                        with_prev = with_prev or self._stored_event(watcher, key, rev, kv)
                        wanted[watcher].append(with_prev)
                    else:
                        plain = plain or self._stored_event(watcher, key, rev, kv)
                        wanted[watcher].append(plain)
        header = self.header(store.rev)
        for watcher, events in wanted.items():
            if events:
                if watcher.stream.full:
                    watcher.stream.park(watcher)
                    continue
                self._deliver(watcher, header, events)
            self._advance(watcher, next_rev)

    def _adapt(self, size: int, records: int) -> None:
        """Read more at once while values are small, less while they are large."""
        if size > BATCH_BYTES and self._sweep_records > 1:
            self._sweep_records //= 2
        elif size < BATCH_BYTES // 4 and records >= self._sweep_records:
            self._sweep_records = min(BATCH_REVISIONS, self._sweep_records * 2)


def _whole_revisions(batch: list[bytes], older: list[bytes], newest: bytes, first: int) -> list[bytes]:
    """``batch`` without a revision that is cut at its end (a key changed twice in one transaction)."""
    after = first + len(batch)
    following = older[after] if after < len(older) else newest
    main = following[:8]
    if following == batch[-1] or batch[-1][:8] != main:
        return batch
    whole = [rev for rev in batch if rev[:8] != main]
    assert whole, "one key cannot change a thousand times in one transaction"
    return whole


def read_revisions(
    backend: Backend, start: int, last: int, records: int
) -> tuple[list[tuple[bytes, bytes]], int]:
    """The records of whole revisions from ``start`` on, about ``records`` of them, none above ``last``.

    The second result is the first revision not covered.
    """
    rows = backend.range(KEY, bound(start - 1), bound(last), records)
    if len(rows) < records:
        return rows, last + 1
    main = rows[-1][0][:8]
    if rows[0][0][:8] != main:
        # The last revision may go on behind the slice: leave it for the next one.
        while rows[-1][0][:8] == main:
            rows.pop()
        return rows, int.from_bytes(main, "big")
    cut = int.from_bytes(main, "big")
    return backend.range(KEY, bound(cut - 1), bound(cut)), cut + 1
