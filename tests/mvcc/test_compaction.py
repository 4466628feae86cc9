"""Compaction: what stays, in which slices, and after a crash at each of them."""

from __future__ import annotations

import pytest
from tests.mvcc.fake import FakeBackend, delete, put

from petcd import errors
from petcd.mvcc import Compactor, Store
from petcd.mvcc.revision import make
from petcd.pb.etcdserverpb import RangeRequest, RangeResponse
from petcd.seams.failpoints import Failpoints
from petcd.storage.schema import FINISHED_COMPACT_REV, KEY, META, SCHEDULED_COMPACT_REV


def stored(backend: FakeBackend) -> set[bytes]:
    return {key for key, _ in backend.range(KEY, b"", None)}


def build() -> Store:
    """a: put 2, put 3, deleted 4, put 6. b: put 5, deleted 7. c: put 8. d: put 9, put 10, put 11."""
    store = Store(FakeBackend())
    put(store, b"a", b"1")
    put(store, b"a", b"2")
    delete(store, b"a")
    put(store, b"b")
    put(store, b"a", b"3")
    delete(store, b"b")
    put(store, b"c")
    for value in (b"1", b"2", b"3"):
        put(store, b"d", value)
    assert store.rev == 11
    return store


LEFT = {
    1: [2, 3, -4, 5, 6, -7, 8, 9, 10, 11],
    2: [2, 3, -4, 5, 6, -7, 8, 9, 10, 11],
    3: [3, -4, 5, 6, -7, 8, 9, 10, 11],
    # A tombstone exactly at the revision stays until the next compaction.
    4: [-4, 5, 6, -7, 8, 9, 10, 11],
    5: [5, 6, -7, 8, 9, 10, 11],
    7: [6, -7, 8, 9, 10, 11],
    8: [6, 8, 9, 10, 11],
    10: [6, 8, 10, 11],
    11: [6, 8, 11],
}


def revisions(mains: list[int]) -> set[bytes]:
    return {make(abs(main), 0, tombstone=main < 0) for main in mains}


@pytest.mark.parametrize("rev", LEFT)
@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_what_is_left(rev: int, batch: int) -> None:
    store = build()
    store.compact(rev)
    compactor = Compactor(store, batch_limit=batch)
    steps = 0
    while not compactor.step():
        steps += 1
    assert steps < 60
    assert stored(store.backend) == revisions(LEFT[rev])  # type: ignore[arg-type]
    assert compactor.pruned == len(LEFT[1]) - len(LEFT[rev])
    assert store.finished_compact_rev == rev
    store.check()


@pytest.mark.parametrize("rev", LEFT)
def test_one_compaction_after_the_other_leaves_the_same(rev: int) -> None:
    store = build()
    for r in LEFT:
        if r <= rev:
            store.compact(r)
            if r % 2:
                Compactor(store).run()
    Compactor(store).run()
    assert stored(store.backend) == revisions(LEFT[rev])  # type: ignore[arg-type]
    store.check()


def test_effect_on_reads_is_immediate() -> None:
    store = build()
    store.compact(5)
    with pytest.raises(errors.Compacted):
        store.range(RangeRequest(key=b"a", revision=4))
    at = RangeResponse.decode(store.range(RangeRequest(key=b"b", revision=5)))
    assert at.count == 1
    for rev in (5, 4, 0, -1):
        with pytest.raises(errors.Compacted):
            store.compact(rev)
    with pytest.raises(errors.FutureRev):
        store.compact(12)
    assert store.backend.get(META, SCHEDULED_COMPACT_REV) == make(5, 0)
    assert store.backend.get(META, FINISHED_COMPACT_REV) is None


def test_the_first_compaction_may_be_at_zero() -> None:
    store = Store(FakeBackend())
    store.compact(0)
    with pytest.raises(errors.Compacted):
        store.compact(0)
    Compactor(store).run()
    assert store.finished_compact_rev == 0


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("steps", range(16))
def test_a_crash_at_any_slice_resumes(steps: int, batch: int) -> None:
    store = build()
    backend = store.backend
    assert isinstance(backend, FakeBackend)
    store.compact(10)
    compactor = Compactor(store, batch_limit=batch)
    for _ in range(steps):
        compactor.step()
    backend.flush()
    compactor.step()
    after = Store(backend.crash())
    after.restore()
    assert (after.rev, after.compact_rev) == (11, 10)
    assert after.compaction_due == (after.finished_compact_rev != 10)
    with pytest.raises(errors.Compacted):
        after.range(RangeRequest(key=b"a", revision=9))
    Compactor(after, batch_limit=batch).run()
    assert stored(after.backend) == revisions(LEFT[10])  # type: ignore[arg-type]
    after.check()


def test_the_revision_survives_when_only_a_mark_tells_it() -> None:
    """etcd issue 17780: everything at the newest revision was compacted away."""
    store = Store(FakeBackend())
    put(store, b"a")
    delete(store, b"a")
    put(store, b"b")
    delete(store, b"b")
    assert store.rev == 5
    store.compact(5)
    Compactor(store).run()
    backend = store.backend
    assert isinstance(backend, FakeBackend)
    backend.flush()
    found = backend.crash()
    del found.flushed[KEY][make(5, 0, tombstone=True)]
    after = Store(found)
    after.restore()
    assert after.rev == 5


def test_the_failpoints_are_etcds() -> None:
    store = build()
    store.compact(5)
    failpoints = Failpoints()
    names = failpoints.collect()
    Compactor(store, failpoints=failpoints).run()
    assert names == {
        "compactBeforeCommitScheduledCompact",
        "compactAfterCommitScheduledCompact",
        "compactBeforeCommitBatch",
        "compactAfterCommitBatch",
        "compactBeforeSetFinishedCompact",
        "compactAfterSetFinishedCompact",
    }


def test_a_long_history_of_one_key_is_cut_in_slices() -> None:
    store = Store(FakeBackend())
    for _ in range(5000):
        put(store, b"k")
    store.compact(4990)
    compactor = Compactor(store, batch_limit=100)
    before = len(store.backend.pending(KEY))
    most = 0
    while not compactor.step():
        pruned = compactor.pruned
        most = max(most, pruned - before if before else pruned)
        before = pruned
    assert compactor.pruned == 4988
    assert most <= 101 + len(store.backend.pending(KEY))
    store.check()
