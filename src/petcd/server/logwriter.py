"""Between raft and the write-ahead log: group commit without a timer.

While one batch is being written and synced on its lane, everything raft hands out gathers into the next.
What must not leave before it is durable (votes, acknowledgements) stays with its batch and leaves after it.

Crash points: ``raftBeforeSave`` - nothing of the batch is known to be on disk; ``raftAfterSave`` - all of it
is, and nobody has been told. A hard state in which only the commit index moved needs no sync and waits for
company: the commit index is found again from the log.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from petcd.pb import splice
from petcd.raft import Entry, HardState, Message, Ready, Snapshot
from petcd.seams import Failpoints, Lane
from petcd.server.snapshotting import save_snapshot, snapshot_message, snapshot_record
from petcd.storage.snapshots import Snapshotter
from petcd.storage.wal import Wal, WalWrite, encode_hard_state

_ENTRIES_AT_ONCE: Final = 400
_BYTES_AT_ONCE: Final = 256 * 1024
"""What may be written on the member's own thread while syncs are short. To the other thread and back, each
has to wait for the interpreter while the first is busy with clients: with syncs of up to 0.2 ms, 100 clients
get a quarter to two fifths more done this way, with 0.4 ms a twentieth."""


class LogWriter:
    """Owns the WAL after the start. At most one batch is on the lane."""

    __slots__ = (
        "_entries",
        "_failed",
        "_failpoints",
        "_hard_state",
        "_lane",
        "_messages",
        "_must_sync",
        "_persisted",
        "_send",
        "_sequence",
        "_snapshot",
        "_snapshot_saved",
        "_snapshotter",
        "_wal",
        "_writing",
        "bytes_written",
    )

    def __init__(
        self,
        wal: Wal,
        lane: Lane,
        failpoints: Failpoints,
        snapshotter: Snapshotter,
        *,
        persisted: Callable[[int], object],
        send: Callable[[list[Message]], object],
        snapshot_saved: Callable[[Snapshot], object],
        failed: Callable[[BaseException], object],
    ) -> None:
        """``persisted(sequence)`` is told which Readys are durable, ``snapshot_saved`` of each received
        snapshot that is; ``failed`` ends the member."""
        self._wal = wal
        self._snapshotter = snapshotter
        self._snapshot_saved = snapshot_saved
        self._snapshot: Snapshot | None = None
        self._lane = lane
        self._failpoints = failpoints
        self._persisted = persisted
        self._send = send
        self._failed = failed
        self._entries: list[Entry] = []
        self._hard_state: HardState | None = None
        self._must_sync = False
        self._sequence = 0
        self._messages: list[Message] = []
        self._writing: _Batch | None = None
        self.bytes_written = 0
        lane.submit(wal.prepare, _nothing, failed)

    def add(self, ready: Ready) -> None:
        """Take what a Ready wants durable."""
        if ready.snapshot is not None:
            # It replaces the log: entries that have gathered for it until now are of no use to anybody.
            self._snapshot = ready.snapshot
            self._entries = []
        if ready.entries:
            self._entries += ready.entries
        if ready.hard_state is not None:
            self._hard_state = ready.hard_state
        if ready.must_sync:
            self._must_sync = True
            self._sequence = ready.sequence
        if ready.messages_after_append:
            self._messages += ready.messages_after_append

    def kick(self) -> None:
        """Send the gathered batch on its way, unless one is under way, nothing needs it or ``finish`` will
        write it at once."""
        if self._writing is None and self._must_sync and self._entries and not self.is_quick:
            self._writing = batch = self._take_batch()
            self._lane.submit(batch.save, self._saved, self._failed)

    @property
    def is_quick(self) -> bool:
        """Whether ``finish`` is likely to write and sync a batch on this thread."""
        return (
            self._must_sync
            and self._writing is None
            and 0 < len(self._entries) <= _ENTRIES_AT_ONCE
            and self._lane.is_quick()
        )

    def finish(self) -> int:
        """``kick`` at the end of a turn; where the disk is quick and the batch not large, written at once.

        Returns the sequence of the last Ready that became durable within this call, 0 when none did.
        """
        if self._writing is not None or not self._must_sync:
            return 0
        small = len(self._entries) <= _ENTRIES_AT_ONCE and self._snapshot is None
        self._writing = batch = self._take_batch()
        small = small and batch.size <= _BYTES_AT_ONCE
        if not (small and self._lane.try_now(batch.save)):
            self._lane.submit(batch.save, self._saved, self._failed)
            return 0
        return self._end_batch()

    def _take_batch(self) -> _Batch:
        entries, self._entries = self._entries, []
        hard_state, self._hard_state = self._hard_state, None
        messages, self._messages = self._messages, []
        snapshot, self._snapshot = self._snapshot, None
        self._must_sync = False
        record = None if snapshot is None else snapshot_record(snapshot)
        write = self._wal.encode(splice.normal_entries(entries), _hard_state_bytes(hard_state), True, record)
        self.bytes_written += len(write.data)
        batch = _Batch(self._wal, write, self._failpoints, self._sequence, messages)
        if snapshot is not None:
            batch.snapshot = snapshot
            batch.snapshotter = self._snapshotter
        return batch

    def flush_commit(self, done: Callable[[], object]) -> None:
        """Write a waiting commit index without a sync; at the end of a member's life, when ``idle``.

        ``done`` is called when everything that was given to the lane before is written, too.
        """
        hard_state, self._hard_state = self._hard_state, None
        if hard_state is None:
            self._lane.submit(_nothing_to_do, lambda _: done(), self._failed)
            return
        assert self.idle
        write = self._wal.encode([], _hard_state_bytes(hard_state), False)
        self._lane.submit(partial(self._wal.write, write), lambda _: done(), self._failed)

    @property
    def idle(self) -> bool:
        return self._writing is None and not self._must_sync

    def mark_snapshot(self, record: bytes, index: int, done: Callable[[], object]) -> None:
        """Write a snapshot's record, sync, and give up the segments it makes unnecessary."""
        write = self._wal.encode([], None, True, record)

        def job() -> None:
            self._wal.write(write)
            self._failpoints.hit("raftAfterWALRelease")
            self._wal.release(index)

        self._lane.submit(job, lambda _: done(), self._failed)

    def _saved(self, _result: None) -> None:
        self._persisted(self._end_batch())

    def _end_batch(self) -> int:
        """The batch is durable: what waited for that leaves. Returns its sequence."""
        batch, self._writing = self._writing, None
        assert batch is not None
        if self._failpoints.armed:
            self._failpoints.hit("raftAfterSave")
        if batch.cut:
            self._lane.submit(self._wal.prepare, _nothing, self._failed)
        if batch.messages:
            self._send(batch.messages)
        if batch.snapshot is not None:
            self._snapshot_saved(batch.snapshot)
        return batch.sequence

    def release(self, index: int) -> None:
        """Give up the segments that only hold entries up to ``index``."""
        self._lane.submit(partial(self._wal.release, index), _nothing, self._failed)


class _Batch:
    """What the lane does with one batch."""

    __slots__ = (
        "_failpoints",
        "_wal",
        "_write",
        "cut",
        "messages",
        "sequence",
        "size",
        "snapshot",
        "snapshotter",
    )

    def __init__(
        self, wal: Wal, write: WalWrite, failpoints: Failpoints, sequence: int, messages: list[Message]
    ) -> None:
        self._wal = wal
        self._write = write
        self._failpoints = failpoints
        self.size = len(write.data)
        self.cut = write.cut is not None
        self.sequence = sequence
        self.messages = messages
        self.snapshot: Snapshot | None = None
        """Received from the leader: its .snap file is written before the record that names it."""
        self.snapshotter: Snapshotter | None = None

    def save(self) -> None:
        if self.snapshot is not None and self.snapshotter is not None:
            save_snapshot(self.snapshotter, snapshot_message(self.snapshot), self._failpoints)
        if self._failpoints.armed:
            self._failpoints.hit("raftBeforeSave")
        self._wal.write(self._write)


def _hard_state_bytes(hard_state: HardState | None) -> bytes | None:
    if hard_state is None:
        return None
    return encode_hard_state(hard_state.term, hard_state.vote, hard_state.commit)


def _nothing(_result: None) -> None:
    return


def _nothing_to_do() -> None:
    return
