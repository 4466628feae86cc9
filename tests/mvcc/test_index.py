"""The key index: spans, merges, and what a key costs."""

from __future__ import annotations

import gc
import tracemalloc

from tests.mvcc.fake import FakeBackend, delete, put

from petcd.mvcc import Store
from petcd.mvcc.revision import bound, main_of, make, sub_of
from petcd.pb.etcdserverpb import PutRequest


def test_revisions_sort_as_bytes() -> None:
    revisions = [
        make(m, s, tombstone=t) for m in (1, 2, 255, 256) for s in (0, 1, 256) for t in (False, True)
    ]
    assert revisions == sorted(revisions)
    for rev in revisions:
        assert make(main_of(rev), sub_of(rev), tombstone=len(rev) == 18) == rev
        assert rev < bound(main_of(rev))
        assert rev > bound(main_of(rev) - 1)


def test_spans_cover_what_the_contract_says() -> None:
    store = Store(FakeBackend())
    for key in (b"\0", b"a", b"b", b"c"):
        put(store, key)
    span = store.index.span
    assert span(b"a", b"c") == (1, 3)
    assert span(b"a", b"\0") == (1, 4)
    assert span(b"\0", b"\0") == (0, 4)
    lo, hi = span(b"b", b"a")
    assert lo == hi
    lo, hi = span(b"b", b"b")
    assert lo == hi
    assert store.index.live_keys(b"a", b"") == [b"a"]


def test_dead_keys_are_seen_in_the_past_only() -> None:
    store = Store(FakeBackend())
    for key in (b"a", b"b", b"c"):
        put(store, key)
    delete(store, b"b")
    index = store.index
    assert index.live_keys(b"a", b"\0") == [b"a", b"c"]
    assert index.all_keys(b"a", b"\0") == [b"a", b"b", b"c"]
    assert len(index.revisions_at(b"a", b"\0", bound(4))) == 3
    assert len(index.revisions_at(b"a", b"\0", bound(5))) == 2
    assert index.at(b"b", bound(2)) is None
    assert index.at(b"zz", bound(2)) is None


def test_a_large_delete_equals_many_small_ones() -> None:
    store = Store(FakeBackend())
    for n in range(500):
        put(store, b"%03d" % n)
    delete(store, b"100", b"300")
    store.index.check()
    assert len(store.index.live) == 300
    assert len(store.index.dead) == 200


def test_a_key_costs_less_than_400_bytes() -> None:
    store = Store(FakeBackend())
    count = 20_000
    requests = [PutRequest(key=b"/registry/pods/default/%08d" % n) for n in range(count)]
    pending = store._pending
    gc.collect()
    tracemalloc.start()
    try:
        for request in requests:
            store.begin()
            store.put(request)
            store.end()
            pending.clear()
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert used / count < 400
