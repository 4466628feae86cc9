"""Batches on their way to the log: what gathers, what leaves when, on either thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.storage.fakes import FakeDisk

from petcd.pb import raftpb
from petcd.raft import Entry, HardState, Message, Ready, Snapshot
from petcd.seams import Failpoints
from petcd.server.logwriter import LogWriter
from petcd.storage.snapshots import Snapshotter
from petcd.storage.wal import Wal, WalSnapshot, encode_snapshot_record

METADATA = b"\x08\x01"


class HandLane:
    """A lane whose jobs run when the test says so, or at once on the caller's thread if ``willing``."""

    def __init__(self, willing: bool) -> None:
        self.willing = willing
        self.jobs: list[tuple[Any, Any, Any]] = []

    def submit(self, job: Any, done: Any, failed: Any) -> None:
        self.jobs.append((job, done, failed))

    def is_quick(self) -> bool:
        return self.willing and not self.jobs

    def try_now(self, job: Callable[[], object]) -> bool:
        if not self.is_quick():
            return False
        job()
        return True

    def run(self) -> None:
        while self.jobs:
            job, done, failed = self.jobs.pop(0)
            try:
                result = job()
            except Exception as error:  # noqa: BLE001 - as a lane does
                failed(error)
            else:
                done(result)

    def close(self) -> None:
        self.run()


class Bench:
    def __init__(self, willing: bool = False) -> None:
        self.disk = FakeDisk()
        self.disk.mkdir("/d")
        self.failpoints = Failpoints()
        self.wal = Wal.create(self.disk, "/d/wal", METADATA, segment_bytes=4096)
        self.lane = HandLane(willing)
        self.persisted: list[int] = []
        self.sent: list[Message] = []
        self.snapshots: list[Snapshot] = []
        self.failures: list[BaseException] = []
        self.log = LogWriter(
            self.wal,
            self.lane,
            self.failpoints,
            Snapshotter(self.disk, "/d"),
            persisted=self.persisted.append,
            send=self.sent.extend,
            snapshot_saved=self.snapshots.append,
            failed=self.failures.append,
        )
        self.lane.run()

    def read(self) -> list[tuple[int, bytes]]:
        """The log's entries as the next start would find them."""
        self.wal.close()
        _, contents = Wal.open(self.disk, "/d/wal", WalSnapshot(), segment_bytes=4096)
        self.commit = contents.hard_state.commit
        return [(entry.index, entry.data) for entry in contents.entries]


def ready(sequence: int, *indexes: int, commit: int = 0, messages: tuple[Message, ...] = ()) -> Ready:
    return Ready(
        sequence=sequence,
        entries=[Entry(1, index, 0, b"%d" % index) for index in indexes],
        hard_state=HardState(1, 1, commit) if commit else None,
        must_sync=bool(indexes),
        messages_after_append=list(messages),
    )


def test_a_batch_gathers_while_the_one_before_is_written() -> None:
    bench = Bench()
    log, lane = bench.log, bench.lane
    log.add(ready(1, 1))
    assert log.finish() == 0
    for sequence in (2, 3, 4):
        log.add(ready(sequence, sequence))
        assert log.finish() == 0
        log.kick()
    assert len(lane.jobs) == 1
    assert not log.idle
    lane.run()
    assert bench.persisted == [1]
    log.kick()
    lane.run()
    assert bench.persisted == [1, 4]
    assert log.idle
    assert bench.read() == [(i, b"%d" % i) for i in (1, 2, 3, 4)]


def test_a_small_batch_is_written_at_once_where_the_lane_is_free() -> None:
    bench = Bench(willing=True)
    log = bench.log
    log.add(ready(1, 1))
    assert log.finish() == 1
    assert bench.persisted == [], "who asked is told by the result"
    assert log.finish() == 0
    bench.lane.submit(lambda: None, lambda _: None, bench.failures.append)
    log.add(ready(2, 2))
    assert log.finish() == 0, "the lane is busy: its jobs come first"
    bench.lane.run()
    assert bench.persisted == [2]
    log.add(ready(3, *range(3, 1003)))
    assert log.finish() == 0, "a large one leaves the thread free"
    bench.lane.run()
    assert bench.persisted == [2, 3]
    assert len(bench.read()) == 1002


@pytest.mark.parametrize("willing", [False, True])
def test_messages_leave_after_their_batch(willing: bool) -> None:
    bench = Bench(willing)
    vote = Message(6, to=2)
    bench.log.add(ready(1, 1, messages=(vote,)))
    assert bench.sent == []
    if willing:
        assert bench.log.finish() == 1
    else:
        assert bench.log.finish() == 0
        assert bench.sent == []
        bench.lane.run()
    assert bench.sent == [vote]


@pytest.mark.parametrize("willing", [False, True])
def test_a_batch_is_sent_before_the_end_of_a_turn_unless_it_is_written_at_once_then(willing: bool) -> None:
    bench = Bench(willing)
    bench.log.add(ready(1, 1, 2))
    assert bench.log.is_quick is willing
    bench.log.kick()
    assert len(bench.lane.jobs) == (not willing)
    assert bench.log.finish() == (1 if willing else 0)
    bench.lane.run()
    assert bench.persisted == ([] if willing else [1])
    assert not bench.log.is_quick, "nothing is waiting"


@pytest.mark.parametrize(("count", "size"), [(401, 1), (3, 100_000)])
def test_a_large_batch_is_the_threads(count: int, size: int) -> None:
    bench = Bench(willing=True)
    batch = Ready(1)
    batch.entries = [Entry(1, index, data=bytes(size)) for index in range(1, count + 1)]
    batch.must_sync = True
    bench.log.add(batch)
    bench.log.kick()
    assert bench.log.finish() == 0
    bench.lane.run()
    assert bench.persisted == [1]


def test_a_commit_index_alone_waits_for_company() -> None:
    bench = Bench()
    bench.log.add(ready(1, 1))
    bench.log.finish()
    bench.lane.run()
    bench.log.add(ready(2, commit=1))
    bench.log.finish()
    assert bench.lane.jobs == []
    assert bench.log.idle
    done: list[None] = []
    bench.log.flush_commit(lambda: done.append(None))
    assert done == []
    bench.lane.run()
    assert done == [None]
    bench.log.flush_commit(lambda: done.append(None))
    bench.lane.run()
    assert done == [None, None], "nothing to write is done, too"
    assert bench.read() == [(1, b"1")]
    assert bench.commit == 1


def test_the_last_commit_index_follows_a_snapshot_under_way() -> None:
    """Encoded after it, so written after it: the chain of checksums must not be cut."""
    bench = Bench()
    bench.log.add(ready(1, 1))
    bench.log.finish()
    bench.lane.run()
    order: list[str] = []
    record = encode_snapshot_record(1, 1, raftpb.ConfState(voters=[1]))
    bench.log.mark_snapshot(record, 1, lambda: order.append("snapshot"))
    bench.log.add(ready(2, commit=1))
    bench.log.flush_commit(lambda: order.append("commit"))
    bench.lane.run()
    assert order == ["snapshot", "commit"]
    assert bench.failures == []
    assert bench.read() == [(1, b"1")]


def test_cuts_on_either_thread() -> None:
    bench = Bench(willing=True)
    for index in range(1, 200):
        bench.log.add(
            Ready(sequence=index, entries=[Entry(1, index, 0, bytes(100))], hard_state=None, must_sync=True)
        )
        if not bench.log.finish() or index % 3 == 0:
            bench.lane.run()
    bench.lane.run()
    assert bench.log.bytes_written > 199 * 100
    assert [index for index, _ in bench.read()] == list(range(1, 200))


@pytest.mark.parametrize("willing", [False, True])
def test_a_failing_disk(willing: bool) -> None:
    bench = Bench(willing)
    bench.disk.sync_fails = True
    bench.log.add(ready(1, 1))
    if willing:
        with pytest.raises(Exception, match="Input/output"):
            bench.log.finish()
    else:
        bench.log.finish()
        bench.lane.run()
        assert "Input/output" in str(bench.failures[0])
    assert bench.persisted == []
    assert not bench.log.idle, "nothing more is written"


@pytest.mark.parametrize("willing", [False, True])
def test_failpoints(willing: bool) -> None:
    bench = Bench(willing)
    seen = bench.failpoints.collect()
    bench.log.add(ready(1, 1))
    bench.log.finish()
    bench.lane.run()
    assert seen == {"raftBeforeSave", "raftAfterSave"}
