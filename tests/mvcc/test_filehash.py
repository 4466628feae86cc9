"""What tools find in a file is what a member on it would answer."""

from __future__ import annotations

import google_crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.mvcc.fake import FakeBackend, put
from tests.storage.bbolt.build import Bytes, Contents, written

from petcd import errors
from petcd.mvcc import Compactor, Store, start_hash_kv
from petcd.mvcc.filehash import FileStatus, file_hash, file_status
from petcd.mvcc.revision import make
from petcd.pb.etcdserverpb import DeleteRangeRequest
from petcd.storage.bbolt import BboltFile
from petcd.storage.schema import BUCKETS, KEY, META, SCHEDULED_COMPACT_REV, STORAGE_VERSION

KEYS = [b"a", b"b", b"c", b"d"]

Step = tuple[str, bytes]


def steps() -> st.SearchStrategy[list[Step]]:
    kinds = st.sampled_from(["put", "put", "put", "delete", "compact", "prune", "bump"])
    return st.lists(st.tuples(kinds, st.sampled_from(KEYS)), max_size=30)


def play(history: list[Step]) -> Store:
    store = Store(FakeBackend())
    for kind, key in history:
        if kind == "put":
            put(store, key, b"v")
        elif kind == "delete":
            store.begin()
            store.delete_range(DeleteRangeRequest(key=key))
            store.end()
        elif kind == "compact" and store.rev > max(store.compact_rev, 1):
            store.compact(store.rev)
        elif kind == "prune":
            Compactor(store).run()
        elif kind == "bump":
            raised = make(store.rev + 10, 0)
            store.backend.put(KEY, raised, b"")
            store.backend.put(META, SCHEDULED_COMPACT_REV, raised)
            again = Store(store.backend)
            again.restore()
            store = again
    return store


def database_of(store: Store) -> BboltFile:
    contents: Contents = {bucket: dict(store.backend.range(bucket, b"", None)) for bucket in BUCKETS}
    return BboltFile(Bytes(written(contents)))


@settings(max_examples=150, deadline=None)
@given(steps())
def test_hashes_are_those_of_a_member(history: list[Step]) -> None:
    store = play(history)
    member = Store(store.backend)
    member.restore()
    database = database_of(store)
    assert file_hash(database) == start_hash_kv(member, 0).run()
    for rev in range(max(member.compact_rev, 1), member.rev + 1):
        assert file_hash(database, rev) == start_hash_kv(member, rev).run()
    for rev, error in ((member.rev + 1, errors.FutureRev), (member.compact_rev - 1, errors.Compacted)):
        if rev > 0:
            with pytest.raises(error):
                file_hash(database, rev)


@settings(max_examples=100, deadline=None)
@given(steps())
def test_keys_that_live_are_counted(history: list[Step]) -> None:
    store = play(history)
    database = database_of(store)
    status = file_status(database)
    assert status.live_keys == len(store.index.live)
    assert status.records == sum(len(list(database.iterate(bucket))) for bucket in BUCKETS)


def test_what_is_hashed_and_reported() -> None:
    contents: Contents = {
        KEY: {make(2, 0): b"\x0a\x01a\x10\x02\x18\x02\x20\x01", make(3, 0, tombstone=True): b"\x0a\x01a"},
        META: {STORAGE_VERSION: b"3.6.0"},
    }
    file = Bytes(written(contents))
    text = b"".join(
        part
        for bucket in BUCKETS
        for part in (bucket, *(p for pair in sorted(contents.get(bucket, {}).items()) for p in pair))
    )
    seen: list[int] = []
    status = file_status(BboltFile(file), seen.append)
    assert status == FileStatus(google_crc32c.value(text), 3, 0, 3, file.size(), "3.6.0")
    assert seen[-1] == len(text)
    assert file_hash(BboltFile(Bytes(written({})))) == start_hash_kv(Store(FakeBackend()), 0).run()
