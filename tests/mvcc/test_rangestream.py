"""RangeStream against Range: the same answer in chunks, whatever is written between them."""

from __future__ import annotations

from random import Random

import pytest
from tests.mvcc.fake import FakeBackend, delete, put

from petcd import errors
from petcd.mvcc import Compactor, RangeStream, Store, check_range_stream
from petcd.pb.etcdserverpb import RangeRequest, RangeResponse


def fill(store: Store, rng: Random, count: int) -> None:
    for _ in range(count):
        key = b"%03d" % rng.randrange(200)
        if rng.random() < 0.3:
            delete(store, key)
        else:
            put(store, key, b"v" * rng.randrange(60))


@pytest.mark.parametrize("seed", range(20))
def test_chunks_join_to_the_range(seed: int) -> None:
    rng = Random(seed)
    store = Store(FakeBackend())
    fill(store, rng, 400)
    for _ in range(20):
        request = RangeRequest(
            key=rng.choice([b"\0", b"0", b"05", b"100", b"199x"]),
            range_end=rng.choice([b"", b"\0", b"1", b"15", b"05"]),
            limit=rng.choice([0, 0, 1, 10, 11, 50, 1000]),
            revision=rng.choice([0, 0, rng.randint(max(1, store.compact_rev), store.rev)]),
            keys_only=rng.random() < 0.3,
            count_only=rng.random() < 0.1,
        )
        whole = RangeResponse.decode(store.range(request))
        rev = store.rev
        stream = RangeStream(store, request, request_bytes_max=rng.choice([10, 500, 1 << 20]))
        got = RangeResponse()
        first = True
        while not stream.done:
            part = RangeResponse.decode(stream.next())
            assert len(part.kvs) <= 10 or not first
            assert stream.done or (part.count, part.more) == (0, False)
            got.kvs += part.kvs
            got.count, got.more = part.count, part.more
            first = False
            fill(store, rng, 5)
        assert got == whole
        assert stream.rev == rev


def test_a_compaction_that_overtakes_it_ends_it() -> None:
    store = Store(FakeBackend())
    fill(store, Random(1), 300)
    stream = RangeStream(store, RangeRequest(key=b"\0", range_end=b"\0"))
    stream.next()
    fill(store, Random(2), 10)
    store.compact(store.rev)
    Compactor(store).run()
    with pytest.raises(errors.Compacted):
        stream.next()


def test_an_empty_range_is_one_message() -> None:
    stream = RangeStream(Store(FakeBackend()), RangeRequest(key=b"a"))
    assert stream.next() == b""
    assert stream.done


def test_what_it_refuses() -> None:
    with pytest.raises(errors.RangeStreamSort):
        check_range_stream(RangeRequest(key=b"a", sort_order=1, min_mod_revision=1))
    with pytest.raises(errors.RangeStreamFilter):
        check_range_stream(RangeRequest(key=b"a", max_create_revision=1))
    check_range_stream(RangeRequest(key=b"a", limit=1, revision=3))
    with pytest.raises(errors.FutureRev):
        RangeStream(Store(FakeBackend()), RangeRequest(key=b"a", revision=3))
