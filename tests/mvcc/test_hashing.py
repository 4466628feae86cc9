"""HashKV against the contract's test vector (wire-v3.md 8.4), taken from Go etcd."""

from __future__ import annotations

import pytest
from tests.mvcc.fake import AnyLease, FakeBackend, put

from petcd import errors
from petcd.mvcc import Compactor, Store, apply_txn, cached_hash, start_hash_kv
from petcd.mvcc.hashing import CompactionHashes, KVHash
from petcd.pb.etcdserverpb import DeleteRangeRequest, PutRequest, RequestOp, TxnRequest

VECTOR = {
    -1: {
        1: 1084519789,
        2: 2587454935,
        3: 535221974,
        4: 548246512,
        5: 337674203,
        6: 568531718,
        7: 1138148878,
    },
    3: {4: 4207702920, 5: 3812145559, 6: 191670790, 7: 2783496026},
    5: {6: 583897905, 7: 3560750490},
    6: {7: 3560750490},
}


@pytest.fixture
def store() -> Store:
    """The six transactions of the vector."""
    store = Store(FakeBackend(), AnyLease())
    put(store, b"a", b"1")
    put(store, b"a", b"2")
    store.begin()
    ops = [
        RequestOp(request_put=PutRequest(key=b"x")),
        RequestOp(request_put=PutRequest(key=b"y", value=b"q")),
    ]
    apply_txn(store, TxnRequest(success=ops))
    store.end()
    store.begin()
    store.delete_range(DeleteRangeRequest(key=b"a"))
    store.end()
    put(store, b"y", b"z", lease=99)
    put(store, b"a", b"9")
    assert store.rev == 7
    return store


@pytest.mark.parametrize("slice_records", [1, 2, 1000])
def test_hash_kv_is_the_vector_before_and_after_pruning(store: Store, slice_records: int) -> None:
    for compact_rev, by_rev in VECTOR.items():
        if compact_rev > 0:
            store.compact(compact_rev)
        for pruned in (False, True):
            if pruned:
                Compactor(store).run()
            for rev, expected in by_rev.items():
                run = start_hash_kv(store, rev)
                while not run.step(slice_records):
                    pass
                assert run.result() == KVHash(expected, rev, compact_rev), (compact_rev, rev, pruned)
    assert start_hash_kv(store, 0).run().revision == 7
    assert store.hashing == 0


def test_hash_kv_refuses_revisions_it_cannot_know(store: Store) -> None:
    store.compact(4)
    with pytest.raises(errors.Compacted):
        start_hash_kv(store, 3)
    with pytest.raises(errors.FutureRev):
        start_hash_kv(store, 8)
    start_hash_kv(store, 4).close()
    assert store.hashing == 0


def test_a_hash_under_way_holds_pruning_back(store: Store) -> None:
    run = start_hash_kv(store, 5)
    run.step(1)
    store.compact(6)
    compactor = Compactor(store)
    for _ in range(10):
        assert not compactor.step()
    assert compactor.pruned == 0
    assert run.run().hash == VECTOR[-1][5]
    compactor.run()
    assert compactor.pruned == 4


def test_compaction_hashes_are_those_of_the_revision_before_it_was_compacted(store: Store) -> None:
    for rev in (3, 5, 6):
        store.compact(rev)
        Compactor(store).run()
    assert cached_hash(store, 3) == KVHash(VECTOR[-1][3], 3, -1)
    assert cached_hash(store, 5) == KVHash(VECTOR[3][5], 5, 3)
    assert cached_hash(store, 6) == KVHash(VECTOR[5][6], 6, 5)
    assert cached_hash(store, 4) is None
    assert [h.revision for h in store.hashes.newest_first()] == [6, 5, 3]


def test_no_compaction_hash_when_the_compaction_before_was_not_over(store: Store) -> None:
    store.compact(3)
    store.compact(5)
    Compactor(store).run()
    assert cached_hash(store, 3) is not None
    assert cached_hash(store, 5) is None


def test_the_ten_newest_compaction_hashes_are_kept() -> None:
    hashes = CompactionHashes()
    for rev in range(1, 13):
        hashes.add(KVHash(rev, rev, rev - 1))
    assert [h.revision for h in hashes.newest_first()] == list(range(12, 2, -1))


def test_a_hash_begins_again_when_a_snapshot_replaces_the_store(store: Store) -> None:
    run = start_hash_kv(store, 2)
    run.step(1)
    store.compact(5)
    store.restore()
    assert run.run() == KVHash(start_hash_kv(store, 5).run().hash, 5, 5)
    assert store.hashing == 0
