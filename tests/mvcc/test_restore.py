"""Restoring from records that this store would not have written, but another etcd may have."""

from __future__ import annotations

from random import Random

import google_crc32c
import pytest
from tests.mvcc.fake import FakeBackend

from petcd.mvcc import Compactor, Restorer, Store, start_hash_kv
from petcd.mvcc.keyvalue import decode, key_of, key_value, tombstone
from petcd.mvcc.revision import make
from petcd.pb import mvccpb
from petcd.pb.etcdserverpb import RangeRequest, RangeResponse
from petcd.storage.schema import FINISHED_COMPACT_REV, KEY, META, SCHEDULED_COMPACT_REV


def restored(rows: dict[bytes, bytes], **marks: int) -> Store:
    backend = FakeBackend()
    for rev, kv in rows.items():
        backend.put(KEY, rev, kv)
    for name, rev in marks.items():
        key = {"finished": FINISHED_COMPACT_REV, "scheduled": SCHEDULED_COMPACT_REV}[name]
        backend.put(META, key, make(rev, 0))
    store = Store(backend)
    store.restore()
    store.index.check()
    return store


def test_an_empty_backend_is_at_revision_one() -> None:
    store = restored({})
    assert (store.rev, store.compact_rev, store.compaction_due) == (1, -1, False)


def test_marks_raise_the_revision() -> None:
    assert restored({}, finished=7).rev == 7
    store = restored({}, finished=7, scheduled=9)
    assert (store.rev, store.compact_rev, store.finished_compact_rev) == (9, 9, 7)
    assert store.compaction_due


def test_a_key_may_begin_with_a_tombstone() -> None:
    store = restored({make(5, 0, tombstone=True): tombstone(b"a")}, finished=5)
    assert (store.rev, store.compact_rev) == (5, 5)
    assert store.range(RangeRequest(key=b"a")) == b""
    store = restored(
        {
            make(5, 0, tombstone=True): tombstone(b"a"),
            make(7, 0): key_value(b"a", 7, 7, 1, b"v", 0),
        },
        finished=5,
    )
    assert RangeResponse.decode(store.range(RangeRequest(key=b"a"))).count == 1
    assert store.range(RangeRequest(key=b"a", revision=6)) == b""


def test_an_empty_record_marks_a_bumped_revision() -> None:
    rows = {make(2, 0): key_value(b"a", 2, 2, 1, b"v", 0)}
    store = restored({**rows, make(1_000_000_000, 0): b""})
    assert store.rev == 1_000_000_000
    everything = RangeResponse.decode(store.range(RangeRequest(key=b"\0", range_end=b"\0")))
    assert ([kv.key for kv in everything.kvs], everything.count) == ([b"a"], 1)


def test_the_mark_of_a_bumped_revision_is_hashed_and_compacted_as_a_key() -> None:
    """So does Go etcd, and a member whose hash differs raises the alarm."""
    rows = {make(2, 0): key_value(b"a", 2, 2, 1, b"v", 0), make(50, 0): b"", make(90, 0): b""}
    store = restored(rows, scheduled=90)
    Compactor(store).run()
    kept = store.backend.range(KEY, b"", None)
    assert [rev for rev, _ in kept] == [make(2, 0), make(90, 0)]
    hashed = start_hash_kv(store, 0).run()
    text = b"key" + b"".join(part for pair in kept for part in pair)
    assert hashed == (google_crc32c.value(text), 90, 90)


@pytest.mark.parametrize("slice_records", [1, 2, 7, 1000])
def test_slices_do_not_matter(slice_records: int) -> None:
    rng = Random(1)
    rows = {}
    for main in range(2, 60):
        key = rng.choice([b"a", b"b", b"c" * 200])
        rows[make(main, 0)] = key_value(
            key,
            rng.choice([2, 300, main]),
            main,
            rng.choice([1, 500]),
            b"v" * rng.choice([0, 3, 300]),
            rng.choice([0, 9]),
        )
    whole = restored(rows)
    backend = FakeBackend()
    for rev, kv in rows.items():
        backend.put(KEY, rev, kv)
    restorer = Restorer(backend)
    while not restorer.step(slice_records):
        pass
    result = restorer.result()
    assert result.key_leases == whole.key_leases
    assert list(result.index.live) == list(whole.index.live)
    for key, ki in result.index.keys.items():
        other = whole.index.keys[key]
        assert (ki.mod, ki.create, ki.version, ki.older) == (
            other.mod,
            other.create,
            other.version,
            other.older,
        )
        kv = decode(rows[ki.mod])
        assert (kv.create_revision, kv.version) == (ki.create, ki.version)


@pytest.mark.parametrize("lease", [0, 1, 1 << 40, (1 << 63) - 1, -1])
@pytest.mark.parametrize("size", [0, 1, 127, 128, 20_000])
def test_a_record_decodes_as_the_message_does(lease: int, size: int) -> None:
    for key in (b"k", b"k" * 130):
        kv = key_value(key, 3, 1 << 40, 1 << 20, b"v" * size, lease)
        message = mvccpb.KeyValue.decode(kv)
        assert kv == message.encode()
        assert decode(kv) == (
            message.key,
            message.create_revision,
            message.mod_revision,
            message.version,
            message.value,
            message.lease,
        )
        assert key_of(kv) == key


def test_a_record_in_another_order_decodes_too() -> None:
    assert decode(b"\x10\x02\x0a\x01k").key == b"k"
    assert key_of(b"\x10\x02\x0a\x01k") == b"k"
    assert decode(b"\x0a\x01k\x7a\x01x\x10\x05").create_revision == 5
