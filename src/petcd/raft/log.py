"""The replicated log in memory, and how far it is handed out, durable, committed and applied.

    offset          stable      handed   last_index
      |               |           |          |
    [ compacted ][ entries on disk ][ being written ][ new ]
          |        |      |
       applied  applying  committed

``offset`` is the index before the first entry held (that of a snapshot, or 0), ``handed`` the last index
given out for writing, ``stable`` the last index known to be on disk. Committing is a matter of quorums and
therefore independent of ``stable``: a follower can learn that an entry is committed while its own disk still
works on it.

Entries are a plain list, so the term of an index is one subscript away; beside them runs the list of the
cumulated data sizes, so that "as many as fit into a megabyte" is a bisection and the uncommitted bytes are a
difference.

Writing is asynchronous. Every batch that is handed out leaves a ``Mark`` with the index it reaches. When
entries are replaced, the marks still outstanding are cut back to the last index that stays: what they say
about the rest is no longer about this log, even if an entry of the same index and term came back later. So
``stable`` never claims an entry whose writing, in the order of the batches, is not over.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import attrgetter

from petcd.raft.entry import Entry, Snapshot, SnapshotMetadata
from petcd.raft.errors import CompactedError, MessageError, StateError

_data_of = attrgetter("data")
_term_of = attrgetter("term")


@dataclass(slots=True)
class Mark:
    """What one batch of writing makes durable: the log to ``index``, the term, and perhaps our own vote in
    it."""

    sequence: int
    index: int
    term: int
    own_vote: bool


class Log:
    """The log after ``offset``.

    Invariants: offset <= applied <= applying <= committed <= last_index; stable <= handed <= last_index;
    indexes are consecutive and terms do not decrease. While a snapshot that was received is not yet applied,
    offset is its index and applied (and stable) may be below it.
    """

    __slots__ = (
        "applied",
        "applying",
        "committed",
        "entries",
        "handed",
        "last_index",
        "marks",
        "offset",
        "offset_term",
        "received",
        "received_index",
        "sizes",
        "snapshot",
        "stable",
    )

    def __init__(
        self, snapshot: SnapshotMetadata, entries: Sequence[Entry] = (), commit: int = 0, applied: int = 0
    ) -> None:
        """Start from what the disk holds. Raises: ``StateError`` where the parts contradict each other."""
        self.offset = snapshot.index
        self.offset_term = snapshot.term
        self.entries = list(entries)
        index = snapshot.index
        term = snapshot.term
        for entry in self.entries:
            index += 1
            if entry.index != index:
                raise StateError(f"entry {entry.index} stands where {index} belongs")
            if entry.term < term:
                raise StateError(f"the term falls from {term} to {entry.term} at entry {index}")
            term = entry.term
        self.last_index = index
        if commit > index:
            raise StateError(f"committed to {commit}, but the log ends at {index}")
        if applied > index:
            raise StateError(f"applied to {applied}, but the log ends at {index}")
        self.sizes = [0, *accumulate(map(len, map(_data_of, self.entries)))]
        self.stable = self.handed = index
        self.applied = self.applying = max(applied, snapshot.index)
        self.committed = max(commit, self.applied)
        self.snapshot = Snapshot(metadata=snapshot)
        """The newest snapshot, for followers whose next entry was compacted."""
        self.received: Snapshot | None = None
        """A snapshot from the leader that is not handed out yet."""
        self.received_index = 0
        """Index of a snapshot from the leader until it is applied, else 0."""
        self.marks: deque[Mark] = deque()

    # -- looking ---------------------------------------------------------------------------------------------

    @property
    def first_index(self) -> int:
        return self.offset + 1

    @property
    def last_term(self) -> int:
        return self.entries[-1].term if self.entries else self.offset_term

    def term_at(self, index: int) -> int:
        """The term of the entry at ``index``, 0 where it is not held (compacted, or beyond the end)."""
        position = index - self.offset - 1
        if position >= 0:
            return self.entries[position].term if index <= self.last_index else 0
        return self.offset_term if position == -1 else 0

    def matches(self, index: int, term: int) -> bool:
        """Whether the entry at ``index`` (0 is the one before all) has ``term``."""
        return self.offset <= index <= self.last_index and self.term_at(index) == term

    def is_up_to_date(self, index: int, term: int) -> bool:
        """Whether a log that ends so is at least as new as ours (Raft paper 5.4.1)."""
        last_term = self.last_term
        return term > last_term or (term == last_term and index >= self.last_index)

    def limit(self, start: int, end: int, bytes_max: int) -> int:
        """The end of the largest run from ``start`` within ``end`` that fits ``bytes_max``; at least one
        entry."""
        if start >= end:
            return end
        first = self.offset + 1
        sizes = self.sizes
        low = start - first
        high = end - first
        if sizes[high] - sizes[low] <= bytes_max:
            return end
        position = bisect_right(sizes, sizes[low] + bytes_max, low + 1, high + 1) - 1
        return max(position + first, start + 1)

    def slice(self, start: int, end: int, bytes_max: int | None = None) -> list[Entry]:
        """Entries of ``[start, end)``, at least one, at most ``bytes_max`` bytes of data.

        Raises: ``CompactedError`` below the first index.
        """
        first = self.offset + 1
        if start < first:
            raise CompactedError(f"entry {start} was compacted; the log begins at {first}")
        end = min(end, self.last_index + 1)
        if bytes_max is not None:
            end = self.limit(start, end, bytes_max)
        return self.entries[start - first : end - first]

    def bytes_between(self, start: int, end: int) -> int:
        """Bytes of data in ``[start, end)``."""
        first = self.offset + 1
        return self.sizes[end - first] - self.sizes[start - first]

    @property
    def uncommitted_bytes(self) -> int:
        return self.sizes[-1] - self.sizes[self.committed - self.offset]

    def find_conflict_by_term(self, index: int, term: int) -> tuple[int, int]:
        """The largest index <= ``index`` whose term is <= ``term``, and that term (0 where compacted).

        A follower and its leader use it in turn to skip whole terms (Raft paper 5.3, the end).
        Cost: a bisection, since terms do not decrease.
        """
        index = min(index, self.last_index)
        if index > self.offset:
            found = bisect_right(self.entries, term, 0, index - self.offset, key=_term_of)
            if found:
                return self.offset + found, self.entries[found - 1].term
            index = self.offset
        if index == self.offset and self.offset_term <= term:
            return index, self.offset_term
        return (min(index, self.offset - 1), 0) if self.offset else (0, 0)

    # -- growing ---------------------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> None:
        """Put ``entries`` behind the last one; their indexes are right."""
        assert entries[0].index == self.last_index + 1
        self.entries.extend(entries)
        sizes = self.sizes
        total = sizes.pop()
        sizes.extend(accumulate(map(len, map(_data_of, entries)), initial=total))
        self.last_index += len(entries)

    def maybe_append(
        self, prev_index: int, prev_term: int, commit: int, entries: Sequence[Entry]
    ) -> int | None:
        """Take a leader's entries after ``prev_index``; returns the last index they reach, None if they do
        not fit.

        Entries that are already there stay, whatever follows the first that differs goes (Raft paper 5.3).
        ``entries`` are consecutive and begin at ``prev_index + 1``.
        Raises: ``MessageError`` where a committed entry would be replaced.
        """
        if not self.matches(prev_index, prev_term):
            return None
        reached = prev_index + len(entries)
        if prev_index != self.last_index and entries:
            entries = self._without_known(prev_index, entries)
            if entries:
                index = entries[0].index
                if index <= self.committed:
                    raise MessageError(
                        f"entry {index} of term {entries[0].term} would replace a committed one "
                        f"of term {self.term_at(index)}"
                    )
                self._truncate(index)
        if entries:
            self.append(entries)
        self.commit_to(min(commit, reached))
        return reached

    def _without_known(self, prev_index: int, entries: Sequence[Entry]) -> Sequence[Entry]:
        held = self.entries
        position = prev_index - self.offset
        known = 0
        overlap = min(len(entries), len(held) - position)
        while known < overlap and held[position + known].term == entries[known].term:
            known += 1
        return entries[known:] if known else entries

    def _truncate(self, index: int) -> None:
        """Drop the entries from ``index`` on, and whatever was said about writing them."""
        assert index > self.committed
        position = index - self.offset - 1
        if position >= len(self.entries):
            return
        del self.entries[position:]
        del self.sizes[position + 1 :]
        last = index - 1
        self.last_index = last
        self._cut_back(last)

    def _cut_back(self, last: int) -> None:
        self.handed = min(self.handed, last)
        self.stable = min(self.stable, last)
        for mark in self.marks:
            if mark.index > last:
                mark.index = last

    def restore(self, snapshot: Snapshot) -> None:
        """Replace the whole log by a snapshot that is ahead of what is committed."""
        metadata = snapshot.metadata
        assert metadata.index > self.committed
        self._cut_back(self.committed)
        self.entries.clear()
        self.sizes = [0]
        self.offset = self.last_index = self.handed = metadata.index
        self.offset_term = metadata.term
        self.committed = self.applying = metadata.index
        self.snapshot = snapshot
        self.received = snapshot
        self.received_index = metadata.index

    # -- writing ---------------------------------------------------------------------------------------------

    @property
    def has_unhanded(self) -> bool:
        return self.handed < self.last_index

    def hand_out(self) -> list[Entry]:
        """The entries that no batch holds yet."""
        entries = self.entries[self.handed - self.offset :]
        self.handed = self.last_index
        return entries

    def stable_to(self, index: int) -> None:
        """A batch that reached ``index`` is on disk."""
        assert index <= self.handed
        self.stable = max(self.stable, index)

    # -- committing and applying -----------------------------------------------------------------------------

    def commit_to(self, index: int) -> bool:
        """Everything up to ``index`` is committed; False if it was before."""
        if index <= self.committed:
            return False
        assert index <= self.last_index
        self.committed = index
        return True

    def _applicable(self) -> int:
        """Committed, and on our own disk: so the state machine is never ahead of the log after a crash."""
        if self.received_index:
            return self.applying  # the snapshot comes first
        return min(self.committed, self.stable)

    def has_committed(self) -> bool:
        """Whether ``take_committed`` would return anything."""
        return self._applicable() > self.applying

    def take_committed(self, bytes_max: int) -> list[Entry]:
        """The next committed entries to apply."""
        start = self.applying + 1
        end = self.limit(start, self._applicable() + 1, bytes_max)
        if start >= end:
            return []
        self.applying = end - 1
        first = self.offset + 1
        return self.entries[start - first : end - first]

    def applied_to(self, index: int) -> None:
        """The state machine has everything up to ``index``, by entries or by the snapshot."""
        assert self.applied <= index <= self.applying, (self.applied, index, self.applying)
        self.applied = index
        if index >= self.received_index:
            self.received_index = 0

    def keep_snapshot(self, snapshot: Snapshot) -> None:
        """``snapshot`` is what followers get from now on."""
        self.snapshot = snapshot

    def compact(self, index: int) -> None:
        """Drop the entries up to ``index``; they are applied, and a snapshot covers them."""
        assert index <= self.applied
        assert index <= self.snapshot.metadata.index
        count = index - self.offset
        if count <= 0:
            return
        # What is on its way to the disk stays, so that "handed" and "stable" keep pointing into the log.
        assert index <= self.handed
        self.offset_term = self.entries[count - 1].term
        self.offset = index
        del self.entries[:count]
        del self.sizes[:count]

    def check(self) -> None:
        """Assert what this class promises."""
        assert self.last_index == self.offset + len(self.entries)
        assert len(self.sizes) == len(self.entries) + 1
        assert self.applied <= self.applying <= self.committed <= self.last_index
        assert self.received_index or self.offset <= self.applied
        assert self.stable <= self.handed <= self.last_index
        assert self.received_index in (0, self.offset) or self.received_index < self.offset
        term = self.offset_term
        for position, entry in enumerate(self.entries):
            assert entry.index == self.offset + 1 + position
            assert entry.term >= term
            assert self.sizes[position + 1] - self.sizes[position] == len(entry.data)
            term = entry.term
        previous = 0
        for mark in self.marks:
            assert mark.sequence > previous
            assert mark.index <= self.handed
            previous = mark.sequence
